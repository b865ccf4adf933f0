"""Runs a layer's `call` on symbolic tensors and reads the graph that it leaves.

Everything the call leaves behind on the layer and the layers below is taken away
again. Checked on Keras 3.15.1.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import keras

from keras_lap.blocks.graph import Graph, Opened, Tensor, tensor_paths

# The size that stands in for that of an unknown batch.
_BATCH = 2
# And for other unknown sizes, as many layers compute with those of their input. Small,
# and even, as attention heads and patches want them; then one for short tables of
# positions, and one for models of sound.
_LENGTHS = (16, 4, 1024)

# Where the inputs are, and which sizes are unknown; see `_graph.Opened`.
_About: TypeAlias = tuple[list[tuple], tuple[int | None, int | None]]


class CannotOpen(Exception):
    """The call of a layer does not run on symbolic tensors; the text says why."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of the tensors of a graph.

    Attributes:
        known: Measured shapes, by the `id` of the tensor.
        length: What stands in for an unknown size that is not the batch's.
    """

    known: dict[int, tuple[int, ...]] = field(default_factory=dict)
    length: int = _LENGTHS[0]

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        """The measured shape of a tensor, or its own with unknown sizes filled in."""
        if id(tensor) in self.known:
            return self.known[id(tensor)]
        sizes = [self.length if size is None else size for size in tensor.shape]
        if sizes and tensor.shape[0] is None:
            sizes[0] = _BATCH
        return tuple(sizes)


def measure(graph: Graph) -> Sizes | None:
    """The sizes that the tensors of a graph really have, as layers may tell wrong ones.

    Returns:
        None if the graph does not run on placeholders of any length that is tried.
    """
    tensors = [tensor for node in graph.nodes for tensor in node.outputs]
    for length in _LENGTHS:
        sizes = Sizes(length=length)
        inputs = [keras.KerasTensor(sizes.shape(t), t.dtype) for t in graph.inputs]
        try:
            function = keras.Function(graph.inputs, tensors)
            outputs = keras.Operation.compute_output_spec(function, inputs)
        except Exception:  # whatever it is, another length may do
            continue
        pairs = zip([*graph.inputs, *tensors], [*inputs, *outputs], strict=True)
        known = {
            id(tensor): tuple(spec.shape) for tensor, spec in pairs if spec is not None
        }
        return Sizes(known, length)
    return None


def open_call(
    layer: keras.Layer,
    args: tuple,
    kwargs: dict,
    unknown: tuple[int | None, int | None] = (None, None),
    sizes: Sizes | None = None,
    ones: bool = False,
) -> Graph:
    """Runs a layer's call on fresh symbolic tensors and reads the graph it leaves.

    Args:
        layer: The layer.
        args: Its positional arguments, with symbolic tensors.
        kwargs: Its keyword arguments.
        unknown: Stand-ins for unknown sizes that are among their shapes already.
        sizes: The sizes that these tensors really have, if they were measured.
        ones: Whether to give ones for integers and booleans, which are indices and
            masks and never states.
    """
    measured = sizes or Sizes()
    tensors = [
        leaf
        for leaf in keras.tree.flatten((args, kwargs))
        if isinstance(leaf, keras.KerasTensor)
    ]
    fresh = {
        id(tensor): keras.KerasTensor(measured.shape(tensor), tensor.dtype)
        for tensor in tensors
    }
    batch = any(tensor.shape[:1] == (None,) for tensor in tensors)
    other = any(None in tensor.shape[1:] for tensor in tensors)
    unknown = (
        _BATCH if batch else unknown[0],
        measured.length if other else unknown[1],
    )
    paths = tensor_paths(args, kwargs)
    given = {key: _one(new) if ones else new for key, new in fresh.items()}
    args, kwargs = keras.tree.map_structure(
        lambda leaf: given.get(id(leaf), leaf), (args, kwargs)
    )
    inputs = [fresh[id(tensor)] for tensor in tensors]
    about = paths, unknown
    graph = _complete_run(layer, args, kwargs, inputs, about)
    takes_it = "training" in inspect.signature(layer.call).parameters
    if takes_it and kwargs.get("training") is None:
        with contextlib.suppress(CannotOpen):
            kwargs = {**kwargs, "training": True}
            training = _complete_run(layer, args, kwargs, inputs, about)
            assert graph.opened is not None
            graph.opened = replace(graph.opened, training=training)
    return graph


def _complete_run(
    layer: keras.Layer, args: tuple, kwargs: dict, inputs: list[Tensor], about: _About
) -> Graph:
    """Runs the call, and once more if layers within return None."""
    incomplete: list[keras.Layer] = []
    try:
        graph = _run(layer, args, kwargs, inputs, about, incomplete)
    except CannotOpen:
        if not incomplete:
            raise
    if incomplete:
        with _returning_none(incomplete):
            graph = _run(layer, args, kwargs, inputs, about, [])
    return graph


def _run(
    layer: keras.Layer,
    args: tuple,
    kwargs: dict,
    inputs: list[Tensor],
    about: _About,
    incomplete: list[keras.Layer],
) -> Graph:
    """Runs the call once; lists the layers within that return None in `incomplete`."""
    with _traces_taken_away(layer, incomplete) as earlier:
        outputs = _symbolic_call(layer, args, kwargs)
        calls = {
            id(below): len(below._inbound_nodes) - earlier[id(below)]
            for below in layer._flatten_layers()
        }
        paths, unknown = about
        opened = Opened(paths, earlier, calls, unknown)
        return Graph(inputs, outputs, opened)


def _symbolic_call(layer: keras.Layer, args: tuple, kwargs: dict) -> list[Tensor]:
    """The flat outputs of a layer's call on symbolic tensors."""
    try:
        # No seed or statistic moves on, and no variable is made.
        with keras.StatelessScope(initialize_variables=False):
            result = layer.call(*args, **_accepted(layer, kwargs))
        # A value that is not symbolic was computed from none of the inputs.
        return [
            leaf
            if isinstance(leaf, keras.KerasTensor)
            else keras.KerasTensor(getattr(leaf, "shape", ()))
            for leaf in keras.tree.flatten(result)
        ]
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0][:120]
        raise CannotOpen(f"{type(error).__name__}: {first_line}") from error


@contextlib.contextmanager
def _traces_taken_away(
    layer: keras.Layer, incomplete: list[keras.Layer]
) -> Iterator[dict[int, int]]:
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


def _no_loss(loss: Any) -> None:
    """Stands in for a layer's `add_loss`, which refuses symbolic tensors."""


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
    """Lets layers return the None that `_Nothing` stands for, as they do otherwise."""
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
    if isinstance(leaf, keras.KerasTensor) and leaf.sparse:
        return keras.KerasTensor(leaf.shape, leaf.dtype)
    return leaf


def _accepted(layer: keras.Layer, kwargs: dict) -> dict:
    """Those of the arguments that a layer's call takes; Keras adds some of its own."""
    parameters = inspect.signature(layer.call).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return kwargs
    return {name: value for name, value in kwargs.items() if name in parameters}


def _one(tensor: Tensor) -> Any:
    if keras.backend.is_float_dtype(tensor.dtype):
        return tensor
    return keras.ops.ones(tensor.shape, tensor.dtype)
