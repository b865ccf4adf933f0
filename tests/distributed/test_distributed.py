"""Training spread over devices equals training on one, on the same global batches.

Every way of spreading runs in a process of its own (`train.py`): devices are set up
once, before anything else. float32 sums taken in another order differ by 1e-7 a step;
1e-5 leaves room for eight steps, and a wrong replica is off by 1e-2.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from support.basics import build_dense_network, crossentropy

import keras_lap

NAMES = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "PyTorch"}
BACKEND = keras.backend.backend()
RELEASE = tuple(int(part) for part in keras.__version__.split(".")[:2])
JOINS_PROCESSES = BACKEND == "torch" and RELEASE >= (3, 16)
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
# What the processes of each backend train, by the devices or processes they have.
RUNS = {
    "jax": {
        1: "one:usual one:batch-norm one:two-at-once one:automatic one:within "
        "one:costs one:before one:share one:share-within",
        2: "data:usual data:batch-norm data:two-at-once model:usual data:automatic "
        "data:within data:costs data:before data:share data:share-within",
        8: "data:usual model:usual",
    },
    "tensorflow": {
        1: "one:usual one:batch-norm one:uneven one:automatic one:within one:costs "
        "one:before one:share one:share-within",
        2: "mirrored:usual mirrored:batch-norm mirrored:uneven mirrored:spoilt "
        "mirrored:automatic mirrored:within mirrored:costs "
        "mirrored:before mirrored:share mirrored:share-within",
    },
    "torch": {
        1: "one:usual one:one-fit one:uneven one:within one:costs one:before "
        "one:share one:share-within",
        2: "processes:usual processes:one-fit processes:uneven processes:spoilt "
        "processes:within processes:costs processes:before processes:share "
        "processes:share-within",
    },
}


def only(backend):
    reason = f"run on {NAMES[backend]} only"
    return pytest.mark.skipif(backend != BACKEND, reason=reason)


DATA = pytest.mark.way("`keras.distribution.DataParallel`")
TWO_AT_ONCE = pytest.mark.way("several devices with `steps_per_execution` > 1")
UNEVEN = pytest.mark.way("a batch that the devices share unevenly")
MODEL = pytest.mark.way("`keras.distribution.ModelParallel`")
joins_processes = pytest.mark.skipif(
    not JOINS_PROCESSES, reason="PyTorch with Keras 3.16 or later"
)


def start(folder, *runs, devices=1, check=True):
    command = [sys.executable]
    if BACKEND == "torch" and devices > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc_per_node", str(devices)]
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.run(
        [*command, Path(__file__).with_name("train.py"), folder, *runs],
        env={
            **os.environ,
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=check,
    )


@pytest.fixture(scope="session")
def train(tmp_path_factory):
    """Returns the folder of what a number of devices trained; trains it once."""
    folders = {}

    def run(devices):
        if devices not in folders:
            folders[devices] = tmp_path_factory.mktemp(f"devices{devices}")
            runs = RUNS[BACKEND][devices].split()
            result = start(folders[devices], *runs, devices=devices, check=False)
            assert result.returncode == 0, result.stderr
        return folders[devices]

    return run


def load(folder, run):
    return dict(np.load(folder / f"{run}.npz"))


def check_equal(one, several, copies, weights=True):
    assert list(one["names"]) == list(several["names"])
    rows = one["multipliers"][:, 0]
    assert rows[-1] > (rows[0] if len(rows) > 1 else 2.0)  # λ rose
    assert several["multipliers"].shape[1] == copies
    assert np.ptp(several["multipliers"], axis=1).max() == 0  # λ alike to the last bit
    for name in one:
        if name != "names" and (weights or not name.startswith("weight")):
            expected, actual = np.broadcast_arrays(one[name], several[name])
            np.testing.assert_allclose(actual, expected, **TOLERANCE, err_msg=name)


@only("jax")
@pytest.mark.parametrize(
    ("way", "case", "devices"),
    [
        pytest.param("data", "usual", 2, marks=DATA),
        pytest.param("data", "usual", 8, marks=DATA),
        pytest.param("model", "usual", 2, marks=MODEL),
        pytest.param("model", "usual", 8, marks=MODEL),
        pytest.param("data", "batch-norm", 2, marks=DATA),
        pytest.param("data", "two-at-once", 2, marks=TWO_AT_ONCE),
        pytest.param("data", "automatic", 2, marks=DATA),
        pytest.param("data", "within", 2, marks=DATA),
        pytest.param("data", "costs", 2, marks=DATA),
        pytest.param("data", "before", 2, marks=DATA),
        pytest.param("data", "share", 2, marks=DATA),
        pytest.param("data", "share-within", 2, marks=DATA),
    ],
)
def test_jax(train, way, case, devices):
    several = load(train(devices), f"{way}-{case}")
    check_equal(load(train(1), f"one-{case}"), several, devices)
    check_saved(train(devices) / f"{way}-{case}-0.keras", several)


@only("tensorflow")
@pytest.mark.way("`tf.distribute.MirroredStrategy`")
@pytest.mark.parametrize(
    "case",
    [
        "usual",
        "batch-norm",
        "automatic",
        "within",
        "costs",
        "before",
        "share",
        "share-within",
    ],
)
def test_tensorflow(train, case):
    several = load(train(2), f"mirrored-{case}")
    check_equal(load(train(1), f"one-{case}"), several, copies=2)
    check_saved(train(2) / f"mirrored-{case}-0.keras", several)


@joins_processes
@DATA
@pytest.mark.parametrize(
    "case",
    ["usual", "one-fit", "within", "costs", "before", "share", "share-within"],
)
def test_torch(train, case):
    several = load(train(2), f"processes-{case}")
    check_equal(load(train(1), f"one-{case}"), several, copies=2)
    check_saved(train(2) / f"processes-{case}-0.keras", several)
    # The second process saves nothing.
    assert not (train(2) / f"processes-{case}-1.keras").exists()


WAYS_WITH_PARTS = [
    pytest.param("mirrored", marks=only("tensorflow")),
    pytest.param("processes", marks=joins_processes),
]


@UNEVEN
@pytest.mark.parametrize("way", WAYS_WITH_PARTS)
def test_an_uneven_last_batch_counts_by_its_samples(train, way, record_property):
    """λ and the logs; the gradients are Keras's mean over replicas of unequal parts."""
    record_property("limit", "the gradient is Keras's mean over the parts")
    one, several = load(train(1), "one-uneven"), load(train(2), f"{way}-uneven")
    check_equal(one, several, copies=2, weights=False)


