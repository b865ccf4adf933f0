"""Time to compile the training step by least action, over that of plain Keras.

What is timed, by what the processor spends on the process, is the first step of a model
just made, less a later one: TensorFlow traces it, JAX traces and compiles it. PyTorch
compiles nothing. Afterwards λ, τ and s change; the column counts how often the step was
traced again.

    python benchmarks/compile_time.py [--quick] [--backend jax]
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import harness
import keras
import numpy as np
import timing
from subjects import SUBJECTS, compiled

import keras_lap


def cases(quick: bool) -> list[harness.Case]:
    """The two backends that compile."""
    subjects = ["dense, 5 blocks"] if quick else ["ResNet9", "dense, 100 blocks"]
    backends = ["jax"] if quick else ["tensorflow", "jax"]
    return [
        {
            "backend": backend,
            "subject": subject,
            "rounds": 2 if quick else 5,
            "environment": harness.ONE_THREAD,
        }
        for backend, subject in itertools.product(backends, subjects)
    ]


class Counting(keras_lap.LeastActionModel):
    """Counts how often Python runs the step, which is when it is traced."""

    traces = 0

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        """As that of the base class."""
        type(self).traces += 1
        return super().train_step(*args, **kwargs)


def measure(subject: str, rounds: int) -> list[harness.Row]:
    """Makes and compiles both several times, in turn."""
    seconds = np.zeros((rounds + 1, 2))
    for this, least_action in itertools.product(range(rounds + 1), (False, True)):
        built = SUBJECTS[subject]()
        model, data = built.network, built.data(1)
        callbacks = []
        if least_action:
            model = Counting(built.network, 2.0, 5.0)
            callbacks = [keras_lap.callbacks.MultiplierUpdate(1.0, 1)]
        fit = timing.fit(compiled(model), data, callbacks)
        first, later = (timing.elapsed(fit, time.process_time) for _ in range(2))
        seconds[this, int(least_action)] = first - later
    plain, ours = seconds[1:].T  # the first round also starts the backend
    over = timing.ratio(ours, plain)
    return [
        {
            "network": subject,
            "plain_s": round(float(np.median(plain)), 2),
            "ratio": over,
            "met": over["median"] <= 1.2,
            "traced_again": _traced_again(model, data),
        }
    ]


def _traced_again(model: keras.Model, data: dict[str, Any]) -> int:
    before = Counting.traces
    for tau, every, loss in ((0.5, 1, "batch"), (2.0, 3, "mean"), (0.0, 2, "batch")):
        model.multiplier.assign(7.0 * float(model.multiplier))
        update = keras_lap.callbacks.MultiplierUpdate(tau, every, loss)
        model.fit(**data, callbacks=[update])
    return Counting.traces - before


BENCHMARK = harness.Benchmark("compile_time", cases, measure, ("backend", "network"))

if __name__ == "__main__":
    harness.main(BENCHMARK)
