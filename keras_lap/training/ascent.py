"""How λ starts and how it rises: rules of numbers and tensors.

The method of multipliers (Uzawa) alternates optimizer steps on ``C/λ + L`` with
``λ ← λ + τ·L``. `MultiplierAscent` holds what these rules read and return.

Source: Karkar et al., arXiv 2009.08372, section 4.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from keras import ops

from keras_lap._checks import choice, finite_number, whole_number, within

LEAST, GREATEST = 1e-30, 1e30
# Found on ResNet9 and MNIST: studies/results/README.md, "A default to leave alone".
_WASTEFUL, _WEIGHT_OF_WASTE = 10.0, 0.5


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


def start(cost: Any, unit_cost: Any, blocks: int, bound: float | None) -> Any:
    """λ_0 that fits the first batch: ``C_1/2K if C > 10·C_1 else 1e30``.

    C_1 is what the K blocks would cost if each moved every number of its state by one.
    The start of a network that costs ten times as much wastes action, and the energy
    mends it. Well initialised or normalised branches move by about one; there the
    energy was measured to harm or to do nothing, and 1e30 switches it off. The rule is
    empirical: `studies/results` holds the study. It takes for granted that states are
    scaled to about one, as normalisation and standardised inputs do.

    Args:
        cost: Transport cost C of the batch, scalar.
        unit_cost: C_1 under the same energy, scalar.
        blocks: Their number K.
        bound: The greatest λ, if any.

    Returns:
        A scalar float32 tensor without gradient.
    """
    cost, unit = ops.cast(cost, "float32"), ops.cast(unit_cost, "float32")
    wasteful = cost > _WASTEFUL * unit
    chosen = ops.where(wasteful, _WEIGHT_OF_WASTE * unit / blocks, GREATEST)
    greatest = GREATEST if bound is None else bound
    return ops.stop_gradient(ops.clip(chosen, LEAST, greatest))


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
    steps = steps + ops.cast(scheduled, "int32")
    loss_sum = ops.where(scheduled, loss_sum + loss, loss_sum)
    due = scheduled & (steps >= batches) & (before > 0)  # at 0, it is to be chosen
    # Not 0 / 0 while nothing is scheduled, though nobody would read the result.
    mean = loss_sum / ops.cast(steps + ops.cast(~scheduled, "int32"), "float32")
    raised = before + tau * ops.where(averaged > 0, mean, loss)
    # A negative task loss lowers λ; at zero the objective would change its sign.
    valid = (raised > 0) & (raised < math.inf)
    if bound is not None:
        raised = ops.minimum(raised, bound)
    return State(
        ops.where(due & valid, raised, before),
        steps * ops.cast(~due, "int32"),
        ops.where(due, ops.zeros_like(loss_sum), loss_sum),
        skipped + ops.cast(due & ~valid, "int32"),
    )
