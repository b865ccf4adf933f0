"""Where a step on PyTorch spends its time: Keras, least action and the loop by hand.

One pre-activation network with batch normalisation, in one process and on one thread.
Its ways take turns, and each step is timed by the processor time of the process, so
that what runs beside it counts little. By hand it is that of torch_loop.py, in both of
PyTorch's layouts. "Compiled" is `compile(jit_compile=True)`, by which Keras hands the
step to `torch.compile`. The shares are those of the operations in PyTorch's profiler,
and of what is left for Python, in a compiled step with the code that was made of it.

    python benchmarks/recipe.py [--quick]
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import harness
import keras
import timing
from keras import layers
from subjects import CLASSES, Subject, compiled

import keras_lap

# Parts of the names of PyTorch's operations; the first that fits counts.
GROUPS = {
    "convolution": ("conv",),
    "fused_norm": ("batch_norm",),
    "copies": ("copy_", "contiguous", "clone", "empty", "resize"),
    "sums": ("mean", "sum"),
    "arithmetic": ("add", "sub", "mul", "div", "square", "pow", "rsqrt", "neg"),
    "activation": ("relu", "threshold", "clamp"),
}
SHARES = (*GROUPS, "other", "python")


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


def ways(
    shape: dict[str, int], batch: int, jit: bool
) -> dict[str, Callable[[], object]]:
    """Each way to run a step, by its name; of compiled ones, too."""
    import torch
    from torch_loop import LeastActionLoop, ResNet9

    built = Subject(
        network("channels_last", **shape), (shape["size"],) * 2 + (1,), batch
    )
    data = built.data(1)
    images, labels = torch.tensor(data["x"]), torch.tensor(data["y"])
    first = images.permute(0, 3, 1, 2).contiguous()
    found: dict[str, Callable[[], object]] = {}
    for layout, x in {"channels_last": images, "channels_first": first}.items():
        plain = compiled(network(layout, **shape))
        model = compiled(keras_lap.LeastActionModel(network(layout, **shape), 2.0, 5.0))
        for name, each in {"Keras": plain, "least action": model}.items():
            each.train_on_batch(x, labels)
            found[f"{name}, {layout}"] = functools.partial(each.train_step, (x, labels))
        if not jit:
            continue
        network_of = functools.partial(network, layout, **shape)
        plain = compiled(network_of(), jit_compile=True)
        least = keras_lap.LeastActionModel(network_of(), 2.0, 5.0)
        least = compiled(least, jit_compile=True)
        for name, each in {"Keras": plain, "least action": least}.items():
            run = functools.partial(each.train_on_batch, x, labels)
            found[f"{name} compiled, {layout}"] = run
    kinds = {"channels_last": torch.channels_last, "channels_first": None}
    for layout, kind in kinds.items():
        bare, x = ResNet9(**shape, classes=CLASSES), first
        if kind is not None:
            bare, x = bare.to(memory_format=kind), first.to(memory_format=kind)
        loop = LeastActionLoop(bare)
        steps = {"plain by hand": loop.plain, "least action by hand": loop.least_action}
        for name, step in steps.items():
            found[f"{name}, {layout}"] = functools.partial(step, [(x, labels)])
    return found


def profile(step: Callable[[], object]) -> harness.Row:
    """How many operations a step has, and in percent what it does in its time."""
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as seen:
        start = time.perf_counter()
        step()
        whole = 1e6 * (time.perf_counter() - start)
    spent: dict[str, float] = defaultdict(float)
    operations = 0
    for event in seen.key_averages():
        if event.key.startswith("aten::"):
            operations += event.count
            spent[_group(event.key)] += event.self_cpu_time_total
    spent["python"] = whole - sum(spent.values())
    shares = {name: round(100 * spent[name] / whole, 1) for name in SHARES}
    return {"operations": operations, **shares}


def _group(name: str) -> str:
    for group, parts in GROUPS.items():
        if any(part in name for part in parts):
            return group
    return "other"


def cases(quick: bool) -> list[harness.Case]:
    """One network; a smaller one to see that it works."""
    shape = {"size": 32, "filters": 8, "blocks": 12}
    case: harness.Case = {"shape": shape, "batch": 64, "rounds": 9, "jit": True}
    if quick:
        shape = {"size": 8, "filters": 2, "blocks": 1}
        case = {"shape": shape, "batch": 4, "rounds": 1, "jit": False}
    return [{"backend": "torch", **case}]


def measure(
    shape: dict[str, int], batch: int, rounds: int, jit: bool
) -> list[harness.Row]:
    """Times and profiles all ways."""
    import torch

    torch.set_num_threads(1)
    keras.utils.set_random_seed(0)
    steps = ways(shape, batch, jit)
    seconds = timing.alternate(steps, rounds, clock=time.process_time)
    rows = []
    for name, step in steps.items():
        way, _, layout = name.partition(", ")
        by_hand = "least action" if way.startswith("least") else "plain"
        reference = seconds[f"{by_hand} by hand, {layout}"]
        row: dict[str, Any] = {"way": way, "layout": layout}
        row["step_ms"] = timing.milliseconds(seconds[name])
        row["over_by_hand"] = timing.ratio(seconds[name], reference)
        rows.append(row | profile(step))
    return rows


BENCHMARK = harness.Benchmark("recipe", cases, measure, ("way", "layout"), limit=1800.0)

if __name__ == "__main__":
    harness.main(BENCHMARK)
