"""The examples run as a user runs them, at the smallest size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from support.basics import ON_ONE

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *options, cwd):
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, options)],
        cwd=cwd,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("dataset", [pytest.param("digits", marks=ON_ONE), "moons"])
def test_quickstart(tmp_path, dataset):
    small = ["--seeds", 2, "--epochs", 2, "--filters", 4, "--train-size", 20]
    result = run(
        "quickstart.py",
        *["--dataset", dataset, *small, "--initializer", "normal-0.05"],
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    for expected in (
        "normal-0.05  plain",
        "normal-0.05  least action",
        "least action moved the test data at",
        "9 of 9    4 of 9    2 of 9    1 of 9 blocks",
        "out/quickstart.png",
    ):
        assert expected in result.stdout
    assert (tmp_path / "out" / "quickstart.png").read_bytes().startswith(b"\x89PNG")


@ON_ONE
def test_quickstart_refuses_an_unknown_dataset(tmp_path):
    result = run("quickstart.py", "--dataset", "imagenet", cwd=tmp_path)
    assert result.returncode != 0
    assert "Unknown data set" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="once is enough, and JAX is the fastest"
)
def test_distributed(tmp_path):
    small = ["--epochs", 2, "--filters", 4, "--train-size", 320]
    result = run("distributed.py", "--virtual-devices", 2, *small, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for device in ("cpu:0", "cpu:1"):
        assert f"{device}: 32 samples" in result.stdout
    epochs = re.findall(r"epoch \d: λ ([\d.]+)", result.stdout)
    assert len(epochs) == 2
    assert 5 < float(epochs[0]) < float(epochs[1])  # λ rose once in each
    assert re.search(r"Test accuracy [\d.]+ %, λ [\d.]+", result.stdout)
