"""The example with a real chief and real workers, one of which is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

pytest.importorskip("keras_tuner")
# Reading another process's environment is Linux's way of telling workers apart.
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch" or not Path("/proc/self/environ").exists(),
    reason="starts processes, once is enough, and finds them in /proc",
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "tune.py"
TRIALS = 3
LIMIT = 600  # seconds for a step on a busy machine: a fault must not hang the tests


def wait_for(condition, process):
    """What `condition` returns, once that is true."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and process.poll() is None:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"Nothing came of it; exit code {process.poll()}.")


def read_json(path):
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # it is being written
        return {}


def process_id(name, parent):
    """The process of a chief or worker among the children of another."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            status = (folder / "status").read_text()
        except OSError:  # it has ended, or is not ours
            continue
        wanted = f"KERASTUNER_TUNER_ID={name}".encode()
        if wanted in environment and f"PPid:\t{parent}\n" in status:
            return int(folder.name)
    return None


@pytest.fixture
def example(tmp_path):
    """The example on two workers, at the smallest size."""
    size = ["--trials", TRIALS, "--epochs", 10, "--filters", 4, "--seeds", 2]
    process = subprocess.Popen(
        [sys.executable, EXAMPLE, *map(str, size), "--directory", tmp_path / "out"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.terminate()  # it ends its own
    process.communicate(timeout=LIMIT)


def test_a_killed_worker(tmp_path, example):
    project = tmp_path / "out" / "digits-100-normal-1-random"

    def at_work():
        return read_json(project / "oracle.json").get("ongoing_trials", {})

    trial = wait_for(lambda: at_work().get("worker0"), example)
    os.kill(process_id("worker0", example.pid), signal.SIGKILL)
    output, _ = example.communicate(timeout=LIMIT)
    assert example.returncode == 0, output
    assert "worker0 was killed by signal 9: started again." in output
    found = [read_json(path) for path in project.glob("trial_*/trial.json")]
    statuses = {each["trial_id"]: each["status"] for each in found}
    assert len(statuses) == TRIALS
    assert trial in statuses
    # Values that make the loss infinite are as good an end of a trial.
    assert set(statuses.values()) <= {"COMPLETED", "FAILED"}
    assert (tmp_path / "out" / f"{project.name}-trials.png").exists()
    for expected in ("Best val_accuracy So Far", "The winner against the defaults"):
        assert expected in output
    assert process_id("worker0", example.pid) is None


def test_launch_ends_with_a_process_that_fails(tmp_path):
    from keras_lap import tuning

    fails = "import os, sys, time\nif 'chief' in os.environ['KERASTUNER_TUNER_ID']:\n"
    fails += "    time.sleep(60)\nsys.exit(3)"
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="worker0 ended with exit code 3"):
        tuning.launch([sys.executable, "-c", fails], tmp_path, workers=1)
    assert time.monotonic() - start < 30


def test_launch_needs_a_worker(tmp_path):
    from keras_lap import tuning

    with pytest.raises(ValueError, match="workers must be a whole number"):
        tuning.launch(["true"], tmp_path, workers=0)
