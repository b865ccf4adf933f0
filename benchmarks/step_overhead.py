"""Time of a training step by least action, over that of plain Keras.

Each network is built four times: plain, and in a `LeastActionModel` with three
energies. All are fitted in turn on the same batches, the latter without a callback,
with `MultiplierUpdate(every=1)` and with `every=50`. A ratio is that of one round.
`overhead` takes the rounds of these three together, which run the same step, and `every
= 1 over 50` those of the three energies. `plain again` is the plain network over
itself: what noise alone makes of 1. Times are those that the processor spends on the
process, on one thread, so that what runs beside it counts little.

    python benchmarks/step_overhead.py [--quick] [--backend torch]
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import harness
import numpy as np
import timing
from subjects import SUBJECTS, Subject, compiled

import keras_lap

ENERGIES: dict[str, Any] = {
    "p = 2": 2.0,
    "p = 3": 3.0,
    "euclidean, p = 3": keras_lap.energies.DisplacementEnergy(3.0, "euclidean"),
}
CALLBACKS = {"no callback": None, "every = 1": 1, "every = 50": 50}
GOALS = {"ResNet9": 1.02, "ResNet50V2": 1.02, "ViT": 1.02, "dense, 100 blocks": 1.10}
# Batches of one fit, some tenths of a second of work.
BATCHES = {"ResNet9": 2, "ResNet50V2": 1, "ViT": 3}
BATCHES_OF_DENSE = 10
SECONDS = 20.0  # of a case, in which it has as many rounds as it can


def cases(quick: bool) -> list[harness.Case]:
    """Every network on every backend."""
    subjects = ["dense, 5 blocks"] if quick else list(GOALS)
    backends = ["torch"] if quick else harness.BACKENDS
    return [
        {
            "backend": backend,
            "subject": subject,
            "rounds": 2 if quick else 6,
            "budget": 0.0 if quick else SECONDS,
            "environment": harness.ONE_THREAD,
        }
        for backend, subject in itertools.product(backends, subjects)
    ]


def measure(subject: str, rounds: int, budget: float) -> list[harness.Row]:
    """Fits one network in all ways in turn."""
    batches = BATCHES.get(subject, BATCHES_OF_DENSE)
    fits = all_fits(SUBJECTS[subject], batches, ENERGIES, CALLBACKS)
    seconds = timing.alternate(fits, rounds, budget, clock=time.process_time)
    goal = GOALS.get(subject, 1.10)
    often, seldom = (
        np.concatenate([seconds[f"{energy} / every = {n}"] for energy in ENERGIES])
        for n in (1, 50)
    )
    as_often = timing.ratio(often, seldom)
    rows = []
    for energy in ENERGIES:
        overhead, over = over_plain(seconds, energy, CALLBACKS)
        rows.append(
            {
                "network": subject,
                "energy": energy,
                "plain_ms": timing.milliseconds(seconds["plain"], batches),
                "plain again": timing.ratio(seconds["plain again"], seconds["plain"]),
                "overhead": overhead,
                "every = 1 over 50": as_often,
                "met": overhead["median"] <= goal and as_often["median"] <= 1.02,
                **over,
            }
        )
    return rows


def all_fits(
    build: Callable[[], Subject],
    batches: int,
    energies: Mapping[str, Any],
    callbacks: Mapping[str, int | None],
) -> dict[str, Callable[[], None]]:
    """What is timed: plain twice, and each energy with each callback, by their names.

    Args:
        build: Makes the network and its data.
        batches: Of one fit.
        energies: By name.
        callbacks: `every` of `MultiplierUpdate` by name; None for no callback.
    """
    subject = build()
    data = subject.data(batches)
    plain = timing.fit(compiled(subject.network), data)
    fits = {"plain": plain, "plain again": plain}
    for energy, value in energies.items():
        model = compiled(keras_lap.LeastActionModel(build().network, value, 5.0))
        for callback, every in callbacks.items():
            update = keras_lap.callbacks.MultiplierUpdate(1.0, every or 1)
            run = timing.fit(model, data, [update] if every else [])
            fits[f"{energy} / {callback}"] = run
    return fits


def over_plain(
    seconds: timing.Seconds, energy: str, callbacks: Iterable[str]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Ratios to plain training: of all callbacks' rounds together, and of each."""
    plain = seconds["plain"]
    own = {name: seconds[f"{energy} / {name}"] for name in callbacks}
    over = {name: timing.ratio(times, plain) for name, times in own.items()}
    together = np.concatenate([*own.values()])
    return timing.ratio(together, np.tile(plain, len(own))), over


BENCHMARK = harness.Benchmark(
    "step_overhead", cases, measure, ("backend", "network", "energy")
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
