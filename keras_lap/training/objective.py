"""The objective of training: ``C/λ + L``.

C is the transport cost, the sum of the energies of all displacements, and L the
task loss. Dividing by λ instead of multiplying L keeps the meaning of the learning
rate while λ grows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from keras import ops

from keras_lap.energies import Energy, at_least_float32


def block_costs(displacements: Iterable[Any], energy: Energy) -> Any:
    """Computes ``energy(x_{k+1} − x_k)`` of every block.

    Args:
        displacements: One tensor of shape `(batch, ...)` per block.
        energy: What one displacement costs.

    Returns:
        A tensor of shape `(blocks,)`.

    Raises:
        ValueError: If the energy returns anything but a scalar.
    """
    return energy.of_blocks(list(displacements))


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


def unit_cost(displacements: Iterable[Any], energy: Energy) -> Any:
    """Computes C as if every number of every state moved by one: C's own unit.

    Args:
        displacements: One tensor of shape `(batch, ...)` per block; their values do
            not matter.
        energy: What one displacement costs.

    Returns:
        A scalar tensor.
    """
    return transport_cost([ops.ones_like(each) for each in displacements], energy)


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
