"""A guard: what a step of two small networks takes over plain Keras, counted.

The same numbers come out of every run on the same versions. The goals are those of
`benchmarks/counts.py`; where one is missed, a bound a little above what was counted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import pytest
from keras import layers

import keras_lap

BACKEND = keras.backend.backend()
# Networks this small have little work beside the scalars of λ and the logs, so that
# bytes are bounded by what was counted, and memory by the goal. TensorFlow's bytes were
# 1.128 and PyTorch's 1.114: for each of three blocks the difference of its states, what
# the energy's gradient makes of it, and the sum of both gradients.
BOUNDS = {
    "jax": {"flops": 1.01, "bytes": 1.03, "memory": 1.03},
    "tensorflow": {"flops": 1.01, "bytes": 1.13, "memory": 1.03},
    "torch": {"flops": 1.0, "bytes": 1.12, "memory": 1.03},
}


@pytest.fixture(scope="module")
def counted():
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    from counting import step_counts
    from subjects import Subject, compiled

    def counts(wrap):
        network = build()
        data = Subject(network, (20, 20, 3), 16).data(1)
        return step_counts(compiled(wrap(network)), data)

    yield counts(lambda network: network), counts(priced)
    sys.path.remove(folder)


def priced(network):
    return keras_lap.LeastActionModel(network, 2.0, 5.0)


def build():
    """Three blocks, normalised before, of 16 filters; on JAX, drawing takes time."""
    zeros = {"kernel_initializer": "zeros"}
    conv = {"padding": "same", "use_bias": False, **zeros}
    x = inputs = keras.Input((20, 20, 3))
    x = layers.Conv2D(16, 3, **conv)(x)
    for _ in range(3):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        y = layers.Conv2D(16, 3, **conv)(y)
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(10, **zeros)(x))


@pytest.mark.parametrize("what", ["flops", "bytes", "memory"])
def test_a_step_takes_no_more_than_it_did(counted, what):
    plain, ours = counted
    assert 0 < ours[what] / plain[what] <= BOUNDS[BACKEND][what]


@pytest.mark.skipif(BACKEND == "jax", reason="XLA accounts for its own buffers")
def test_no_branch_is_kept(counted):
    """A branch has 16·20·20·16·4 bytes; what λ and the logs keep is a few."""
    plain, ours = counted
    assert ours["memory"] - plain["memory"] < 1024 < 16 * 20 * 20 * 16 * 4
