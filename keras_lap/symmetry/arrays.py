"""NumPy arrays and tensors of the backend, handled alike."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


def library_of(x: Any) -> Any:
    """What computes with x; NumPy and keras.ops both know the few functions used."""
    return np if isinstance(x, np.ndarray) else ops


def as_array(x: Any) -> Any:
    """x, as a tensor if it has no shape."""
    return x if hasattr(x, "shape") else ops.convert_to_tensor(x)


def take_for(values: np.ndarray, index: Any, x: Any, dtype: str | None = None) -> Any:
    """The values at the index of each sample, as an array of the library of x.

    Args:
        values: What to take from, along the first axis.
        index: Whole numbers, `(batch,)`.
        x: The samples.
        dtype: Of a tensor; defaults to None, the float type of x.
    """
    if isinstance(x, np.ndarray):
        return values[np.asarray(ops.convert_to_numpy(index))]
    dtype = dtype or float_type_of(x)
    return ops.take(ops.convert_to_tensor(values, dtype), index, axis=0)


def type_of(x: Any) -> str:
    """The name of the type of x."""
    return str(keras.backend.standardize_dtype(x.dtype))


def cast_beside(value: Any, dtype: Any, x: Any) -> Any:
    """The value in a type, as an array of the library of x."""
    return value.astype(dtype) if isinstance(x, np.ndarray) else ops.cast(value, dtype)


def float_type_of(x: Any) -> Any:
    """The type of x if that is a float; otherwise one that holds whole numbers."""
    if "float" in type_of(x):
        return x.dtype
    return "float64" if isinstance(x, np.ndarray) else keras.config.floatx()
