"""What several devices tell each other in a step, plain and by least action.

JAX: the batch is spread over virtual devices by `DataParallel`; the collectives are
counted in the program that XLA compiled, which it is asked to write down. PyTorch: two
processes joined by Keras; the calls are counted by PyTorch's profiler. That needs
Keras 3.16 in an environment of its own, whose Python is named by
`KERAS_LAP_DISTRIBUTED_PYTHON`, as `make benchmarks` does.

    python benchmarks/devices.py [--quick] [--backend jax]
"""

from __future__ import annotations

import gc
import itertools
import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import harness
import keras
from subjects import Subject, compiled, dense

import keras_lap

COLLECTIVES = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
# An instruction of a compiled program: `%name = <shapes> all-reduce(...)`.
INSTRUCTION = re.compile(rf"= (.*?) ({COLLECTIVES})(?:-start)?\(")
SHAPE = re.compile(r"\w\d+\[([\d,]*)\]")
STEPS = 4
BLOCKS, WIDTH, BATCH = 10, 16, 32


def cases(quick: bool) -> list[harness.Case]:
    """Both kinds of training on every number of devices."""
    devices = [2] if quick else [1, 2, 4, 8]
    found: list[harness.Case] = []
    for count, ours in itertools.product(devices, (False, True)):
        flags = f"--xla_force_host_platform_device_count={count}"
        case = {"backend": "jax", "devices": count, "least_action": ours}
        found.append({**case, "environment": {"XLA_FLAGS": flags}})
    python = os.environ.get("KERAS_LAP_DISTRIBUTED_PYTHON")
    if python:
        launch = [python, "-m", "torch.distributed.run", "--standalone"]
        case = {"backend": "torch", "devices": 2}
        command = {"python": [*launch, "--nproc_per_node", "2"]}
        found += [{**case, "least_action": ours, **command} for ours in (False, True)]
    return found


def measure(devices: int, least_action: bool) -> list[harness.Row]:
    """Counts the collectives of one step."""
    count = _count_jax if keras.backend.backend() == "jax" else _count_torch
    calls, numbers = count(least_action)
    return [
        {
            "devices": devices,
            "least_action": least_action,
            "calls": calls,
            "numbers": numbers,
        }
    ]


def _model(least_action: bool) -> tuple[Subject, keras.Model, list[Any]]:
    built = dense(BLOCKS, WIDTH, BATCH)
    if not least_action:
        return built, compiled(built.network), []
    model = keras_lap.LeastActionModel(built.network, 2.0, 5.0)
    return built, compiled(model), [keras_lap.callbacks.MultiplierUpdate(1.0, 1)]


def _count_jax(least_action: bool) -> tuple[dict[str, float], int]:
    """Reads the largest program that XLA has compiled, which is the step."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XLA_FLAGS"] += f" --xla_dump_to={folder} --xla_dump_hlo_as_text"
        with keras.distribution.DataParallel().scope():
            built, model, callbacks = _model(least_action)
            model.fit(**built.data(1), callbacks=callbacks)
        programs = Path(folder).glob("*train_step*after_optimizations.txt")
        text = max((path.read_text("utf-8") for path in programs), key=len)
    calls: Counter[str] = Counter()
    numbers = 0
    for shapes, name in INSTRUCTION.findall(text):
        calls[name] += 1
        for shape in SHAPE.findall(shapes):
            size = 1
            for length in filter(None, shape.split(",")):
                size *= int(length)
            numbers += size
    return dict(calls), numbers


def _count_torch(least_action: bool) -> tuple[dict[str, float], int]:
    """Counts what one process sends in its later steps."""
    import torch

    keras.distribution.initialize()
    spread = keras.distribution.DataParallel(auto_shard_dataset=False)
    with spread.scope():
        built, model, callbacks = _model(least_action)
        model.fit(**built.data(1), callbacks=callbacks)
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, record_shapes=True) as seen:
            model.fit(**built.data(STEPS), callbacks=callbacks)
        calls: Counter[str] = Counter()
        numbers = 0
        for event in seen.events():
            if event.name.startswith("gloo:"):
                calls[event.name.removeprefix("gloo:")] += 1
                for shape in event.input_shapes or []:
                    numbers += int(torch.Size(shape).numel()) if shape else 1
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    del built, model, callbacks
    gc.collect()  # models stand in cycles that hold the group, and it PyTorch's threads
    per_step = {name: round(count / STEPS, 2) for name, count in calls.items()}
    return per_step, round(numbers / STEPS)


def summarise(rows: list[harness.Row]) -> list[harness.Row]:
    """Plain and least action side by side."""
    table, found = harness.compared(rows, "backend", "devices")
    for label, [plain], [ours] in found:
        added = sum(ours["calls"].values()) - sum(plain["calls"].values())
        table.append(
            {
                **label,
                "plain_calls": _told(plain["calls"]),
                "least_action_calls": _told(ours["calls"]),
                "plain_numbers": plain["numbers"],
                "added_numbers": ours["numbers"] - plain["numbers"],
                "added_calls": added,
                "met": added <= 1,
            }
        )
    return table


def _told(calls: dict[str, float]) -> str:
    return ", ".join(f"{n:g} {name}" for name, n in sorted(calls.items())) or "none"


BENCHMARK = harness.Benchmark(
    "devices", cases, measure, ("backend", "devices"), summarise=summarise
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
