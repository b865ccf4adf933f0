"""How many blocks to keep: the rule, and what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# So that a difference of exactly the tolerance is within it, however it was rounded.
_ROUNDING = 1e-9
_NORMAL = 1.959963984540054  # the 97.5 % quantile


@dataclass(frozen=True)
class Advice:
    """How many blocks to keep, and how that changes what the network is worth.

    Attributes:
        keep: Number of blocks, the first ones.
        accuracy: Accuracy with these blocks; None without accuracies.
        change: Accuracy with these blocks minus that of the whole network; without
            accuracies the change of the loss, where more is worse.
        low: Lower end of a 95 % interval of the change, paired over samples.
        high: Its upper end.
    """

    keep: int
    accuracy: float | None
    change: float
    low: float
    high: float


def advise(
    losses: np.ndarray, accuracies: np.ndarray | None, tolerance: float
) -> Advice:
    """The fewest blocks from which on every exit is within the tolerance.

    With accuracies an exit is within it if it is at most so much below the network's
    own. Without, if its loss is at most ``E* + tolerance · (E_0 − E*)``, with the best
    exit's E*; if the loss rises above that again towards the end, what comes after the
    last exit within it does not count.

    Args:
        losses: Of each sample at each exit, `(n, exits)`.
        accuracies: Likewise, or None.
        tolerance: From 0.
    """
    if accuracies is not None:
        means = accuracies.mean(axis=0)
        within = means >= means[-1] - tolerance - _ROUNDING
    else:
        means = losses.mean(axis=0)
        best = np.nanmin(means)
        # An exit that has never been trained may be infinite.
        worst = means[0] if np.isfinite(means[0]) else max(means[np.isfinite(means)])
        within = means <= best + tolerance * (worst - best) + _ROUNDING * abs(best)
    keep = int(np.flatnonzero(within)[-1])
    while keep and within[keep - 1]:
        keep -= 1
    values = losses if accuracies is None else accuracies
    change = values[:, keep] - values[:, -1]
    low, high = paired_interval(change, is_share=accuracies is not None)
    accuracy = None if accuracies is None else float(means[keep])
    return Advice(keep, accuracy, float(change.mean()), low, high)


def paired_interval(differences: np.ndarray, is_share: bool) -> tuple[float, float]:
    """A 95 % interval of a mean of paired differences, by the normal distribution.

    Of differences between shares, one pair is added that differs in each direction by
    halves: else it would be empty where no pair differs, as is common. Source: Agresti
    and Min, *Simple improved confidence intervals for comparing matched proportions*,
    Statistics in Medicine 24, 2005.

    Args:
        differences: `(n,)`.
        is_share: Whether they are those of shares, from −1 to 1.
    """
    count, total = len(differences), float(differences.sum())
    squares = float(np.square(differences).sum())
    if is_share:
        count, squares = count + 2, squares + 1
        total_variance = squares - total**2 / count
        half = _NORMAL * math.sqrt(max(total_variance, 0.0)) / count
    else:
        variance = float(np.var(differences, ddof=1)) if count > 1 else math.inf
        half = _NORMAL * math.sqrt(variance / count)
    return total / count - half, total / count + half
