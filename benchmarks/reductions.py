"""Other ways to take the energies of all blocks together, by what XLA makes of them.

The same network and p = 2, on JAX. Each way has to give every block's own part, which
is logged; the last but one does not, and shows what that costs, and the last gives
nothing at all. Before XLA begins, the program has `instructions`, which stand for the
time to compile; of the program that it ends with, the fusions and reductions are
counted, and what `counting.py` counts.

    python benchmarks/reductions.py [--quick]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import harness
import keras
from counting import lowered_step, of_compiled
from keras import ops
from subjects import SUBJECTS, compiled

import keras_lap
from keras_lap.energies import DisplacementEnergy, Energy

INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?\S+ = ", re.MULTILINE)
Costs = Callable[[DisplacementEnergy, Sequence[Any]], Any]


def one_by_one(energy: DisplacementEnergy, moved: Sequence[Any]) -> Any:
    """Each block's mean by itself."""
    return Energy.of_blocks(energy, moved)


def of_a_stack(energy: DisplacementEnergy, moved: Sequence[Any]) -> Any:
    """One reduction of those of each shape, put into one tensor."""
    costs: dict[int, Any] = {}
    for shape in {tuple(each.shape) for each in moved}:
        own = [i for i, each in enumerate(moved) if tuple(each.shape) == shape]
        stack = ops.stack([moved[i] for i in own])
        means = ops.mean(stack * stack, axis=tuple(range(1, len(stack.shape))))
        costs |= {i: means[place] for place, i in enumerate(own)}
    return ops.stack([costs[i] for i in range(len(moved))])


def of_a_sum(energy: DisplacementEnergy, moved: Sequence[Any]) -> Any:
    """One reduction of the sum of all squares of one shape; no block's own part."""
    sums: dict[tuple[int, ...], Any] = {}
    for each in moved:
        shape = tuple(each.shape)
        square = each * each
        sums[shape] = sums[shape] + square if shape in sums else square
    total = sum(ops.mean(each) for each in sums.values())
    return ops.concatenate([total[None], ops.zeros((len(moved) - 1,))])


def none(energy: DisplacementEnergy, moved: Sequence[Any]) -> Any:
    """No energy, but all that goes with it: λ, and the logs."""
    return ops.zeros((len(moved),))


WAYS: dict[str, Costs] = {
    "one by one": one_by_one,
    "one reduction of a stack": of_a_stack,
    "one reduction of a sum": of_a_sum,
    "no energy": none,
}


def cases(quick: bool) -> list[harness.Case]:
    """Where reductions weigh the most, and where displacements are large."""
    names = ["dense, 5 blocks"] if quick else ["dense, 100 blocks", "ResNet9"]
    return [{"backend": "jax", "subject": name} for name in names]


def measure(subject: str) -> list[harness.Row]:
    """Counts a step of plain Keras, of today's energy, and of every other way."""
    found = {
        "plain": _counts(subject, None),
        "today": _counts(subject, DisplacementEnergy()),
    }
    found |= {name: _counts(subject, _by(way)) for name, way in WAYS.items()}
    plain = found["plain"]
    rows = []
    for name, counts in found.items():
        row: harness.Row = {"network": subject, "way": name}
        row |= {key: counts[key] for key in ("fusions", "reductions", "instructions")}
        for key in ("flops", "bytes", "memory"):
            row[key] = round(counts[key] / plain[key], 4)
        rows.append(row)
    return rows


def _by(way: Costs) -> DisplacementEnergy:
    class Other(DisplacementEnergy):
        def of_blocks(  # type: ignore[override]
            self, displacements: Sequence[Any], weights: Any = None
        ) -> Any:
            return way(self, displacements)

    return Other()


def _counts(subject: str, energy: DisplacementEnergy | None) -> dict[str, float]:
    keras.utils.clear_session()
    built = SUBJECTS[subject]()
    model = built.network
    if energy is not None:
        model = keras_lap.LeastActionModel(model, energy, 5.0)
    lowered = lowered_step(compiled(model), built.data(1))
    program = lowered.compile()
    text = program.as_text()
    return {
        **of_compiled(program),
        "fusions": text.count(" fusion("),
        "reductions": text.count(" reduce("),
        "instructions": len(INSTRUCTION.findall(lowered.as_text("hlo"))),
    }


BENCHMARK = harness.Benchmark("reductions", cases, measure, ("network", "way"))

if __name__ == "__main__":
    harness.main(BENCHMARK)
