"""Batches of several arrays: moved, joined and split, with the masks that Keras keeps.

Keras keeps the mask of a tensor beside it, and every operation loses it. Layers alone
are handed masks and asked for new ones, so layers carry them here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_lap.symmetry.actions import Action, Linear

_map = keras.tree.map_structure


class _WithMask(keras.layers.Layer):
    """Applies a function, and to the mask one that says what becomes of it."""

    def __init__(self, name: str, function: Any, of_mask: Any):
        super().__init__(name=name, autocast=False)
        self.function = function
        self.of_mask = of_mask

    def call(self, x: Any) -> Any:
        """What the function returns."""
        return self.function(x)

    def compute_mask(self, x: Any, previous_mask: Any) -> Any:
        """The mask of that; None stays None."""
        return None if previous_mask is None else self.of_mask(previous_mask)


def moved(action: Action, index: Any, x: Any) -> Any:
    """The action on every array of a structure; None stays None.

    Args:
        action: The action.
        index: As in `Action.apply`.
        x: Arrays `(batch, ...)`; also `(batch,)` for an action on one coordinate, which
            Keras takes for `(batch, 1)`.

    Returns:
        The same structure of arrays of the same shapes.
    """
    return _on_each(action, action.apply, index, x)


def undone(action: Action, index: Any, x: Any) -> Any:
    """The inverse of what `moved` does; arguments alike."""
    return _on_each(action, action.invert, index, x)


def joined(every: list[Any]) -> Any:
    """Structures of arrays, one behind the other along the batch."""
    return _map(lambda *each: ops.concatenate(each, axis=0), *every)


def split(x: Any, count: int) -> list[Any]:
    """What `joined` put together, each array with its part of the mask."""
    flat = [_splitter(count)(each) for each in keras.tree.flatten(x)]
    return [keras.tree.pack_sequence_as(x, each) for each in zip(*flat, strict=True)]


def mean(first: Any, every: list[Any]) -> Any:
    """The mean of arrays of one shape; of half precision, computed in float32.

    Args:
        first: The array whose mask the mean has.
        every: The arrays.
    """
    dtype = keras.backend.standardize_dtype(every[0].dtype)
    is_half = dtype in ("float16", "bfloat16")  # whose sums overflow or lose digits
    every = [ops.cast(each, "float32") for each in every] if is_half else every
    result = sum(every[1:], every[0]) / len(every)
    result = ops.cast(result, dtype) if is_half else result
    return _mask_of_second()([result, first])


# One layer of each kind serves all models: to make one takes longer than to run it.
@functools.cache
def _splitter(count: int) -> _WithMask:
    def parts(x: Any) -> Any:
        return ops.split(x, count, axis=0)

    return _WithMask("split", parts, parts)


@functools.cache
def _mask_of_second() -> _WithMask:
    return _WithMask("mean", lambda pair: pair[0], lambda masks: masks[1])


def _on_each(action: Action, change: Callable[..., Any], index: Any, x: Any) -> Any:
    def one(each: Any) -> Any:
        if each is None:
            return None
        is_scalar = len(getattr(each, "shape", (0, 0))) == 1
        if is_scalar and isinstance(action, Linear) and action.dimension == 1:
            return change(index, each[:, None])[:, 0]
        return change(index, each)

    return _map(one, x)
