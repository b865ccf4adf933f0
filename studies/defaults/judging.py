"""How one value is chosen for all settings, by validation data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from studies.engine.records import Record

KEY = ("setting", "method", "seed")
# In points of validation accuracy. Of two seeds and 300 to 1 000 examples each, so
# that a setting by itself says little; the mean over seven of them says more.
MEAN_LOSS, LOSS = 0.5, 2.0

Lines = Mapping[tuple, Record]


def change(
    lines: Lines, setting: str, method: str, plain: str, seeds: Sequence[int]
) -> float:
    """Mean change of validation accuracy from plain training, in points."""
    of = [(lines[setting, method, s], lines[setting, plain, s]) for s in seeds]
    return 100 * float(np.mean([a["validation"] - b["validation"] for a, b in of]))


def cost_ratio(
    lines: Lines, setting: str, method: str, plain: str, seeds: Sequence[int]
) -> float:
    """Geometric mean of C on validation data over that of plain training."""
    of = [(lines[setting, method, s], lines[setting, plain, s]) for s in seeds]
    costs = [(a["validation_cost"], b["validation_cost"]) for a, b in of]
    return float(np.exp(np.mean([np.log(a / b) for a, b in costs])))


def choose(
    lines: Lines,
    settings: Sequence[str],
    methods: Sequence[str],
    plain: str,
    seeds: Sequence[int],
) -> str:
    """The method that shortens the path most, of those that cost no accuracy.

    Args:
        lines: Trials by setting, method and seed.
        settings: Those that count.
        methods: The candidates.
        plain: Name of plain training.
        seeds: Of the trials.

    Returns:
        Of the methods that lose at most `MEAN_LOSS` points on the mean over the
        settings, and `LOSS` in none, that of the least geometric mean of C/plain; if
        there is none, that of the best mean change.
    """

    def path(method: str) -> float:
        of = [cost_ratio(lines, s, method, plain, seeds) for s in settings]
        return float(np.mean(np.log(of)))

    by_method = {
        method: _changes(lines, settings, method, plain, seeds) for method in methods
    }
    allowed = [
        method
        for method, each in by_method.items()
        if np.mean(each) >= -MEAN_LOSS and min(each) >= -LOSS
    ]
    if not allowed:
        return most_accurate(lines, settings, methods, plain, seeds)
    return min(allowed, key=path)


def most_accurate(
    lines: Lines,
    settings: Sequence[str],
    methods: Sequence[str],
    plain: str,
    seeds: Sequence[int],
) -> str:
    """The method of the best mean change of validation accuracy."""

    def mean(method: str) -> float:
        return float(np.mean(_changes(lines, settings, method, plain, seeds)))

    return max(methods, key=mean)


def _changes(
    lines: Lines, settings: Sequence[str], method: str, plain: str, seeds: Sequence[int]
) -> list[float]:
    return [change(lines, setting, method, plain, seeds) for setting in settings]
