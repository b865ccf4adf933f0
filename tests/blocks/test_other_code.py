"""Whatever runs a user's code is looked into, or says why it is not."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

from keras_lap import DisplacementRecorder, find_residual_blocks

L = keras.layers
ops = keras.ops
register = keras.saving.register_keras_serializable("test_other_code")


class Block(L.Layer):
    """A layer with its residual connection inside."""

    def build(self, shape):
        self.dense = L.Dense(shape[-1], "tanh")
        self.dense.build(shape)

    def call(self, x):
        return x + self.dense(x)

    def compute_output_shape(self, shape):
        return shape


@register
class Cell(L.Layer):
    """A cell whose state moves by a residual connection."""

    state_size = output_size = 4

    def build(self, shape):
        self.dense = L.Dense(4, "tanh")
        self.dense.build((shape[0], 4))

    def call(self, x, states):
        state = states[0] + self.dense(states[0]) + x
        return state, [state]


class Weighted(L.Add):
    """A merge of Keras that adds in another way."""

    def _merge_function(self, inputs):
        return inputs[0] + 0.17 * inputs[1]


class Function(keras.Operation):
    """An operation that is no layer."""

    def call(self, x, y):
        return x + 0.17 * y

    def compute_output_spec(self, x, y):
        return keras.KerasTensor(x.shape, x.dtype)


def model_of(build, shape=(4,)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, build(inputs))


def per_step():
    inputs = keras.Input((4,))
    return keras.Model(inputs, inputs + L.Dense(4, name="dense")(inputs))


def lambda_of_two(x):
    return L.Lambda(lambda t: t[0] + 0.17 * t[1], name="it")([x, L.Dense(4)(x)])


def lambda_of_one(x):
    return L.Lambda(lambda t: t + 0.17 * ops.tanh(t), name="it")(x)


FOUND = {
    "function that merges": (lambda_of_two, "it", "identity"),
    "function that adds": (lambda_of_one, "it", "layer"),
    "subclass of a merge": (
        lambda x: Weighted(name="it")([x, L.Dense(4)(x)]),
        "it",
        "identity",
    ),
    "operation": (lambda x: Function(name="it")(x, L.Dense(4)(x)), "it", "identity"),
    "pipeline": (
        lambda x: L.Pipeline([L.Dense(4), Block(name="it")], name="pipe")(x),
        "pipe/it",
        "layer",
    ),
}


@pytest.mark.parametrize(("build", "name", "kind"), FOUND.values(), ids=FOUND)
def test_blocks_in_code_that_is_not_kerass(build, name, kind):
    model = model_of(build)
    report = find_residual_blocks(model)
    assert [(block.name, block.kind) for block in report] == [(name, kind)]
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    outputs, [displacement] = DisplacementRecorder(model, report)(x)
    before = x
    if name.startswith("pipe"):
        before = as_numpy(model.layers[-1].layers[0](x))
    np.testing.assert_allclose(
        as_numpy(displacement), as_numpy(outputs) - before, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("steps", [5, None])
@pytest.mark.parametrize("wrapped", [per_step, Block])
def test_a_block_at_every_time_step_is_one_block(wrapped, steps):
    model = model_of(L.TimeDistributed(wrapped(), name="it"), (steps, 4))
    report = find_residual_blocks(model)
    assert [(b.name, b.kind) for b in report] == [("it", "layer")]
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    outputs, [displacement] = DisplacementRecorder(model, report)(x)
    np.testing.assert_allclose(
        as_numpy(displacement), as_numpy(outputs) - x, rtol=1e-4, atol=1e-6
    )


LEFT_OUT = {
    "cell": lambda x: L.RNN(Cell(), return_sequences=True, name="it")(x),
    "stacked cells": lambda x: L.RNN([L.GRUCell(4), Cell()], name="it")(x),
    "both ways": lambda x: L.Bidirectional(L.RNN(Cell()), name="it")(x),
    "steps around": lambda x: L.TimeDistributed(
        keras.Sequential([keras.Input((4,)), L.Dense(4), Block(), L.Dense(4)]),
        name="it",
    )(x),
}


@pytest.mark.parametrize("build", LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_runs_at_every_time_step_is_left_out_with_the_reason(build):
    report = find_residual_blocks(model_of(build, (5, 4)))
    assert not report
    assert report.skipped
    for skipped in report.skipped:
        assert skipped.name.startswith("it")
        assert "once for every time step" in skipped.reason


def test_cells_of_keras_hold_no_block_and_pass_values_on():
    report = find_residual_blocks(
        model_of(lambda x: x + L.RNN(L.GRUCell(4), return_sequences=True)(x), (5, 4))
    )
    assert [block.kind for block in report] == ["identity"]
    assert not report.skipped


def test_layers_that_a_function_was_defined_beside_keep_no_trace():
    beside = L.Dense(4)
    own = Block(name="own")
    beside(np.ones((1, 4)))
    own(np.ones((1, 4)))
    model = model_of(lambda x: L.Lambda(lambda t: 2.0 * own(beside(t)), name="it")(x))
    before = [len(layer._inbound_nodes) for layer in (beside, own)]
    report = find_residual_blocks(model)
    assert [len(layer._inbound_nodes) for layer in (beside, own)] == before
    # Nothing can be recorded in what the layer around does not hold.
    assert [skipped.name for skipped in report.skipped] == ["it/own"]
    assert "is no attribute of the layer that calls it" in report.skipped[0].reason
