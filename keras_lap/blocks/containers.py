"""Layers of Keras that run somebody else's code, and what of it can be looked into."""

from __future__ import annotations

from typing import Any

import keras

from keras_lap.blocks.graph import LAYER, MODEL, OWN, Call
from keras_lap.blocks.operations import has_graph, is_kerass, roles_of
from keras_lap.blocks.sizes import Unknown
from keras_lap.blocks.tracing import Traced, layers_below, trace_call, trace_model

# They run functions, or what is no Keras layer: modules and saved functions.
_FOREIGN = tuple(
    getattr(keras.layers, name)
    for name in ("Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer")
    if hasattr(keras.layers, name)
)
_CELL = (
    "the cell of {!r} runs once for every time step, where nothing can be recorded; "
    "call it step by step in a layer of your own to have its blocks counted"
)
_STEPS = (
    "{!r} runs what it wraps once for every time step, where nothing inside can be "
    "recorded; wrap the block alone, or name {!r} by blocks="
)
_SEVERAL = "{!r} takes more than one tensor"


def runs_other_code(operation: Any) -> bool:
    """Whether an operation runs code that is not Keras's, its own or of what it holds.

    A layer of Keras may be given a function, or hold a layer or model of the user's.
    """
    return not is_kerass(type(operation)) or _holds_other_code(operation)


def contained_roles(operation: Any) -> frozenset[str]:
    """The role of an own layer, for one that runs other code without being one."""
    return frozenset({OWN} if _holds_other_code(operation) else ())


def _holds_other_code(operation: Any) -> bool:
    if not isinstance(operation, keras.Layer):
        return False
    layers = (operation, *layers_below(operation))
    return isinstance(operation, _FOREIGN) or any(
        roles_of(each) & {OWN, MODEL} for each in layers
    )


def trace_steps(call: Call, path: tuple[Call, ...], unknown: Unknown) -> Traced | None:
    """What a layer of Keras does that goes through time steps by itself.

    Args:
        call: A call that runs code which is not Keras's.
        path: The calls around what is inside it, itself among them.
        unknown: Stand-ins for unknown sizes of its inputs.

    Returns:
        What is done at each step, with states of one step, if the steps have nothing to
        do with each other; why it cannot be looked into, if they have; None for any
        other call. In the first case the call becomes sealed.
    """
    layer = call.operation
    if OWN in roles_of(layer) or LAYER not in call.roles:
        return None  # another class, which may do anything
    if isinstance(layer, keras.layers.RNN):
        return Traced(None, _CELL.format(layer.name))
    if not isinstance(layer, keras.layers.TimeDistributed):
        return None
    if len(call.inputs) > 1:
        return Traced(None, _SEVERAL.format(layer.name))
    symbol = call.inputs[0].symbol
    step = keras.KerasTensor((symbol.shape[0], *symbol.shape[2:]), symbol.dtype)
    if has_graph(layer.layer):
        traced = Traced(trace_model(layer.layer, path))
    else:
        traced = trace_call(layer.layer, ((step,), {}), path, unknown)
    call.sealed = call.sealed or _STEPS.format(layer.name, layer.name)
    return traced
