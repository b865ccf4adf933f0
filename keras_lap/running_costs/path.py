"""`Path`: what one training step saw of a network, for running costs to read."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np

from keras_lap._checks import finite_number, positive_numbers, refusal
from keras_lap.blocks import BlockReport, find_residual_blocks
from keras_lap.running_costs.controls import of_report
from keras_lap.trajectory import Trajectory

_UNKNOWN = object()


class Path:
    """What one training step saw of a network, for running costs to read.

    All but the arguments is worked out when it is read.

    Args:
        trajectory: What one pass recorded; its `outputs` are those of the network.
            None in `RunningCost.check`, before any pass.
        network: The network, whose `trainable_variables` a cost on weights reads.
        x: Inputs of the batch. These three are what `compute_loss` gets, which may be
            arrays: work on them with `keras.ops`.
        y: Its targets. Left out where they are not known.
        sample_weight: Weights of its samples, or None. Left out likewise.
        report: The blocks. Defaults to None, all that are found in `network`.
        horizon: As in `time_steps`. Defaults to None.
        loss: The task loss, a function of targets, outputs and weights of samples.
            Defaults to None, not known.
    """

    def __init__(
        self,
        trajectory: Trajectory | None,
        network: keras.Model,
        x: Any = None,
        y: Any = _UNKNOWN,
        sample_weight: Any = _UNKNOWN,
        report: BlockReport | None = None,
        horizon: float | Sequence[float] | None = None,
        loss: Callable[[Any, Any, Any], Any] | None = None,
    ):
        self.trajectory = trajectory
        self.network = network
        self.x = x
        self._target = {"y": y, "sample_weight": sample_weight}
        self._report = report
        self._horizon = horizon
        self._loss = loss

    def seen(self, trajectory: Trajectory, x: Any) -> Path:
        """The same network's path of one pass; its targets are not known yet."""
        return self._with(trajectory=trajectory, x=x)

    def given(self, y: Any, sample_weight: Any) -> Path:
        """The same path with the targets and weights of its samples."""
        return self._with(_target={"y": y, "sample_weight": sample_weight})

    def of_task(self, loss: Callable[[Any, Any, Any], Any]) -> Path:
        """The same path with the loss of its task."""
        return self._with(_loss=loss)

    def _with(self, **attributes: Any) -> Path:
        path = copy.copy(self)
        vars(path).update(attributes)
        return path

    @property
    def is_given(self) -> bool:
        """Whether the targets and weights of the samples are known."""
        return self._target["y"] is not _UNKNOWN

    @property
    def y(self) -> Any:
        """Targets of the batch."""
        return self._known("y")

    @property
    def sample_weight(self) -> Any:
        """Weights of its samples, or None."""
        return self._known("sample_weight")

    @property
    def states(self) -> list[tuple[Any, Any]]:
        """``(x_k, x_{k+1})`` of each block, `(batch, ...)`, in at least float32.

        A layer in a call that cannot be looked into has one pair for each time it runs.
        """
        return [pair for pairs in self._recorded("states") for pair in pairs]

    @property
    def displacements(self) -> list[Any]:
        """``x_{k+1} − x_k`` of each block, `(batch, ...)`; repeated as `states` are."""
        return self._recorded("displacements")

    @property
    def exits(self) -> list[Any]:
        """The K + 1 outputs of the network if only its first 0, …, K blocks run.

        None instead of those that `RunningCost.exits` leaves out.
        """
        return self._recorded("exits")

    def loss(self, output: Any) -> Any:
        """The task loss of one exit, as the model was compiled with, scalar.

        Weights of samples and of losses and masks count as they do in the task.

        Args:
            output: Nested as the outputs of the network are.
        """
        if self._loss is None:
            raise ValueError(
                "The loss of this path is not known. Pass Path(..., loss=...), a "
                "function of targets, outputs and weights of samples; a "
                "LeastActionModel takes what it was compiled with."
            )
        return self._loss(self.y, output, self.sample_weight)

    @property
    def masks(self) -> list[Any]:
        """The mask of each displacement, `(batch, positions, ...)`, or None."""
        return self._recorded("masks")

    @cached_property
    def report(self) -> BlockReport:
        """The K blocks."""
        if self._report is None:
            return find_residual_blocks(self.network)
        return self._report

    @cached_property
    def controls(self) -> list[list[keras.Variable]]:
        """The K lists of ``u_k``; see `keras_lap.running_costs.controls`."""
        return of_report(self.report)

    @cached_property
    def time_steps(self) -> tuple[float, ...]:
        """The K numbers ``dt_k``; see `keras_lap.running_costs.time_steps`."""
        return time_steps(self._horizon, len(self.report))

    @property
    def weights(self) -> tuple[float, ...]:
        """The K + 1 weights ``w_k`` of the trapezoidal rule at x_0 … x_K.

        ``w_0 = dt_0 / 2``, ``w_k = (dt_{k−1} + dt_k) / 2``, ``w_K = dt_{K−1} / 2``.
        """
        return trapezoid(self.time_steps)

    def _recorded(self, name: str) -> list[Any]:
        values = getattr(self.trajectory, name, None)
        if values is None:
            raise ValueError(
                f"The {name} of this path were not recorded: what no running cost "
                f"wants is left out. Write wanted = ({name!r},) in the class that "
                "reads them."
            )
        return values

    def _known(self, name: str) -> Any:
        if self._target[name] is _UNKNOWN:
            raise ValueError(
                f"The {name} of this path is not known: a cost is priced with the "
                "pass of the network, before the loss sees targets and weights. Write "
                "needs_target = True in the class that reads it."
            )
        return self._target[name]


def trapezoid(steps: Sequence[float]) -> tuple[float, ...]:
    """The weights of the trapezoidal rule at the ends of some steps."""
    ends = itertools.pairwise([0.0, *steps, 0.0])
    return tuple((before + after) / 2 for before, after in ends)


def time_steps(
    horizon: float | Sequence[float] | None, blocks: int
) -> tuple[float, ...]:
    """The steps ``dt_k`` of a network's blocks, for the integrals of running costs.

    Args:
        horizon: The time T > 0 that the blocks share alike, a list of the step of each,
            or None, a step of 1 for each.
        blocks: Their number K.

    Raises:
        ValueError: If the horizon is none of these, or has another number of steps.

    Examples:
        >>> keras_lap.running_costs.time_steps(2.0, 4)
        (0.5, 0.5, 0.5, 0.5)
    """
    if horizon is None:
        return (1.0,) * blocks
    if not isinstance(horizon, Sequence | np.ndarray):
        advice = f"It is the time T of all blocks, or a list of {blocks} steps."
        total = finite_number("horizon", horizon, "> 0", advice)
        return (total / max(blocks, 1),) * blocks
    advice = "Give one step for each block, or the time T of all of them."
    steps = positive_numbers("horizon", horizon, advice)
    if blocks and len(steps) != blocks:
        accepted = f"hold {blocks} time steps, one for each block, not {len(steps)}"
        raise refusal("horizon", accepted, horizon, advice)
    return steps[:blocks]
