"""Looks inside a layer: its `call`, run once on symbolic tensors, is a graph.

Keras has no public way to read the operations of a layer's `call`. Called directly on
symbolic tensors it leaves a node for each of them, which `_graph` reads. Everything
the call leaves behind on the layer is taken away again. Checked on Keras 3.15.1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_lap._graph import Graph, Node, Tensor, has_graph, is_op

# Sizes that stand in for unknown ones: many layers compute with the sizes of their
# input. Small, and even, as attention heads and patches want them.
_BATCH, _LENGTH = 2, 16


# They take a tensor for its shape and leave its values alone.
_SHAPE_OPS = ("FullLike", "OnesLike", "ZerosLike")


class CannotOpen(Exception):
    """The call of a layer does not run on symbolic tensors; the text says why."""


def inside(graph: Graph, node: Node) -> Graph | None:
    """The graph inside the operation of a node, read once and kept.

    Args:
        graph: The graph that holds `node`.
        node: Any node of it.

    Returns:
        A graph whose inputs and outputs stand for those of `node`, one for one; None
        for an operation that has no inside.

    Raises:
        CannotOpen: If the operation is a layer that cannot be opened.
    """
    if node not in graph.insides:
        try:
            graph.insides[node] = _open(node)
        except CannotOpen as error:
            graph.insides[node] = error
    found = graph.insides[node]
    if isinstance(found, CannotOpen):
        raise found
    return found


def is_openable(operation: keras.Operation) -> bool:
    """Whether only looking inside tells what a layer does.

    Keras's own layers are known: none of them has a residual connection in its call.
    """
    own = type(operation).call.__module__.startswith("keras.src.layers.")
    return isinstance(operation, keras.Layer) and not own


def flows(graph: Graph, source: Tensor, tensor: Tensor) -> bool:
    """Whether the value of `source` is used to compute `tensor` (true for itself).

    An operation that only reads the shape of an input passes no value on, nor does a
    layer whose inside shows that; one that cannot be opened is taken to do so. Only
    nodes after `source` are visited, so the cost is the length of the branch between
    the two and not the depth of the network.
    """
    oldest = graph.position(source)
    stack, seen = [tensor], set()
    while stack:
        current = stack.pop()
        if current is source:
            return True
        if id(current) in seen or graph.position(current) <= oldest:
            continue
        seen.add(id(current))
        stack.extend(_used(graph, current))
    return False


def _used(graph: Graph, tensor: Tensor) -> list[Tensor]:
    """The inputs of the node that makes `tensor` whose values it uses for it."""
    node = graph.producer(tensor)
    if node is None or is_op(node.operation, "numpy", *_SHAPE_OPS):
        return []
    try:
        inner = inside(graph, node)
    except CannotOpen:
        return list(node.inputs)
    if inner is None:
        return list(node.inputs)
    index = next(i for i, output in enumerate(node.outputs) if output is tensor)
    output = inner.outputs[index]
    pairs = zip(node.inputs, inner.inputs, strict=True)
    return [outer for outer, source in pairs if flows(inner, source, output)]


def _open(node: Node) -> Graph | None:
    operation = node.operation
    if has_graph(operation):
        return Graph.of(operation)
    if not is_openable(operation):
        return None
    inputs = [_concrete(tensor) for tensor in node.inputs]
    values = {id(t): new for t, new in zip(node.inputs, inputs, strict=True)}
    args, kwargs = node.call_arguments(values)
    with _traces_taken_away(operation):
        outputs = _symbolic_call(operation, args, kwargs)
        if len(outputs) != len(node.outputs):
            raise CannotOpen("its call returned another structure than before")
        return Graph(inputs, outputs)


def _symbolic_call(layer: keras.Layer, args: tuple, kwargs: dict) -> list[Tensor]:
    """The flat outputs of a layer's call on symbolic tensors."""
    try:
        with keras.StatelessScope():  # no seed or statistic moves on
            results = keras.tree.flatten(layer.call(*args, **kwargs))
        # A value that is not symbolic was computed from none of the inputs.
        return [
            result
            if isinstance(result, keras.KerasTensor)
            else keras.KerasTensor(result.shape)
            for result in results
        ]
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0][:120]
        raise CannotOpen(f"{type(error).__name__}: {first_line}") from error


@contextlib.contextmanager
def _traces_taken_away(layer: keras.Layer) -> Iterator[None]:
    """Leaves `layer` and the layers below with the nodes and losses they had."""
    layers = layer._flatten_layers()
    lists = [
        nodes
        for below in layers
        for nodes in (below._inbound_nodes, below._outbound_nodes)
    ]
    lengths = [len(nodes) for nodes in lists]
    for below in layers:
        vars(below)["add_loss"] = _no_loss
    try:
        yield
    finally:
        for below in layers:
            del vars(below)["add_loss"]
        for nodes, length in zip(lists, lengths, strict=True):
            del nodes[length:]


def _no_loss(loss: Any) -> None:
    """Stands in for a layer's `add_loss`, which refuses symbolic tensors."""


def _concrete(tensor: Tensor) -> Tensor:
    """A fresh input of the same dtype, its unknown sizes replaced by small ones."""
    sizes = [_LENGTH if size is None else size for size in tensor.shape]
    if sizes and tensor.shape[0] is None:
        sizes[0] = _BATCH
    return keras.KerasTensor(sizes, tensor.dtype)
