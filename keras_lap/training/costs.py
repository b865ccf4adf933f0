"""Transport costs of displacements, and C/λ: sums of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from keras import ops

from keras_lap.energies import Energy
from keras_lap.trajectory import at_least_float32


def block_costs(
    displacements: Iterable[Any],
    energy: Energy,
    weights: Sequence[Any] | None = None,
    kept: Sequence[tuple[Any, Any] | None] | None = None,
) -> Any:
    """Computes ``energy(x_{k+1} − x_k)`` of every block.

    Args:
        displacements: One tensor of shape `(batch, ...)` per block.
        energy: What one displacement costs.
        weights: Of each what `energy.weights_for` returned; None if all weigh 1.
        kept: `Trajectory.kept`, for an energy whose `of_blocks` takes it; None else.

    Returns:
        A tensor of shape `(blocks,)`.

    Raises:
        ValueError: If the energy returns anything but a scalar.
    """
    if kept is not None:
        return energy.of_blocks(list(displacements), weights, kept=kept)  # type: ignore[call-arg]
    if weights is None:  # an energy of one's own may know of none
        return energy.of_blocks(list(displacements))
    return energy.of_blocks(list(displacements), weights)


def transport_cost(displacements: Iterable[Any], energy: Energy) -> Any:
    """Computes ``C = Σ_k energy(x_{k+1} − x_k)``.

    Args:
        displacements: One tensor of shape `(batch, ...)` per block.
        energy: What one displacement costs.

    Returns:
        A scalar tensor.

    Raises:
        ValueError: If the energy returns anything but a scalar.
    """
    return total_cost(block_costs(displacements, energy))


def total_cost(costs: Any) -> Any:
    """Adds up the costs of the blocks.

    Args:
        costs: Tensor of shape `(blocks,)`.

    Returns:
        A scalar tensor.
    """
    return ops.sum(costs)


def unit_cost(
    displacements: Iterable[Any],
    energy: Energy,
    weights: Sequence[Any] | None = None,
    move: float = 1.0,
) -> Any:
    """Computes C as if every number of every state moved by one: C's own unit.

    Args:
        displacements: One tensor of shape `(batch, ...)` per block; their values do
            not matter.
        energy: What one displacement costs.
        weights: As in `block_costs`.
        move: By how much they move instead. Defaults to 1.

    Returns:
        A scalar tensor.
    """
    units = [ops.full_like(each, move) for each in displacements]
    return total_cost(block_costs(units, energy, weights))


def energy_term(cost: Any, multiplier: Any) -> Any:
    """Computes ``C/λ``, the term that least action adds to the task loss.

    Args:
        cost: Transport cost C, scalar.
        multiplier: λ > 0, scalar.

    Returns:
        A scalar tensor.
    """
    # In half precision λ itself would be infinite from 65504 on.
    cost = at_least_float32(cost)
    return cost / ops.cast(multiplier, cost.dtype)
