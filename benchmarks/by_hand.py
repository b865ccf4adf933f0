"""Keras and least action against the same loop written by hand in raw PyTorch.

The raw loop (`torch_loop.py`) is a process of its own beside that of each backend; both
live as long as the case does and take turns, so that only one of them computes. Both
have the same network (the paper's ResNet9), initial weights, batches, optimizer and
number of threads, and both report loss and accuracy. The raw loop has its channels
first, as is usual there, the Keras network last, as all of `keras_lap.networks`.

`speed` is samples per second over those of the raw loop in the same round. `adds` is
the time of least action over that of plain training. The first steps are compared too:
the largest relative deviation of loss and λ from the raw loop's.

    python benchmarks/by_hand.py [--quick] [--backend torch]
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import harness
import keras
import numpy as np
import subjects
import timing

import keras_lap

# As in torch_loop.py, which must not be imported here: TensorFlow and PyTorch in one
# process would share nothing but trouble.
INITIAL_MULTIPLIER, TAU, EVERY = 5.0, 1.0, 5


@dataclass
class Raw:
    """The process of the raw loop."""

    process: subprocess.Popen[bytes]

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Has a command done and waits for what it returns."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump((name, arguments), self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)


@contextlib.contextmanager
def raw_loop() -> Iterator[Raw]:
    """Starts the process of the raw loop and ends it."""
    command = [sys.executable, str(harness.FOLDER / "torch_loop.py")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        yield Raw(process)


class Trajectory(keras.callbacks.Callback):
    """Collects loss and λ of single steps: metrics are reset before each."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[float]] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Forgets the batches before."""
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes this one."""
        self.steps.append([float(logs[name]) for name in ("loss", "multiplier")])


def network(size: int, filters: int, blocks: int) -> keras.Model:
    """The network of `torch_loop.ResNet9`."""
    return keras_lap.networks.one_representation_resnet(
        (size, size, 1), subjects.CLASSES, filters=filters, num_blocks=blocks
    )


def measure(
    size: int, filters: int, blocks: int, batch: int, batches: int, rounds: int
) -> list[harness.Row]:
    """Measures one backend beside the raw loop."""
    shape = {"size": size, "filters": filters, "blocks": blocks}
    bare, wrapped = network(**shape), network(**shape)
    wrapped.set_weights(bare.get_weights())
    weights = [np.array(v.numpy()) for v in bare.trainable_variables]
    plain = subjects.compiled(bare)
    model = keras_lap.LeastActionModel(wrapped, 2.0, INITIAL_MULTIPLIER)
    model = subjects.compiled(model)
    data = subjects.Subject(bare, (size, size, 1), batch).data(batches)
    update = keras_lap.callbacks.MultiplierUpdate(tau=TAU, every=EVERY)
    with raw_loop() as raw:
        passed = {key: data[key] for key in ("x", "y", "batch_size")}
        raw("begin", weights, passed, {**shape, "classes": subjects.CLASSES})
        trajectory = Trajectory()
        model.fit(**data, callbacks=[trajectory, update])
        deviations = _deviations(trajectory.steps, raw("trajectory"))
        things = {
            "raw_plain": functools.partial(raw, "plain"),
            "raw_least_action": functools.partial(raw, "least_action"),
            "plain": functools.partial(_fit, plain, data),
            "least_action": functools.partial(_fit, model, data, callbacks=[update]),
        }
        seconds = timing.alternate(things, rounds)
    return [_row(seconds, batches) | deviations]


def _fit(model: keras.Model, data: dict[str, Any], **options: Any) -> None:
    model.fit(**data, **options)
    timing.block(model)


def _deviations(ours: Any, theirs: Any) -> harness.Row:
    deviation = np.abs(np.array(ours) / np.array(theirs) - 1).max(axis=0)
    steps = len(theirs)
    return {
        "steps_compared": steps,
        "loss_deviation": float(f"{deviation[0]:.2g}"),
        "multiplier_deviation": float(f"{deviation[1]:.2g}"),
    }


def _row(seconds: timing.Seconds, steps: int) -> harness.Row:
    times = {f"{name}_ms": timing.milliseconds(s, steps) for name, s in seconds.items()}
    adds = seconds["least_action"] / seconds["plain"]
    raw_adds = seconds["raw_least_action"] / seconds["raw_plain"]
    speed = timing.ratio(seconds["raw_least_action"], seconds["least_action"])
    against_raw = timing.ratio(adds, raw_adds)
    return {
        **times,
        "plain_speed": timing.ratio(seconds["raw_plain"], seconds["plain"]),
        "least_action_speed": speed,
        "adds": timing.ratio(seconds["least_action"], seconds["plain"]),
        "raw_adds": timing.ratio(seconds["raw_least_action"], seconds["raw_plain"]),
        "adds_over_raw": against_raw,
        "as_fast": speed["median"] >= 1,
        "met": against_raw["median"] <= 1,
    }


def cases(quick: bool) -> list[harness.Case]:
    """One case for each backend."""
    size = {"size": 28, "filters": 32, "blocks": 9, "batch": 64}
    amount = {"batches": 6, "rounds": 12}
    if quick:
        size = {"size": 8, "filters": 4, "blocks": 2, "batch": 8}
        amount = {"batches": 6, "rounds": 2}
    return [{"backend": backend, **size, **amount} for backend in harness.BACKENDS]


if __name__ == "__main__":
    harness.main(harness.Benchmark("by_hand", cases, measure, ("backend",)))
