"""Two circles through forty layers: does the path loss decide where they are used?

    KERAS_BACKEND=jax python -m studies.turnpike.circles --results studies/results

Trainings that are not yet in `out/turnpike/` take about ten minutes on one free core
with JAX; all others are read from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_lap import _drawing as drawing
from studies.engine.tables import Table
from studies.turnpike.records import Criterion, Findings, main
from studies.turnpike.runs import DYNAMICS, POINTS, REACH, STEPS, Lazy, Run, Setting

SEEDS = (0, 1, 2, 3, 4)
OTHER_SEED = 100  # on which the rates are chosen, with the path loss
RATES = (0.003, 0.01)
BETAS = (1.0, 0.0)
FOLDER = Path("out/turnpike/circles")
WAYS = {1.0: "with", 0.0: "without"}
NOTE = (
    f"{POINTS} points on two circles, T = 10, 40 layers, one augmented dimension, "
    "trained affine readout, mean squared error on ±1, control cost .01, path loss 1 "
    f"or none; Adam, {STEPS} full batches, {len(SEEDS)} seeds, which choose points and "
    "weights. Inside: tanh; bottleneck: 16 ReLU; outside: leaky ReLU of slope .1. The "
    "learning rate is the one of two with the lesser objective on another seed, with "
    "the path loss, and serves without it too. Outside, both rates failed on that seed "
    "(the table at the end), so that nothing was chosen there. Errors and accuracies "
    "by layer are those of the training points. Arrival: the first layer that leaves "
    "at most 5 % of the error's way to the last. Five seeds: no interval is given.\n\n"
    "![Errors, norms of states and controls by layer, trajectories, decision maps and "
    "weights, with the path loss and without.](turnpike-circles.svg)"
)

Runs = Mapping[tuple[str, float], list[Run]]
Tried = Mapping[str, Mapping[float, Run]]


def trained() -> tuple[Runs, Tried]:
    """All runs by dynamics and path loss, and those that the rates were chosen by."""
    runs: dict[tuple[str, float], list[Run]] = {}
    tried: dict[str, dict[float, Run]] = {}
    for dynamics in DYNAMICS:
        for beta in BETAS:
            lazy = Lazy(Setting(dynamics, beta), FOLDER)
            if beta:
                tried[dynamics] = {r: lazy.run(OTHER_SEED, r) for r in RATES}
            rate = chosen(tried[dynamics])
            runs[dynamics, beta] = [lazy.run(seed, rate) for seed in SEEDS]
    return runs, tried


def chosen(tried: Mapping[float, Run]) -> float:
    """The rate with the least objective."""
    return min(tried, key=lambda rate: tried[rate].objective)


def study() -> Findings:
    """Runs it, or reads what was run."""
    runs, tried = trained()
    return Findings(
        title="Two circles through forty layers",
        criteria=criteria(runs),
        tables=(_by_run(runs), _by_layer(runs), _rates(tried)),
        figure=_figure(runs),
        note=NOTE,
    )


def criteria(runs: Runs) -> list[Criterion]:
    """What every one of the seeds has to show."""

    def every(
        claim: str,
        key: tuple[str, float],
        value: Callable[[Run], float],
        holds: Callable[[float], bool],
    ) -> Criterion:
        values = [value(run) for run in runs[key]]
        found = ", ".join(f"{value:.4g}" for value in values)
        return Criterion(claim, found, all(map(holds, values)))

    def arrival(run: Run) -> float:
        return run.arrival / (len(run["errors"]) - 1)

    def share(run: Run) -> float:
        return run.early_energy

    with_path, without = (("bottleneck", beta) for beta in BETAS)
    near, far = (("inside", beta) for beta in BETAS)
    energy = "energy in the first quarter"
    return [
        every(
            "bottleneck, with: arrival ≤ L/10", with_path, arrival, lambda a: a <= 0.1
        ),
        every("bottleneck, without: ≥ .9 L", without, arrival, lambda a: a >= 0.9),
        every(
            f"bottleneck, with: {energy} ≥ .95", with_path, share, lambda e: e >= 0.95
        ),
        every(
            f"bottleneck, without: {energy} ≤ .2", without, share, lambda e: e <= 0.2
        ),
        every(f"inside, with: {energy} ≥ .7", near, share, lambda e: e >= 0.7),
        every(f"inside, without: {energy} ≤ .4", far, share, lambda e: e <= 0.4),
    ]


def _by_run(runs: Runs) -> Table:
    head = (
        *("dynamics", "path loss", "seed", "J", "last error", "test accuracy"),
        *("arrival", "accuracy .995 from layer", "energy in first quarter"),
    )
    rows = tuple(
        (
            dynamics,
            f"{beta:g}",
            f"{seed}",
            f"{run.objective:.4f}",
            f"{run['errors'][-1]:.2e}",
            f"{run['test_accuracy']:.3f}",
            f"{run.arrival}",
            "never" if run.accurate is None else f"{run.accurate}",
            f"{run.early_energy:.4f}",
        )
        for (dynamics, beta), each in runs.items()
        for seed, run in zip(SEEDS, each, strict=True)
    )
    return Table("Every training", head, rows)


def _by_layer(runs: Runs) -> Table:
    head = ("dynamics", "path loss", "layer", "error", "norm of x", "norm of u")
    rows = []
    for (dynamics, beta), each in runs.items():
        error = np.median([run["errors"] for run in each], axis=0)
        state = np.median([run.norms for run in each], axis=0)
        control = np.median([run.sizes for run in each], axis=0)
        for layer in (0, 1, 2, 5, 10, 20, 30, 39):
            numbers = (error[layer], state[layer], control[layer])
            texts = (f"{number:.3g}" for number in numbers)
            rows.append((dynamics, f"{beta:g}", f"{layer}", *texts))
    return Table("Medians over the seeds, at some layers", head, tuple(rows))


def _rates(tried: Tried) -> Table:
    rows = tuple(
        (dynamics, f"{rate:g}", f"{run.objective:.4f}")
        for dynamics, each in tried.items()
        for rate, run in each.items()
    )
    title = f"Objectives on seed {OTHER_SEED}, by which the rates were chosen"
    return Table(title, ("dynamics", "rate", "J"), rows)


def _figure(runs: Runs) -> Any:
    """Nine curves; trajectories, decision maps and weights of the first seed."""
    figure = drawing.matplotlib().Figure(figsize=(12, 22), layout="constrained")
    curves, paths, maps, weights = figure.subfigures(4, 1, height_ratios=(9, 7, 11, 6))
    _curves(curves.subplots(3, 3), runs)
    columns = [(dynamics, beta) for dynamics in DYNAMICS for beta in BETAS]
    for axis, key in zip(paths.subplots(2, 3).T.flat, columns, strict=True):
        _trajectories(axis, runs[key][0])
        axis.set_title(f"{key[0]}, {WAYS[key[1]]} path loss", fontsize=9)
    layers = (0, 1, 2, 5, 10, 20, 40)
    for row, key in zip(maps.subplots(6, len(layers)), columns, strict=True):
        for axis, layer in zip(row, layers, strict=True):
            _map(axis, runs[key][0], layer)
        row[0].set_ylabel(f"{key[0]}\n{WAYS[key[1]]}", fontsize=8)
    for axis, key in zip(weights.subplots(2, 3).T.flat, columns, strict=True):
        image = np.abs(runs[key][0]["controls"]).T
        axis.imshow(
            image,
            aspect="auto",
            interpolation="none",
            cmap="Greys",
            vmax=np.quantile(image, 0.99),
        )
        axis.set_title(f"|u|, {key[0]}, {WAYS[key[1]]} path loss", fontsize=9)
        axis.set(xlabel="layer", ylabel="weight")
    return figure


def _curves(axes: Any, runs: Runs) -> None:
    names = ("error of the exit", "mean norm of the state", "norm of the control")
    for row, dynamics in zip(axes, DYNAMICS, strict=True):
        for number, beta in enumerate(BETAS):
            for run in runs[dynamics, beta]:
                values = (run["errors"], run.norms, run.sizes)
                for axis, curve in zip(row, values, strict=True):
                    own = (
                        f"{WAYS[beta]} path loss"
                        if run is runs[dynamics, beta][0]
                        else None
                    )
                    axis.plot(curve, color=drawing.color(number), lw=1, label=own)
        for axis, name in zip(row, names, strict=True):
            axis.set(xlabel="layer", ylabel=name, title=dynamics)
        row[0].set_yscale("log")
        row[2].set_yscale("log")
        row[0].legend(fontsize=8)


def _trajectories(axis: Any, run: Run, points: int = 40) -> None:
    """Upwards what parts the classes at the end, across where they lie widest else."""
    last, labels = run["states"][-1], run["labels"]
    up = last[labels == 1].mean(axis=0) - last[labels == 0].mean(axis=0)
    up /= np.linalg.norm(up)
    rest = last - last.mean(axis=0)
    rest -= np.outer(rest @ up, up)
    across = np.linalg.svd(rest, full_matrices=False)[2][0]
    seen = run["states"][:, :points] @ np.stack([across, up], axis=1)
    for number in range(points):
        shade = drawing.color(int(run["labels"][number]))
        axis.plot(*seen[:, number].T, color=shade, lw=0.6, rasterized=True)
        axis.plot(
            *seen[-1, number],
            drawing.marker(int(run["labels"][number])),
            color=shade,
            ms=3,
            rasterized=True,
        )


def _map(axis: Any, run: Run, layer: int) -> None:
    box = (-REACH, REACH, -REACH, REACH)
    image = run["maps"][layer].astype("float32")
    shades = {"cmap": "PuOr", "vmin": -1.5, "vmax": 1.5}
    axis.imshow(image, extent=box, origin="lower", interpolation="none", **shades)
    points = run["states"][0, ::4, :2]
    colors = [drawing.color(int(label)) for label in run["labels"][::4]]
    axis.scatter(*points.T, s=2, c=colors, rasterized=True)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(f"after {layer}", fontsize=8)


if __name__ == "__main__":
    main("circles", study)
