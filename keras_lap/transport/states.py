"""The states of a network's blocks on batches of data, as NumPy arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lap.blocks import BlockReport, Selection, find_residual_blocks
from keras_lap.training.model import LeastActionModel
from keras_lap.trajectory import Recorder

Pair = tuple[np.ndarray, np.ndarray]


class _Probe(keras.Model):
    """Hands out the states instead of the outputs, compiled like any model."""

    def __init__(self, network: keras.Model, report: BlockReport):
        super().__init__(autocast=False, name="transport_probe")
        self.network = network
        self._record = Recorder(network, report, ["states"])
        self.built = True

    def call(self, inputs: Any) -> Any:
        return self._record(inputs, training=False).states


class StateReader:
    """Runs a network on batches and reads the states around its blocks.

    Args:
        model: A network, or a `LeastActionModel` around one, whose own blocks count.
        blocks: See `keras_lap.find_residual_blocks`; not for a `LeastActionModel`.
        include_projections: Likewise.

    Attributes:
        report: The blocks.

    Raises:
        ValueError: If there is no block, or the states of one cannot be seen.
    """

    def __init__(
        self,
        model: keras.Model,
        blocks: Selection = "auto",
        include_projections: bool = False,
    ):
        if isinstance(model, LeastActionModel):
            network, self.report = model.network, model.block_report
        else:
            network = model
            self.report = find_residual_blocks(model, blocks, include_projections)
        if not self.report:
            raise ValueError(
                f"{self.report.model_name!r} has no residual block, so there is no "
                f"transport to measure.\n{self.report}\nName the layers that move the "
                "data with blocks=[...], or count blocks with a projection by "
                "include_projections=True."
            )
        self._probe = _Probe(network, self.report)

    def __call__(self, x: Any) -> tuple[list[str], list[str], list[Pair]]:
        """Runs one batch.

        Args:
            x: What the network takes, in NumPy arrays of shape `(batch, ...)`.

        Returns:
            Names, kinds and states before and after, `(batch, ...)`, of each block; a
            block that is run several times is there as often, from the second time on
            as `name#2`, `name#3`.
        """
        moves = self._probe.predict_on_batch(x)
        names, kinds, states = [], [], []
        for block, pairs in zip(self.report, moves, strict=True):
            for number, (before, after) in enumerate(pairs, start=1):
                names.append(block.name if number == 1 else f"{block.name}#{number}")
                kinds.append(block.kind)
                states.append((np.asarray(before), np.asarray(after)))
        return names, kinds, states


def split_into_stages(states: list[Pair]) -> list[list[int]]:
    """Groups blocks that move one state through a space of one dimension.

    A new stage begins where the shape changes, or where a block does not take the
    state that the last one left, as after a projection or another layer in between.

    Args:
        states: States before and after each block, `(batch, ...)`.

    Returns:
        The indices of the blocks of each stage.
    """
    stages = [[0]]
    for index in range(1, len(states)):
        if handed_on(states[index - 1][1], states[index][0]):
            stages[-1].append(index)
        else:
            stages.append([index])
    return stages


def handed_on(after: np.ndarray, before: np.ndarray) -> bool:
    """Whether one block's state before is the other's after, up to rounding."""
    if after.shape != before.shape:
        return False
    if np.array_equal(after, before, equal_nan=True):
        return True
    # A sum that only we took, outside the network, may be rounded in another way; an
    # operation in between changes far more than that.
    gap = np.linalg.norm(before.astype(float).ravel() - after.ravel())
    return bool(gap <= 1e-6 * np.linalg.norm(after.astype(float)))
