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
import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness
import keras
from subjects import Subject, compiled, dense

import keras_lap

Calls = dict[str, float]  # how many, by the name of the collective
COLLECTIVES = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
# An instruction of a compiled program: `%name = <shapes> all-reduce(...)`.
INSTRUCTION = re.compile(rf"= (.*?) ({COLLECTIVES})(?:-start)?\(")
SHAPE = re.compile(r"\w\d+\[([\d,]*)\]")
# Plain training, λ_0 given, and λ_0 that the first batch chooses.
STARTS = (None, 5.0, "auto")
STEPS = 4
BLOCKS, WIDTH, BATCH = 10, 16, 32


def cases(quick: bool) -> list[harness.Case]:
    """Plain training, and each start of λ, on every number of devices."""
    devices = [2] if quick else [1, 2, 4, 8]
    found: list[harness.Case] = []
    for count, start in itertools.product(devices, STARTS):
        flags = f"--xla_force_host_platform_device_count={count}"
        case = {"backend": "jax", "devices": count, "start": start}
        found.append({**case, "environment": {"XLA_FLAGS": flags}})
    python = os.environ.get("KERAS_LAP_DISTRIBUTED_PYTHON")
    if python:
        launch = [python, "-m", "torch.distributed.run", "--standalone"]
        case = {"backend": "torch", "devices": 2}
        command = {"python": [*launch, "--nproc_per_node", "2"]}
        found += [{**case, "start": start, **command} for start in STARTS]
    return found


def measure(devices: int, start: float | str | None) -> list[harness.Row]:
    """Counts the collectives of one step, and what `fit` adds to those of its steps."""
    count = _count_jax if keras.backend.backend() == "jax" else _count_torch
    calls, numbers, once = count(start)
    return [
        {
            "devices": devices,
            "start": start,
            "least_action": start is not None,
            "calls": calls,
            "numbers": numbers,
            "once": once,
        }
    ]


def _model(start: float | str | None) -> tuple[Subject, keras.Model, list[Any]]:
    built = dense(BLOCKS, WIDTH, BATCH)
    if start is None:
        return built, compiled(built.network), []
    model = keras_lap.LeastActionModel(built.network, 2.0, start)
    return built, compiled(model), [keras_lap.callbacks.MultiplierUpdate(1.0, 1)]


def _count_jax(start: float | str | None) -> tuple[Calls, int, Calls]:
    """Reads the largest program that XLA has compiled, which is the step."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XLA_FLAGS"] += f" --xla_dump_to={folder} --xla_dump_hlo_as_text"
        with keras.distribution.DataParallel().scope():
            built, model, callbacks = _model(start)
            model.fit(**built.data(1), callbacks=callbacks)
        programs = Path(folder).glob("*train_step*after_optimizations.txt")
        text = max((path.read_text("utf-8") for path in programs), key=len)
    calls: Counter[str] = Counter()
    numbers = 0
    for shapes, name in INSTRUCTION.findall(text):
        calls[name] += 1
        for shape in SHAPE.findall(shapes):
            numbers += math.prod(map(int, filter(None, shape.split(","))))
    return dict(calls), numbers, {}  # the programs around the steps are not read


def _count_torch(start: float | str | None) -> tuple[Calls, int, Calls]:
    """Counts what one process sends in a short and in a longer `fit`.

    Their difference is that of the steps; what is left is sent once in each.
    """
    import torch

    keras.distribution.initialize()
    few, many = _sent_by_fits(start, (STEPS, 2 * STEPS))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    gc.collect()  # models stand in cycles that hold the group, and it PyTorch's threads
    names = sorted({*few[0], *many[0]})
    per_step = {name: (many[0][name] - few[0][name]) / STEPS for name in names}
    once = {name: few[0][name] - STEPS * per_step[name] for name in names}
    return per_step, round((many[1] - few[1]) / STEPS), once


def _sent_by_fits(
    start: float | str | None, steps: Iterable[int]
) -> list[tuple[Counter[str], int]]:
    """The calls by name, and the numbers that they carry, of fits of so many steps."""
    import torch

    sent = []
    spread = keras.distribution.DataParallel(auto_shard_dataset=False)
    with spread.scope():
        built, model, callbacks = _model(start)
        for _ in range(2):  # the first joins them, and the second shares what it made
            model.fit(**built.data(1), callbacks=callbacks)
        for count in steps:
            activities = [torch.profiler.ProfilerActivity.CPU]
            with torch.profiler.profile(
                activities=activities, record_shapes=True
            ) as seen:
                model.fit(**built.data(count), callbacks=callbacks)
            events = [each for each in seen.events() if each.name.startswith("gloo:")]
            calls = Counter(each.name.removeprefix("gloo:") for each in events)
            shapes = [shape for each in events for shape in each.input_shapes or []]
            sent.append((calls, sum(math.prod(shape) for shape in shapes)))
    return sent


def summarise(rows: list[harness.Row]) -> list[harness.Row]:
    """Each start of λ beside plain training."""
    table, found = harness.compared(rows, "backend", "devices")
    for label, [plain], several in found:
        for ours in several:
            added, once = (
                sum(ours[when].values()) - sum(plain[when].values())
                for when in ("calls", "once")
            )
            table.append(
                {
                    **label,
                    "start": ours["start"],
                    "plain_calls": _told(plain["calls"]),
                    "least_action_calls": _told(ours["calls"]),
                    "plain_numbers": plain["numbers"],
                    "added_numbers": ours["numbers"] - plain["numbers"],
                    "added_calls": added,
                    "added_once": once,
                    "met": added <= 1,
                }
            )
    return table


def _told(calls: Calls) -> str:
    told = [f"{n:g} {name}" for name, n in sorted(calls.items()) if n]
    return ", ".join(told) or "none"


BENCHMARK = harness.Benchmark(
    "devices", cases, measure, ("backend", "devices", "start"), summarise=summarise
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
