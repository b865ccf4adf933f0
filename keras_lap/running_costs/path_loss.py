"""`PathLoss`: the loss of the task all along the network, not at its end alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras

from keras_lap._checks import whole_number
from keras_lap.blocks import require_blocks
from keras_lap.running_costs.path import Path, trapezoid
from keras_lap.running_costs.running_cost import RunningCost


@keras.saving.register_keras_serializable("keras_lap")
class PathLoss(RunningCost):
    """The integral of the task loss over the time of a network.

    ``Σ_k w_k L(ŷ_k)`` over the exits ŷ_0 … ŷ_K, what the network returns if only its
    first k blocks run, with the weights ``w_k`` of the trapezoidal rule. L is the
    compiled loss, with its weights of losses and of samples and its masks. A network
    trained so solves its task as early as it can, and can be cut after any block.
    Logged as `path_loss`.

    All but the last exit run the head of the network in inference, batch normalisation
    by its moving statistics. They need a head each: one call for all states of one
    shape, and one more for each change of shape.

    Source: Esteve-Yagüe et al., *Large-time asymptotics in deep learning*, arXiv
    2008.02491; for exits of residual networks, Püttschneider et al., arXiv 2506.21453.

    Args:
        weight: From 0. Defaults to 1.0.
        every: Takes every so many-th exit from 0 on, and the last, and the rule on
            their times, which costs less. Defaults to 1, all exits.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> cost = keras_lap.running_costs.PathLoss(0.2)
        >>> model = keras_lap.LeastActionModel(network, running_costs=[cost])
    """

    wanted = ("exits",)
    needs_target = True

    def __init__(self, weight: float = 1.0, every: int = 1):
        super().__init__(weight)
        self.every = whole_number("every", every, 1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        return {**super().get_config(), "every": self.every}

    def check(self, path: Path) -> None:
        """Refuses networks without blocks."""
        require_blocks(path.report, "after which it could end")

    def exits(self, blocks: int) -> Sequence[int]:
        """Every so many-th, and the last."""
        return [*range(0, blocks, self.every), blocks]

    def __call__(self, path: Path) -> Any:
        """As in `RunningCost`."""
        exits = self.exits(len(path.time_steps))
        steps = [sum(path.time_steps[k:end]) for k, end in itertools.pairwise(exits)]
        pairs = zip(trapezoid(steps), exits, strict=True)
        return sum(weight * path.loss(path.exits[k]) for weight, k in pairs)
