"""What layers say that they return for symbolic tensors, where Keras gives up early."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import keras


class _Nothing(keras.KerasTensor):
    """Stands for an output that is None, which Keras refuses in its graphs."""


def output_spec(
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
        kwargs = accepted(layer, kwargs)
        result = keras.Operation.compute_output_spec(layer, *args, **kwargs)
    flat = keras.tree.flatten(result)
    if any(leaf is None for leaf in flat):
        incomplete.append(layer)
        flat = [_Nothing(()) if leaf is None else leaf for leaf in flat]
        result = keras.tree.pack_sequence_as(result, flat)
    return result


@contextlib.contextmanager
def returning_none(layers: list[keras.Layer]) -> Iterator[None]:
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
    if is_symbol(leaf) and leaf.sparse:
        return keras.KerasTensor(leaf.shape, leaf.dtype)
    return leaf


def accepted(operation: keras.Operation, kwargs: dict) -> dict:
    """Those of the arguments that a call takes; Keras adds some of its own."""
    parameters = inspect.signature(operation.call).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return kwargs
    return {name: value for name, value in kwargs.items() if name in parameters}


def is_symbol(leaf: Any) -> bool:
    """Whether a leaf of a structure is a symbolic tensor."""
    return isinstance(leaf, keras.KerasTensor)
