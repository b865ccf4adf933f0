"""Peak memory of training by least action, over that of plain Keras.

Every training has a process of its own, whose peak resident memory the system tells.
The ratio is of the whole process, libraries included; beside it stands what training
took beyond what the process held when data and network were made.

    python benchmarks/memory.py [--quick] [--backend torch]
"""

from __future__ import annotations

import itertools

import harness
import numpy as np
import timing
from subjects import SUBJECTS, compiled

import keras_lap

STEPS = 6


def cases(quick: bool) -> list[harness.Case]:
    """Plain and least action, several times each."""
    subjects = ["dense, 5 blocks"] if quick else ["ResNet9", "dense, 100 blocks"]
    return [
        {"backend": backend, "subject": subject, "least_action": least_action}
        for backend, subject, _, least_action in itertools.product(
            harness.BACKENDS[2:] if quick else harness.BACKENDS,
            subjects,
            range(1 if quick else 2),
            (False, True),
        )
    ]


def measure(subject: str, least_action: bool) -> list[harness.Row]:
    """Trains a few steps; tells the peak before and after."""
    built = SUBJECTS[subject]()
    data, model = built.data(STEPS), built.network
    before = harness.peak_memory()
    callbacks = []
    if least_action:
        model = keras_lap.LeastActionModel(built.network, 2.0, 5.0)
        callbacks = [keras_lap.callbacks.MultiplierUpdate(1.0, 1)]
    compiled(model).fit(**data, callbacks=callbacks)
    label = {"network": subject, "least_action": least_action}
    return [{**label, "peak": harness.peak_memory(), "before": before}]


def summarise(rows: list[harness.Row]) -> list[harness.Row]:
    """One row for each network: ratios of the repetitions, in the order they ran."""
    table, found = harness.compared(rows, "backend", "network")
    for label, plain, ours in found:
        pairs = list(zip(ours, plain, strict=False))
        peaks = np.array([[a["peak"], b["peak"]] for a, b in pairs])
        taken = peaks - [[a["before"], b["before"]] for a, b in pairs]
        over = timing.ratio(*peaks.T)
        table.append(
            {
                **label,
                "plain_mib": round(float(np.median(peaks[:, 1]))),
                "ratio": over,
                "met": over["median"] <= 1.03,
                "plain_mib_of_training": round(float(np.median(taken[:, 1]))),
                "added_mib": round(float(np.median(taken[:, 0] - taken[:, 1])), 1),
            }
        )
    return table


BENCHMARK = harness.Benchmark(
    "memory",
    cases,
    measure,
    ("backend", "network"),
    side_by_side=2,
    summarise=summarise,
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
