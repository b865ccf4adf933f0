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
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_lap.blocks.graph import Call, Graph, Tensor
from keras_lap.blocks.operations import roles_of

# The size that stands in for that of an unknown batch.
_BATCH = 2
# And for other unknown sizes, as many layers compute with those of their input. Small,
# and even, as attention heads and patches want them; then one for short tables of
# positions, and one for models of sound.
LENGTHS = (16, 4, 1024)

# Stand-ins for unknown sizes, of the batch and of others, which `Tensor.shape` has as
# None; None where there are none.
Unknown = tuple[int | None, int | None]
KNOWN: Unknown = (None, None)


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


@dataclass(frozen=True)
class Sizes:
    """The sizes of the tensors of a graph.

    Attributes:
        known: Measured shapes, by the `id` of the symbolic tensor.
        length: What stands in for an unknown size that is not the batch's.
    """

    known: dict[int, tuple[int, ...]] = field(default_factory=dict)
    length: int = LENGTHS[0]

    def fresh(self, symbol: keras.KerasTensor) -> keras.KerasTensor:
        """Another of the measured shape, or of its own with unknown sizes filled in."""
        sizes = [self.length if size is None else size for size in symbol.shape]
        if sizes and symbol.shape[0] is None:
            sizes[0] = _BATCH
        shape = self.known.get(id(symbol), tuple(sizes))
        return keras.KerasTensor(shape, symbol.dtype)


def measure(graph: Graph) -> Sizes:
    """The sizes that the tensors of a graph really have, as layers may tell wrong ones.

    Returns:
        The usual stand-ins if the graph runs on no length that is tried.
    """
    inputs = [tensor.symbol for tensor in graph.inputs]
    tensors = [tensor.symbol for call in graph.calls for tensor in call.outputs]
    for length in LENGTHS:
        sizes = Sizes(length=length)
        placeholders = [sizes.fresh(each) for each in inputs]
        try:
            function = keras.Function(inputs, tensors)
            outputs = keras.Operation.compute_output_spec(function, placeholders)
        except Exception:  # whatever it is, another length may do
            continue
        pairs = zip([*inputs, *tensors], [*placeholders, *outputs], strict=True)
        known = {id(s): tuple(spec.shape) for s, spec in pairs if spec is not None}
        return Sizes(known, length)
    return Sizes()


def trace_model(model: keras.Model, path: tuple[Call, ...]) -> Graph:
    """The graph of a model that is one; see `operations.has_graph`."""
    return _walk(list(model.inputs), list(model.outputs), path)


def trace_call(
    layer: keras.Layer,
    arguments: tuple[tuple, dict],
    path: tuple[Call, ...],
    unknown: Unknown = KNOWN,
    sizes: Sizes | None = None,
    ones: bool = False,
) -> Traced:
    """Runs a layer's call on fresh symbolic tensors and reads the graph it leaves.

    Args:
        layer: The layer.
        arguments: Its positional and keyword arguments, with symbolic tensors.
        path: The calls around the graph, that of the layer among them.
        unknown: Stand-ins for unknown sizes that are among their shapes already.
        sizes: The sizes that these tensors really have, if they were measured.
        ones: Whether to give ones for integers and booleans, which are indices and
            masks and never states.
    """
    sizes = sizes or Sizes()
    paths = _tensor_paths(arguments)
    symbols = [s for s in keras.tree.flatten(arguments) if _is_symbol(s)]
    fresh = {id(symbol): sizes.fresh(symbol) for symbol in symbols}
    batch = any(symbol.shape[:1] == (None,) for symbol in symbols)
    other = any(None in symbol.shape[1:] for symbol in symbols)
    unknown = _BATCH if batch else unknown[0], sizes.length if other else unknown[1]
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


def layers_below(layer: keras.Layer, recursive: bool = True) -> list[keras.Layer]:
    """The layers below a layer, at any depth or directly below it."""
    return list(layer._flatten_layers(include_self=False, recursive=recursive))


def recomputes(layer: Any) -> bool:
    """Whether a layer computes its call anew for the gradient (`keras.RematScope`).

    What is seen inside such a call is not there any more after it.
    """
    return getattr(layer, "_remat_mode", None) is not None


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
            return Traced(graph, unknown=unknown)

    traced = run()
    if incomplete:
        with _returning_none(incomplete):
            traced = run()
    return traced


