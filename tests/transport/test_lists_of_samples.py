"""Lists of samples and data that do not fit: errors that the user can read."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import build_dense_network

import keras_lap

BACKEND = keras.backend.backend()
X = np.random.default_rng(0).normal(size=(12, 64)).astype("float32")


def analyses(network):
    yield lambda x: keras_lap.transport.analyze(network, x, verbose=0)
    y = np.zeros((12, 10))
    yield lambda x: keras_lap.depth.analyze(network, x, y, loss="mse", verbose=0)


@pytest.mark.parametrize("make", [list, tuple, lambda x: [(each, 0) for each in x]])
def test_a_list_of_samples(make):
    for analyze in analyses(build_dense_network()):
        with pytest.raises(TypeError, match=r"1 inputs of 'net'.*numpy\.array\(x\)"):
            analyze(make(X))


def test_a_list_of_all_inputs_is_none():
    inputs = [keras.Input((64,)) for _ in range(2)]
    inner = build_dense_network()
    network = keras.Model(inputs, inner(inputs[0]) + inner(inputs[1]))
    for analyze in analyses(network):
        analyze([X, X])


class Own(keras.Model):
    """Tells nobody what its inputs are."""

    def __init__(self):
        super().__init__()
        self.inner = build_dense_network()

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize("network", [build_dense_network, Own])
def test_an_error_names_the_network_and_nothing_of_ours(network):
    made = network()
    made(X)
    for analyze in analyses(made):
        for wrong in (X[:, :7], list(X)):
            with pytest.raises(Exception, match=r"\w") as info:
                analyze(wrong)
            for private in ("StateReader", "ExitProbe", "transport_probe"):
                assert private not in str(info.value)
