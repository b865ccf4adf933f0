"""What an average over a group, and the test of a law, take over plain passes.

The passes are counted, and the processor time is over that of as many passes of the
bare network: `FeatureAveraging` in one call over the orbit and in a loop over it, and
`law_test` on 10 000 samples. Goal: at most 1.1.

    python benchmarks/averaging.py [--quick] [--backend torch]
"""

from __future__ import annotations

import functools
import time
from typing import Any

import harness
import keras
import numpy as np
import timing
from subjects import CLASSES

from keras_lap import symmetry

GOAL = 1.1
SHAPE = (28, 28, 1)


def cases(quick: bool) -> list[harness.Case]:
    """One network on every backend."""
    how = {"samples": 100 if quick else 10_000, "rounds": 2 if quick else 3}
    backends = ["torch"] if quick else harness.BACKENDS
    return [{"backend": backend, **how} for backend in backends]


class Passing(keras.layers.Layer):
    """Hands on what it gets, and sums up how many samples that was."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = self.add_weight(initializer="zeros", trainable=False)

    def call(self, inputs: Any) -> Any:
        """Returns the inputs."""
        self.seen.assign_add(keras.ops.cast(keras.ops.shape(inputs)[0], "float32"))
        return inputs


def network(filters: int = 8) -> tuple[keras.Model, Passing]:
    """Two convolutions and a pooling."""
    passing = Passing()
    conv = {"padding": "same", "activation": "relu"}
    x = inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(filters, 3, **conv)(passing(x))
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Conv2D(2 * filters, 3, **conv)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x)), passing


def measure(samples: int, rounds: int) -> list[harness.Row]:
    """Each of the group over as many passes as the group has elements."""
    bare, passing = network()
    group = symmetry.dihedral(4)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, *SHAPE)).astype("float32")
    y = rng.integers(0, CLASSES, samples)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    how = {"batch_size": 128, "verbose": 0}
    act: dict[str, Any] = {"group": group, "inputs": "images"}
    averages = {
        "averaging, one call": symmetry.FeatureAveraging(bare, **act),
        "averaging, a loop": symmetry.FeatureAveraging(bare, **act, batched=False),
    }
    things = {
        "plain": functools.partial(bare.predict, x, **how),
        **{
            name: functools.partial(model.predict, x, **how)
            for name, model in averages.items()
        },
        "law test": functools.partial(
            symmetry.law_test, bare, x, y, [group], loss, "images", **how
        ),
    }
    passes = {}
    for name, run in things.items():
        passing.seen.assign(0.0)
        run()
        passes[name] = float(passing.seen) / samples
    seconds = timing.alternate(things, rounds, clock=time.process_time)
    rows = []
    for name in list(things)[1:]:
        over = timing.ratio(seconds[name], group.order * seconds["plain"])
        rows.append(
            {
                "use": name,
                "samples": samples,
                "elements": group.order,
                "passes": passes[name],
                "plain_s": round(float(np.median(seconds["plain"])), 3),
                "over_passes": over,
                "met": over["median"] <= GOAL,
            }
        )
    return rows


BENCHMARK = harness.Benchmark("averaging", cases, measure, ("backend", "use"))

if __name__ == "__main__":
    harness.main(BENCHMARK)
