"""The examples run as a user runs them, at the smallest size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
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
        "networks changed transport cost test accuracy",
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


@ON_ONE
def test_transport_report(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 2)).astype("float32")
    np.savez(tmp_path / "points.npz", x=x, y=np.arange(30) % 2)
    for name, size in (("far", 4.0), ("near", 2.0)):
        inputs = keras.Input((2,))
        moved = keras.layers.Dense(2, kernel_initializer="zeros")
        moved.build((None, 2))
        moved.bias.assign([size, 0.0])  # all samples move so far
        x = keras.layers.Add()([inputs, moved(inputs)])
        keras.Model(inputs, x).save(tmp_path / f"{name}.keras")
    (tmp_path / "near.csv").write_text(
        "epoch,loss,transport_cost_block0\n0,1,NA\n1,2,3\n"
    )
    names = ("near.keras", "far.keras", "--data", "points.npz")
    result = run("transport_report.py", *names, "--out", "out/pages", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    written = {path.name for path in (tmp_path / "out" / "pages").iterdir()}
    pages = {"near.html", "far.html"}
    assert written == {*pages, "points.gif", "training.png", "near-training.png"}
    near, far = (
        (tmp_path / "out" / "pages" / name).read_text("utf-8")
        for name in sorted(pages)[::-1]
    )
    assert "The data move 4.0 times less than in the reference" in near
    assert "Beside it as the reference: far. Accuracy: near" in near
    assert "times less" not in far


@ON_ONE
def test_animation(tmp_path):
    small = ["--epochs", 1, "--blocks", 2, "--out", "new/two.gif"]
    result = run("animation.py", *small, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for name in ("plain", "least action"):
        said = rf"{name}: cost of transport [\d.e-]+, test accuracy [\d.]+ % of 500"
        assert re.search(said, result.stdout)
    with Image.open(tmp_path / "new" / "two.gif") as picture:
        assert (picture.n_frames, picture.size) == (2 * 6 + 1, (780, 375))
        picture.seek(picture.n_frames - 1)
        assert picture.info["duration"] == 1500
    with Image.open(tmp_path / "new" / "two.png") as still:
        assert still.size == picture.size  # one takes the place of the other


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
