"""The states around a network's blocks on batches of data, as NumPy arrays."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_lap.blocks import (
    BlockReport,
    Selection,
    find_residual_blocks,
    require_blocks,
)
from keras_lap.energies import DisplacementEnergy
from keras_lap.training import FedLikeNetwork
from keras_lap.trajectory import (
    Recorder,
    batch_statistics,
    has_moving_statistics,
)


class Move(NamedTuple):
    """What one run of a block did to a batch.

    Attributes:
        name: Name of the block, from its second run on as `name#2`, `name#3`.
        kind: Its kind.
        before: States before it, `(batch, ...)`, 0 where a mask leaves positions out.
        after: States after it, likewise.
        elements: How many numbers of all states before it count.
    """

    name: str
    kind: str
    before: np.ndarray
    after: np.ndarray
    elements: int

    def cost(self, p: float) -> np.ndarray:
        """``Σ |v|^p`` of each sample, `(batch,)`, in float64."""
        moved = self.after.astype(float) - self.before.astype(float)
        return np.sum(np.abs(moved.reshape(len(moved), -1)) ** p, axis=1)


class StateReader(FedLikeNetwork):
    """Runs a network on batches and reads the states around its blocks.

    A model, so that Keras compiles it like any other.

    Args:
        model: A network, or a `LeastActionModel` around one, whose own blocks count.
        blocks: See `keras_lap.find_residual_blocks`; not for a `LeastActionModel`.
        include_projections: Likewise.

    Attributes:
        report: The blocks.
        exponent: That of the energy which the model is trained with, or 2.

    Raises:
        ValueError: If there is no block, or the states of one cannot be seen.
    """

    def __init__(
        self,
        model: keras.Model,
        blocks: Selection = "auto",
        include_projections: bool = False,
    ):
        super().__init__(autocast=False, name="transport_probe")
        # What wraps a network says so by its `block_report`.
        report = getattr(model, "block_report", None)
        if isinstance(report, BlockReport):
            self.network = model.network
        else:
            self.network = model
            report = find_residual_blocks(model, blocks, include_projections)
        require_blocks(report, "whose transport could be measured")
        mask = getattr(model, "mask", None) if self.network is not model else None
        energy = getattr(model, "energy", None)
        self.report = report
        self.exponent = energy.p if isinstance(energy, DisplacementEnergy) else 2.0
        self._record = Recorder(self.network, report, ["states", "masks"], mask)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The states before and after each block and their masks, for each run."""
        seen = self._record(inputs, training=False)
        pairs = [pair for runs in seen.states or () for pair in runs]
        masks = iter(
            # Keras hands on tensors alone; this counts all positions.
            ops.ones(ops.shape(before)[:1]) if mask is None else mask
            for (before, _), mask in zip(pairs, seen.masks or (), strict=True)
        )
        return [[(*pair, next(masks)) for pair in runs] for runs in seen.states or ()]

    def moves(self, x: Any) -> list[Move]:
        """Runs one batch: what the network takes, in arrays of shape `(batch, ...)`."""
        try:
            states = self.predict_on_batch(x)
        except Exception:
            self.network.predict_on_batch(x)  # says in its own name what is wrong
            raise
        return self._named(states)

    def moves_in_training(self, x: Any) -> list[Move] | None:
        """The same under the batch's own statistics, by which training normalises.

        None if the network has no moving statistics that could differ from them.
        """
        if not has_moving_statistics(self.network):
            return None
        with batch_statistics(self.network):
            states = self(keras.tree.map_structure(keras.ops.convert_to_tensor, x))
        return self._named(keras.tree.map_structure(keras.ops.convert_to_numpy, states))

    def _named(self, states: Any) -> list[Move]:
        return [
            Move(
                block.name if number == 1 else f"{block.name}#{number}",
                block.kind,
                *_counting(*map(np.asarray, seen)),
            )
            for block, runs in zip(self.report, states, strict=True)
            for number, seen in enumerate(runs, start=1)
        ]


def _counting(
    before: np.ndarray, after: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """States with zeros where the mask leaves positions out, and what counts.

    So padding has no part in norms, angles and distances, whatever stood there.
    """
    counts = mask != 0
    if counts.all():
        return before, after, before.size
    each = int(np.prod(before.shape[counts.ndim :]))
    elements = int(np.count_nonzero(counts)) * each
    counts = counts.reshape(*counts.shape, *(1,) * (before.ndim - counts.ndim))
    return np.where(counts, before, 0), np.where(counts, after, 0), elements


def split_into_stages(moves: list[Move]) -> list[slice]:
    """Groups blocks that move one state through a space of one dimension.

    A new stage begins where the shape changes, or where a block does not take the
    state that the last one left, as after a projection or another layer in between.

    Args:
        moves: Those of a batch, in forward order.

    Returns:
        The part of them that belongs to each stage.
    """
    pairs = enumerate(itertools.pairwise(moves), start=1)
    breaks = [at for at, (a, b) in pairs if not handed_on(a.after, b.before)]
    return list(itertools.starmap(slice, itertools.pairwise([0, *breaks, len(moves)])))


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
