"""`Recorder`: runs a network once and tells how the data moved through its blocks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import keras

from keras_lap.blocks import BlockReport, require_blocks
from keras_lap.trajectory.exits import Exits
from keras_lap.trajectory.masks import MaskInput, fits, given_mask, plan_masks
from keras_lap.trajectory.model_tap import tap
from keras_lap.trajectory.plan import (
    DISPLACEMENTS,
    EXITS,
    KEPT,
    MASKS,
    STATES,
    WANTED,
    plan_block,
)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What one pass saw.

    Attributes:
        outputs: What the network returned.
        displacements: For each block ``x_{k+1} − x_k``, of shape `(batch, ...)`; for a
            layer chosen inside a call that cannot be looked into, one of them for
            every time it was called. None if they were not wanted.
        states: For each block a list with ``(x_k, x_{k+1})``, two tensors of shape
            `(batch, ...)` in full precision; for a layer as above, one such pair for
            every time it was called. None if they were not wanted.
        masks: For each displacement, wanted or not, the mask of its positions, of shape
            `(batch, positions, ...)`, true or 1 where one counts; None for one without.
            None if they were not wanted.
        exits: K + 1 outputs of the network with K blocks. The k-th is what it returns
            if only the first k blocks run, and leave the state as it is from there on,
            ``x_{j+1} := x_j``; the last is `outputs`. What follows a block that is left
            out runs in inference; what came before, as the pass did. None instead of an
            exit that was not wanted. None if none was.
        kept: For each displacement ``(x_k, x_{k+1})``, in the precision of the network,
            or None where its backward pass does not keep both anyway, or keeps the
            displacement itself. None if they were not wanted.
    """

    outputs: Any
    displacements: list[Any] | None = None
    states: list[list[tuple[Any, Any]]] | None = None
    masks: list[Any] | None = None
    exits: list[Any] | None = None
    kept: list[tuple[Any, Any] | None] | None = None


class Recorder:
    """Runs a network once and returns what is wanted of its trajectory.

    A Functional network is run as a second Keras model over the same layers whose
    outputs are those of the network and what is to be seen of each block. Where blocks
    lie inside the `call` of a layer or of a subclassed model, it is noted while that
    runs. The network itself is left as it is, and nothing is computed twice.

    Args:
        network: The model that was searched.
        report: Its blocks, from `find_residual_blocks`.
        wanted: Some of `"displacements"`, `"states"`, `"exits"` and, beside one of the
            first two, `"masks"` and `"kept"`. Defaults to the first alone. The masks
            are those that Keras keeps with the states: that of the nearest tensor which
            a state comes from, has one, and has its positions.
        mask: An input that is a mask, for all states whose first axes are its own, in
            the place of Keras's: its key among the inputs, the name of an input of a
            Functional network, or a function from the inputs to the mask. Defaults to
            None, no such input.
        exits: Which of the exits 0 to K, where they are wanted. Defaults to None, all.

    Raises:
        ValueError: If `wanted` holds anything else, the states of a block cannot be
            seen, which can be so inside the `call` of a layer, exits are wanted and a
            block lies there, or no input is named `mask`.
        TypeError: If `mask` is neither a name nor a function.

    Examples:
        >>> report = keras_lap.find_residual_blocks(network)
        >>> record = keras_lap.trajectory.Recorder(network, report, ["states"])
        >>> [[(before, after)], *others] = record(images).states
    """

    def __init__(
        self,
        network: keras.Model,
        report: BlockReport,
        wanted: Collection[str] = (DISPLACEMENTS,),
        mask: MaskInput = None,
        exits: Collection[int] | None = None,
    ):
        if isinstance(wanted, str) or not set(wanted) <= set(WANTED):
            raise ValueError(
                f"wanted must list some of {', '.join(map(repr, WANTED))}. Received: "
                f"wanted={wanted!r}."
            )
        if MASKS in wanted and not {DISPLACEMENTS, STATES} & set(wanted):
            raise ValueError(
                "Masks are those of displacements or states. Received: "
                f"wanted={wanted!r}. Add 'displacements' or 'states'."
            )
        self._wanted = frozenset(wanted)
        blocks = report.found if self._wanted - {EXITS} else ()
        self._plans = [plan_block(found, wanted) for found in blocks]
        graph = report.root.inside
        masked = blocks if MASKS in wanted else ()
        self._masks, self._mask_of = plan_masks(graph, masked)
        self._given = given_mask(network, mask)
        self._exits = None
        if EXITS in wanted:
            require_blocks(report, "that could be left out")
            every = range(len(report) + 1)
            self._exits = Exits(report, every if exits is None else exits)
        looks = self._exits.looks if self._exits else ()
        self._tap = tap(network, graph, [*self._plans, *self._masks, *looks])
        if self._exits:
            self._tap = self._exits.with_exits(self._tap)

    def __call__(self, inputs: Any, **kwargs: Any) -> Trajectory:
        """Runs the network.

        Args:
            inputs: What the network takes.
            **kwargs: Further arguments of the network's `call`, e.g. `training`.
        """
        result = self._tap(inputs, **kwargs)
        count = len(self._plans)
        seen = list(zip(self._plans, result["seen"][:count], strict=True))
        displacements, states, masks = None, None, None
        if DISPLACEMENTS in self._wanted:
            displacements = [
                plan.displaced(each) for plan, calls in seen for each in calls
            ]
        if STATES in self._wanted:
            states = [[plan.pair(each) for each in calls] for plan, calls in seen]
        if MASKS in self._wanted:
            every = count + len(self._masks)
            read = [calls[0][0] for calls in result["seen"][count:every]]
            own = [
                None if index is None else read[index]
                for (_, calls), index in zip(seen, self._mask_of, strict=True)
                for _ in calls
            ]
            pairs = [pair for runs in states or () for pair in runs]
            moved = displacements or [before for before, _ in pairs]
            given = self._given(inputs)
            masks = [
                _first_fitting((given, mask), each)
                for mask, each in zip(own, moved, strict=True)
            ]
        exits = self._exits.of(result) if self._exits else None
        kept = None
        if KEPT in self._wanted:
            kept = [plan.kept_pair(each) for plan, calls in seen for each in calls]
        return Trajectory(result["outputs"], displacements, states, masks, exits, kept)


def _first_fitting(masks: Iterable[Any], state: Any) -> Any:
    """The first of some masks that is one of the positions of a state, or None."""
    fitting = (mask for mask in masks if mask is not None and fits(mask, state))
    return next(fitting, None)


class DisplacementRecorder:
    """Runs a network once and returns its outputs and all displacements.

    A `keras_lap.trajectory.Recorder` of displacements alone, for loops of one's own.

    Args:
        network: The model that was searched.
        report: Its blocks, from `find_residual_blocks`.

    Examples:
        >>> report = keras_lap.find_residual_blocks(network)
        >>> record = DisplacementRecorder(network, report)
        >>> outputs, displacements = record(images)
    """

    def __init__(self, network: keras.Model, report: BlockReport):
        self._record = Recorder(network, report)

    def __call__(self, inputs: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
        """Runs the network.

        Args:
            inputs: What the network takes.
            **kwargs: Further arguments of the network's `call`, e.g. `training`.

        Returns:
            The network's outputs, and the displacements; see
            `keras_lap.trajectory.Trajectory`.
        """
        trajectory = self._record(inputs, **kwargs)
        return trajectory.outputs, trajectory.displacements or []
