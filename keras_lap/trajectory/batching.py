"""Data in batches, whatever they come in."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

Batch = tuple[Any, Any]


def batches(
    x: Any, y: Any, batch_size: int, network: keras.Model | None = None
) -> tuple[Iterator[Batch], int | None]:
    """Cuts data into batches.

    Args:
        x: Arrays or a structure of arrays of shape `(n, ...)`, cut as they are read; a
            `keras.utils.PyDataset`; or any iterable of batches ``x`` or ``(x, y)``.
        y: An array of shape `(n, ...)`, a dictionary of one, by the name of the output,
            or None; with an iterable, None.
        batch_size: Samples of a batch; an iterable has batches of its own.
        network: Whose inputs `x` are to be. Defaults to None, not known.

    Returns:
        An iterator over pairs of a batch of `x` and one of `y` (or None), and the
        number of batches if it is known.

    Raises:
        ValueError: If `y` does not fit `x`.
        TypeError: If `x` is none of the above.
    """
    _check_inputs(x, network)
    y, leaves = _unnamed(y), keras.tree.flatten(x)
    if leaves and all(len(getattr(leaf, "shape", ())) > 0 for leaf in leaves):
        sizes = {len(leaf) for leaf in [*leaves, *([] if y is None else [y])]}
        if len(sizes) > 1:
            raise ValueError(
                "All inputs and y must hold the same number of samples. Received: "
                f"arrays of lengths {sorted(sizes)}."
            )
        count = sizes.pop()
        return _sliced(x, y, count, batch_size), -(-count // batch_size)
    if y is not None:
        raise ValueError(
            "y goes with arrays. Received: y beside a "
            f"{type(x).__name__}. Let the data set hand out (x, y) instead."
        )
    if isinstance(x, (list, tuple, dict, str)) or not isinstance(
        x, (Iterable, keras.utils.PyDataset)
    ):
        raise TypeError(
            "x must be an array of shape (n, ...), a structure of such arrays, a "
            "keras.utils.PyDataset or an iterable of batches. Received: a "
            f"{type(x).__name__}. Convert lists with numpy.array(x)."
        )
    # The length of a `tf.data.Dataset` may be unknown.
    return _handed_out(x), operator.length_hint(x) or None


def _check_inputs(x: Any, network: keras.Model | None) -> None:
    """Refuses a list of samples or batches, which Keras takes for one of inputs."""
    taken = len(keras.tree.flatten(getattr(network, "inputs", None) or ()))
    if network is not None and isinstance(x, (list, tuple)) and len(x) > taken > 0:
        raise TypeError(
            f"x must be an array of shape (n, ...) for each of the {taken} inputs of "
            f"{network.name!r}. Received: a {type(x).__name__} of {len(x)}. Make an "
            "array of samples by numpy.array(x), and pass a list of batches as iter(x)."
        )


def _sliced(x: Any, y: Any, count: int, batch_size: int) -> Iterator[Batch]:
    for first in range(0, count, batch_size):
        part = slice(first, min(first + batch_size, count))
        cut = keras.tree.map_structure(lambda leaf, part=part: _array(leaf[part]), x)
        yield cut, None if y is None else _array(y[part])


def _handed_out(data: Any) -> Iterator[Batch]:
    if isinstance(data, keras.utils.PyDataset):
        handed: Iterable[Any] = map(data.__getitem__, range(len(data)))
    else:
        handed = data
    for batch in handed:
        x, y = batch, None
        if isinstance(batch, (tuple, list)):
            x, y = (*batch, None)[:2]
            y = _unnamed(y)
        x = keras.tree.map_structure(_array, x)
        if len(keras.tree.flatten(x)[0]):
            yield x, None if y is None else _array(y)


def _unnamed(y: Any) -> Any:
    """The target alone, which Keras takes by the name of an output too."""
    return next(iter(y.values())) if isinstance(y, dict) and len(y) == 1 else y


def _array(values: Any) -> np.ndarray:
    if keras.ops.is_tensor(values):
        return np.asarray(keras.ops.convert_to_numpy(values))
    return np.asarray(values)
