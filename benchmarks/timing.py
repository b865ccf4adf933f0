"""Times things in turn, in one process, and compares them round by round."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

Seconds = dict[str, np.ndarray]


def alternate(
    things: Mapping[str, Callable[[], object]],
    rounds: int,
    budget: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Seconds:
    """Runs all things once a round, each time in another order.

    What a machine does beside them falls on all alike, so that the ratio of two of one
    round is steadier than either.

    Args:
        things: What to time, by name. None may return before its work is done.
        rounds: How often at least, after one run of each that is not counted: it
            compiles.
        budget: Seconds within which further rounds are begun.
        clock: By which they are timed. Defaults to the clock on the wall.

    Returns:
        The seconds of each, `(rounds,)`.
    """
    names = list(things)
    for run in things.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    begin = time.perf_counter()
    for this in itertools.count():
        if this >= rounds and time.perf_counter() - begin > budget:
            break
        order = names[this % len(names) :] + names[: this % len(names)]
        for name in order if (this // len(names)) % 2 == 0 else reversed(order):
            seconds[name].append(elapsed(things[name], clock))
    return {name: np.array(times) for name, times in seconds.items()}


def elapsed(
    run: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds that one run takes."""
    start = clock()
    run()
    return clock() - start


def ratio(measured: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Median and quartiles of the ratios of all rounds.

    Args:
        measured: Seconds, or any other amount, `(rounds,)`.
        reference: What it is compared with, of the same rounds.

    Returns:
        `low`, `median`, `high` and the number of `rounds`.
    """
    each = np.asarray(measured) / np.asarray(reference)
    low, median, high = np.percentile(each, [25, 50, 75])
    return {
        "low": round(float(low), 4),
        "median": round(float(median), 4),
        "high": round(float(high), 4),
        "rounds": len(each),
    }


def milliseconds(seconds: np.ndarray, steps: int = 1) -> float:
    """Median of one step, where each time is that of several."""
    return round(1000 * float(np.median(seconds)) / steps, 3)


def fit(
    model: keras.Model, data: Mapping[str, Any], callbacks: Sequence[Any] = ()
) -> Callable[[], None]:
    """Something to time: one `fit`, until its last step is done.

    Args:
        model: Compiled.
        data: Arguments of `fit`.
        callbacks: Handed to `fit`.
    """

    def run() -> None:
        model.fit(**data, callbacks=list(callbacks))
        # JAX hands on its results before they are there.
        keras.ops.convert_to_numpy(model.trainable_variables[-1])

    return run
