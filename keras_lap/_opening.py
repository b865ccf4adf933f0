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

from keras_lap._graph import Graph, Node, Opened, Tensor, has_graph, is_op, tensor_paths

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
            return _open_call(model, *arguments, (None, None))
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
    inner = _open_call(operation, *arguments, unknown)
    if len(inner.outputs) != len(node.outputs):
        raise CannotOpen("its call returned another structure than before")
    return inner


def _open_call(
    layer: keras.Layer,
    args: tuple,
    kwargs: dict,
    unknown: tuple[int | None, int | None],
) -> Graph:
    """Runs a layer's call on fresh symbolic tensors and reads the graph it leaves.

    Args:
        layer: The layer.
        args: Its positional arguments, with symbolic tensors.
        kwargs: Its keyword arguments.
        unknown: Stand-ins for unknown sizes that are among their shapes already.
    """
    tensors = [
        leaf
        for leaf in keras.tree.flatten((args, kwargs))
        if isinstance(leaf, keras.KerasTensor)
    ]
    fresh = {id(tensor): _concrete(tensor) for tensor in tensors}
    batch = any(tensor.shape[:1] == (None,) for tensor in tensors)
    other = any(None in tensor.shape[1:] for tensor in tensors)
    unknown = (_BATCH if batch else unknown[0], _LENGTH if other else unknown[1])
    args, kwargs = keras.tree.map_structure(
        lambda leaf: fresh.get(id(leaf), leaf), (args, kwargs)
    )
    with _traces_taken_away(layer) as earlier:
        outputs = _symbolic_call(layer, args, kwargs)
        calls = {
            id(below): len(below._inbound_nodes) - earlier[id(below)]
            for below in layer._flatten_layers()
        }
        opened = Opened(tensor_paths(args, kwargs), earlier, calls, unknown)
        return Graph([fresh[id(tensor)] for tensor in tensors], outputs, opened)


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
def _traces_taken_away(layer: keras.Layer) -> Iterator[dict[int, int]]:
    """Leaves `layer` and the layers below with the nodes and losses they had.

    Yields:
        How often each of them had been called before, by its `id`.
    """
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
        yield {id(below): len(below._inbound_nodes) for below in layers}
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
