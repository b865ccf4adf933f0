"""How λ starts and how it rises: rules of numbers and tensors.

The method of multipliers (Uzawa) alternates optimizer steps on ``C/λ + L`` with
``λ ← λ + τ·L``. `MultiplierAscent` holds what these rules read and return.

Source: Karkar et al., arXiv 2009.08372, section 4.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_lap._checks import (
    choice,
    finite_number,
    is_number,
    refusal,
    whole_number,
    within,
)
from keras_lap.training.scalars import cast, where

LEAST, GREATEST = 1e-30, 1e30
# Found on ResNet9 and MNIST: studies/results/README.md, "A default to leave alone".
WASTEFUL, _WEIGHT_OF_WASTE = 10.0, 0.5
# What blocks that move nothing yet are taken to move every number of their state by.
LEAST_MOVE = 0.01


class Seen(NamedTuple):
    """What λ_0 is chosen by, of the first batch; scalar tensors, or numbers.

    Attributes:
        cost: For a `Share`, the transport cost C; else the mean square of what the
            blocks move a number of the state, ``mean(v²)``.
        unit: For a `Share`, the least C that counts; else the cost of a block that
            moves every number by one.
        rest: The rest of the objective; 0 if it is not asked for.
    """

    cost: Any
    unit: Any
    rest: Any = 0.0


@keras.saving.register_keras_serializable("keras_lap")
class Share:
    """λ_0 as the part that the energy has of the first objective.

    ``C/λ_0 = part · (C/λ_0 + R)``, so ``λ_0 = C·(1 − part)/(part·R)``, where C is the
    transport cost of the first batch and R the rest of its objective: the task loss,
    losses of the network's own and running costs. So one number suits networks of any
    width, depth and energy. The first training step whose numbers are finite, with
    R > 0, chooses; a step before it trains without the energy.

    C counts as no less than if every number of every state moved by 0.01. Blocks whose
    branches start at zero would else get a λ_0 near 0, and could never move.

    Args:
        part: Above 0 and below 1; the more, the more the energy weighs.

    Raises:
        ValueError: If `part` is anything else.

    Examples:
        >>> network = keras_lap.networks.resnet9((8, 8, 1), 10, filters=4)
        >>> model = keras_lap.LeastActionModel(
        ...     network, initial_multiplier=keras_lap.Share(0.3)
        ... )
    """

    def __init__(self, part: float):
        if not is_number(part) or not 0 < part < 1:
            advice = "Use 0.3 for an energy that is 30 % of the first objective."
            raise refusal("part", "be a number above 0 and below 1", part, advice)
        self.part = float(part)

    def __repr__(self) -> str:
        return f"Share({self.part!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Share) and other.part == self.part

    def __hash__(self) -> int:
        return hash((Share, self.part))

    def get_config(self) -> dict[str, float]:
        """The constructor's arguments, for saving."""
        return {"part": self.part}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Share:
        """Rebuilds the share from what `get_config` returned."""
        return cls(**config)

    def start(self, seen: Seen, bound: float | None) -> Any:
        """λ_0 by the first batch; 0 if its numbers are not finite, or R is not > 0.

        Args:
            seen: Of the batch.
            bound: The greatest λ, if any.

        Returns:
            A scalar float32 tensor without gradient.
        """
        cost = ops.maximum(seen.cost, seen.unit)
        # Each quotient is kept from overflow: R may be small, and so may C.
        chosen = cost * ((1.0 - self.part) / self.part) / seen.rest
        usable = (seen.rest > 0) & (cost > 0) & (chosen < math.inf)
        return _bounded(chosen, usable, bound)


class State(NamedTuple):
    """λ and the counters of its ascent, scalar tensors; a file keeps these four.

    Attributes:
        multiplier: λ.
        steps: Batches since the last update.
        loss_sum: The sum of their task losses.
        skipped: How many updates were left out.
    """

    multiplier: Any
    steps: Any
    loss_sum: Any
    skipped: Any


