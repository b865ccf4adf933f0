"""Keras's nodes as plain calls and tensors, on the installed version."""

from __future__ import annotations

import sys

import keras
import pytest

from keras_lap.blocks import graph as plain
from keras_lap.blocks.operations import has_graph, roles_of
from keras_lap.blocks.reading import read


def graph_of(inputs, outputs):
    return read(keras.Model(inputs, outputs)).inside


def layer_names(model):
    return [call.name for call in read(model).inside.calls]


def test_calls_are_in_forward_order():
    inputs = keras.Input((4,), name="in")
    shared = keras.layers.Dense(4, name="shared")
    x = shared(shared(inputs))
    model = keras.Model(inputs, keras.layers.ReLU(name="act")(x))
    assert layer_names(model) == ["shared", "shared#2", "act"]


def test_calls_outside_the_model_are_not_its_calls():
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4, name="layer")
    layer(layer(inputs))
    assert layer_names(keras.Model(inputs, layer(inputs))) == ["layer"]


def test_sequential_models_are_graphs_once_they_are_built():
    model = keras.Sequential([keras.layers.Dense(4, name="a")])
    assert not has_graph(model)
    model.build((None, 3))
    assert has_graph(model)
    assert layer_names(model) == ["a"]


def test_models_with_their_own_call_have_no_graph():
    class Mine(keras.Model):
        def call(self, inputs):
            return inputs

    class FunctionalMine(keras.Model):
        def __init__(self):
            inputs = keras.Input((3,))
            super().__init__(inputs, keras.layers.Dense(3)(inputs))

    class Overriding(FunctionalMine):
        def call(self, inputs, training=None):
            return super().call(inputs) * 2

    assert not has_graph(Mine())
    assert has_graph(FunctionalMine())
    assert not has_graph(Overriding())


@pytest.mark.parametrize("add", [lambda x, y: x + y, keras.ops.add, None])
def test_additions_are_recognised(add):
    inputs = keras.Input((4,))
    other = keras.layers.Dense(4)(inputs)
    total = add(inputs, other) if add else keras.layers.Add()([inputs, other])
    calls = graph_of(inputs, total).calls
    assert [plain.SUM in call.roles for call in calls] == [False, True]


@pytest.mark.parametrize("operation", [keras.ops.multiply, keras.ops.subtract])
def test_other_operations_are_no_additions(operation):
    inputs = keras.Input((4,))
    (call,) = graph_of(inputs, operation(inputs, inputs)).calls
    assert plain.SUM not in call.roles


def test_the_functions_of_activations_are_those_of_the_layers():
    """`ops.tanh` stands elsewhere in Keras than `ops.relu`."""
    inputs = keras.Input((4,))
    for name in ("relu", "tanh", "gelu", "sigmoid", "silu"):
        (call,) = graph_of(inputs, getattr(keras.ops, name)(inputs)).calls
        layer = roles_of(keras.layers.Activation(name))
        assert plain.ACTIVATION in call.roles & layer, name


def test_an_operation_of_ones_own_is_not_known_by_its_name():
    class Add(keras.Operation):
        def call(self, x, y):
            return x - y

        def compute_output_spec(self, x, y):
            return x

    assert not roles_of(Add())


def test_dependence_follows_the_edges():
    inputs = keras.Input((4,))
    left = keras.layers.Dense(4)(inputs)
    right = keras.layers.Dense(4)(inputs)
    graph = graph_of(inputs, left + right)
    (source,), (total,) = graph.inputs, graph.outputs
    left, right = total.producer.inputs
    assert plain.flows(left, total)
    assert plain.flows(source, left)
    assert not plain.flows(right, left)
    assert not plain.flows(total, source)


def test_a_deep_graph_needs_no_deep_stack():
    inputs = x = keras.Input((1,))
    depth = 2 * sys.getrecursionlimit()
    layer = keras.layers.ReLU()
    for _ in range(depth):
        x = layer(x)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * depth)  # Keras itself builds the model by recursion
    try:
        model = keras.Model(inputs, x)
    finally:
        sys.setrecursionlimit(limit)
    assert len(read(model).inside.calls) == depth
