"""What one model or one `call` does, as a graph whose calls are not looked into yet.

Keras has no public way to read which operation made a tensor from which others. A
model that is a graph has nodes of its own; a layer's `call`, run once on symbolic
tensors, leaves a node for each operation, and all that it leaves behind on the layer
and the layers below is taken away again. Private names of Keras stand in this file and
in `reading` alone; checked on Keras 3.15.1, and on its nightly release by
``tests/test_private_names.py``.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_lap.blocks.graph import DIFFERENCE, Call, Graph, Tensor
from keras_lap.blocks.operations import roles_of
from keras_lap.blocks.sizes import BATCH, KNOWN, Sizes, Unknown
from keras_lap.blocks.specs import (
    accepted,
    is_symbol,
    output_spec,
    returning_none,
    symbols_first,
)

_REMAT = "{!r} runs under a RematScope, where nothing inside is kept"


@dataclass(frozen=True)
class Traced:
    """What came of running a call on symbolic tensors.

    Attributes:
        graph: What it does; None if it does not run.
        reason: Why it does not.
        unknown: The stand-ins among the sizes of the graph's tensors.
    """

    graph: Graph | None
    reason: str = ""
    unknown: Unknown = KNOWN


def trace_model(model: keras.Model, path: tuple[Call, ...]) -> Graph:
    """The graph of a model that is one; see `operations.has_graph`."""
    return _walk(list(model.inputs), list(model.outputs), path)


def trace_call(
    layer: keras.Operation,
    arguments: tuple[tuple, dict],
    path: tuple[Call, ...],
    unknown: Unknown = KNOWN,
    sizes: Sizes | None = None,
    ones: bool = False,
) -> Traced:
    """Runs a layer's call on fresh symbolic tensors and reads the graph it leaves.

    Args:
        layer: The layer, or another operation.
        arguments: Its positional and keyword arguments, with symbolic tensors.
        path: The calls around the graph, that of the layer among them.
        unknown: Stand-ins for unknown sizes that are among their shapes already.
        sizes: The sizes that these tensors really have, if they were measured.
        ones: Whether to give ones for integers and booleans, which are indices and
            masks and never states.
    """
    sizes = sizes or Sizes()
    paths = _tensor_paths(arguments)
    symbols = [s for s in keras.tree.flatten(arguments) if is_symbol(s)]
    fresh = {id(symbol): sizes.fresh(symbol) for symbol in symbols}
    batch = any(symbol.shape[:1] == (None,) for symbol in symbols)
    other = any(None in symbol.shape[1:] for symbol in symbols)
    unknown = BATCH if batch else unknown[0], sizes.length if other else unknown[1]
    passed = {key: _one(new) if ones else new for key, new in fresh.items()}
    args, kwargs = keras.tree.map_structure(
        lambda leaf: passed.get(id(leaf), leaf), arguments
    )
    inputs = [fresh[id(symbol)] for symbol in symbols]
    run = functools.partial(_run, layer, args, inputs, paths, path, unknown)
    traced = run(kwargs)
    takes_it = "training" in inspect.signature(layer.call).parameters
    if traced.graph is not None and takes_it and kwargs.get("training") is None:
        traced.graph.training = run({**kwargs, "training": True}).graph
    return traced


def layers_below(layer: Any, recursive: bool = True) -> list[keras.Layer]:
    """The layers below a layer, at any depth or directly below it."""
    if not isinstance(layer, keras.Layer):
        return []
    return list(layer._flatten_layers(include_self=False, recursive=recursive))


def _sealed(operation: Any) -> str:
    """Whether a layer computes its call anew for the gradient (`keras.RematScope`).

    What is seen inside such a call is not there any more after it.
    """
    again = getattr(operation, "_remat_mode", None) is not None
    return _REMAT.format(operation.name) if again else ""


def _run(
    layer: keras.Layer,
    args: tuple,
    inputs: list[keras.KerasTensor],
    paths: list[tuple],
    path: tuple[Call, ...],
    unknown: Unknown,
    kwargs: dict,
) -> Traced:
    """Runs the call, and once more if layers within return None."""
    incomplete: list[keras.Layer] = []

    def run() -> Traced:
        with _traces_taken_away(layer, incomplete) as earlier:
            try:
                outputs = _symbolic_call(layer, args, kwargs)
            except Exception as error:
                first_line = str(error).strip().partition("\n")[0][:120]
                return Traced(None, f"{type(error).__name__}: {first_line}")
            graph = _walk(inputs, outputs, path, unknown, earlier)
            graph.is_call, graph.paths = True, paths
            _forget_strays(graph, earlier)
            return Traced(graph, unknown=unknown)

    traced = run()
    if incomplete:
        with returning_none(incomplete):
            traced = run()
    return traced


def _symbolic_call(layer: keras.Layer, args: tuple, kwargs: dict) -> list[Any]:
    """The flat outputs of a layer's call on symbolic tensors."""
    # No seed or statistic moves on, and no variable is made.
    with keras.StatelessScope(initialize_variables=False), symbols_first():
        result = layer.call(*args, **accepted(layer, kwargs))
    # A value that is not symbolic was computed from none of the inputs.
    return [
        leaf if is_symbol(leaf) else keras.KerasTensor(getattr(leaf, "shape", ()))
        for leaf in keras.tree.flatten(result)
    ]


