"""Terms of the objective: what training adds to the task loss L.

The objective is ``C/λ + L + Σ weight · cost``. C is the transport cost, the sum of the
energies of all displacements; dividing it by λ instead of multiplying L keeps the
meaning of the learning rate while λ grows. The other costs are a user's own.
"""

from __future__ import annotations

import abc
import inspect
import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_lap.blocks import require_blocks
from keras_lap.energies import Energy, scalar
from keras_lap.running_costs import Path, RunningCost
from keras_lap.training import replicas
from keras_lap.training.multiplier import MultiplierAscent
from keras_lap.trajectory import WANTED, at_least_float32


@dataclass(frozen=True)
class Price:
    """What a term takes for one batch.

    Attributes:
        added: What is added to the task loss, scalar tensor.
        means: What is logged under the names `Term.means`, scalar tensors.
        blocks: The cost of each block, tensor `(blocks,)`; None if it has no parts.
        kept: What the term itself wants to have back when it prices anew.
    """

    added: Any
    means: tuple[Any, ...]
    blocks: Any = None
    kept: Any = None


class Term(abc.ABC):
    """Base class of what is added to the task loss in a training step.

    Attributes:
        wanted: What it reads of the trajectory: `"displacements"`, `"states"`.
        means: Names in the logs of what is averaged over an epoch.
        lasts: Names in the logs of what only its last value counts of.
        blocks: Of how many it logs each one's part.
        purpose: What it needs blocks for, to say of a network without any.
        needs_target: Whether it can be priced only with the loss. What needs no target
            is priced in the model's `call`, and in `model.losses` wherever it trains.
        weighs_samples: Whether the weights of samples are its own too.
    """

    wanted: tuple[str, ...] = ()
    means: tuple[str, ...] = ()
    lasts: tuple[str, ...] = ()
    blocks: int = 0
    purpose: str = "whose path could be priced"
    needs_target: bool = False
    weighs_samples: bool = False

    @abc.abstractmethod
    def price(self, path: Path, samples: Any, earlier: Price | None = None) -> Price:
        """Prices one batch, before the step.

        Args:
            path: What one pass of the network saw.
            samples: How many samples it saw.
            earlier: What it returned in the same step, for another pass or for this
                one when the weights of samples were not known yet; else None.
        """

    def settle(self, task_loss: Any | None) -> tuple[Any, ...]:
        """Moves what moves by the task loss, once a step.

        Args:
            task_loss: L of the whole batch, scalar; None if it has moved already.

        Returns:
            What is logged under the names `lasts`.
        """
        return ()


class EnergyOverMultiplier(Term):
    """``C/λ``, and λ, which rises by the task loss."""

    wanted: tuple[str, ...] = ("displacements", "masks")
    means = ("transport_cost",)
    lasts = ("multiplier",)
    purpose = "whose displacement could be measured"
    weighs_samples = True

    def __init__(self, energy: Energy, ascent: MultiplierAscent, blocks: int):
        self.energy = energy
        self.ascent = ascent
        self.blocks = blocks
        # An energy of one's own that takes all blocks together may not know of it.
        if "kept" in inspect.signature(energy.of_blocks).parameters:
            self.wanted = (*self.wanted, "kept")

    def price(self, path: Path, samples: Any, earlier: Price | None = None) -> Price:
        """As in `Term`; keeps λ, which may have no value elsewhere in a step of JAX."""
        weights = self._weights(path, path.sample_weight if path.is_given else None)
        kept = path.trajectory.kept if path.trajectory else None
        costs = block_costs(path.displacements, self.energy, weights, kept)
        cost = total_cost(costs)
        if earlier is not None:
            multiplier = earlier.kept
        elif self.ascent.is_automatic:
            unit = unit_cost(path.displacements, self.energy, weights)
            whole = replicas.batch_mean(cost, samples)
            multiplier = self.ascent.choose(whole, unit, costs.shape[0])
        else:
            multiplier = self.ascent.value()
        return Price(energy_term(cost, multiplier), (cost,), costs, multiplier)

    def _weights(self, path: Path, sample_weight: Any) -> list[Any] | None:
        """What the positions and samples of each displacement weigh; None if all 1."""
        weights = [
            self.energy.weights_for(moved, mask, sample_weight)
            for moved, mask in zip(path.displacements, path.masks, strict=True)
        ]
        return None if all(each is None for each in weights) else weights

    def settle(self, task_loss: Any | None) -> tuple[Any, ...]:
        """As in `Term`; returns λ after the step."""
        if task_loss is None:
            return (self.ascent.value(),)
        return (self.ascent.step(task_loss),)


