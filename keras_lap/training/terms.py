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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from keras_lap.blocks import require_blocks
from keras_lap.energies import DisplacementEnergy, Energy, scalar
from keras_lap.running_costs import Path, RunningCost
from keras_lap.training import replicas
from keras_lap.training.ascent import LEAST_MOVE, Seen
from keras_lap.training.costs import block_costs, energy_term, total_cost, unit_cost
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

    def asks(
        self, prices: Sequence[Price], others: Callable[[], list[Any]]
    ) -> tuple[Any, ...]:
        """What `meet` needs of the whole batch besides L.

        Args:
            prices: Of the passes of the step, in full.
            others: Returns all that is added up beside this term, scalars.

        Returns:
            Scalars, each one replica's.
        """
        return ()

    def meet(
        self, prices: Sequence[Price], task_loss: Any | None, known: Sequence[Any]
    ) -> Sequence[Price]:
        """Prices a step anew by its task loss, before the gradient is taken.

        Args:
            prices: Of its passes, in full.
            task_loss: L of the whole batch, scalar; None as in `settle`, which follows.
            known: What it asked for, of the whole batch.

        Returns:
            What holds instead.
        """
        return prices

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
        states = path.trajectory.kept if path.trajectory else None
        costs = block_costs(path.displacements, self.energy, weights, states)
        cost = total_cost(costs)
        if earlier is not None:
            kept = earlier.kept
        elif self.ascent.is_waiting():
            kept = self._choose(path, samples, cost, weights)
        else:
            kept = _Kept(self.ascent.in_use())
        return Price(energy_term(cost, kept.multiplier), (cost,), costs, kept)

    def _choose(
        self, path: Path, samples: Any, cost: Any, weights: Sequence[Any] | None
    ) -> _Kept:
        """Chooses λ_0 if that is due; by a `Share`, once the rest is known."""
        moved = path.displacements
        if self.ascent.share is not None:
            least = unit_cost(moved, self.energy, weights, LEAST_MOVE)
            self.ascent.note(cost, least)
            return _Kept(self.ascent.in_use(), least)
        square, unit = cost, unit_cost(moved, self.energy, weights)
        of_square = unit
        if not _is_kinetic(self.energy):
            kinetic = DisplacementEnergy()
            own = weights and [
                kinetic.weights_for(each, mask, path.sample_weight)
                for each, mask in zip(moved, path.masks, strict=True)
            ]
            square = total_cost(block_costs(moved, kinetic, own))
            of_square = unit_cost(moved, kinetic, own)
        seen = Seen(replicas.batch_mean(square / of_square, samples), unit / len(moved))
        return _Kept(self.ascent.choose(seen))

    def _weights(self, path: Path, sample_weight: Any) -> list[Any] | None:
        """What the positions and samples of each displacement weigh; None if all 1."""
        weights = [
            self.energy.weights_for(moved, mask, sample_weight)
            for moved, mask in zip(path.displacements, path.masks, strict=True)
        ]
        return None if all(each is None for each in weights) else weights

    def asks(
        self, prices: Sequence[Price], others: Callable[[], list[Any]]
    ) -> tuple[Any, ...]:
        """As in `Term`; what a `Share` is taken of, if λ_0 is to be chosen."""
        least = prices[0].kept.least
        if least is None:
            return ()
        cost = sum(price.means[0] for price in prices)
        return cost, least * len(prices), sum(others())

    def meet(
        self, prices: Sequence[Price], task_loss: Any | None, known: Sequence[Any]
    ) -> Sequence[Price]:
        """As in `Term`; λ may be chosen here, or be that after the step."""
        before = now = prices[0].kept.multiplier
        if known:
            now = self.ascent.choose(Seen(*known))
        now = self.ascent.foresee(now, task_loss)
        if now is before:
            return prices
        return [
            replace(price, added=energy_term(price.means[0], now), kept=_Kept(now))
            for price in prices
        ]

    def settle(self, task_loss: Any | None) -> tuple[Any, ...]:
        """As in `Term`; returns λ after the step."""
        if task_loss is None:
            return (self.ascent.value(),)
        return (self.ascent.step(task_loss),)


class _Kept(NamedTuple):
    """What C/λ keeps of a pass: λ, and what a `Share` counts at least as C."""

    multiplier: Any
    least: Any = None


def _is_kinetic(energy: Energy) -> bool:
    """Whether an energy is a multiple of the mean square of what a block moves."""
    return (
        type(energy) is DisplacementEnergy
        and energy.p == 2
        and energy.reduction == "mean"
    )


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
    if energy is None and ascent.share is not None:
        raise ValueError(
            "A share is that of the energy, and the model has none. Received: "
            f"energy=None and initial_multiplier={ascent.share!r}. Leave the latter "
            "out, or give the model an energy, e.g. energy=2.0."
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
