"""Padded positions have no part in reports, whatever stands there.

The reference takes the samples one by one in NumPy, without any padding. Sums of some
hundred float32 numbers in another order: 1e-5.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy, crossentropy

import keras_lap

WIDTH, WORDS = 5, 20
LENGTHS = (6, 2, 4, 6, 3, 5, 1, 6)


def tokens(length):
    """Samples of one to six words, padded by zeros."""
    rng = np.random.default_rng(0)
    x = np.zeros((len(LENGTHS), length), "int32")
    for row, own in zip(x, LENGTHS, strict=True):
        row[:own] = rng.integers(1, WORDS, own)
    return x


def branches(h):
    for k in range(2):
        h += keras.layers.Dense(WIDTH, activation="tanh", name=f"b{k}")(h)
    return keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(h))


@pytest.fixture(scope="module")
def weights():
    keras.utils.set_random_seed(0)
    return network(6).get_weights()


def network(length, weights=None):
    inputs = keras.Input((length,), dtype="int32")
    h = keras.layers.Embedding(WORDS, WIDTH, mask_zero=True, name="words")(inputs)
    model = keras.Model(inputs, branches(h), name="padded")
    if weights is not None:
        model.set_weights(weights)
    return model


def one_by_one(weights):
    """The states of each sample by itself: `x_0, x_1, x_2`, `(own, WIDTH)`."""
    words, *dense = map(as_numpy, weights)
    paths = []
    for row, own in zip(tokens(6), LENGTHS, strict=True):
        path = [words[row[:own]]]
        for kernel, bias in (dense[:2], dense[2:4]):
            path.append(path[-1] + np.tanh(path[-1] @ kernel + bias))
        paths.append(path)
    return paths


def moved(path, k):
    return path[k + 1] - path[k]


@pytest.mark.parametrize("length", [6, 12, 60])
def test_reports_know_no_padding(weights, length):
    paths = one_by_one(weights)
    report = keras_lap.transport.analyze(
        network(length, weights), tokens(length), batch_size=3, verbose=0
    )
    for k, block in enumerate(report.blocks):
        values = np.concatenate([moved(path, k).ravel() for path in paths])
        norms = [np.linalg.norm(moved(path, k)) for path in paths]
        relative = [np.linalg.norm(moved(p, k)) / np.linalg.norm(p[k]) for p in paths]
        found = block.cost, block.displacement_mean, block.relative_displacement
        expected = np.mean(values**2), np.mean(norms), np.mean(relative)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    cosines = [
        np.vdot(moved(path, 0), moved(path, 1))
        / np.linalg.norm(moved(path, 0))
        / np.linalg.norm(moved(path, 1))
        for path in paths
    ]
    found = report.blocks[1].cosine_with_previous
    np.testing.assert_allclose(found, np.mean(cosines), rtol=1e-5)
    (stage,) = report.stages
    ways = [np.linalg.norm(path[2] - path[0]) for path in paths]
    np.testing.assert_allclose(stage.network_cost, np.mean(np.square(ways)), rtol=1e-5)


@pytest.mark.parametrize("length", [6, 60])
@pytest.mark.parametrize("p", [2.0, 1.5])
def test_costs_of_samples_are_those_of_the_energy(weights, length, p):
    paths, x = one_by_one(weights), tokens(length)
    model = keras_lap.LeastActionModel(network(length, weights), energy=p)
    costs, relative = keras_lap.transport.each_sample(model, x, batch_size=3)
    each = np.mean(LENGTHS) * WIDTH
    powers = [sum((np.abs(moved(q, k)) ** p).sum() for k in (0, 1)) for q in paths]
    np.testing.assert_allclose(costs, np.array(powers) / each, rtol=1e-5)
    expected = [
        np.mean([np.linalg.norm(moved(q, k)) / np.linalg.norm(q[k]) for k in (0, 1)])
        for q in paths
    ]
    np.testing.assert_allclose(relative, expected, rtol=1e-5)
    model.compile(loss=crossentropy())
    trained = model.train_on_batch(x, np.zeros(len(x)), return_dict=True)
    np.testing.assert_allclose(trained["transport_cost"], costs.mean(), rtol=1e-5)


def test_a_mask_that_is_an_input_counts_too(weights):
    inputs = keras.Input((6, WIDTH), name="x"), keras.Input((6,), name="valid")
    net = keras.Model(inputs, branches(inputs[0]))
    net.set_weights(weights[1:])
    states = as_numpy(weights[0])[tokens(6)].astype("float32")
    valid = (tokens(6) > 0).astype("float32")
    model = keras_lap.LeastActionModel(net, mask="valid")
    found, _ = keras_lap.transport.each_sample(model, [states, valid])
    expected, _ = keras_lap.transport.each_sample(network(6, weights), tokens(6))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    report = keras_lap.transport.analyze(model, [states, valid], verbose=0)
    np.testing.assert_allclose(report.total_cost, expected.mean(), rtol=1e-5)