class Schedule(NamedTuple):
    """When λ rises, and by what; numbers, or scalar tensors.

    Attributes:
        tau: Step size τ.
        batches: From one update to the next, integer; 0 while λ holds.
        averaged: Above 0 if an update takes the mean of the losses since the last one.
    """

    tau: Any
    batches: Any
    averaged: Any


def check_schedule(tau: Any, every: Any, loss: Any) -> Schedule:
    """Checks what a user gives of a schedule.

    Args:
        tau: Step size τ, from 0 to 1e30.
        every: Steps from one update to the next, at least 1.
        loss: `"batch"` or `"mean"`.

    Raises:
        ValueError: If one of them is outside these values.
    """
    advice = "Use 0 to keep the multiplier constant."
    number = finite_number("tau", tau, ">= 0", advice)
    within("tau", number, 0.0, 1e30, f"λ is a float32 number. {advice}")
    advice = "Use 1 to update λ at every optimizer step."
    batches = whole_number("every", every, 1, advice)
    averaged = choice("loss", loss, ("batch", "mean")) == "mean"
    return Schedule(number, batches, int(averaged))


def start(seen: Seen, bound: float | None) -> Any:
    """λ_0 that fits the first batch: ``E_1/2 if mean(v²) > 10 else 1e30``.

    E_1 is what one block would cost if it moved every number of its state by one;
    ``mean(v²)`` is what the blocks do move, the same under any energy. The start of a
    network that moves that far wastes action, and the energy mends it. Well initialised
    or normalised branches move by about one; there the energy was measured to harm or
    to do nothing, and 1e30 switches it off. The rule is empirical: `studies/results`
    holds the study. It takes for granted that states are scaled to about one, as
    normalisation and standardised inputs do.

    Args:
        seen: Of the batch.
        bound: The greatest λ, if any.

    Returns:
        A scalar float32 tensor without gradient; 0 if the numbers are not finite.
    """
    moved = ops.cast(seen.cost, "float32")
    unit = ops.cast(seen.unit, "float32")
    chosen = ops.where(moved > WASTEFUL, _WEIGHT_OF_WASTE * unit, GREATEST)
    return _bounded(chosen, moved < math.inf, bound)


def _bounded(chosen: Any, usable: Any, bound: float | None) -> Any:
    greatest = GREATEST if bound is None else bound
    return ops.stop_gradient(ops.where(usable, ops.clip(chosen, LEAST, greatest), 0.0))


def rise(
    state: State, loss: Any, tau: Any, batches: Any, averaged: Any, bound: float | None
) -> State:
    """Counts one batch and, if an update is due, raises λ by ``τ·L``.

    An update that would make λ infinite, NaN or not positive is left out.

    Args:
        state: Before the batch.
        loss: Its task loss L, scalar float32.
        tau: Step size τ, scalar.
        batches: From one update to the next, scalar int32; 0 while λ holds.
        averaged: Above 0 if an update takes the mean of the losses since the last one.
        bound: The greatest λ, if any.

    Returns:
        The state after it.
    """
    before, steps, loss_sum, skipped = state
    scheduled = batches > 0
    steps = steps + cast(scheduled, "int32")
    loss_sum = where(scheduled, loss_sum + loss, loss_sum)
    due = scheduled & (steps >= batches) & (before > 0)  # at 0, it is to be chosen
    # Not 0 / 0 while nothing is scheduled, though nobody would read the result.
    mean = loss_sum / cast(steps + cast(~scheduled, "int32"), "float32")
    raised = before + tau * where(averaged > 0, mean, loss)
    # A negative task loss lowers λ; at zero the objective would change its sign.
    valid = (raised > 0) & (raised < math.inf)
    if bound is not None:
        raised = where(raised < bound, raised, bound)
    rises = due & valid
    return State(
        where(rises, raised, before),
        steps * cast(~due, "int32"),
        where(due, 0.0, loss_sum),
        skipped + cast(due & ~rises, "int32"),
    )
