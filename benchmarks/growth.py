"""How the costs grow with depth, width and batch, beside plain Keras's.

Tiny dense blocks, deeper, wider and with larger batches step by step; plain and least
action in processes of their own, from the smallest on, so that the peak of memory is
always that of the last one. An exponent is the slope of the cost against the size on
two logarithmic axes, between the last three sizes; 1 is linear.

    python benchmarks/growth.py [--quick] [--backend torch]
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import harness
import keras
import numpy as np
import timing
from subjects import compiled, deep_recursion, dense

import keras_lap

SIZES = {
    "depth": [10, 30, 100, 300, 1000],
    "width": [16, 64, 256, 1024],
    "batch": [32, 256, 2048, 16384],
}
# Beside the axis that grows: blocks, numbers of a state, samples of a batch.
OTHERS = {"depth": 100, "width": 16, "batch": 32}
SHALLOW = {"width": 10, "batch": 10}
BATCHES = 4  # of the fits that a step is timed by
COSTS = ("discovery_s", "first_step_s", "step_ms", "memory_mib")


def cases(quick: bool) -> list[harness.Case]:
    """PyTorch, which compiles nothing, goes furthest; the others grow in depth."""
    wanted = [("torch", axis, sizes) for axis, sizes in SIZES.items()]
    wanted += [(name, "depth", SIZES["depth"][:4]) for name in ("tensorflow", "jax")]
    if quick:
        wanted = [("torch", "depth", [2, 4, 8])]
    return [
        {"backend": backend, "axis": axis, "sizes": sizes, "least_action": ours}
        for (backend, axis, sizes), ours in itertools.product(wanted, (False, True))
    ]


def measure(axis: str, sizes: list[int], least_action: bool) -> list[harness.Row]:
    """Trains at every size."""
    label: harness.Row = {"axis": axis, "least_action": least_action}
    _costs(least_action, **_shape(axis, sizes[0]))  # starts the backend
    before = harness.peak_memory()
    rows = []
    for size in sizes:
        costs = _costs(least_action, **_shape(axis, size))
        memory = round(max(harness.peak_memory() - before, 0.1), 1)
        rows.append({**label, "size": size, **costs, "memory_mib": memory})
    return rows


def _shape(axis: str, size: int) -> dict[str, int]:
    shape = {**OTHERS, "depth": SHALLOW.get(axis, OTHERS["depth"]), axis: size}
    return {"blocks": shape["depth"], "width": shape["width"], "batch": shape["batch"]}


def _costs(least_action: bool, **shape: int) -> dict[str, float]:
    keras.utils.clear_session()
    built = dense(**shape)
    model, callbacks = built.network, []
    with deep_recursion():
        start = time.perf_counter()
        if least_action:
            model = keras_lap.LeastActionModel(built.network, 2.0, 5.0)
            callbacks = [keras_lap.callbacks.MultiplierUpdate(1.0, 1)]
        discovery = time.perf_counter() - start
        fit = timing.fit(compiled(model), built.data(1), callbacks)
        first = timing.elapsed(fit)
        # A fit has a cost of its own, which several steps share.
        fit = timing.fit(model, built.data(BATCHES), callbacks)
        step = np.median([timing.elapsed(fit) for _ in range(6)]) / BATCHES
    costs: dict[str, Any] = {"discovery_s": discovery} if least_action else {}
    costs |= {"first_step_s": first, "step_ms": 1000 * float(step)}
    return {key: round(value, 4) for key, value in costs.items()}


def summarise(rows: list[harness.Row]) -> list[harness.Row]:
    """Exponents, and what least action costs at the largest size, over plain."""
    table, found = harness.compared(rows, "backend", "axis")
    for label, plain, ours in found:
        span = f"{ours[0]['size']} to {ours[-1]['size']}"
        table += [
            {**label, "sizes": span, "cost": cost, **_compare(cost, plain, ours)}
            for cost in COSTS
        ]
    return table


def _compare(
    cost: str, plain: list[harness.Row], ours: list[harness.Row]
) -> harness.Row:
    row: harness.Row = {"exponent": _exponent(cost, ours)}
    if cost in plain[0]:
        row["plain_exponent"] = _exponent(cost, plain)
        row["over_plain_at_the_largest"] = round(ours[-1][cost] / plain[-1][cost], 3)
    row["at_the_largest"] = ours[-1][cost]
    return row


def _exponent(cost: str, rows: list[harness.Row]) -> float:
    sizes, costs = (np.array([row[key] for row in rows[-3:]]) for key in ("size", cost))
    return round(float(np.polyfit(np.log(sizes), np.log(costs), 1)[0]), 2)


BENCHMARK = harness.Benchmark(
    "growth", cases, measure, ("backend", "axis", "cost"), summarise=summarise
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
