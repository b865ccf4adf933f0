"""Layers that cannot be looked into, and what is done for fewer of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lap import find_residual_blocks

L = keras.layers
ops = keras.ops


class Positions(L.Layer):
    """Takes the shape of its input and none of its values, which cannot be seen."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise RuntimeError("no symbols")
        return ops.broadcast_to(self.table.value, ops.shape(x))

    def compute_output_shape(self, shape):
        return shape


def model_of(build):
    inputs = keras.Input((4,))
    return keras.Model(inputs, build(inputs))


def found(build):
    report = find_residual_blocks(model_of(build))
    return [(block.name, block.kind) for block in report]


class ClosedGate(L.Layer):
    """Uses one of its inputs, and begins with a weight of zero."""

    def build(self, x_shape, y_shape):
        self.gate = self.add_weight(shape=(), initializer="zeros")

    def call(self, x, y):
        if isinstance(x, keras.KerasTensor):
            raise RuntimeError("no symbols")
        return self.gate * x + ops.zeros_like(y)

    def compute_output_shape(self, x_shape, y_shape):
        return x_shape


class Undecided(Positions):
    """Returns something else each time, so that a trial says nothing."""

    def call(self, x):
        super().call(x)
        self.calls = getattr(self, "calls", 0) + 1
        return x + self.calls


def test_a_closed_layer_passes_on_what_changes_its_output():
    def positions(x):
        x = L.Dense(4)(x)
        return x + Positions(name="closed")(x)

    def gate(x):
        x, y = L.Dense(4, name="x")(x), L.Dense(4, name="y")(x)
        used = L.Add(name="used")([x, ClosedGate()(x, y)])
        return used + L.Add(name="not used")([y, ClosedGate()(x, y)])

    assert found(positions) == []
    assert found(gate) == [("used", "identity")]


def test_what_is_not_known_of_a_closed_layer_is_said():
    def build(x):
        x = L.Dense(4)(x)
        return x + Undecided(name="closed")(x)

    report = find_residual_blocks(model_of(build))
    assert not report
    said = {skipped.name: skipped.reason for skipped in report.skipped}
    assert "passes on the values of its inputs is not known" in said["closed"]


class ShortTable(L.Layer):
    """Positions of up to 9 tokens, or of 9 tokens and no others."""

    def __init__(self, exact, **options):
        super().__init__(**options)
        self.exact = exact

    def build(self, shape):
        self.table = self.add_weight(shape=(9, shape[-1]), name="table")

    def call(self, x):
        length = x.shape[-2]
        if length > 9 or (self.exact and length != 9):
            raise ValueError(f"{length} tokens")
        return ops.broadcast_to(self.table.value[:length], ops.shape(x))

    def compute_output_shape(self, shape):
        return shape


class Embedded(L.Layer):
    """Tokens and their positions, which are no residual branch of them."""

    def __init__(self, exact, **options):
        super().__init__(**options)
        self.tokens, self.positions = L.Embedding(7, 4), ShortTable(exact)

    def call(self, ids):
        tokens = self.tokens(ids)
        return tokens + self.positions(tokens)

    def compute_output_shape(self, shape):
        return (*shape, 4)


@pytest.mark.parametrize("exact", [False, True])
def test_a_table_that_is_shorter_than_what_stands_in_for_a_length(exact):
    ids = keras.Input((None,), dtype="int32")
    report = find_residual_blocks(keras.Model(ids, Embedded(exact, name="it")(ids)))
    assert not report
    assert all("looked into" not in skipped.reason for skipped in report.skipped)


class Arrays(L.Layer):
    """Computes with weights and arrays beside its input."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")
        self.dense = L.Dense(shape[-1])
        self.dense.build(shape)

    def call(self, x):
        array = ops.convert_to_tensor(np.full(x.shape[-1:], 0.5, "float32"))
        return x + self.scale * (array + self.dense(x))


def test_weights_and_arrays_meet_symbolic_tensors_on_every_backend():
    before = dict(vars(keras.KerasTensor))
    assert found(Arrays(name="it")) == [("it", "layer")]
    assert dict(vars(keras.KerasTensor)) == before


class Shapeless(keras.Operation):
    """Cannot say what it returns."""

    def call(self, x):
        return 2.0 * x

    def compute_output_spec(self, x):
        raise ValueError("no shape")


def test_an_operation_that_cannot_say_its_shape_inside_a_call():
    class Holds(L.Layer):
        def build(self, shape):
            self.dense = L.Dense(shape[-1])
            self.dense.build(shape)

        def call(self, x):
            return x + Shapeless()(self.dense(x))

        def compute_output_shape(self, shape):
            return shape

    assert found(Holds(name="it")) == [("it", "layer")]
