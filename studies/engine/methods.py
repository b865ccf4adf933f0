"""The methods that are compared: plain training, its rivals, least action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras_lap
from keras_lap._checks import choice, finite_number
from keras_lap.energies import Energy
from keras_lap.training import check_start
from studies.engine.description import Described

PLAIN, LEAST_ACTION, FIXED_WEIGHT = "plain", "least action", "fixed weight"
# Plain training with one more regularisation, of some strength.
WEIGHT_DECAY, DROPOUT, SMOOTHING = "weight decay", "dropout", "label smoothing"
RIVALS = (WEIGHT_DECAY, DROPOUT, SMOOTHING)
_OF_ASCENT = ("tau", "every", "before_step")
_OF_LAMBDA = ("initial_multiplier", *_OF_ASCENT, "p", "include_projections")
# What a method does not use.
_IDLE = {
    PLAIN: (*_OF_LAMBDA, "strength"),
    LEAST_ACTION: ("strength",),
    FIXED_WEIGHT: (*_OF_ASCENT, "strength"),
} | dict.fromkeys(RIVALS, _OF_LAMBDA)


@dataclass(frozen=True, eq=False)
class Method(Described):
    """Plain training, a rival, least action, or the energy at a constant weight.

    Made by `plain`, `rival`, `least_action` and `fixed_weight`.

    Attributes:
        kind: `"plain"`, `"least action"`, `"fixed weight"`, `"weight decay"`,
            `"dropout"` or `"label smoothing"`.
        initial_multiplier: λ_0; of a fixed weight, λ throughout.
        tau: Step τ of the ascent of λ.
        every: Optimizer steps s between two updates of λ.
        p: Exponent of the energy, or a `keras_lap.energies.Energy`.
        before_step: Whether λ is raised by the loss of a batch before the objective of
            the same step, as in the authors' code.
        include_projections: Whether blocks that change the shape count.
        strength: Strength of a rival.
    """

    kind: str
    initial_multiplier: float | str | None = None
    tau: float | None = None
    every: int | None = None
    p: float | Energy | None = None
    before_step: bool = False
    include_projections: bool = False
    strength: float | None = None
    _LATER = ("before_step", "include_projections")

    def __post_init__(self) -> None:
        choice("kind", self.kind, (PLAIN, LEAST_ACTION, FIXED_WEIGHT, *RIVALS))
        # The package's own checks, of the values that it is going to be given.
        if self.kind in (LEAST_ACTION, FIXED_WEIGHT):
            keras_lap.energies.get(self.p)  # type: ignore[arg-type]
            check_start(self.initial_multiplier)
        if self.kind == LEAST_ACTION:
            keras_lap.callbacks.MultiplierUpdate(self.tau, self.every)  # type: ignore[arg-type]
        if self.kind in RIVALS:
            strength = finite_number(
                "strength", self.strength, ">= 0", "Pass e.g. 0.1."
            )
            if self.kind != WEIGHT_DECAY and strength >= 1:
                raise ValueError(
                    f"The strength of {self.kind} must be below 1. Received: "
                    f"strength={strength!r}. Pass e.g. 0.1."
                )
        for name in _IDLE[self.kind]:
            value = getattr(self, name)
            if value is not None and value is not False:
                raise ValueError(
                    f"{self.kind!r} has no {name}. Received: {name}={value!r}. Leave "
                    "it out, or choose another method."
                )
        super().__post_init__()

    def __str__(self) -> str:
        if self.kind == PLAIN:
            return self.kind
        if self.kind in RIVALS:
            return f"plain, {self.kind} {_short(self.strength)}"
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
        if self.before_step:
            parts.append("λ first")
        if self.include_projections:
            parts.append("with projections")
        return f"{self.kind}, {', '.join(parts)}"


def plain() -> Method:
    """The task loss alone."""
    return Method(PLAIN)


def rival(kind: str, strength: float) -> Method:
    """Plain training with another regularisation in place of the energy.

    Args:
        kind: `"weight decay"` (coupled, instead of that of the training), `"dropout"`
            (the network's builder must take it) or `"label smoothing"`.
        strength: Decay, rate of dropout, or part of the label that is spread.
    """
    choice("kind", kind, RIVALS)
    return Method(kind, strength=strength)


def least_action(
    initial_multiplier: float | str = 5.0,
    tau: float = 1.0,
    every: int = 5,
    p: float | Energy = 2.0,
    **options: Any,
) -> Method:
    """Energy over λ, and λ raised by τ times the task loss every `every` steps.

    Args:
        initial_multiplier: λ_0, or `"auto"`.
        tau: Step τ of the ascent.
        every: Optimizer steps s between two updates.
        p: Exponent of the energy, or a `keras_lap.energies.Energy` of your own.
        **options: `before_step` and `include_projections`, see `Method`.
    """
    return Method(LEAST_ACTION, initial_multiplier, tau, every, p, **options)


def fixed_weight(
    multiplier: float, p: float | Energy = 2.0, include_projections: bool = False
) -> Method:
    """Energy over a λ that never moves."""
    return Method(
        FIXED_WEIGHT, multiplier, p=p, include_projections=include_projections
    )


def _short(number: float | str | None) -> str:
    return number if isinstance(number, str) else f"{number:g}"
