"""Times two things in turn, in one process, and compares them pair by pair."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def ratios(
    first: Callable[[], object], second: Callable[[], object], pairs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Runs both in turn; the order changes from pair to pair.

    Args:
        first: The reference. Must not return before its work is done.
        second: What is compared with it.
        pairs: How often, after one run of each that is not counted.

    Returns:
        Medians of the two in seconds, and the quartiles of second over first.
    """
    both = (first, second)
    for run in both:
        run()
    times = np.zeros((pairs, 2))
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            start = time.perf_counter()
            both[which]()
            times[pair, which] = time.perf_counter() - start
    quartiles = np.percentile(times[:, 1] / times[:, 0], [25, 50, 75])
    return np.median(times, axis=0), quartiles


def text(quartiles: np.ndarray) -> str:
    """Median and quartiles in one line."""
    low, median, high = quartiles
    return f"{median:.3f} [{low:.3f}, {high:.3f}]"
