"""Statistics of batch normalisation, against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

from keras_lap.trajectory import (
    batch_statistics,
    count_silent_channels,
    raise_variances,
    recalibrate,
    recalibrated,
)

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


def variances(network, *values):
    for layer, value in zip(network.layers[1:], values, strict=True):
        layer.norm.moving_variance.assign(np.array(value, "float32"))


def test_variances_are_raised_to_a_part_of_the_median_of_their_layer(network):
    variances(network, [4.0, 1e-6, 8.0, 6.0], [3.0, 2.0, 0.5, 1.0])
    mean = as_numpy(network.layers[1].norm.moving_mean)
    assert count_silent_channels(network) == 1
    raised = raise_variances(network)  # the medians are 5 and 1.5
    assert raised == {network.layers[1].norm.path: 1}
    found = statistics(network)
    np.testing.assert_array_equal(found[0], mean)
    np.testing.assert_allclose(found[1], [4, 0.05, 8, 6], rtol=1e-6)
    np.testing.assert_array_equal(found[3], [3, 2, 0.5, 1])
    # Rounded to float32 what was raised is not below the bound.
    assert (raise_variances(network), count_silent_channels(network)) == ({}, 0)
    assert sum(raise_variances(network, 0.5).values()) == 2
    np.testing.assert_allclose(statistics(network)[1], [4, 2.5, 8, 6])
    np.testing.assert_allclose(statistics(network)[3], [3, 2, 0.75, 1])


def test_a_sample_that_wakes_a_silent_channel_goes_no_further_than_others():
    """Trained where the last feature is 0, run where it is not; saved as it is."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).astype("float32")
    x[:, 3] = 0
    inputs = keras.Input((4,))
    network = keras.Model(inputs, L.BatchNormalization(momentum=0.5)(inputs))
    network.compile(keras.optimizers.SGD(0.0), "mse")
    network.fit(x, x, batch_size=40, epochs=3, verbose=0)
    awake = np.ones((1, 4), "float32")
    far = np.abs(network.predict(awake, verbose=0))[0]
    assert far[3] > 20 * far[:3].max()  # at most 1 / √ε
    before = network.predict(x, verbose=0)
    raise_variances(network)
    near = np.abs(network.predict(awake, verbose=0))[0]
    raised = 0.01 * np.median(as_numpy(network.layers[1].moving_variance))
    assert near[3] == pytest.approx(1 / np.sqrt(raised + EPSILON), rel=1e-3)
    np.testing.assert_array_equal(network.predict(x, verbose=0), before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_variances_of_other_types_are_raised_in_their_type(dtype):
    norm = L.BatchNormalization(dtype=dtype)
    norm.build((None, 3))
    norm.moving_variance.assign(np.array([3.0, 1e-5, 0.7]))
    assert list(raise_variances(norm).values()) == [1]
    assert raise_variances(norm) == {}
    bound = float(keras.ops.cast(norm.moving_variance, "float32")[1])
    assert bound == pytest.approx(0.007, rel=2**-8)  # a bfloat16 has 8 bits


def test_frozen_layers_keep_their_variances(network):
    variances(network, [4.0, 1e-6, 8.0, 0.0], [3.0, 0.0, 0.5, 1.0])
    network.layers[1].trainable = False
    assert list(raise_variances(network).values()) == [1]
    np.testing.assert_allclose(statistics(network)[1], [4, 1e-6, 8, 0])


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan"), "all"])
def test_what_is_no_part_of_the_median_is_refused(network, fraction):
    variances(network, [4.0, 1e-6, 8.0, 0.0], [3.0, 0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match="fraction must"):
        raise_variances(network, fraction)
    np.testing.assert_allclose(statistics(network)[1], [4, 1e-6, 8, 0])


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_where_a_training_has_diverged_nothing_is_raised(network, lost):
    variances(network, [4.0, 1e-6, 8.0, 0.0], [3.0, lost, 0.5, 1.0])
    with pytest.raises(ValueError, match=r"has diverged") as caught:
        raise_variances(network)
    assert network.layers[2].norm.path in str(caught.value)
    np.testing.assert_allclose(statistics(network)[1], [4, 1e-6, 8, 0])