@pytest.mark.way("a loss that is not finite on one device")
@pytest.mark.parametrize("way", WAYS_WITH_PARTS)
def test_a_loss_that_one_replica_spoils_raises_the_multiplier_on_none(train, way):
    result = load(train(2), f"{way}-spoilt")
    assert np.isnan(result["logs"]).any()
    assert result["multipliers"].shape == (8, 2)
    assert (result["multipliers"] == 2.0).all()


@pytest.mark.parametrize(
    ("way", "case", "message"),
    [
        pytest.param("data", "uneven", "divisible", marks=[only("jax"), UNEVEN]),
        pytest.param(
            "mirrored",
            "two-at-once",
            "Placeholder",
            marks=[only("tensorflow"), TWO_AT_ONCE],
        ),
    ],
)
def test_what_keras_cannot_spread_fails_with_it_and_without(
    tmp_path, way, case, message, record_property
):
    """A batch that JAX's devices cannot share; steps_per_execution on replicas."""
    record_property("fails", "an error of Keras, with plain networks too")
    for run in (case, f"{case}-plain"):
        result = start(tmp_path, f"{way}:{run}", devices=2, check=False)
        assert result.returncode != 0
        assert message in result.stderr
        assert not list(tmp_path.iterdir())


def check_saved(path, result):
    if "within" in path.name:  # an outer model, which is the user's to save
        return
    loaded = keras.saving.load_model(path)
    assert float(loaded.multiplier) == np.float32(result["multipliers"][-1, 0])


@only("torch")
@DATA
def test_processes_that_nobody_joined_are_refused(monkeypatch, record_property):
    record_property(
        "limit",
        "`torchrun`, with Keras 3.16 or, until it is released, `keras-nightly`; an "
        "error says so otherwise",
    )
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
