"""`RunningCost`: base class of what a path costs."""

from __future__ import annotations

import abc
import re
from collections.abc import Sequence
from typing import Any

from keras_lap._checks import finite_number
from keras_lap.energies import Configured
from keras_lap.running_costs.path import Path


class RunningCost(Configured, abc.ABC):
    """Base class of running costs: a function from a `Path` to a scalar.

    Training minimises ``C/λ + L + Σ weight · cost``; the logs hold each cost without
    its weight, under its name. Name in `wanted` what the cost reads of the path, which
    is recorded in the one pass of the step. Decorate the class with
    `keras.saving.register_keras_serializable`, and give it a `get_config` if it takes
    more arguments than `weight`, and models with it can be saved and loaded.

    Args:
        weight: From 0, which logs the cost and does not train by it. Defaults to 1.

    Attributes:
        wanted: What it reads: some of `"displacements"`, `"states"` and `"exits"`, or
            nothing of them; beside one of the first two also `"masks"`.
        needs_target: Whether it reads the path's `y` or `sample_weight`, so that it is
            priced with the loss and not with the pass of the network.
        name: Under which it is logged: the name of the class in lower case, as
            `speed_cost` of a class `SpeedCost`.

    Raises:
        ValueError: If the weight is negative or not finite.

    Examples:
        >>> @keras.saving.register_keras_serializable("my_project")
        ... class StateSize(keras_lap.running_costs.RunningCost):
        ...     wanted = ("states",)
        ...
        ...     def __call__(self, path):
        ...         return sum(keras.ops.mean(after**2) for _, after in path.states)
        >>> model = keras_lap.LeastActionModel(network, running_costs=[StateSize(0.1)])
    """

    wanted: tuple[str, ...] = ()
    needs_target: bool = False
    _kept = ("weight",)

    def __init__(self, weight: float = 1.0):
        advice = "Use 0 to log a cost without training by it."
        self.weight = finite_number("weight", weight, ">= 0", advice)

    @abc.abstractmethod
    def __call__(self, path: Path) -> Any:
        """Computes the cost of one batch.

        Args:
            path: What the step saw.

        Returns:
            A scalar tensor.
        """

    def check(self, path: Path) -> None:
        """Refuses a network that has no such cost, when a model is made.

        Args:
            path: One without a trajectory: its network, blocks, controls and steps.

        Raises:
            ValueError: If the cost cannot be computed; by default never.
        """

    def check_targets(self, path: Path) -> None:
        """Refuses targets, when `fit` begins.

        Args:
            path: As in `check`, with what `fit` is given as `y`; None if data sets hand
                the targets out.

        Raises:
            ValueError: If the cost cannot be computed; by default never.
        """

    def exits(self, blocks: int) -> Sequence[int]:
        """Which exits it reads, if it wants any; the others are not computed.

        Args:
            blocks: The number K of blocks; exits are numbered from 0 to K.

        Returns:
            By default all.
        """
        return range(blocks + 1)

    @property
    def name(self) -> str:
        """The name in the logs."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()
