"""Sums inside a layer whose branch was computed from the state before it was called."""

from __future__ import annotations

import keras
import numpy as np
from support.basics import ON_ONE, as_numpy

from keras_lap import DisplacementRecorder, find_residual_blocks
from keras_lap.trajectory import Recorder

pytestmark = ON_ONE

L = keras.layers
ops = keras.ops


class Dismantled(L.Layer):
    """Called twice, before and after what mixes two states; see `Joint`."""

    def __init__(self, **options):
        super().__init__(**options)
        self.enter, self.feed = L.Dense(4), L.Dense(4, "tanh")

    def build(self, x_shape, mixed_shape=None):
        self.enter.build(x_shape)
        self.feed.build(x_shape)

    def call(self, x, mixed=None):
        if mixed is None:
            return self.enter(x), x
        x = x + 0.5 * mixed
        return x + self.feed(x)

    def compute_output_shape(self, x_shape, mixed_shape=None):
        return x_shape if mixed_shape else (x_shape, x_shape)


class Joint(L.Layer):
    """Mixes two states, as the joint attention of Stable Diffusion 3 does."""

    def __init__(self, **options):
        super().__init__(**options)
        self.parts = [Dismantled(name="left"), Dismantled(name="right")]

    def build(self, left_shape, right_shape):
        for part in self.parts:
            part.build(left_shape)

    def call(self, left, right):
        (a, x), (b, y) = self.parts[0](left), self.parts[1](right)
        mixed = ops.tanh(a + b)
        return self.parts[0](x, mixed), self.parts[1](y, mixed)

    def compute_output_shape(self, left_shape, right_shape):
        return left_shape, right_shape


class Norm(L.Layer):
    """Adds and normalises, with a branch from elsewhere."""

    def build(self, shapes):
        self.norm = L.LayerNormalization()
        self.norm.build(shapes[0])

    def call(self, inputs):
        return self.norm(inputs[0] + inputs[1])


class Attend(L.Layer):
    """Carries its state past a query that is the state and its positions."""

    def __init__(self, **options):
        super().__init__(**options)
        self.mix, self.out = L.Dense(4), L.Dense(4)

    def build(self, x_shape, positions_shape):
        self.mix.build(x_shape)
        self.out.build(x_shape)

    def call(self, x, positions):
        return x + self.out(ops.tanh(self.mix(x + positions)))

    def compute_output_shape(self, x_shape, positions_shape):
        return x_shape


def two_states():
    return keras.Input((4,), name="left"), keras.Input((4,), name="right")


def test_both_sums_move_the_state_of_a_layer_that_is_called_twice():
    inputs = two_states()
    joint = Joint(name="joint")
    model = keras.Model(inputs, joint(*inputs))
    report = find_residual_blocks(model)
    names = [(block.name, block.kind) for block in report]
    assert names == [("joint/left#2", "layer"), ("joint/right#2", "layer")]
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 3, 4)).astype("float32")
    path = Recorder(model, report, ["displacements", "states"])([left, right])
    first, second = (part for part in joint.parts)
    mixed = np.tanh(as_numpy(first.enter(left)) + as_numpy(second.enter(right)))
    for part, x, displacement, [(before, after)] in zip(
        joint.parts, (left, right), path.displacements, path.states, strict=True
    ):
        fed = as_numpy(part.feed(x + 0.5 * mixed))
        close = {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(as_numpy(displacement), 0.5 * mixed + fed, **close)
        np.testing.assert_allclose(as_numpy(before), x)
        np.testing.assert_allclose(as_numpy(after), x + 0.5 * mixed + fed, **close)


def test_a_layer_that_normalises_a_sum_of_its_inputs():
    x = keras.Input((4,))
    dense, norm = L.Dense(4), Norm(name="norm")
    model = keras.Model(x, norm([x, dense(x)]))
    report = find_residual_blocks(model)
    assert [(block.name, block.kind) for block in report] == [("norm", "layer")]
    value = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    outputs, [displacement] = DisplacementRecorder(model, report)(value)
    expected = as_numpy(outputs) - value
    np.testing.assert_allclose(as_numpy(displacement), expected, 1e-5, 1e-6)
    # Of two inputs that have nothing to do with each other, none is a state.
    inputs = two_states()
    assert not find_residual_blocks(keras.Model(inputs, Norm()(list(inputs))))


def test_a_block_on_the_branch_that_enters_counts_instead():
    x = keras.Input((4,))
    inner = L.Add(name="inner")([x, L.Dense(4)(x)])
    model = keras.Model(x, Norm(name="outer")([x, L.Dense(4, "tanh")(inner)]))
    report = find_residual_blocks(model)
    assert [block.name for block in report] == ["inner"]
    assert [skipped.name for skipped in report.skipped] == ["outer"]


def test_a_sum_off_the_way_of_a_state_is_none_for_its_branch_from_outside():
    x = keras.Input((4,))
    model = keras.Model(x, Attend(name="it")(x, L.Dense(4)(x)))
    report = find_residual_blocks(model)
    assert [(block.name, block.kind) for block in report] == [("it", "layer")]


def test_a_state_that_a_model_returns_beside_its_branch():
    inputs = keras.Input((4,))
    dense = L.Dense(4)
    state, branch = keras.Model(inputs, [inputs, dense(inputs)])(inputs)
    model = keras.Model(inputs, state + branch)
    report = find_residual_blocks(model)
    assert [block.kind for block in report] == ["identity"]
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    _, [displacement] = DisplacementRecorder(model, report)(x)
    expected = as_numpy(dense(x))
    np.testing.assert_allclose(as_numpy(displacement), expected, rtol=1e-4, atol=1e-6)


class Queries(L.Layer):
    """Begins with weights, which its one layer moves."""

    def build(self, shape):
        self.queries = self.add_weight(shape=(1, 4), name="queries")
        self.layer = Attend(name="layer")
        self.layer.build(shape, shape)

    def call(self, x):
        ones = ops.ones((ops.shape(x)[0], 1))
        return self.layer(ones * self.queries.value, x)

    def compute_output_shape(self, shape):
        return shape


def test_a_state_that_begins_as_weights():
    x = keras.Input((4,))
    model = keras.Model(x, Queries(name="it")(x))
    report = find_residual_blocks(model)
    assert [(block.name, block.kind) for block in report] == [("it/layer", "layer")]
    value = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    outputs, [displacement] = DisplacementRecorder(model, report)(value)
    queries = as_numpy(model.layers[-1].queries.value)
    np.testing.assert_allclose(
        as_numpy(displacement), as_numpy(outputs) - queries, rtol=1e-4, atol=1e-6
    )


class TwoStates(L.Layer):
    """Carries both of its inputs by sums, as layers of two modalities do."""

    def build(self, x_shape, y_shape):
        self.dense = [L.Dense(4, name=f"d{k}") for k in range(2)]
        for layer in self.dense:
            layer.build(x_shape)

    def call(self, x, y):
        both = ops.tanh(x + y)
        return x + self.dense[0](both), y + self.dense[1](both)

    def compute_output_shape(self, x_shape, y_shape):
        return x_shape, y_shape


def test_a_second_state_that_a_layer_carries_is_named():
    inputs = two_states()
    report = find_residual_blocks(keras.Model(inputs, TwoStates(name="it")(*inputs)))
    assert [block.name for block in report] == ["it"]
    assert [s.reason for s in report.skipped if "another state" in s.reason] == [
        "moves another state than the one that 'it' is measured by"
    ]
