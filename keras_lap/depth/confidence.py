"""How sure an output is of the class that it chooses, and where it may stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_lap._checks import finite_number

_TAKES = "It is what the network must be surer than: 0 stops before the first block, "
_TAKES += "1 runs all of them."


def check_threshold(name: str, value: Any) -> float:
    """Returns a threshold if it is a number >= 0.

    Args:
        name: Of the argument.
        value: What was given.

    Raises:
        ValueError: If it is none.
    """
    return finite_number(name, value, ">= 0", _TAKES)


def check_thresholds(thresholds: Any) -> None:
    """Refuses thresholds of which one is none, or that are no sequence.

    Args:
        thresholds: What was given.

    Raises:
        ValueError: If so.
    """
    for threshold in thresholds if np.iterable(thresholds) else [None]:
        check_threshold("thresholds", threshold)


def largest_probability(output: Any, are_logits: bool) -> Any:
    """The probability of the class that an output chooses.

    Args:
        output: Tensor `(batch, classes)`, or `(batch, 1)` for two classes.
        are_logits: Whether it is of logits, else of probabilities.

    Returns:
        A float32 tensor `(batch,)`.
    """
    output = ops.cast(output, "float32")
    if output.shape[-1] == 1:
        p = ops.sigmoid(output) if are_logits else output
        largest = ops.maximum(p, 1.0 - p)[:, 0]
    else:
        largest = ops.max(ops.softmax(output) if are_logits else output, axis=-1)
    return ops.minimum(largest, 1.0)  # of probabilities that rounding made larger


def early_exits(
    sure: np.ndarray, right: np.ndarray, thresholds: Sequence[float]
) -> list[dict[str, float]]:
    """Accuracy and mean depth, where every sample stops as soon as it is sure.

    Args:
        sure: The confidence of each sample at each exit, `(samples, K + 1)`.
        right: Whether it is right there, likewise.
        thresholds: What the confidence has to exceed.

    Returns:
        For each threshold a dictionary of `threshold`; `accuracy`, the share of samples
        that are right; `blocks`, the mean number of blocks that a sample takes.
    """
    found = []
    for threshold in thresholds:
        enough = sure > threshold
        enough[:, -1] = True
        blocks = enough.argmax(axis=1)
        accuracy = right[np.arange(len(right)), blocks].mean()
        found.append(
            {
                "threshold": float(threshold),
                "accuracy": float(accuracy),
                "blocks": float(blocks.mean()),
            }
        )
    return found
