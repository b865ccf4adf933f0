"""The methods that are compared: plain training, least action, a constant weight."""

from __future__ import annotations

from dataclasses import dataclass

import keras_lap
from keras_lap._checks import choice
from keras_lap.energies import Energy
from keras_lap.training import check_start
from studies.engine.description import Described

PLAIN, LEAST_ACTION, FIXED_WEIGHT = "plain", "least action", "fixed weight"
# What a method does not use.
_IDLE = {
    PLAIN: ("initial_multiplier", "tau", "every", "p"),
    FIXED_WEIGHT: ("tau", "every"),
}


@dataclass(frozen=True, eq=False)
class Method(Described):
    """Plain training, least action, or the energy at a constant weight.

    Made by `plain`, `least_action` and `fixed_weight`.

    Attributes:
        kind: `"plain"`, `"least action"` or `"fixed weight"`.
        initial_multiplier: λ_0; of a fixed weight, λ throughout.
        tau: Step τ of the ascent of λ.
        every: Optimizer steps s between two updates of λ.
        p: Exponent of the energy, or a `keras_lap.energies.Energy`.
    """

    kind: str
    initial_multiplier: float | str | None = None
    tau: float | None = None
    every: int | None = None
    p: float | Energy | None = None

    def __post_init__(self) -> None:
        choice("kind", self.kind, (PLAIN, LEAST_ACTION, FIXED_WEIGHT))
        # The package's own checks, of the values that it is going to be given.
        if self.kind != PLAIN:
            keras_lap.energies.get(self.p)  # type: ignore[arg-type]
            check_start(self.initial_multiplier)
        if self.kind == LEAST_ACTION:
            keras_lap.callbacks.MultiplierUpdate(self.tau, self.every)  # type: ignore[arg-type]
        for name in _IDLE.get(self.kind, ()):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{self.kind!r} has no {name}. Received: {name}="
                    f"{getattr(self, name)!r}. Leave it out, or choose another method."
                )
        super().__post_init__()

    def __str__(self) -> str:
        if self.kind == PLAIN:
            return self.kind
        ascends = self.kind == LEAST_ACTION
        parts = [f"λ_0 = {_short(self.initial_multiplier)}"]
        if not ascends:
            parts = [f"λ = {_short(self.initial_multiplier)}"]
        if ascends and self.tau != 1:
            parts.append(f"τ = {_short(self.tau)}")
        if ascends and self.every != 5:
            parts.append(f"s = {self.every}")
        if isinstance(self.p, Energy):
            parts.append(repr(self.p))
        elif self.p != 2:
            parts.append(f"p = {_short(self.p)}")
        return f"{self.kind}, {', '.join(parts)}"


def plain() -> Method:
    """The task loss alone."""
    return Method(PLAIN)


def least_action(
    initial_multiplier: float | str = 5.0,
    tau: float = 1.0,
    every: int = 5,
    p: float | Energy = 2.0,
) -> Method:
    """Energy over λ, and λ raised by τ times the task loss every `every` steps.

    Args:
        initial_multiplier: λ_0, or `"auto"`.
        tau: Step τ of the ascent.
        every: Optimizer steps s between two updates.
        p: Exponent of the energy, or a `keras_lap.energies.Energy` of your own.
    """
    return Method(LEAST_ACTION, initial_multiplier, tau, every, p)


def fixed_weight(multiplier: float, p: float | Energy = 2.0) -> Method:
    """Energy over a λ that never moves."""
    return Method(FIXED_WEIGHT, multiplier, p=p)


def _short(number: float | str | None) -> str:
    return number if isinstance(number, str) else f"{number:g}"
