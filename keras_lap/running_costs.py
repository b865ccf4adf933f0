"""Running costs: what the way of the data costs, besides the energy of its steps.

An energy sees one displacement at a time; a running cost sees the whole path: all
states, all displacements, the targets, the network with its weights.
`LeastActionModel(..., running_costs=[...])` adds ``weight · cost`` to the objective; λ
has no part in it.
"""

from __future__ import annotations

import abc
import re
from dataclasses import dataclass
from typing import Any

import keras

from keras_lap._checks import finite_number
from keras_lap.energies import Configured
from keras_lap.trajectory import Trajectory

__all__ = ["Path", "RunningCost"]


@dataclass(frozen=True)
class Path:
    """What one training step saw of a network, for running costs to read.

    Attributes:
        trajectory: What one pass recorded; its `outputs` are those of the network.
        network: The network, whose `trainable_variables` a cost on weights reads.
        x: Inputs of the batch. These three are what `compute_loss` gets, which may be
            arrays: work on them with `keras.ops`.
        y: Its targets.
        sample_weight: Weights of its samples, or None.
    """

    trajectory: Trajectory
    network: keras.Model
    x: Any = None
    y: Any = None
    sample_weight: Any = None

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

    def _recorded(self, name: str) -> list[Any]:
        values = getattr(self.trajectory, name)
        if values is None:
            raise ValueError(
                f"The {name} of this path were not recorded: what no running cost "
                f"wants is left out. Write wanted = ({name!r},) in the class that "
                "reads them."
            )
        return values


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
        wanted: What it reads: `"displacements"`, `"states"`, both or neither.
        needs_target: Whether it reads `path.y` or `path.sample_weight`.
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

    @property
    def name(self) -> str:
        """The name in the logs."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()
