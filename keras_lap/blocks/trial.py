"""Which inputs of a closed call its outputs depend on: found by trying.

A layer that cannot be looked into is run on small arrays of made-up numbers, with
made-up weights, and once more for each input with that one changed. Where an output
changes, it passes on values; where it does not, it may have read a shape alone.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lap.blocks.graph import Call
from keras_lap.blocks.sizes import Sizes
from keras_lap.blocks.specs import accepted, is_symbol

_WEIGHTS = np.random.default_rng(0).uniform(0.05, 0.15, 1009)


def values_used(call: Call, sizes: Sizes) -> list[list[int]] | None:
    """For each output of a call, the indices of the inputs whose values it uses.

    Args:
        call: The call.
        sizes: What stands in for unknown sizes of its inputs.

    Returns:
        The indices; None if it does not run, or is not the same when it is run again.
    """
    symbols = [sizes.fresh(tensor.symbol) for tensor in call.inputs]
    # All positive and of one size, so that no activation cuts them off.
    values = [_values(symbol, 0) for symbol in symbols]
    try:
        first, again = _run(call, values), _run(call, values)
        if not _same(first, again).all() or len(first) != len(call.outputs):
            return None
        used: list[list[int]] = [[] for _ in call.outputs]
        for index, symbol in enumerate(symbols):
            changed = list(values)
            changed[index] = _values(symbol, 1)
            for output in np.flatnonzero(~_same(first, _run(call, changed))):
                used[output].append(index)
    except Exception:  # whatever it is: nothing can be said then
        return None
    return used


def _values(symbol: keras.KerasTensor, draw: int) -> np.ndarray:
    """An array for a symbolic tensor: ones for masks and indices, and zeros instead."""
    if keras.backend.is_float_dtype(symbol.dtype):
        values = np.random.default_rng(draw).uniform(0.5, 1.5, symbol.shape)
    else:
        values = np.full(symbol.shape, 1 - draw)
    return values


def _run(call: Call, values: list[np.ndarray]) -> list[Any]:
    """The outputs as NumPy arrays; no variable is changed, nor need it have a value."""
    operation = call.operation
    symbols = [tensor.symbol for tensor in call.inputs]
    by_symbol = {  # made anew each time, as a call may change them in place
        id(symbol): keras.ops.convert_to_tensor(value, symbol.dtype)
        for symbol, value in zip(symbols, values, strict=True)
    }
    args, kwargs = keras.tree.map_structure(
        lambda leaf: by_symbol.get(id(leaf), leaf) if is_symbol(leaf) else leaf,
        (call.arguments.args, call.arguments.kwargs),
    )
    weights = [(each, _weight(each)) for each in getattr(operation, "variables", ())]
    with keras.StatelessScope(weights, initialize_variables=False):
        result = operation(*args, **accepted(operation, kwargs))
    flat = keras.tree.flatten(result)
    return [None if leaf is None else keras.ops.convert_to_numpy(leaf) for leaf in flat]


def _weight(variable: Any) -> Any:
    if keras.backend.is_float_dtype(variable.dtype):
        values = np.resize(_WEIGHTS, variable.shape)
    else:
        values = np.zeros(variable.shape)
    return keras.ops.convert_to_tensor(values, variable.dtype)


def _same(first: list[Any], second: list[Any]) -> Any:
    """Of each output, whether the two are the same."""
    pairs = zip(first, second, strict=True)
    return np.array(
        [a is b is None or np.array_equal(a, b, equal_nan=True) for a, b in pairs],
        dtype=bool,
    )
