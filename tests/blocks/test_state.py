"""Which input a layer that was named is measured from."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

from keras_lap import DisplacementRecorder, find_residual_blocks

L = keras.layers


class Merge(L.Layer):
    """Nobody can look into its call; `state` says which of its inputs it moves."""

    def __init__(self, state, **options):
        super().__init__(**options)
        self.state = state

    def call(self, first, second=None):
        given = first if second is None else [first, second]
        assert not isinstance(given[0], keras.KerasTensor)
        return given[self.state] + keras.ops.tanh(given[1 - self.state])

    def compute_output_shape(self, *shapes, **kwargs):
        return (None, 4)


def branch(x):
    return L.Dense(4, "tanh")(x)


def listed(order):
    """`[f(x), x]` in this order."""

    def build(inputs):
        x = L.Dense(4)(inputs)
        return Merge(order.index(1), name="merge")([[branch(x), x][i] for i in order])

    return build


def one_by_one(inputs):
    x = L.Dense(4)(inputs)
    return Merge(1, name="merge")(branch(x), x)


def conditioned(inputs):
    """What is added to the state comes from elsewhere too."""
    x = L.Dense(4)(inputs)
    return Merge(1, name="merge")([branch(L.Concatenate()([x, inputs])), x])


def decoder(inputs):
    """The state attends to another that it has taken from before."""
    context = L.Dense(4)(inputs)
    state = L.Add()([L.Dense(4, "relu")(inputs), branch(context)])
    return Merge(0, name="merge")(state, context)


def nested(inputs):
    inner = keras.Input((4,))
    model = keras.Model(inner, Merge(1, name="merge")([branch(inner), inner]))
    return model(L.Dense(4)(inputs))


BUILDS = [listed([0, 1]), listed([1, 0]), one_by_one, conditioned, decoder, nested]


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(16, 5)).astype("float32")


@pytest.mark.parametrize("build", BUILDS)
def test_a_named_layer_is_measured_from_its_state(build, x):
    inputs = keras.Input((5,))
    network = keras.Model(inputs, build(inputs))
    report = find_residual_blocks(network, ["merge"])
    outputs, [displacement] = DisplacementRecorder(network, report)(x)
    layer = next(each for each in network._flatten_layers() if each.name == "merge")
    seen = {}

    def call(first, second=None):
        seen["given"] = first if second is None else [first, second]
        return Merge.call(layer, first, second)

    vars(layer)["call"] = call
    np.testing.assert_allclose(as_numpy(network(x)), as_numpy(outputs), atol=1e-6)
    expected = np.tanh(as_numpy(seen["given"][1 - layer.state]))
    np.testing.assert_allclose(as_numpy(displacement), expected, atol=1e-6)


def test_states_that_cannot_be_told_apart_are_refused(x):
    inputs = keras.Input((5,))
    merged = Merge(0, name="merge")([L.Dense(4)(inputs), L.Dense(4)(inputs)])
    with pytest.raises(ValueError, match=r"'merge' cannot be a block: several of its"):
        find_residual_blocks(keras.Model(inputs, merged), ["merge"])


class Closed(keras.Model):
    """Calls `merge` where nobody can look."""

    def __init__(self, together):
        super().__init__()
        self.stem, self.dense = L.Dense(4), L.Dense(4, "tanh")
        self.merge, self.together = (
            Merge(0 if not together else 1, name="merge"),
            together,
        )

    def call(self, x):
        assert not isinstance(x, keras.KerasTensor)
        x = self.stem(x)
        if self.together:
            return self.merge([self.dense(x), x])
        return self.merge(x, self.dense(x))

    def compute_output_shape(self, shape):
        return (shape[0], 4)


def test_below_a_closed_call_the_first_argument_tells_or_it_is_refused(x):
    network = Closed(together=False)
    network(x)
    report = find_residual_blocks(network, ["merge"])
    _, [displacement] = DisplacementRecorder(network, report)(x)
    expected = np.tanh(as_numpy(network.dense(network.stem(x))))
    np.testing.assert_allclose(as_numpy(displacement), expected, atol=1e-6)
    network = Closed(together=True)
    network(x)
    record = DisplacementRecorder(network, find_residual_blocks(network, ["merge"]))
    with pytest.raises(ValueError, match=r"'merge'.*2 tensors.*not known"):
        record(x)
