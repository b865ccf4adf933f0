"""`Recorder`: runs a network once and tells how the data moved through its blocks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import keras

from keras_lap.blocks import BlockReport
from keras_lap.trajectory.model_tap import tap
from keras_lap.trajectory.plan import DISPLACEMENTS, STATES, WANTED, plan_block


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
    """

    outputs: Any
    displacements: list[Any] | None = None
    states: list[list[tuple[Any, Any]]] | None = None


class Recorder:
    """Runs a network once and returns what is wanted of its trajectory.

    A Functional network is run as a second Keras model over the same layers whose
    outputs are those of the network and what is to be seen of each block. Where blocks
    lie inside the `call` of a layer or of a subclassed model, it is noted while that
    runs. The network itself is left as it is, and nothing is computed twice.

    Args:
        network: The model that was searched.
        report: Its blocks, from `find_residual_blocks`.
        wanted: Some of `"displacements"` and `"states"`. Defaults to the former alone.

    Raises:
        ValueError: If `wanted` holds anything else, or the states of a block cannot be
            seen; this can be so inside the `call` of a layer.

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
    ):
        if isinstance(wanted, str) or not set(wanted) <= set(WANTED):
            raise ValueError(
                f"wanted must list some of {', '.join(map(repr, WANTED))}. Received: "
                f"wanted={wanted!r}."
            )
        self._wanted = frozenset(wanted)
        blocks = report.found if wanted else ()
        self._plans = [plan_block(found, wanted) for found in blocks]
        self._tap = tap(network, report.root.inside, self._plans)

    def __call__(self, inputs: Any, **kwargs: Any) -> Trajectory:
        """Runs the network.

        Args:
            inputs: What the network takes.
            **kwargs: Further arguments of the network's `call`, e.g. `training`.
        """
        result = self._tap(inputs, **kwargs)
        seen = list(zip(self._plans, result["seen"], strict=True))
        displacements, states = None, None
        if DISPLACEMENTS in self._wanted:
            displacements = [
                plan.displaced(each) for plan, calls in seen for each in calls
            ]
        if STATES in self._wanted:
            states = [[plan.pair(each) for each in calls] for plan, calls in seen]
        return Trajectory(result["outputs"], displacements, states)


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
