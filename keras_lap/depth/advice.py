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
    interval = loss_interval if accuracies is None else share_interval
    low, high = interval(change)
    accuracy = None if accuracies is None else float(means[keep])
    return Advice(keep, accuracy, float(change.mean()), low, high)


def loss_interval(differences: np.ndarray) -> tuple[float, float]:
    """A 95 % interval of a mean, by the normal distribution.

    Args:
        differences: Those of paired samples, `(n,)`.
    """
    count = len(differences)
    deviation = float(np.std(differences, ddof=1)) if count > 1 else math.inf
    mean, half = float(np.mean(differences)), _NORMAL * deviation / math.sqrt(count)
    return mean - half, mean + half


def share_interval(differences: np.ndarray) -> tuple[float, float]:
    """A 95 % interval of a difference between two shares of the same samples.

    The changes that a score test does not reject; other than by the normal distribution
    it is not empty where no sample differs, as is common.

    Source: Tango, *Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design*, Statistics in Medicine 17, 1998.

    Args:
        differences: 1 for a sample that is won, −1 for one that is lost, `(n,)`.
    """
    count = len(differences)
    won = float(np.sum(differences[differences > 0]))
    lost = -float(np.sum(differences[differences < 0]))

    def rejects(change: float) -> bool:
        # The share of lost samples that is likeliest if this were the change.
        linear = (2 * count - won + lost) * change - won - lost
        root = linear**2 + 8 * count * lost * change * (1 - change)
        share = (math.sqrt(max(root, 0.0)) - linear) / (4 * count)
        variance = count * (2 * share + change * (1 - change))
        return (won - lost - count * change) ** 2 > _NORMAL**2 * max(variance, 0.0)

    ends = []
    for far in (-1.0, 1.0):
        near = (won - lost) / count
        for _ in range(60):  # halves the gap to what a float can tell
            middle = (near + far) / 2
            near, far = (near, middle) if rejects(middle) else (middle, far)
        ends.append(near)
    return ends[0], ends[1]