@contextlib.contextmanager
def _traces_taken_away(
    layer: keras.Layer, incomplete: list[keras.Layer]
) -> Iterator[dict[int, int]]:
    """Leaves `layer` and the layers below with the nodes and losses they had.

    Yields:
        How often each of them had been called before, by its `id`.
    """
    layers = [layer, *layers_below(layer)]
    lists = [nodes for below in layers for nodes in _nodes(below)]
    lengths = [len(nodes) for nodes in lists]
    for below in layers:
        vars(below)["add_loss"] = lambda loss: None  # refuses symbolic tensors
        vars(below)["compute_output_spec"] = functools.partial(
            output_spec, below, incomplete
        )
    try:
        yield {id(below): len(below._inbound_nodes) for below in layers}
    finally:
        for below in layers:
            del vars(below)["add_loss"], vars(below)["compute_output_spec"]
        for nodes, length in zip(lists, lengths, strict=True):
            del nodes[length:]


def _one(symbol: keras.KerasTensor) -> Any:
    if keras.backend.is_float_dtype(symbol.dtype):
        return symbol
    return keras.ops.ones(symbol.shape, symbol.dtype)


def _tensor_paths(arguments: tuple[Any, Any]) -> list[tuple]:
    """The paths of all symbolic tensors within ``(args, kwargs)``."""
    flat = keras.tree.flatten_with_path(arguments)
    return [path for path, leaf in flat if is_symbol(leaf)]


def _walk(
    inputs: list[keras.KerasTensor],
    outputs: list[keras.KerasTensor],
    path: tuple[Call, ...],
    unknown: Unknown = KNOWN,
    earlier: dict[int, int] | None = None,
) -> Graph:
    """The calls between symbolic tensors, each after those it takes its inputs from.

    Args:
        inputs: Where the graph begins.
        outputs: Where it ends.
        path: The calls around it.
        unknown: The stand-ins for unknown sizes.
        earlier: How often each layer had been called before, by its `id`, if the graph
            is that of a layer's `call`.
    """
    tensors: dict[int, Tensor] = {}

    def tensor(symbol: keras.KerasTensor) -> Tensor:
        if id(symbol) not in tensors:
            tensors[id(symbol)] = Tensor(_shape(symbol, unknown), symbol)
        return tensors[id(symbol)]

    uses: dict[Any, int] = {}
    calls: list[Call] = []
    for operation, number, node in _forward_order(inputs, outputs):
        label: str = operation.name
        counted: Any = id(operation)
        if earlier is not None and not isinstance(operation, keras.Layer):
            counted = label = type(operation).__name__.lower()
        use = uses.get(counted, 0)
        uses[counted] = use + 1
        arguments, symbols = node.arguments, node.input_tensors
        if earlier is not None and isinstance(operation, keras.Layer):
            arguments, symbols = _with_constants(node.arguments)
        call = Call(
            operation,
            label,
            roles_of(operation),
            tuple(map(tensor, symbols)),
            tuple(map(tensor, node.outputs)),
            path=path,
            use=use,
            index=len(calls),
            in_call=earlier is not None,
            arguments=arguments,
            sealed=_sealed(operation),
        )
        if DIFFERENCE in call.roles:
            call.signs = _signs(node)
        if earlier is not None:
            _locate(call, number, earlier)
        calls.append(call)
    return Graph(calls, list(map(tensor, inputs)), list(map(tensor, outputs)))


