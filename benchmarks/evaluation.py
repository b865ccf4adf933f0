"""Time of `evaluate` and `predict` of a least action model, over the bare network's.

python benchmarks/evaluation.py [--quick] [--backend torch]
"""

from __future__ import annotations

import functools
from typing import Any

import harness
import keras
import timing
from subjects import SUBJECTS, compiled

import keras_lap


def cases(quick: bool) -> list[harness.Case]:
    """One network on every backend."""
    subject = "dense, 5 blocks" if quick else "ResNet9"
    backends = ["torch"] if quick else harness.BACKENDS
    return [
        {"backend": backend, "subject": subject, "rounds": 3 if quick else 8}
        for backend in backends
    ]


class Passing(keras.layers.Layer):
    """Hands on what it gets, and counts how often."""

    passes = 0

    def call(self, inputs: Any) -> Any:
        """Returns the inputs."""
        type(self).passes += 1
        return inputs


def measure(subject: str, rounds: int) -> list[harness.Row]:
    """Both models run the same network on the same data, in turn."""
    built = SUBJECTS[subject]()
    data = {key: value for key, value in built.data(8).items() if key != "shuffle"}
    inputs = keras.Input(built.shape)
    network = keras.Model(inputs, built.network(Passing()(inputs)))
    models = {
        "bare": compiled(network),
        "ours": compiled(keras_lap.LeastActionModel(network, 2.0, 5.0)),
    }
    inputs_only = {key: data[key] for key in data if key != "y"}
    things, passes = {}, {}
    for name, model in models.items():
        for verb, options in (("evaluate", data), ("predict", inputs_only)):
            things[f"{name} {verb}"] = functools.partial(
                getattr(model, verb), **options
            )
            before = Passing.passes
            things[f"{name} {verb}"]()
            passes[f"{name} {verb}"] = Passing.passes - before
    seconds = timing.alternate(things, rounds)
    return [
        {
            "network": subject,
            "call": verb,
            "bare_ms": timing.milliseconds(seconds[f"bare {verb}"], 8),
            "ratio": timing.ratio(seconds[f"ours {verb}"], seconds[f"bare {verb}"]),
            "passes_over_bare": passes[f"ours {verb}"] / passes[f"bare {verb}"],
        }
        for verb in ("evaluate", "predict")
    ]


BENCHMARK = harness.Benchmark(
    "evaluation", cases, measure, ("backend", "network", "call")
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
