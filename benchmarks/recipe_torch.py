"""The ways of a step on PyTorch, for `recipe.py`, and where each spends its time."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable

import harness
import keras
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
STEPS = 1  # of each way


def ways(
    network: Callable[[str], keras.Model],
    shape: dict[str, int],
    batch: int,
    jit: bool,
) -> dict[str, Callable[[], object]]:
    """Each way to run a step, by its name.

    Args:
        network: Makes the network in a layout.
        shape: Of the network.
        batch: Samples.
        jit: Whether `torch.compile` is tried, too.
    """
    import torch
    from torch_loop import LeastActionLoop, ResNet9

    torch.set_num_threads(1)
    built = Subject(network("channels_last"), (shape["size"],) * 2 + (1,), batch)
    data = built.data(1)
    images, labels = torch.tensor(data["x"]), torch.tensor(data["y"])
    first = images.permute(0, 3, 1, 2).contiguous()
    found: dict[str, Callable[[], object]] = {}
    for layout, x in {"channels_last": images, "channels_first": first}.items():
        plain = compiled(network(layout))
        model = compiled(keras_lap.LeastActionModel(network(layout), 2.0, 5.0))
        for name, each in {"Keras": plain, "least action": model}.items():
            each.train_on_batch(x, labels)
            found[f"{name}, {layout}"] = functools.partial(each.train_step, (x, labels))
        if not jit:
            continue
        plain = compiled(network(layout), jit_compile=True)
        least = keras_lap.LeastActionModel(network(layout), 2.0, 5.0)
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


def reference(way: str) -> str:
    """The way by hand that another is compared with."""
    return ("least action" if way.startswith("least") else "plain") + " by hand"


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
