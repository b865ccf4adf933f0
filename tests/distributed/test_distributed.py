"""Training spread over devices equals training on one, on the same global batches.

Every way of spreading runs in a process of its own (`train.py`): devices are set up
once, before anything else. float32 sums taken in another order differ by 1e-7 a step;
1e-5 leaves room for twelve steps, and a wrong replica is off by 1e-2.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import build_dense_network, crossentropy

import keras_lap

BACKEND = keras.backend.backend()
RELEASE = tuple(int(part) for part in keras.__version__.split(".")[:2])
JOINS_PROCESSES = BACKEND == "torch" and RELEASE >= (3, 16)
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
UNEVEN = ("--steps-per-fit", "12", "--last-batch", "9")


def only(backend):
    return pytest.mark.skipif(backend != BACKEND, reason=f"{backend}'s strategy")


joins_processes = pytest.mark.skipif(
    not JOINS_PROCESSES, reason="PyTorch with Keras 3.16 or later"
)


def start(way, out, *options, devices=1, check=True):
    command = [sys.executable]
    if way == "processes":
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc_per_node", "2"]
    script = Path(__file__).with_name("train.py")
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.run(
        [*command, script, way, out, *options],
        env={**os.environ, "XLA_FLAGS": flags, "OMP_NUM_THREADS": "1"},
        capture_output=not check,
        text=True,
        check=check,
    )


@pytest.fixture(scope="session")
def train(tmp_path_factory):
    """Trains in one way, once for all tests that ask for it; returns what it saved."""
    results = {}

    def run(way, *options, devices=1):
        key = (way, devices, *options)
        if key not in results:
            out = tmp_path_factory.mktemp(way) / "result.npz"
            start(way, out, *options, devices=devices)
            results[key] = dict(np.load(out)), out.parent
        return results[key]

    return run


def check_equal(one, several, copies, weights=True):
    assert list(one["names"]) == list(several["names"])
    assert one["multipliers"][-1, 0] > 3  # λ rose from 2
    assert several["multipliers"].shape[1] == copies
    assert np.ptp(several["multipliers"], axis=1).max() == 0  # λ alike to the last bit
    for name in one:
        if name != "names" and (weights or not name.startswith("weight")):
            expected, actual = np.broadcast_arrays(one[name], several[name])
            np.testing.assert_allclose(actual, expected, **TOLERANCE, err_msg=name)


@only("jax")
@pytest.mark.parametrize(
    ("way", "devices", "options"),
    [
        ("data", 2, ("--batch-norm",)),
        ("data", 8, ()),
        ("model", 2, ()),
        ("model", 8, ()),
        ("data", 2, ("--steps-per-fit", "12", "--steps-per-execution", "2")),
    ],
)
def test_jax(train, way, devices, options):
    one, _ = train("one", *options)
    several, folder = train(way, *options, devices=devices)
    check_equal(one, several, devices)
    check_saved(folder, several)


@only("jax")
def test_jax_refuses_a_batch_that_its_devices_cannot_share(tmp_path):
    """Keras's own limit: plain training meets it as well."""
    options = (*UNEVEN, "--plain")
    for chosen in (options, options[:-1]):
        out = tmp_path / "result.npz"
        result = start("data", out, *chosen, devices=2, check=False)
        assert result.returncode != 0
        assert "divisible" in result.stderr
        assert not out.exists()


@only("tensorflow")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--batch-norm",),
        ("--steps-per-fit", "12", "--steps-per-execution", "2"),
    ],
)
def test_tensorflow(train, options):
    one, _ = train("one", *options)
    several, folder = train("mirrored", *options)
    check_equal(one, several, copies=2)
    check_saved(folder, several)


@joins_processes
@pytest.mark.parametrize("options", [(), ("--steps-per-fit", "12")])
def test_torch(train, options):
    one, _ = train("one", *options)
    several, folder = train("processes", *options)
    check_equal(one, several, copies=2)
    check_saved(folder, several)
    assert not (folder / "result-1.keras").exists()  # the second process saves nothing


WAYS_WITH_PARTS = [
    pytest.param("mirrored", marks=only("tensorflow")),
    pytest.param("processes", marks=joins_processes),
]


@pytest.mark.parametrize("way", WAYS_WITH_PARTS)
def test_an_uneven_last_batch_counts_by_its_samples(train, way):
    """λ and the logs; the gradients are Keras's mean over replicas of unequal parts."""
    one, _ = train("one", *UNEVEN)
    several, _ = train(way, *UNEVEN)
    check_equal(one, several, copies=2, weights=False)


@pytest.mark.parametrize("way", WAYS_WITH_PARTS)
def test_a_loss_that_one_replica_spoils_raises_the_multiplier_on_none(train, way):
    result, _ = train(way, "--spoilt-sample")
    assert np.isnan(result["logs"]).any()
    assert result["multipliers"].shape == (12, 2)
    assert (result["multipliers"] == 2.0).all()


def check_saved(folder, result):
    loaded = keras.saving.load_model(folder / "result-0.keras")
    assert float(loaded.multiplier) == np.float32(result["multipliers"][-1, 0])


@only("torch")
def test_processes_that_nobody_joined_are_refused(monkeypatch):
    model = keras_lap.LeastActionModel(build_dense_network())
    model.compile("sgd", crossentropy())
    batch = np.zeros((4, 64), "float32"), np.zeros(4, "int64")
    before = model.get_weights()
    monkeypatch.setenv("WORLD_SIZE", "2")
    advice = "initialize" if JOINS_PROCESSES else "Install Keras 3.16 or later"
    with pytest.raises(RuntimeError, match=f"2 PyTorch processes.*{advice}"):
        model.fit(*batch, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
