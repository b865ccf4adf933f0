"""The ways of a step on JAX and TensorFlow, for `recipe.py`, and what each counts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import counting
import harness
import keras
import timing
from subjects import CLASSES, Subject, compiled

import keras_lap

Batches = list[tuple[Any, Any]]
STEPS = 16  # of each way: one `fit`, or as many steps of the loop


def ways(
    network: Callable[[str], keras.Model],
    shape: dict[str, int],
    batch: int,
    jit: bool,
) -> dict[str, Callable[[], object]]:
    """Each way to run an epoch of a few steps, by its name; see `recipe_torch.ways`.

    JAX compiles every step, and TensorFlow if it is asked to, by XLA.
    """
    on_jax = keras.backend.backend() == "jax"
    found: dict[str, Callable[[], object]] = {}
    for layout in ("channels_last", "channels_first")[: 1 + on_jax]:
        sides = (shape["size"],) * 2
        sizes = (*sides, 1) if layout == "channels_last" else (1, *sides)
        data = Subject(network(layout), sizes, batch).data(STEPS)
        for xla in (True,) if on_jax else (False, True)[: 1 + jit]:
            word = " compiled" if xla and not on_jax else ""
            for name, run in _by_keras(network, layout, data, xla).items():
                found[f"{name}{word}, {layout}"] = run
            for name, run in _by_hand(shape, layout, data, xla).items():
                found[f"{name} by hand{word}, {layout}"] = run
    return found


def reference(way: str) -> str:
    """The way by hand that another is compared with: by XLA, if that is."""
    kind = "least action" if way.startswith("least") else "plain"
    return f"{kind} by hand" + " compiled" * way.endswith(" compiled")


class Counted:
    """A way whose compiled step can be counted, too.

    Args:
        run: What is timed.
        program: Lowers its step.
    """

    def __init__(self, run: Callable[[], object], program: Callable[[], Any]):
        self.run, self.program = run, program

    def __call__(self) -> object:
        """Runs it."""
        return self.run()

    def count(self) -> harness.Row:
        """XLA's account, and the instructions that run one after the other."""
        program = self.program().compile()
        counts = counting.of_compiled(program)
        entry = program.as_text().partition("\nENTRY ")[2].partition("\n}")[0]
        return {
            "instructions": sum(" = " in line for line in entry.splitlines()),
            "megaflops": round(counts["flops"] / 1e6, 1),
            "mib": round(counts["bytes"] / 2**20, 1),
            "mib_of_memory": round(counts["memory"] / 2**20, 2),
        }


def profile(run: Callable[[], object]) -> harness.Row:
    """What XLA says of a step on JAX; nothing on TensorFlow."""
    return run.count() if isinstance(run, Counted) else {}


def _by_keras(
    network: Callable[[str], keras.Model], layout: str, data: dict[str, Any], xla: bool
) -> dict[str, Callable[[], object]]:
    plain = compiled(network(layout), jit_compile=xla)
    least = keras_lap.LeastActionModel(network(layout), 2.0, 5.0)
    least = compiled(least, jit_compile=xla)
    found: dict[str, Callable[[], object]] = {}
    for name, each in {"Keras": plain, "least action": least}.items():
        found[name] = timing.fit(each, data)
        if keras.backend.backend() == "jax":
            program = functools.partial(counting.lowered_step, each, data)
            found[name] = Counted(found[name], program)
    return found


def _batches(data: dict[str, Any]) -> Batches:
    size = data["batch_size"]
    starts = range(0, len(data["x"]), size)
    parts = (slice(start, start + size) for start in starts)
    return [(data["x"][part], data["y"][part]) for part in parts]


def _by_hand(
    shape: dict[str, int], layout: str, data: dict[str, Any], xla: bool
) -> dict[str, Callable[[], object]]:
    begin = _jax_loop if keras.backend.backend() == "jax" else _tensorflow_loop
    batches = _batches(data)
    kinds = {"plain": False, "least action": True}
    return {
        name: begin(shape, layout, batches, ours, xla) for name, ours in kinds.items()
    }


def _jax_loop(
    shape: dict[str, int], layout: str, batches: Batches, ours: bool, _xla: bool
) -> Callable[[], object]:
    from jax_loop import Loop, Network

    loop = Loop(Network(**shape, classes=CLASSES, layout=layout))
    step = loop.step_of(ours)

    def lowered() -> Any:
        return step.lower(loop.state, *batches[0])

    return Counted(functools.partial(loop.run, step, batches), lowered)


def _tensorflow_loop(
    shape: dict[str, int], _layout: str, batches: Batches, ours: bool, xla: bool
) -> Callable[[], object]:
    from tensorflow_loop import Loop, Network

    loop = Loop(Network(**shape, classes=CLASSES))
    loop.begin(batches[0][0])
    return functools.partial(loop.run, loop.step_of(ours, xla), batches)
