"""Keras and least action against the same loop written by hand in raw PyTorch.

The raw loop (`torch_loop.py`) is a process of its own beside that of each backend; both
live as long as the case does and take turns, so that only one of them computes. Both
have the same network (the paper's ResNet9), initial weights, batches, optimizer and
number of threads, and both report loss and accuracy. The raw loop has its channels
first, as is usual there, the Keras network last, as all of `keras_lap.networks`.

`over_raw` is the time of a step over that of the raw loop in the same round. `adds` is
the time of least action over that of plain training. The first steps of a small network
are compared too: the largest relative deviation of loss and λ from the raw loop's.

    python benchmarks/by_hand.py [--quick] [--backend torch]
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
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


def weights_of(model: keras.Model) -> list[np.ndarray]:
    """Copies of what is trained, in Keras's order."""
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.trainable_variables]


def least_action(bare: keras.Model) -> tuple[keras.Model, list[Any]]:
    """A model over the network, compiled, and its callbacks."""
    model = keras_lap.LeastActionModel(bare, 2.0, INITIAL_MULTIPLIER)
    update = keras_lap.callbacks.MultiplierUpdate(tau=TAU, every=EVERY)
    return subjects.compiled(model), [update]


def deviations(raw: Raw, blocks: int, steps: int) -> harness.Row:
    """How far the first steps are from those of the raw loop, in a small network.

    In the large one, some inputs of its ReLUs lie so near to zero
    that a rounding error changes their side, and each that does moves the gradient by
    a thousandth: a raw loop in float32 is as far from one in float64.
    """
    keras.utils.set_random_seed(0)
    shape = {"size": 8, "filters": 4, "blocks": blocks}
    bare = network(**shape)
    data = subjects.Subject(bare, bare.input_shape[1:], 16).data(steps)
    weights, trajectory = weights_of(bare), Trajectory()
    model, callbacks = least_action(bare)
    model.fit(**data, callbacks=[trajectory, *callbacks])
    theirs = raw("trajectory", *_told(weights, data, shape))
    largest = np.abs(np.array(trajectory.steps) / np.array(theirs) - 1).max(axis=0)
    return {
        "steps_compared": steps,
        "loss_deviation": float(f"{largest[0]:.2g}"),
        "multiplier_deviation": float(f"{largest[1]:.2g}"),
    }


def _told(weights: Any, data: dict[str, Any], shape: dict[str, int]) -> Any:
    """The arguments of the raw loop's commands."""
    passed = {key: data[key] for key in ("x", "y", "batch_size")}
    return weights, passed, {**shape, "classes": subjects.CLASSES}


def measure(
    shape: dict[str, int], batch: int, batches: int, rounds: int
) -> list[harness.Row]:
    """Measures one backend beside the raw loop."""
    bare, wrapped = network(**shape), network(**shape)
    wrapped.set_weights(bare.get_weights())
    weights = weights_of(bare)
    plain = subjects.compiled(bare)
    model, callbacks = least_action(wrapped)
    data = subjects.Subject(bare, bare.input_shape[1:], batch).data(batches)
    with raw_loop() as raw:
        found = deviations(raw, shape["blocks"], steps=20)
        raw("begin", *_told(weights, data, shape))
        things: dict[str, Callable[[], object]] = {
            "raw_plain": functools.partial(raw, "plain"),
            "raw_least_action": functools.partial(raw, "least_action"),
            "plain": timing.fit(plain, data),
            "least_action": timing.fit(model, data, callbacks),
        }
        seconds = timing.alternate(things, rounds)
    return [_row(seconds, batches) | found]


def _row(seconds: timing.Seconds, steps: int) -> harness.Row:
    times = {f"{name}_ms": timing.milliseconds(s, steps) for name, s in seconds.items()}
    adds = seconds["least_action"] / seconds["plain"]
    raw_adds = seconds["raw_least_action"] / seconds["raw_plain"]
    over_raw = timing.ratio(seconds["least_action"], seconds["raw_least_action"])
    against_raw = timing.ratio(adds, raw_adds)
    return {
        **times,
        "plain_over_raw": timing.ratio(seconds["plain"], seconds["raw_plain"]),
        "least_action_over_raw": over_raw,
        "adds": timing.ratio(seconds["least_action"], seconds["plain"]),
        "raw_adds": timing.ratio(seconds["raw_least_action"], seconds["raw_plain"]),
        "adds_over_raw": against_raw,
        "as_fast": over_raw["median"] <= 1,
        "met": against_raw["median"] <= 1,
    }


def cases(quick: bool) -> list[harness.Case]:
    """One case for each backend."""
    case: harness.Case = {"shape": {"size": 28, "filters": 32, "blocks": 9}}
    case |= {"batch": 64, "batches": 4, "rounds": 12}
    if quick:
        case = {"shape": {"size": 8, "filters": 4, "blocks": 1}}
        case |= {"batch": 8, "batches": 2, "rounds": 1}
    backends = ["torch"] if quick else harness.BACKENDS
    return [{"backend": backend, **case} for backend in backends]


if __name__ == "__main__":
    harness.main(harness.Benchmark("by_hand", cases, measure, ("backend",)))
