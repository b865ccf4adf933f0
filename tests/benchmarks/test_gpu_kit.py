"""The kit for a GPU, on a machine that has none: what it keeps, refuses and resumes."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

import keras
import pytest

from studies.engine import environment, training
from studies.paper import good_starts, table1_mnist

FOLDER = Path(__file__).parents[2] / "benchmarks"
OLD = {"part": "tests", "backend": "torch", "device": "some card", "result": "old"}
OTHER = {"part": "cost", "backend": "jax", "device": "some card", "overhead": 1.0}

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


@pytest.fixture
def kit(monkeypatch):
    """The module of the kit; on its path it finds the folder's others."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    return gpu


def call(kit, monkeypatch, tmp_path, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), *arguments])
    kit.main()
    return json.loads((tmp_path / "gpu.json").read_text("utf-8"))["rows"]


def test_without_a_gpu_nothing_is_written(kit, monkeypatch, tmp_path):
    monkeypatch.setattr(kit, "device_of", lambda backend: "")
    with pytest.raises(SystemExit, match="No GPU that torch or jax can use"):
        call(kit, monkeypatch, tmp_path, "--backend", "torch", "jax")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("status", "text", "met"),
    [(0, "...\n3 passed in 2 s", True), (0, "3 skipped", False), (1, "boom", False)],
)
def test_new_results_take_the_place_of_old_ones(
    kit, monkeypatch, tmp_path, status, text, met
):
    kit.harness.write(kit._record([OLD, OTHER], 0.0), tmp_path)
    monkeypatch.setattr(kit, "device_of", lambda backend: "new card")
    monkeypatch.setattr(kit, "_run", lambda *_: (status, text))
    options = "--backend", "torch", "--parts", "tests"
    rows = call(kit, monkeypatch, tmp_path, *options)
    fresh = {**OLD, "device": "new card", "result": text.split("\n")[-1], "met": met}
    assert rows == [OTHER, fresh]
    assert "new card" in (tmp_path / "gpu.md").read_text("utf-8")


def test_a_part_whose_time_is_over_is_stopped(kit):
    status, text = kit._run(
        "torch", ["-uc", "print('begun'); import time; time.sleep(60)"], 3.0
    )
    assert status is None
    assert text == "begun\n"


def is_alive(process):
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2]
    except OSError:
        return False
    return state.split()[0] != "Z"


def test_no_worker_outlives_its_part(kit, tmp_path):
    """A worker that goes on would take the card from the next part."""
    worker = (
        "import subprocess, sys; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
        ".pid, flush=True); sys.exit(3)"
    )
    status, text = kit._run("torch", ["-c", worker], 30.0)
    assert status == 3
    end = time.monotonic() + 5.0
    while is_alive(int(text)):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_table_is_the_papers_at_two_sizes():
    full, part = (table1_mnist.PRESETS[name] for name in ("paper", "gpu"))
    chosen = {setting.label: setting for setting in full.settings}
    assert {setting.data.train_size for setting in part.settings} == {100, 200}
    assert len(part.seeds) == 10
    for setting in part.settings:
        assert setting.network == chosen[setting.label].network
        assert setting.training == chosen[setting.label].training
        assert set(setting.methods) <= set(chosen[setting.label].methods)


def test_the_good_starts_are_at_full_width():
    full, part = (good_starts.PRESETS[name] for name in ("full", "gpu"))
    assert [setting.label for setting in part.settings] == list(good_starts.ON_GPU)
    for setting in part.settings:
        (whole,) = (each for each in full.settings if each.label == setting.label)
        test = dataclasses.replace(whole.data, test_size=2000)
        assert dataclasses.replace(whole, data=test) == setting


def test_studies_go_on_and_are_counted(kit, monkeypatch, tmp_path):
    """A study whose time is over is reported; the next has what is left."""
    calls = []

    def run(backend, command, seconds):
        calls.append((backend, command[1], "--report" in command, seconds))
        first_is_over = len(calls) == 1
        return (None if first_is_over else 0), "last words"

    monkeypatch.setattr(kit, "_run", run)
    monkeypatch.setattr(kit, "device_of", lambda backend: "new card")
    few = tmp_path / "runs"
    options = ("--backend", "torch", "--parts", "studies", "--results", str(few))
    table, starts = call(kit, monkeypatch, tmp_path, *options, "--minutes", "5")
    assert [call[:3] for call in calls] == [
        ("torch", "studies.paper.table1_mnist", False),
        ("torch", "studies.paper.table1_mnist", True),
        ("torch", "studies.paper.good_starts", False),
    ]
    assert calls[0][3] == pytest.approx(300.0, abs=5.0)
    assert (table["runs"], table["of"], table["met"]) == (0, 80, False)
    assert (starts["runs"], starts["of"]) == (0, 60)


def test_the_card_is_named(monkeypatch):
    monkeypatch.setattr(environment, "gpu", lambda: "")
    assert "device" not in environment.describe.__wrapped__()
    monkeypatch.setattr(environment, "gpu", lambda: "new card")
    assert environment.describe.__wrapped__()["device"] == "new card"
    monkeypatch.setattr(training, "gpu", lambda: "new card")
    assert training._batch() > 100