def _signs(node: Any) -> tuple[int, ...]:
    """Which inputs of a subtraction are taken away: the second one, `x2`.

    One of the two may be a number, which is no input.
    """
    paths = _tensor_paths((node.arguments.args, node.arguments.kwargs))
    return tuple(-1 if path[-1] in (1, "x2") else 1 for path in paths)


@dataclass(frozen=True)
class Arguments:
    """Those of a call, with symbolic tensors."""

    args: tuple
    kwargs: dict


def _with_constants(arguments: Any) -> tuple[Arguments, list[keras.KerasTensor]]:
    """Arguments with symbolic tensors for those of numbers, too, and all of these.

    As the queries of a decoder, which begin as weights.
    """

    def symbolic(leaf: Any) -> Any:
        if not keras.ops.is_tensor(leaf) or len(leaf.shape) < 2:
            return leaf
        dtype = keras.backend.standardize_dtype(leaf.dtype)
        floats = keras.backend.is_float_dtype(dtype)
        return keras.KerasTensor(tuple(leaf.shape), dtype) if floats else leaf

    args, kwargs = keras.tree.map_structure(
        symbolic, (arguments.args, arguments.kwargs)
    )
    found = [leaf for leaf in keras.tree.flatten((args, kwargs)) if is_symbol(leaf)]
    return Arguments(args, kwargs), found


def _locate(call: Call, number: int, earlier: dict[int, int]) -> None:
    """Notes where a call can be seen while the `call` around it runs."""
    layer = call.operation
    call.paths = _tensor_paths((call.arguments.args, call.arguments.kwargs))
    call.number = number - earlier.get(id(layer), 0)
    if call.sealed:
        call.hidden = call.sealed
    elif id(layer) in earlier:
        call.count = len(layer._inbound_nodes) - earlier[id(layer)]
    else:
        call.hidden = f"{layer.name!r} is no attribute of the layer that calls it"


def _forward_order(
    inputs: list[keras.KerasTensor], outputs: list[keras.KerasTensor]
) -> Iterator[tuple[keras.Operation, int, Any]]:
    """Operations, which call of each it is, and Keras's nodes; without recursion."""
    done = {id(symbol) for symbol in inputs}
    stack = [(symbol, False) for symbol in outputs[::-1]]
    while stack:
        symbol, parents_done = stack.pop()
        if id(symbol) in done:
            continue
        history = getattr(symbol, "_keras_history", None)
        if history is None or history.operation is None:
            done.add(id(symbol))  # an input, or a value made from no input
            continue
        node = history.operation._inbound_nodes[history.node_index]
        if not parents_done:
            stack.append((symbol, True))
            pending = (t for t in reversed(node.input_tensors) if id(t) not in done)
            stack.extend((parent, False) for parent in pending)
            continue
        yield history.operation, history.node_index, node
        done.update(id(output) for output in node.outputs)


def _shape(symbol: keras.KerasTensor, unknown: Unknown) -> tuple[int | None, ...]:
    sizes = enumerate(symbol.shape)
    return tuple(None if size == unknown[axis > 0] else size for axis, size in sizes)


def _nodes(layer: keras.Operation) -> tuple[list, list]:
    return layer._inbound_nodes, layer._outbound_nodes


def _forget_strays(graph: Graph, known: dict[int, int]) -> None:
    """Takes the nodes of a trace from layers that the traced one does not hold.

    A function may use layers that it was defined beside.
    """
    made = {id(tensor.symbol) for call in graph.calls for tensor in call.outputs}
    strays = (call.operation for call in graph.calls if id(call.operation) not in known)
    for layer in strays:
        for nodes in _nodes(layer) if isinstance(layer, keras.Layer) else ():
            nodes[:] = (n for n in nodes if not made & set(map(id, n.outputs)))
