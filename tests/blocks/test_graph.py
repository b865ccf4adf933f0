"""The private parts of Keras that `_graph` reads, on the installed version."""

from __future__ import annotations

import sys

import keras
import pytest

from keras_lap.blocks import graph as _graph
from keras_lap.blocks import opening as _opening


def layer_names(model):
    return [node.name for node in _graph.Graph.of(model).nodes]


def test_nodes_are_the_calls_in_forward_order():
    inputs = keras.Input((4,), name="in")
    shared = keras.layers.Dense(4, name="shared")
    x = shared(shared(inputs))
    model = keras.Model(inputs, keras.layers.ReLU(name="act")(x))
    assert layer_names(model) == ["shared", "shared#2", "act"]


def test_calls_outside_the_model_are_not_its_nodes():
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4, name="layer")
    layer(layer(inputs))
    assert layer_names(keras.Model(inputs, layer(inputs))) == ["layer"]


def test_sequential_models_are_graphs_once_they_are_built():
    model = keras.Sequential([keras.layers.Dense(4, name="a")])
    assert not _graph.has_graph(model)
    model.build((None, 3))
    assert _graph.has_graph(model)
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

    assert not _graph.has_graph(Mine())
    assert _graph.has_graph(FunctionalMine())
    assert not _graph.has_graph(Overriding())


@pytest.mark.parametrize("add", [lambda x, y: x + y, keras.ops.add, None])
def test_additions_are_recognised(add):
    inputs = keras.Input((4,))
    other = keras.layers.Dense(4)(inputs)
    total = add(inputs, other) if add else keras.layers.Add()([inputs, other])
    graph = _graph.Graph([inputs], [total])
    assert [_graph.is_addition(n.operation) for n in graph.nodes] == [False, True]


@pytest.mark.parametrize("operation", [keras.ops.multiply, keras.ops.subtract])
def test_other_operations_are_no_additions(operation):
    inputs = keras.Input((4,))
    graph = _graph.Graph([inputs], [operation(inputs, inputs)])
    assert not _graph.is_addition(graph.nodes[0].operation)


def test_dependence_follows_the_edges():
    inputs = keras.Input((4,))
    left = keras.layers.Dense(4)(inputs)
    right = keras.layers.Dense(4)(inputs)
    total = left + right
    graph = _graph.Graph([inputs], [total])
    assert _opening.flows(graph, left, total)
    assert _opening.flows(graph, inputs, left)
    assert not _opening.flows(graph, right, left)
    assert not _opening.flows(graph, total, inputs)


def test_a_deep_graph_needs_no_deep_stack():
    inputs = x = keras.Input((1,))
    depth = 2 * sys.getrecursionlimit()
    layer = keras.layers.ReLU()
    for _ in range(depth):
        x = layer(x)
    assert len(_graph.Graph([inputs], [x]).nodes) == depth
