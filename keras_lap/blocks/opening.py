"""Looks inside a layer: its `call`, run once on symbolic tensors, is a graph.

Keras has no public way to read the operations of a layer's `call`. Called directly on
symbolic tensors it leaves a node for each of them, which `_graph` reads.
"""

from __future__ import annotations

import contextlib
import heapq
from typing import Any

import keras

from keras_lap.blocks.graph import Graph, Node, Tensor, has_graph, is_op
from keras_lap.blocks.symbolic import CannotOpen, Sizes, measure, open_call

# They take a tensor for its shape and leave its values alone.
_SHAPE_OPS = ("FullLike", "OnesLike", "ZerosLike")


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
            graph.insides[node] = _open(graph, node)
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


def is_declared(operation: keras.Operation) -> bool:
    """Whether a class says that its layers are residual blocks, each as a whole.

    It does so by the class attribute ``is_residual_block = True``.
    """
    return bool(getattr(type(operation), "is_residual_block", False))


def flows(graph: Graph, source: Tensor, tensor: Tensor) -> bool:
    """Whether the value of `source` is used to compute `tensor` (true for itself).

    An operation that only reads the shape of an input passes no value on, nor does a
    layer whose inside shows that; one that cannot be opened is taken to do so. Only
    nodes after `source` are visited, so the cost is the length of the branch between
    the two and not the depth of the network; and the oldest first, which lie nearest
    to `source` if that is read again and again along the way.
    """
    oldest = graph.position(source)
    heap, seen = [(graph.position(tensor), id(tensor), tensor)], {id(tensor)}
    while heap:
        position, _, current = heapq.heappop(heap)
        if current is source:
            return True
        if position <= oldest:
            continue
        for used in _used(graph, current):
            if id(used) not in seen:
                seen.add(id(used))
                heapq.heappush(heap, (graph.position(used), id(used), used))
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


def graph_of(model: keras.Model) -> Graph:
    """The graph of a built model: its own, or what its `call` shows when opened.

    Raises:
        CannotOpen: If the model has no graph and its `call` cannot be run.
    """
    if has_graph(model):
        return Graph.of(model)
    error = CannotOpen("no shape of its inputs is known")
    for dtype in (keras.config.floatx(), "int32"):
        try:
            arguments = _build_arguments(model, dtype)
            return open_call(model, *arguments)
        except CannotOpen as failure:
            error = failure
    raise error


def _build_arguments(model: keras.Model, dtype: str) -> tuple[tuple, dict]:
    """Symbolic arguments of the shapes that a model was built with."""
    if getattr(model, "inputs", None):  # a Functional model with a call of its own
        return (model.input,), {}
    config = model.get_build_config() or {}
    if "shapes_dict" in config:
        shapes = config["shapes_dict"].items()
        named = {
            k.removesuffix("_shape"): _tensors(shape, dtype) for k, shape in shapes
        }
        return (), named
    if config.get("input_shape") is None:
        raise CannotOpen("no shape of its inputs is known")
    return (_tensors(config["input_shape"], dtype),), {}


def build_shape(layer: keras.Layer) -> tuple[int | None, ...]:
    """The shape of a layer's input, its batch size left open; () if it is not known."""
    shape = (layer.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, (tuple, list)):
        return ()
    plain = all(size is None or isinstance(size, int) for size in shape)
    return (None, *shape[1:]) if plain else ()


def _tensors(shape: Any, dtype: str) -> Any:
    """A symbolic tensor for each shape of a structure; the batch size is left open."""
    if isinstance(shape, dict):
        return {name: _tensors(part, dtype) for name, part in shape.items()}
    if all(size is None or isinstance(size, int) for size in shape):
        return keras.KerasTensor((None, *shape[1:]), dtype)
    return [_tensors(part, dtype) for part in shape]


def _open(graph: Graph, node: Node) -> Graph | None:
    operation = node.operation
    if has_graph(operation):
        return Graph.of(operation)
    if not is_openable(operation):
        return None
    unknown = graph.opened.unknown if graph.opened else (None, None)
    arguments = node.call_arguments({id(tensor): tensor for tensor in node.inputs})
    try:
        return _fitting(node, open_call(operation, *arguments, unknown))
    except CannotOpen as error:
        reason = error
    if graph.sizes is None:
        graph.sizes = measure(graph) or Sizes()
    for ones in (False, True):
        with contextlib.suppress(CannotOpen):
            inner = open_call(operation, *arguments, unknown, graph.sizes, ones)
            return _fitting(node, inner)
    raise reason


def _fitting(node: Node, inner: Graph) -> Graph:
    if len(inner.outputs) != len(node.outputs):
        raise CannotOpen("its call returned another structure than before")
    return inner