class WeightedCost(Term):
    """``weight · cost`` of a `RunningCost`, which is logged without the weight."""

    def __init__(self, cost: RunningCost):
        self.cost = cost
        self.wanted = cost.wanted
        self.means = (cost.name,)
        self.needs_target = cost.needs_target

    def price(self, path: Path, samples: Any, earlier: Price | None = None) -> Price:
        """As in `Term`."""
        cost = at_least_float32(scalar(self.cost(path), self.cost))
        return Price(self.cost.weight * cost, (cost,))


def add_up(prices: Sequence[Price]) -> Price:
    """The price of several passes in one step.

    Args:
        prices: What one term takes for each of them; at least one.
    """
    first, *others = prices
    for other in others:
        first = Price(
            first.added + other.added,
            tuple(map(operator.add, first.means, other.means)),
            None if first.blocks is None else first.blocks + other.blocks,
            first.kept,
        )
    return first


def terms_of(
    energy: Energy | None,
    ascent: MultiplierAscent,
    running_costs: Sequence[RunningCost],
    path: Path,
) -> tuple[Term, ...]:
    """The terms of a model's objective.

    Args:
        energy: What a displacement costs; None for no such term.
        ascent: λ.
        running_costs: What is added besides.
        path: Of the network, before any pass.

    Raises:
        TypeError: If `running_costs` holds something else.
        ValueError: If there is no term, a cost wants what is never recorded or cannot
            be computed, two terms are logged under one name, or a term has nothing to
            measure.
    """
    _check_costs(running_costs)
    if energy is None and not running_costs:
        raise ValueError(
            "There is nothing to train by besides the task. Received: energy=None and "
            "no running costs. Pass energy=2.0, or running_costs=[...] with a "
            "keras_lap.running_costs.RunningCost."
        )
    terms: list[Term] = [WeightedCost(cost) for cost in running_costs]
    if energy is not None:
        terms.insert(0, EnergyOverMultiplier(energy, ascent, len(path.report)))
    for term in terms:
        if term.wanted:
            require_blocks(path.report, term.purpose)
    for cost in running_costs:
        cost.check(path)
    names = [name for term in terms for name in (*term.means, *term.lasts)]
    for name, times in Counter(["loss", "task_loss", *names]).items():
        if times > 1:
            raise ValueError(
                "Every running cost needs a name of its own in the logs. Received: "
                f"running_costs={running_costs!r}, where {name!r} is taken twice or is "
                "a name of the model's own. Leave one out, or give its class another "
                "`name`."
            )
    return tuple(terms)


def check_has_multiplier(model: Any) -> None:
    """Refuses to raise the λ of a model whose objective has none.

    Args:
        model: A `LeastActionModel`.

    Raises:
        ValueError: If it was made with ``energy=None``.
    """
    if model.energy is None:
        raise ValueError(
            f"The model {model.name!r} has no multiplier to raise: it was made with "
            "energy=None and trains by running costs alone. Leave MultiplierUpdate out "
            "of callbacks=[...], or give the model an energy, e.g. energy=2.0."
        )


def _check_costs(running_costs: Any) -> None:
    listed = isinstance(running_costs, list | tuple)
    for cost in running_costs if listed else [running_costs]:
        if not listed or not isinstance(cost, RunningCost):
            raise TypeError(
                "running_costs must be a list of keras_lap.running_costs.RunningCost. "
                f"Received: running_costs={running_costs!r}. Pass instances of a "
                "subclass, e.g. running_costs=[MyCost(0.1)]."
            )
        if isinstance(cost.wanted, str) or not set(cost.wanted) <= set(WANTED):
            raise ValueError(
                f"wanted of {cost!r} must list some of {', '.join(map(repr, WANTED))}. "
                f"Received: wanted={cost.wanted!r}. Write e.g. wanted = ('states',)."
            )


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
    displacements: Iterable[Any], energy: Energy, weights: Sequence[Any] | None = None
) -> Any:
    """Computes C as if every number of every state moved by one: C's own unit.

    Args:
        displacements: One tensor of shape `(batch, ...)` per block; their values do
            not matter.
        energy: What one displacement costs.
        weights: As in `block_costs`.

    Returns:
        A scalar tensor.
    """
    units = [ops.ones_like(each) for each in displacements]
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
