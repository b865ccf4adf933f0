"""Time of a training step by least action over that of plain Keras, on a GPU.

As `step_overhead.py`, by the clock on the wall and at sizes that keep a GPU busy:
each network is built twice, plain and in a `LeastActionModel` (p = 2), and fitted in
turn on the same batches. `plain again` is the plain network over itself: what noise
alone makes of 1. Float32 products may be made in TF32, as the backends choose.

    python benchmarks/gpu_step.py [--quick] [--backend torch]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import harness
import keras
import step_overhead
import timing
from subjects import CLASSES, Subject, dense, vit

import keras_lap

SECONDS = 20.0  # of a case, in which it has as many rounds as it can
ENERGY, CALLBACKS = "p = 2", {"no callback": None, "every = 1": 1}


def resnet9() -> Subject:
    """The paper's ResNet9 in its own width and batch."""
    network = keras_lap.networks.resnet9(
        (28, 28, 1), CLASSES, filters=64, like_the_paper=True
    )
    return Subject(network, (28, 28, 1), 128)


def resnet50v2() -> Subject:
    """ResNet50V2 of `keras.applications`, on images of 224×224."""
    network = keras.applications.ResNet50V2(
        weights=None, classes=CLASSES, classifier_activation=None
    )
    return Subject(network, (224, 224, 3), 64)


# Batches of one fit, seconds of work, as its begin and end cost milliseconds of their
# own; and the largest ratio to be had, as on processors.
SUBJECTS: dict[str, tuple[Callable[[], Subject], int, float]] = {
    "ResNet9": (resnet9, 500, 1.02),
    "ResNet50V2": (resnet50v2, 50, 1.02),
    "ViT": (lambda: vit(12, 6, 384, 1536, 256), 50, 1.02),
    "dense, 100 blocks": (dense, 300, 1.10),
}
DTYPES = ("float32", "mixed_bfloat16")


def cases(quick: bool) -> list[harness.Case]:
    """Every network on every backend, one in half precision too."""
    told = [
        (subject, dtype)
        for dtype in DTYPES
        for subject in SUBJECTS
        if dtype == "float32" or subject == "ResNet50V2"
    ]
    return [
        {
            "backend": backend,
            "subject": subject,
            "dtype": dtype,
            "rounds": 1 if quick else 6,
            "budget": 0.0 if quick else SECONDS,
        }
        for backend, (subject, dtype) in itertools.product(harness.BACKENDS, told)
    ]


def measure(subject: str, dtype: str, rounds: int, budget: float) -> list[harness.Row]:
    """Fits one network in all ways in turn."""
    keras.config.set_dtype_policy(dtype)
    build, batches, goal = SUBJECTS[subject]
    fits = step_overhead.all_fits(build, batches, {ENERGY: 2.0}, CALLBACKS)
    seconds = timing.alternate(fits, rounds, budget)
    overhead, over = step_overhead.over_plain(seconds, ENERGY, CALLBACKS)
    return [
        {
            "network": subject,
            "dtype": dtype,
            "plain_ms": timing.milliseconds(seconds["plain"], batches),
            "plain again": timing.ratio(seconds["plain again"], seconds["plain"]),
            "overhead": overhead,
            "met": overhead["median"] <= goal,
            **over,
        }
    ]


BENCHMARK = harness.Benchmark(
    "gpu_step", cases, measure, ("backend", "network", "dtype"), limit=150.0
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
