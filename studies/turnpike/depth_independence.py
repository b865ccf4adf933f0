"""Does a longer horizon change what the first layers do? And is a warm start needed?

    KERAS_BACKEND=jax python -m studies.turnpike.depth_independence

Bottlenecks with the path loss on horizons T = 2.5 … 20 at one step of .25; and dynamics
"inside" at T = 20, from new weights and from the network of T = 10 by `continue_from`.
Trainings that are not yet in `out/turnpike/` take about a quarter of an hour on one
core with JAX; all others are read from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

import keras
import numpy as np

from keras_lap import _drawing as drawing
from keras_lap import networks
from studies.engine.tables import Table
from studies.turnpike.records import Criterion, Findings, main
from studies.turnpike.runs import STEPS, Lazy, Run, Setting, Trainer, kept

SEEDS = (0, 1, 2)
STEP = 0.25
HORIZONS = (2.5, 5.0, 10.0, 20.0)
# Chosen in `circles`, on a seed that is none of these.
RATE = 0.01
FOLDER = Path("out/turnpike/depth_independence")
SHORT, LONG = Setting("inside", 1.0, 10.0, 40), Setting("inside", 1.0, 20.0, 80)
STARTS = ("from scratch", "extended", "extended and trained")
NOTE = (
    "256 points on two circles, one augmented dimension, trained affine readout, mean "
    "squared error on ±1, path loss 1, control cost .01, Adam with {steps} full "
    "batches at the rate {rate}, seeds {seeds}. J is the objective. The network of "
    "T = 10 that is extended was trained by as many steps, so that the last column has "
    "had twice the steps of the first. Arrival: the first layer that leaves at most "
    "5 % of the error's way to the last. Three seeds: no interval is given."
).format(steps=STEPS, rate=RATE, seeds=", ".join(map(str, SEEDS)))


def bottlenecks() -> Mapping[float, list[Run]]:
    """The runs of each horizon."""
    runs = {}
    for horizon in HORIZONS:
        setting = Setting("bottleneck", 1.0, horizon, round(horizon / STEP))
        lazy = Lazy(setting, FOLDER)
        runs[horizon] = [lazy.run(seed, RATE) for seed in SEEDS]
    return runs


def starts() -> Mapping[str, list[Run]]:
    """The runs of each way to T = 20."""
    trainer = cache(Trainer)

    @cache
    def extended(seed: int) -> keras.Model:
        trainer(SHORT).fit(seed, RATE)
        short = trainer(SHORT).network
        return networks.continue_from(short, horizon=LONG.horizon, steps=LONG.blocks)

    def trained(seed: int, start: keras.Model | None, steps: int = STEPS) -> Run:
        return trainer(LONG).fit(seed, RATE, start, steps)

    ways = {
        STARTS[0]: lambda seed: trained(seed, None),
        STARTS[1]: lambda seed: trained(seed, extended(seed), 0),
        STARTS[2]: lambda seed: trained(seed, extended(seed)),
    }
    return {
        way: [
            kept(FOLDER / f"{way.replace(' ', '-')}-{seed}.npz", partial(fit, seed))
            for seed in SEEDS
        ]
        for way, fit in ways.items()
    }


def study() -> Findings:
    """Runs it, or reads what was run."""
    deep, ways = bottlenecks(), starts()
    return Findings(
        title="Does a longer horizon change what the first layers do?",
        criteria=_criteria(deep, ways),
        tables=_tables(deep, ways),
        figure=_figure(deep, ways),
        note=NOTE,
    )


def _median(runs: list[Run], name: str) -> float:
    return float(np.median([getattr(run, name) for run in runs]))


def _curve(runs: list[Run]) -> np.ndarray:
    """The median error at each exit."""
    return np.median([run["errors"] for run in runs], axis=0)


def _criteria(
    deep: Mapping[float, list[Run]], ways: Mapping[str, list[Run]]
) -> list[Criterion]:
    arrivals = [_median(runs, "arrival") for runs in deep.values()]
    curves = [_curve(runs) for runs in deep.values()]
    common = min(len(curve) for curve in curves)
    spread = np.ptp([curve[:common] for curve in curves], axis=0).max() / curves[0][0]
    scratch, warm, trained = (_median(ways[way], "objective") for way in STARTS)
    return [
        Criterion(
            "median arrival differs by at most 2 layers between the horizons",
            ", ".join(f"{arrival:g}" for arrival in arrivals),
            bool(np.ptp(arrivals) <= 2),
        ),
        Criterion(
            "median errors up to t = 2.5 lie within 5 % of the first error",
            f"{100 * spread:.1f} %",
            bool(spread <= 0.05),
        ),
        Criterion(
            "J at T = 20, extended from T = 10: at most 1.65",
            f"{warm:.3f} before a step, {trained:.3f} trained",
            bool(trained <= 1.65),
        ),
        Criterion(
            "extended and trained, J is at most .77 of J from scratch (1.65 of 2.145)",
            f"{trained:.3f} of {scratch:.3f}: {trained / scratch:.2f}",
            bool(trained <= 0.77 * scratch),
        ),
    ]


def _tables(
    deep: Mapping[float, list[Run]], ways: Mapping[str, list[Run]]
) -> list[Table]:
    one = tuple(
        (
            f"{horizon:g}",
            f"{seed}",
            f"{run.objective:.4f}",
            f"{run['errors'][-1]:.2e}",
            f"{run.arrival}",
            f"{run.early_energy:.3f}",
            f"{run['test_accuracy']:.3f}",
        )
        for horizon, runs in deep.items()
        for seed, run in zip(SEEDS, runs, strict=True)
    )
    head = ("T", "seed", "J", "last error", "arrival", "energy in first quarter")
    other = tuple(
        (str(seed), *(f"{ways[way][k].objective:.4f}" for way in STARTS))
        for k, seed in enumerate(SEEDS)
    )
    return [
        Table("Bottlenecks at dt = .25", (*head, "test accuracy"), one),
        Table("J of inside at T = 20, three ways", ("seed", *STARTS), other),
    ]


def _figure(
    deep: Mapping[float, list[Run]], ways: Mapping[str, list[Run]]
) -> drawing.Any:
    figure, (left, right) = drawing.grid(2, 2, (5.0, 3.8))
    for number, (horizon, runs) in enumerate(deep.items()):
        for run in runs:
            times = STEP * np.arange(len(run["errors"]))
            own = f"T = {horizon:g}" if run is runs[0] else None
            left.plot(times, run["errors"], color=drawing.color(number), label=own)
    for number, (way, runs) in enumerate(ways.items()):
        for run in runs:
            times = STEP * np.arange(len(run["errors"]))
            own = way if run is runs[0] else None
            right.plot(times, run["errors"], color=drawing.color(number), label=own)
    for axis, title in ((left, "bottleneck"), (right, "inside, T = 20")):
        axis.set(yscale="log", xlabel="time t", ylabel="error of the exit", title=title)
        axis.legend()
    return figure


if __name__ == "__main__":
    main("depth-independence", study)
