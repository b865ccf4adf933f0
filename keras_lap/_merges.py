"""When is a sum in a graph the end of a residual block?

``x_out = act?(x_in + r(x_in))``: `x_in` reaches the sum unchanged, or through a
shortcut that only changes its shape, and the rest of the sum depends on `x_in`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import keras

from keras_lap._graph import Graph, Node, Tensor, is_op

Kind = Literal["identity", "projection", "layer"]

_POOLING = tuple(
    getattr(keras.layers, f"{mode}Pooling{rank}D")
    for mode in ("Average", "Max")
    for rank in (1, 2, 3)
)
_NORMALIZATION = (
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


@dataclass(frozen=True, eq=False)
class Merge:
    """Where the two states of one residual block are found in a graph.

    Attributes:
        kind: What the shortcut is.
        shortcut: The state before: `x_in`, or its projection.
        output: The state after: the sum, or the activation of the sum.
        branch: The displacement itself, if that is one tensor of the graph.
    """

    kind: Kind
    shortcut: Tensor
    output: Tensor
    branch: Tensor | None


def find_merge(graph: Graph, node: Node, streams: set[int]) -> Merge | str:
    """Decides whether an addition closes a residual block.

    Args:
        graph: The graph that holds `node`.
        node: A call of an addition with two inputs or more.
        streams: Ids of the sums that closed a block without an activation, so far;
            extended by this one if it does so too.

    Returns:
        The merge, or the reason why it is not one.
    """
    total = node.outputs[0]
    found = _shortcut(graph, node)
    if isinstance(found, str):
        return found
    kind, shortcut = found
    if tuple(shortcut.shape) != tuple(total.shape):
        return f"the sum broadcasts its shortcut from {shortcut.shape} to {total.shape}"
    output = total if id(shortcut) in streams else _activated(graph, total)
    if output is total:
        streams.add(id(total))
    branch = _other(node, shortcut) if output is total else None
    return Merge(kind, shortcut, output, branch)


def _shortcut(graph: Graph, node: Node) -> tuple[Kind, Tensor] | str:
    """The input of a sum that is the state before, and how it got there."""
    by_age = sorted(node.inputs, key=graph.position)
    for candidate in by_age:
        if any(graph.depends(t, candidate) for t in node.inputs if t is not candidate):
            return "identity", candidate
    sources = [list(_shortcut_sources(graph, tensor)) for tensor in node.inputs]
    for tensor, chain in zip(node.inputs, sources, strict=True):
        rest = [other for other in node.inputs if other is not tensor]
        for source in chain:
            if any(graph.depends(other, source) for other in rest):
                return _projection(node, tensor, source, sources)
    return "sums parallel branches: no input is a shortcut past the others"


def _projection(
    node: Node, tensor: Tensor, source: Tensor, sources: list[list[Tensor]]
) -> tuple[Kind, Tensor] | str:
    """Decides whether a chain of shortcut layers from `source` is a projection."""
    if sum(any(t is source for t in chain) for chain in sources) > 1:
        return "sums parallel branches: all of them look like shortcuts"
    if tuple(tensor.shape) == tuple(source.shape):
        return "its shortcut is a layer that keeps the shape, so no state reaches it"
    return "projection", tensor


def _shortcut_sources(graph: Graph, tensor: Tensor) -> Iterator[Tensor]:
    """Tensors from which `tensor` comes through shortcut layers alone."""
    node = graph.producer(tensor)
    while node is not None and _keeps_to_shortcut(node):
        yield node.inputs[0]
        node = graph.producer(node.inputs[0])


def _keeps_to_shortcut(node: Node) -> bool:
    """Whether a layer may lie on a projection: 1×1 convolution, pooling, norm."""
    layer = node.operation
    if len(node.inputs) != 1:
        return False
    if isinstance(layer, _CONVOLUTION):
        return set(layer.kernel_size) == {1} and _is_linear(layer)
    if isinstance(layer, keras.layers.Dense):
        return _is_linear(layer)
    return isinstance(layer, _POOLING + _NORMALIZATION)


def _is_linear(layer: keras.Layer) -> bool:
    return layer.activation is keras.activations.linear


def _activated(graph: Graph, total: Tensor) -> Tensor:
    """The activation of a sum if nothing else reads the sum, else the sum."""
    consumers = graph.consumers(total)
    if len(consumers) != 1 or graph.is_output(total):
        return total
    (node,) = consumers
    return node.outputs[0] if _is_activation(node.operation) else total


def _is_activation(operation: keras.Operation) -> bool:
    if isinstance(operation, keras.layers.Activation):
        # A softmax is the head's: it normalises over classes and moves no state.
        return operation.activation is not keras.activations.softmax
    return isinstance(operation, _ACTIVATION) or is_op(
        operation, "nn", *_ACTIVATION_OPS
    )


def _other(node: Node, shortcut: Tensor) -> Tensor | None:
    """The one other summand, if it has the full shape: then it is ``x_out − x_in``."""
    if len(node.inputs) != 2:
        return None
    first, second = node.inputs
    branch = second if first is shortcut else first
    return branch if tuple(branch.shape) == tuple(shortcut.shape) else None