def _symbolic_call(layer: keras.Layer, args: tuple, kwargs: dict) -> list[Any]:
    """The flat outputs of a layer's call on symbolic tensors."""
    # No seed or statistic moves on, and no variable is made.
    with keras.StatelessScope(initialize_variables=False):
        result = layer.call(*args, **_accepted(layer, kwargs))
    # A value that is not symbolic was computed from none of the inputs.
    return [
        leaf if _is_symbol(leaf) else keras.KerasTensor(getattr(leaf, "shape", ()))
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
            _output_spec, below, incomplete
        )
    try:
        yield {id(below): len(below._inbound_nodes) for below in layers}
    finally:
        for below in layers:
            del vars(below)["add_loss"], vars(below)["compute_output_spec"]
        for nodes, length in zip(lists, lengths, strict=True):
            del nodes[length:]


class _Nothing(keras.KerasTensor):
    """Stands for an output that is None, which Keras refuses in its graphs."""


def _output_spec(
    layer: keras.Layer, incomplete: list[keras.Layer], *args: Any, **kwargs: Any
) -> Any:
    """Stands in for a layer's `compute_output_spec`, and does not give up as early.

    Where the layer cannot say what it returns, its call is run on placeholders of the
    backend; and an output may be None.
    """
    # A number times a tensor counts as sparse, seen on Keras 3.15.1.
    args, kwargs = keras.tree.map_structure(_dense, (args, kwargs))
    try:
        result = type(layer).compute_output_spec(layer, *args, **kwargs)
    except Exception:
        kwargs = _accepted(layer, kwargs)
        result = keras.Operation.compute_output_spec(layer, *args, **kwargs)
    flat = keras.tree.flatten(result)
    if any(leaf is None for leaf in flat):
        incomplete.append(layer)
        flat = [_Nothing(()) if leaf is None else leaf for leaf in flat]
        result = keras.tree.pack_sequence_as(result, flat)
    return result


@contextlib.contextmanager
def _returning_none(layers: list[keras.Layer]) -> Iterator[None]:
    """Lets layers return the None that `_Nothing` stands for, as they do otherwise.

    GPT-NeoX, T5 and XLNet cannot be looked into without.
    """
    unique = {id(layer): (layer, type(layer)) for layer in layers}.values()
    for layer, own in unique:
        object.__setattr__(layer, "__class__", _with_none(own))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for layer, own in unique:
            object.__setattr__(layer, "__class__", own)


@functools.cache
def _with_none(own: type[keras.Layer]) -> type[keras.Layer]:
    def call(self: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        result = own.__call__(self, *args, **kwargs)
        return keras.tree.map_structure(
            lambda leaf: None if isinstance(leaf, _Nothing) else leaf, result
        )

    return type(own.__name__, (own,), {"__call__": call, "__module__": own.__module__})


def _dense(leaf: Any) -> Any:
    if _is_symbol(leaf) and leaf.sparse:
        return keras.KerasTensor(leaf.shape, leaf.dtype)
    return leaf


def _accepted(layer: keras.Layer, kwargs: dict) -> dict:
    """Those of the arguments that a layer's call takes; Keras adds some of its own."""
    parameters = inspect.signature(layer.call).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return kwargs
    return {name: value for name, value in kwargs.items() if name in parameters}


def _one(symbol: keras.KerasTensor) -> Any:
    if keras.backend.is_float_dtype(symbol.dtype):
        return symbol
    return keras.ops.ones(symbol.shape, symbol.dtype)


def _is_symbol(leaf: Any) -> bool:
    return isinstance(leaf, keras.KerasTensor)


def _tensor_paths(arguments: tuple[Any, Any]) -> list[tuple]:
    """The paths of all symbolic tensors within ``(args, kwargs)``."""
    flat = keras.tree.flatten_with_path(arguments)
    return [path for path, leaf in flat if _is_symbol(leaf)]


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
        call = Call(
            operation,
            label,
            roles_of(operation),
            tuple(map(tensor, node.input_tensors)),
            tuple(map(tensor, node.outputs)),
            path,
            use,
            index=len(calls),
            in_call=earlier is not None,
            arguments=node.arguments,
            recomputes=recomputes(operation),
        )
        if earlier is not None:
            _locate(call, number, node, earlier)
        calls.append(call)
    return Graph(calls, list(map(tensor, inputs)), list(map(tensor, outputs)))


def _locate(call: Call, number: int, node: Any, earlier: dict[int, int]) -> None:
    """Notes where a call can be seen while the `call` around it runs."""
    layer = call.operation
    call.paths = _tensor_paths((node.arguments.args, node.arguments.kwargs))
    call.number = number - earlier.get(id(layer), 0)
    if call.recomputes:
        call.hidden = f"{layer.name!r} runs under a RematScope, where nothing is kept"
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


def _nodes(layer: keras.Layer) -> tuple[list, list]:
    return layer._inbound_nodes, layer._outbound_nodes
