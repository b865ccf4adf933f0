"""What a step by least action takes over one of plain Keras, counted and not timed.

`counting.py` says what is counted on which backend. The same numbers come out of every
run on the same versions, whatever else the machine does, so that hundredths can be told
apart. Neither has a callback; λ is raised within the step all the same.

    python benchmarks/counts.py [--quick] [--backend jax]
"""

from __future__ import annotations

import itertools

import harness
from counting import step_counts
from subjects import SUBJECTS, compiled

import keras_lap

GOALS = {"flops": 1.01, "bytes": 1.03, "memory": 1.03}


def cases(quick: bool) -> list[harness.Case]:
    """Every network on every backend."""
    if quick:  # `tests/benchmarks` counts on all backends
        return [{"backend": "torch", "subject": "dense, 5 blocks"}]
    names = ["ResNet9", "ResNet50V2", "ViT", "dense, 100 blocks"]
    return [
        {"backend": backend, "subject": subject}
        for subject, backend in itertools.product(names, harness.BACKENDS)
    ]


def measure(subject: str) -> list[harness.Row]:
    """Counts a step of both."""
    built, again = SUBJECTS[subject](), SUBJECTS[subject]()
    plain = step_counts(compiled(built.network), built.data(1))
    model = keras_lap.LeastActionModel(again.network, 2.0, 5.0)
    ours = step_counts(compiled(model), again.data(1))
    over = {name: round(ours[name] / plain[name], 4) for name in plain}
    row = {"network": subject, "batch": built.batch}
    row |= {
        "plain_megaflops": round(plain["flops"] / 1e6, 2),
        "plain_mib": round(plain["bytes"] / 2**20, 2),
        "plain_mib_of_memory": round(plain["memory"] / 2**20, 2),
    }
    for name in ("flops", "bytes", "memory", "operations"):
        row[name] = over.get(name)
    row["met"] = all(over[name] <= goal for name, goal in GOALS.items())
    return [row]


BENCHMARK = harness.Benchmark("counts", cases, measure, ("backend", "network"))

if __name__ == "__main__":
    harness.main(BENCHMARK)
