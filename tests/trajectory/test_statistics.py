"""Statistics of batch normalisation, against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

from keras_lap.trajectory import batch_statistics, recalibrate, recalibrated

L = keras.layers
EPSILON = 1e-3


class Normed(L.Layer):
    """A norm inside of a call, after dropout."""

    def __init__(self, **options):
        super().__init__(**options)
        self.drop, self.norm = L.Dropout(0.5), L.BatchNormalization(epsilon=EPSILON)

    def build(self, shape):
        self.norm.build(shape)

    def call(self, x, training=None):
        return self.norm(self.drop(x, training=training), training=training)


@pytest.fixture
def batches():
    rng = np.random.default_rng(0)
    return [rng.normal(3, 2, size=(n, 4)).astype("float32") for n in (8, 8, 5)]


@pytest.fixture
def network():
    inputs = keras.Input((4,))
    return keras.Model(inputs, Normed()(Normed()(inputs)))


def normed(x):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + EPSILON)


def statistics(network):
    return [
        as_numpy(each)
        for layer in network.layers[1:]
        for each in (layer.norm.moving_mean, layer.norm.moving_variance)
    ]


def test_new_statistics_are_the_mean_over_the_batches(network, batches):
    """Also where the old ones are lost."""
    network.layers[1].norm.moving_mean.assign(np.full(4, np.inf))
    recalibrate(network, batches)
    expected = []
    for x in (batches, [normed(x) for x in batches]):
        expected += [
            np.mean([b.mean(0) for b in x], 0),
            np.mean([b.var(0) for b in x], 0),
        ]
    for one, other in zip(statistics(network), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert {layer.norm.momentum for layer in network.layers[1:]} == {0.99}
    assert all("call" not in vars(layer.norm) for layer in network.layers[1:])


def test_what_was_there_comes_back(network, batches):
    before = statistics(network)
    with recalibrated(network, batches):
        assert np.abs(statistics(network)[0] - before[0]).max() > 1
    for one, other in zip(statistics(network), before, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(RuntimeError), recalibrated(network, failing(batches)):
        pass
    for one, other in zip(statistics(network), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert {layer.norm.momentum for layer in network.layers[1:]} == {0.99}


def failing(batches):
    yield batches[0]
    raise RuntimeError("no more")


def test_a_batch_is_normalised_by_its_own_statistics_and_none_are_kept(
    network, batches
):
    before = statistics(network)
    with batch_statistics(network):
        outputs = as_numpy(network(batches[0], training=False))
    np.testing.assert_allclose(outputs, normed(normed(batches[0])), atol=1e-4)
    for one, other in zip(statistics(network), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_frozen_layers_keep_their_statistics(network, batches):
    network.layers[1].trainable = False
    before = statistics(network)[:2]
    recalibrate(network, batches)
    for one, other in zip(statistics(network), before, strict=False):
        np.testing.assert_array_equal(one, other)
    assert np.abs(statistics(network)[2]).max() > 1


def test_without_data_nothing_changes(network):
    before = statistics(network)
    with pytest.raises(ValueError, match="Received: no batch"):
        recalibrate(network, iter([]))
    for one, other in zip(statistics(network), before, strict=True):
        np.testing.assert_array_equal(one, other)
