"""Reads a network, once and as a whole, into plain data.

What a call does is a graph of calls again, down to Keras's own layers. A call that
cannot be looked into says why, and lists the layers below it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import keras

from keras_lap.blocks.containers import contained_roles, runs_other_code, trace_steps
from keras_lap.blocks.graph import (
    DECLARED,
    MODEL,
    Call,
    Graph,
    Tensor,
    every_call,
)
from keras_lap.blocks.operations import has_graph, roles_of
from keras_lap.blocks.sizes import LENGTHS, Sizes, Unknown, measure
from keras_lap.blocks.tracing import (
    Arguments,
    Traced,
    layers_below,
    trace_call,
    trace_model,
)
from keras_lap.blocks.trial import values_used

_STRUCTURE = "its call returned another structure than before"
# The arguments that a Functional model hands to what has them by this name, in the
# place of those it was given when the model was built.
_HANDED_ON = "_call_context_args"
_HANDS_ON = tuple(map(int, keras.__version__.split(".")[:2])) < (3, 16)
_NO_SHAPE = "no shape of its inputs is known"


def read(model: keras.Model, declared: bool = False) -> Call:
    """Reads a built model.

    Args:
        model: The model.
        declared: Whether to look into layers whose class declares them to be blocks,
            for what lies within. Their calls may be such as not to be run for nothing.

    Returns:
        A call that stands for the model, without inputs and outputs: what it does is
        its `inside`. It is no step of the paths and names within.
    """
    root = Call(model, model.name, roles_of(model))
    traced, root.arguments = _trace_root(model)
    root.inside, root.closed = traced.graph, traced.reason
    if traced.graph is None:
        root.parts = tuple(_parts(model, ()))
    else:
        _look_inside(traced.graph, traced.unknown, declared)
        _try_closed(traced.graph)
    return root


def _trace_root(model: keras.Model) -> tuple[Traced, Arguments | None]:
    """The graph of a model: its own, or what its `call` does, and the arguments."""
    if has_graph(model):
        return Traced(trace_model(model, ())), None
    traced, arguments = Traced(None, _NO_SHAPE), None
    for dtype in (keras.config.floatx(), "int32"):
        arguments = _build_arguments(model, dtype)
        if arguments is not None:
            traced = trace_call(model, arguments, ())
        if traced.graph is not None:
            break
    return traced, Arguments(*arguments) if arguments else None


def handed_on_arguments(layer: Any) -> Collection[str]:
    """The arguments that a model which is a graph hands on to a layer: `training`.

    From Keras 3.16 on it hands on none, and what a layer was given stays.
    """
    return getattr(layer, _HANDED_ON, ()) if _HANDS_ON else ()


def take_handed_on(operation: keras.Operation, layer: Any) -> None:
    """Lets a model hand to an operation what it would hand to a layer.

    Args:
        operation: What is called in the place of the layer, and is none itself.
        layer: The layer.
    """
    setattr(operation, _HANDED_ON, getattr(layer, _HANDED_ON, ()))


def mask_rank(tensor: Tensor) -> int:
    """How many axes the mask has that Keras keeps with a tensor; 0 if there is none."""
    mask = getattr(tensor.symbol, "_keras_mask", None)
    return 0 if mask is None else len(mask.shape)


def _build_arguments(model: keras.Model, dtype: str) -> tuple[tuple, dict] | None:
    """Symbolic arguments of the shapes that a model was built with, if they are known.

    A call of its own may belong to a Functional model, which has its inputs.
    """
    if getattr(model, "inputs", None):
        return (model.input,), {}
    config = model.get_build_config() or {}
    if "shapes_dict" in config:
        shapes = config["shapes_dict"].items()
        return (), {k.removesuffix("_shape"): _symbols(s, dtype) for k, s in shapes}
    if config.get("input_shape") is None:
        return None
    return (_symbols(config["input_shape"], dtype),), {}


def _symbols(shape: Any, dtype: str) -> Any:
    """A symbolic tensor for each shape of a structure; the batch size is left open."""
    if isinstance(shape, dict):
        return {name: _symbols(part, dtype) for name, part in shape.items()}
    if all(size is None or isinstance(size, int) for size in shape):
        return keras.KerasTensor((None, *shape[1:]), dtype)
    return [_symbols(part, dtype) for part in shape]


def _look_inside(graph: Graph, unknown: Unknown, declared: bool) -> None:
    """Reads the inside of every call of a graph, at every depth."""
    sizes: list[Sizes] = []  # measured at most once, and only where it is needed
    for call in graph.calls:
        if DECLARED in call.roles and not declared:
            continue
        if MODEL in call.roles:
            call.inside = trace_model(call.operation, (*call.path, call))
            _look_inside(call.inside, unknown, declared)
        elif runs_other_code(call.operation):
            call.roles |= contained_roles(call.operation)
            traced = _look_into(graph, call, unknown, sizes, declared)
            call.inside, call.closed = traced.graph, traced.reason
            if traced.graph is None:
                call.parts = tuple(_parts(call.operation, (*call.path, call)))
                variables = getattr(call.operation, "variables", ())
                call.has_state = bool(call.parts or variables)


def _look_into(
    graph: Graph, call: Call, unknown: Unknown, sizes: list[Sizes], declared: bool
) -> Traced:
    """Reads one call and what is inside: on other lengths where a part stays closed.

    A table of positions may be shorter than the length that stands in for an unknown
    one, or want its own.
    """
    best = _trace(graph, call, unknown, sizes)
    if best.graph is not None:
        _look_inside(best.graph, best.unknown, declared)
    closed = _closed(call, best)
    arguments = given_arguments(call)
    open_ended = any(None in tensor.symbol.shape[1:] for tensor in call.inputs)
    for length in _lengths(closed) if open_ended else ():
        path, size = (*call.path, call), Sizes(length=length)
        traced = trace_call(call.operation, arguments, path, unknown, size)
        traced = _fitting(call, traced)
        if traced.graph is not None:
            _look_inside(traced.graph, traced.unknown, declared)
        if len(_closed(call, traced)) < len(closed) or best.graph is None:
            best = best if traced.graph is None else traced
            closed = _closed(call, best)
        if not closed:
            break
    return best


def _closed(call: Call, traced: Traced) -> list[Call]:
    """What is closed of a call: itself, or calls within."""
    if traced.graph is None:
        return [call]
    return [inner for inner in every_call(traced.graph) if inner.closed]


def _lengths(closed: list[Call]) -> list[int]:
    """Lengths that closed calls may want: a short one, and those of their tables."""
    tables = [
        each.shape[0]
        for call in closed
        for each in getattr(call.operation, "variables", ())
        if len(each.shape) == 2
    ]
    return list(dict.fromkeys([min(LENGTHS), *tables])) if closed else []


def _try_closed(graph: Graph) -> None:
    """Tries every closed call, once it is settled which are."""
    sizes = None
    for call in graph.calls:
        if call.closed:
            # Those inside a call have the sizes that stood in there.
            sizes = sizes or (Sizes() if graph.is_call else measure(graph))
            call.used = values_used(call, sizes)
        elif call.inside is not None:
            _try_closed(call.inside)


def given_arguments(call: Call, arguments: Any = None) -> tuple[tuple, dict]:
    """What a layer is called with, but for what a model hands on in its place.

    Args:
        call: The call.
        arguments: Other arguments of it. Defaults to None, its own.
    """
    arguments = arguments or call.arguments
    args, kwargs = arguments.args, arguments.kwargs
    if call.in_call:
        return args, kwargs
    handed_on = handed_on_arguments(call.operation)
    return args, {name: kwargs[name] for name in kwargs if name not in handed_on}


def _trace(graph: Graph, call: Call, unknown: Unknown, sizes: list[Sizes]) -> Traced:
    """Runs a layer's call: as it is, then on measured sizes, then with ones as well."""
    path = (*call.path, call)
    steps = trace_steps(call, path, unknown)
    if steps is not None:
        return _fitting(call, steps)
    arguments = given_arguments(call)
    first = _fitting(call, trace_call(call.operation, arguments, path, unknown))
    if first.graph is not None:
        return first
    sizes += [] if sizes else [measure(graph)]
    for ones in (False, True):
        traced = trace_call(call.operation, arguments, path, unknown, sizes[0], ones)
        traced = _fitting(call, traced)
        if traced.graph is not None:
            return traced
    return first


def _fitting(call: Call, traced: Traced) -> Traced:
    """What came of a call, unless it returned something else than it did before."""
    if traced.graph and len(traced.graph.outputs) != len(call.outputs):
        return Traced(None, _STRUCTURE)
    return traced


def _parts(layer: keras.Layer, path: tuple[Call, ...]) -> Iterator[Call]:
    """The layers below one that is closed, each before those below it."""
    for index, (around, below) in enumerate(_below(layer, path)):
        state = Tensor(_build_shape(below))
        yield Call(
            below,
            below.name,
            roles_of(below),
            (state,),
            path=around,
            index=index,
            is_part=True,
        )


def _below(
    layer: keras.Layer, path: tuple[Call, ...]
) -> Iterator[tuple[tuple[Call, ...], keras.Layer]]:
    for below in layers_below(layer, recursive=False):
        yield path, below
        step = Call(below, below.name, is_part=True)
        yield from _below(below, (*path, step))


def _build_shape(layer: keras.Layer) -> tuple[int | None, ...]:
    """The shape of a layer's input, its batch size left open; () if it is not known."""
    shape = (layer.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, (tuple, list)):
        return ()
    plain = all(size is None or isinstance(size, int) for size in shape)
    return (None, *shape[1:]) if plain else ()
