"""Unequal steps: what few Euler steps lose against continuous time, and what saves it.

``x' = b`` from −1.3 to 0 over T = 20 at the price ``½ ∫ x² + (a/2) ∫ b²``, a = ¼. In
continuous time the least cost is ``½ √a x_0² tanh(T/√a)``. Steps of equal length lose
much, as all happens at the start; steps that are chosen for it lose little.

    python -m studies.turnpike.unequal_steps --results studies/results
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import keras_lap
from keras_lap._drawing import COLORS, grid
from keras_lap._extras import require
from keras_lap.running_costs import ControlCost, TrackingCost
from studies.engine.tables import Table
from studies.turnpike.exact import double_precision, objective, solve, steered
from studies.turnpike.records import Criterion, Findings, main

HORIZON, ALPHA, START = 20.0, 0.25, -1.3
RATE = 1 / np.sqrt(ALPHA)
CONTINUOUS = 0.5 * START**2 * np.sqrt(ALPHA) * np.tanh(RATE * HORIZON)
# The excess over continuous time, found before: uniform and optimal steps.
KNOWN = {4: (4.10, 0.068), 8: (1.69, 0.015), 20: (0.41, 0.0024), 40: (0.12, 0.0007)}


def uniform(blocks: int) -> np.ndarray:
    """Steps of one length."""
    return np.full(blocks, HORIZON / blocks)


def by_formula(blocks: int) -> np.ndarray:
    """``t_k = −(3/μ) log(1 − (k/K)(1 − e^{−μT/3}))``, short steps first."""
    share = np.arange(blocks + 1) / blocks
    decay = 1 - np.exp(-RATE * HORIZON / 3)
    return np.diff(-3 / RATE * np.log1p(-share * decay))


def optimal(blocks: int) -> np.ndarray:
    """The steps of the least cost, from those of the formula on."""
    optimize = require("scipy.optimize", "scipy", "studies", "Solving this problem")

    def steps(logits: np.ndarray) -> np.ndarray:
        shares = np.exp(logits - logits.max())
        return HORIZON * shares / shares.sum()

    found = optimize.minimize(
        lambda logits: excess(steps(logits)),
        np.log(by_formula(blocks)),
        options={"gtol": 1e-7},
    )
    return steps(found.x)


def excess(steps: np.ndarray) -> float:
    """How much the least cost with some steps is above that of continuous time."""
    return solve([START], [0.0], steps, ALPHA)[1] / CONTINUOUS - 1


def by_package(steps: np.ndarray) -> tuple[float, float]:
    """The excess as the package computes it, and its largest slope at the optimum."""
    controls, _ = solve([START], [0.0], steps, ALPHA)
    costs = [ControlCost(ALPHA), TrackingCost(1.0, [0.0])]
    with double_precision():
        model = keras_lap.LeastActionModel(
            steered(controls, steps), None, running_costs=costs, horizon=steps.tolist()
        )
        start = np.array([[START]])
        logs, gradients = objective(model, start, start, task=0.0)
    slopes = [np.abs(slope).max() for each in gradients.values() for slope in each]
    return logs["loss"] / CONTINUOUS - 1, max(slopes)


def study() -> Findings:
    """The table for 4 to 40 blocks."""
    rows, criteria = [], []
    chosen: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for blocks, known in KNOWN.items():
        chosen[blocks] = (uniform(blocks), optimal(blocks), by_formula(blocks))
        found = [by_package(steps) for steps in chosen[blocks]]
        percents = [f"{100 * each:.3g} %" for each, _ in found]
        last = chosen[blocks][1][-1]
        rows.append((str(blocks), *percents, f"{last:.2f}"))
        off = [
            abs((1 + ours) / (1 + theirs) - 1)
            for (ours, _), theirs in zip(found, known, strict=False)
        ]
        slope = max(each for _, each in found)
        criteria.append(
            Criterion(
                f"{blocks} blocks: costs within 1 % of the known, gradient below 1e-5",
                f"off by {100 * max(off):.2g} %, {slope:.0e}",
                max(off) < 0.01 and slope < 1e-5,
            )
        )
    header = ("blocks", "uniform", "optimal", "formula", "last step of the optimal")
    table = Table("Excess of the cost over continuous time", header, tuple(rows))
    note = (
        f"T = {HORIZON:g}, a = {ALPHA}, x_0 = {START}; in continuous time J = "
        f"{CONTINUOUS:.6f}. The formula is t_k = −(3/μ) log(1 − (k/K)(1 − "
        "e^(−μT/3))), μ = 1/√a, which nobody has to optimise. Compared are the costs "
        "1 + excess."
    )
    title = "Few steps: equal and unequal ones"
    return Findings(title, criteria, [table], picture(chosen), note)


def picture(chosen: Mapping[int, Sequence[np.ndarray]]) -> Any:
    """Excess against the number of blocks, and where the steps lie."""
    figure, (cost, times) = grid(2, size=(4.8, 3.6))
    names = ("uniform", "optimal", "formula")
    for number, (name, color) in enumerate(zip(names, COLORS, strict=False)):
        values = [excess(steps[number]) for steps in chosen.values()]
        cost.loglog(list(chosen), values, "o-", color=color, label=name)
        ends = np.cumsum(np.append(0, chosen[8][number]))
        times.plot(ends, np.full(len(ends), number), "|", ms=14, color=color)
    cost.set(xlabel="blocks", title="excess of the cost over continuous time")
    cost.legend()
    times.set_yticks(range(3), names)
    times.set(xlabel="t", title="the ends of 8 steps", ylim=(-0.5, 2.5))
    return figure


if __name__ == "__main__":
    main("unequal_steps", study)
