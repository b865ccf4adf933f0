"""Where a step spends its time: Keras, least action and the loop by hand.

One pre-activation network with batch normalisation, in one process and on one thread.
Its ways take turns, and each is timed by the processor time of the process, so that
what runs beside it counts little. By hand it is that of torch_loop.py, jax_loop.py and
tensorflow_loop.py, in the layouts that a backend has.

On PyTorch, "compiled" is `compile(jit_compile=True)`, by which Keras hands the step to
`torch.compile`; the shares are those of the operations in PyTorch's profiler, and of
what is left for Python, in a compiled step with the code that was made of it. On
TensorFlow it is XLA, which JAX always has; there the columns are XLA's own account.

    python benchmarks/recipe.py [--quick] [--backend jax]
"""

from __future__ import annotations

import functools
import time
from typing import Any

import harness
import keras
import recipe_graphs
import recipe_torch
import timing
from keras import layers
from subjects import CLASSES


def network(layout: str, size: int, filters: int, blocks: int) -> keras.Model:
    """The network of `torch_loop.ResNet9`, in a layout that Keras names."""
    axis, last = (-1, True) if layout == "channels_last" else (1, False)
    conv = functools.partial(layers.Conv2D, padding="same", data_format=layout)
    inputs = keras.Input((size, size, 1) if last else (1, size, size))
    x = layers.ReLU()(conv(filters // 2, 3)(inputs))
    x = layers.ReLU()(conv(filters, 5, strides=2)(x))
    for k in range(blocks):
        v = x if k == 0 else layers.ReLU()(layers.BatchNormalization(axis)(x))
        v = conv(filters, 3, use_bias=False)(v)
        v = conv(filters, 3)(layers.ReLU()(layers.BatchNormalization(axis)(v)))
        x = layers.Add()([x, v])
    x = layers.Dense(10 * CLASSES, use_bias=False)(layers.Flatten()(x))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def cases(quick: bool) -> list[harness.Case]:
    """One network on every backend; a smaller one to see that it works."""
    shape = {"size": 32, "filters": 8, "blocks": 12}
    case: harness.Case = {"shape": shape, "batch": 64, "rounds": 9, "jit": True}
    if quick:
        shape = {"size": 8, "filters": 2, "blocks": 1}
        case = {"shape": shape, "batch": 4, "rounds": 1, "jit": False}
    return [
        {"backend": backend, **case, "environment": harness.ONE_THREAD}
        for backend in ("torch", "jax", "tensorflow")
    ]


def measure(
    shape: dict[str, int], batch: int, rounds: int, jit: bool
) -> list[harness.Row]:
    """Times and profiles all ways."""
    backend = keras.backend.backend()
    kind = recipe_torch if backend == "torch" else recipe_graphs
    keras.utils.set_random_seed(0)

    def built(layout: str) -> keras.Model:
        return network(layout, **shape)

    runs = kind.ways(built, shape, batch, jit)
    seconds = timing.alternate(runs, rounds, clock=time.process_time)
    rows = []
    for name, run in runs.items():
        way, _, layout = name.partition(", ")
        by_hand = seconds[f"{kind.reference(way)}, {layout}"]
        row: dict[str, Any] = {"part": backend, "way": way, "layout": layout}
        row["step_ms"] = timing.milliseconds(seconds[name], kind.STEPS)
        row["over_by_hand"] = timing.ratio(seconds[name], by_hand)
        rows.append(row | kind.profile(run))
    return rows


BENCHMARK = harness.Benchmark("recipe", cases, measure, ("way", "layout"), limit=1800.0)

if __name__ == "__main__":
    harness.main(BENCHMARK)
