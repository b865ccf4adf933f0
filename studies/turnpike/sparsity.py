"""Which norm of the controls leaves layers idle: l1, group, l2 and h1 with a path loss.

Two circles of 256 points, a network of twenty Euler steps ``x' = W tanh x + b`` in
three dimensions with a trained readout, full batches, and the objective mean squared
error + path loss + a · norm. Beside it the scalar problem ``x' = b``, ``|b| ≤ 1``, of
least ``½ ∫ x² + 0.3 ∫ |b|``, whose control ends at a known time.

    KERAS_BACKEND=jax python -m studies.turnpike.sparsity --results studies/results
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import keras_lap
from keras_lap._drawing import COLORS, grid
from keras_lap.networks import neural_ode
from keras_lap.running_costs import ControlCost, PathLoss, controls
from studies.engine.tables import Table
from studies.turnpike.exact import solve_l1
from studies.turnpike.records import Criterion, Findings, main

NORMS = ("l2", "h1", "l1", "group")
POINTS, HORIZON, BLOCKS, ALPHA = 256, 10.0, 20, 0.01
UPDATES, AT_ONCE, SEEDS = 3000, 100, (0, 1, 2)
IDLE = 1e-3  # of the largest norm, below which a layer is reported as idle
TAIL = 1e-5  # of the largest norm, below which the last layers have to be
# (e_0 − M T*) (T − T*) = a / β for e_0 = 1.5, M = 1, T = 8, a = 0.3, β = 1.
ENDS, STARTS, BOUND = 1.454170, 1.5, 1.0


@dataclass(frozen=True)
class Trained:
    """One training.

    Attributes:
        sizes: ``|u_k|₂`` of each block.
        loss: The task loss of the last update.
        accuracy: On the training data.
    """

    sizes: np.ndarray
    loss: float
    accuracy: float

    @property
    def idle(self) -> np.ndarray:
        """Which blocks are idle."""
        return self.sizes < IDLE * self.sizes.max()

    @property
    def tail(self) -> int:
        """How many of the last blocks are idle, without a gap."""
        active = np.flatnonzero(~self.idle)
        return len(self.sizes) - 1 - int(active[-1])

    @property
    def end(self) -> float:
        """The largest norm in the last quarter, over the largest of all."""
        return float(self.sizes[-(BLOCKS // 4) :].max() / self.sizes.max())


def train(norm: str, seed: int, updates: int = UPDATES) -> Trained:
    """Trains one network, with a learning rate that falls to zero."""
    keras.utils.set_random_seed(seed)
    data = keras_lap.datasets.load("circles", POINTS, seed=seed)
    x, y = data.train.x, 2.0 * data.train.y[:, None] - 1
    net = neural_ode((2,), 1, horizon=HORIZON, steps=BLOCKS, augment=1)
    costs = [PathLoss(1.0), ControlCost(ALPHA, norm)]
    model = keras_lap.LeastActionModel(net, None, running_costs=costs, horizon=HORIZON)
    rate = keras.optimizers.schedules.CosineDecay(0.01, updates)
    model.compile(keras.optimizers.Adam(rate), "mse")
    # An epoch of many updates costs Keras no more than one of one.
    many = [np.concatenate([each] * AT_ONCE) for each in (x, y)]
    how = {"batch_size": len(x), "shuffle": False, "verbose": 0}
    model.fit(*many, epochs=updates // AT_ONCE, **how)
    found = [[keras.ops.convert_to_numpy(u) for u in block] for block in controls(net)]
    sizes = [np.sqrt(sum((u**2).sum() for u in block)) for block in found]
    outputs = keras.ops.convert_to_numpy(net(x))
    return Trained(
        np.array(sizes), float(np.mean((outputs - y) ** 2)), np.mean(outputs * y > 0)
    )


def scalar_problem(blocks: int) -> tuple[Criterion, np.ndarray]:
    """When the control of the scalar problem ends, and the controls."""
    found = solve_l1(STARTS, 8.0, blocks, 0.3, BOUND)
    spent = 8.0 / blocks * found.sum()
    off = abs(spent / ENDS - 1)
    active = np.count_nonzero(found)
    claim = f"scalar problem, {blocks} blocks: the control ends within 1 % of {ENDS}"
    measured = f"{spent:.6f}, {active} of {blocks} layers active, the rest exactly 0"
    return Criterion(claim, measured, off < 0.01), found


def judged(found: Mapping[str, Sequence[Trained]]) -> list[Criterion]:
    """What the norms have to show: a tail for the group norm, and none for l2."""
    ends = {norm: [each.end for each in runs] for norm, runs in found.items()}

    def line(norm: str, claim: str, passed: bool) -> Criterion:
        values = ", ".join(f"{end:.1e}" for end in ends[norm])
        return Criterion(f"{norm}: {claim}, every seed", values, passed)

    small = "last quarter below 1e-5 of the largest norm"
    never = "last quarter not idle, above 1e-3 of the largest"
    return [
        line("group", small, max(ends["group"]) < TAIL),
        line("l1", small, max(ends["l1"]) < TAIL),
        line("l2", never, min(ends["l2"]) > IDLE),
        line("h1", never, min(ends["h1"]) > IDLE),
    ]


def table(found: Mapping[str, Sequence[Trained]]) -> Table:
    """One row for each training."""
    header = ("norm", "seed", "error", "accuracy", "idle", "idle tail", "norms")
    rows = [
        (
            norm,
            str(seed),
            f"{each.loss:.4f}",
            f"{each.accuracy:.3f}",
            str(each.idle.sum()),
            str(each.tail),
            " ".join(f"{size:.2g}" for size in each.sizes),
        )
        for norm, runs in found.items()
        for seed, each in zip(SEEDS, runs, strict=True)
    ]
    note = (
        "Idle are layers whose norm is below 1e-3 of the largest; the tail is the idle "
        "ones behind the last that is not. Where there are more idle ones than that, "
        "there are holes."
    )
    return Table("Norms of the controls along the layers", header, tuple(rows), note)


def picture(found: Mapping[str, Sequence[Trained]], scalar: np.ndarray) -> Any:
    """Norms along the layers, and the control of the scalar problem."""
    figure, (sizes, control) = grid(2, size=(4.8, 3.6))
    for (norm, runs), color in zip(found.items(), COLORS, strict=False):
        for number, each in enumerate(runs):
            layers = np.arange(1, BLOCKS + 1)
            label = None if number else norm
            sizes.semilogy(layers, each.sizes, ".-", lw=0.8, color=color, label=label)
    sizes.set(xlabel="layer", title="norm of its weights, each seed")
    sizes.legend(fontsize=8)
    control.stairs(scalar, np.linspace(0, 8, len(scalar) + 1), color=COLORS[0])
    control.axvline(ENDS, color=COLORS[1], ls=":", label="known end")
    control.set(xlabel="t", title="control of the scalar problem, l1")
    control.legend(fontsize=8)
    return figure


def study() -> Findings:
    """Four norms from three seeds, and the scalar problem."""
    found = {norm: [train(norm, seed) for seed in SEEDS] for norm in NORMS}
    known, scalar = scalar_problem(32)
    note = (
        f"T = {HORIZON:g}, {BLOCKS} layers, a = {ALPHA}, path loss 1.0, {UPDATES} "
        "steps of Adam from 0.01 to 0 along a cosine. Three seeds show that it "
        "happens, not how often."
    )
    criteria = [*judged(found), known]
    title = "Which norm leaves layers idle"
    return Findings(title, criteria, [table(found)], picture(found, scalar), note)


if __name__ == "__main__":
    main("sparsity", study)
