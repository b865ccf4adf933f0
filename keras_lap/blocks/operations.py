"""What operations can be on the way of a state: shortcut, activation, norm."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from keras_lap.blocks.graph import Graph, Node, Tensor, has_graph, is_op, keeps_shape
from keras_lap.blocks.opening import inside, is_openable
from keras_lap.blocks.symbolic import CannotOpen

_POOLING = tuple(
    getattr(keras.layers, f"{mode}Pooling{rank}D")
    for mode in ("Average", "Max")
    for rank in (1, 2, 3)
)
# Padding makes the windows of a pooling fit.
_PADDING = tuple(getattr(keras.layers, f"ZeroPadding{rank}D") for rank in (1, 2, 3))
NORMALIZATION = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)
_CONVOLUTION = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_ACTIVATION = (
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
)
_ACTIVATION_OPS = [
    "Celu",
    "Elu",
    "Gelu",
    "HardSilu",
    "HardTanh",
    "LeakyRelu",
    "Relu",
    "Relu6",
    "Selu",
    "Sigmoid",
    "Silu",
    "Softplus",
    "Tanh",
]


def shortcut_sources(graph: Graph, tensor: Tensor) -> Iterator[Tensor]:
    """Tensors from which `tensor` comes through shortcut layers alone."""
    node = graph.producer(tensor)
    while node is not None and _keeps_to_shortcut(graph, node):
        yield node.inputs[0]
        node = graph.producer(node.inputs[0])


def unaltered(graph: Graph, tensor: Tensor) -> Iterator[Tensor]:
    """The tensor, and those that it is a mere copy of."""
    yield tensor
    node = graph.producer(tensor)
    while node is not None and _is_copy(node.operation):
        yield node.inputs[0]
        node = graph.producer(node.inputs[0])


def _is_copy(operation: keras.Operation) -> bool:
    linear = isinstance(operation, keras.layers.Activation) and _is_linear(operation)
    return isinstance(operation, keras.layers.Identity) or linear


def _keeps_to_shortcut(graph: Graph, node: Node) -> bool:
    """Whether a layer may lie on a projection: 1×1 convolution, pooling, norm.

    A nested model may that is a chain of such layers.
    """
    layer = node.operation
    if len(node.inputs) != 1:
        return False
    if has_graph(layer):
        inner = inside(graph, node)
        assert inner is not None
        chain = shortcut_sources(inner, inner.outputs[0])
        return any(tensor is inner.inputs[0] for tensor in chain)
    if isinstance(layer, _CONVOLUTION):
        return set(layer.kernel_size) == {1} and _is_linear(layer)
    if isinstance(layer, keras.layers.Dense):
        return _is_linear(layer)
    allowed = _POOLING + _PADDING + NORMALIZATION
    return _is_copy(layer) or isinstance(layer, allowed)


def _is_linear(layer: keras.Layer) -> bool:
    return layer.activation is keras.activations.linear


def is_activation(operation: keras.Operation) -> bool:
    """Whether an operation works on each number of a state by itself."""
    if isinstance(operation, keras.layers.Activation):
        # A softmax is the head's: it normalises over classes and moves no state.
        return operation.activation is not keras.activations.softmax
    return isinstance(operation, _ACTIVATION) or is_op(
        operation, "nn", *_ACTIVATION_OPS
    )


def keeps_state(graph: Graph, node: Node) -> bool:
    """Whether a node after a merge still hands on the state: norm, act, constant."""
    operation = node.operation
    if len(node.inputs) != 1:
        return False
    if isinstance(operation, keras.Layer):
        kept = (*NORMALIZATION, keras.layers.Dropout, keras.layers.Identity)
        if isinstance(operation, kept) or is_activation(operation):
            return True
        return is_openable(operation) and _is_normalization(graph, node)
    return (
        is_activation(operation)
        or is_op(operation, "numpy", "Add", "Subtract", "Multiply", "Divide", "Reshape")
        or is_op(operation, "core", "Cast")
    )


def _is_normalization(graph: Graph, node: Node) -> bool:
    """Whether a layer keeps the shape and mixes its features by no weights."""
    try:
        inner = inside(graph, node)
    except CannotOpen:
        return False
    return (
        inner is not None
        and keeps_shape(node)
        and not any(
            isinstance(step.operation, keras.Layer)
            or is_op(step.operation, "numpy", "Matmul", "Einsum", "Dot", "Tensordot")
            for step in inner.nodes
        )
    )
