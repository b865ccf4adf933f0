"""Sums over batches from which the numbers of blocks and stages are made.

Everything is added up in float64 and in NumPy, so that the backends agree.
"""

from __future__ import annotations

import numpy as np

from keras_lap.transport.report import BlockTransport
from keras_lap.transport.sampling import Reservoir
from keras_lap.transport.scores import PathSums
from keras_lap.transport.states import Move

# Levels of the quantiles of displacement norms.
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
# Norms are kept of so many samples; up to there quantiles are exact.
_NORMS_KEPT = 10_000


class NotFinite(ValueError):
    """A state is NaN or infinite; the text says where."""


class Mean:
    """A mean of values that come in parts; None without any value."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, values: np.ndarray, count: int | None = None) -> None:
        """Adds values, any shape; they count as so many, or as they are many."""
        self._total += float(np.sum(values))
        self._count += np.size(values) if count is None else count

    def result(self) -> float | None:
        """Their mean."""
        return self._total / self._count if self._count else None


class BlockSums:
    """What is added up of one block: means and quantiles of its displacements.

    Args:
        move: One of its moves, for its name and kind.
        p: Exponent of the cost.

    Attributes:
        cosine: Of the cosine with the displacement before, over samples where both
            blocks move.
    """

    def __init__(self, move: Move, p: float):
        self.name, self._kind, self._p = move.name, move.kind, p
        self._cost, self._norm, self._relative, self.cosine = (Mean() for _ in range(4))
        self._norms = Reservoir(_NORMS_KEPT)

    def add(
        self,
        displacement: np.ndarray,
        norms: np.ndarray,
        sizes: np.ndarray,
        elements: int,
    ) -> None:
        """Adds a batch.

        Args:
            displacement: `(batch, features)`.
            norms: Their norms, `(batch,)`.
            sizes: Norms of the states before, `(batch,)`.
            elements: How many numbers of the displacement count; others are 0.
        """
        square = self._p == 2
        powers = displacement**2 if square else np.abs(displacement) ** self._p
        self._cost.add(powers, elements)
        self._norm.add(norms)
        self._relative.add(norms[sizes > 0] / sizes[sizes > 0])
        self._norms.add([norms])

    def report(self, stage: int) -> BlockTransport:
        """The numbers of the block, which lies in the stage of this index."""
        quantiles = np.quantile(self._norms.rows()[0], _LEVELS).tolist()
        return BlockTransport(
            self.name,
            self._kind,
            stage,
            self._cost.result() or 0.0,
            self._norm.result() or 0.0,
            dict(zip(map(str, _LEVELS), quantiles, strict=True)),
            self._relative.result(),
            self.cosine.result(),
        )


class StageSums:
    """What is added up of the path through one stage.

    Args:
        moves: Those of the stage on one batch, for the names of the blocks.
        p: Exponent of the costs.
    """

    def __init__(self, moves: list[Move], p: float):
        self.blocks = [BlockSums(move, p) for move in moves]
        self.path_ratio, self.line_shape_score = Mean(), Mean()

    def add(self, moves: list[Move]) -> None:
        """Adds a batch: how each block of the stage has moved it.

        Raises:
            NotFinite: If a state is not finite.
        """
        path = PathSums()
        previous, lengths = None, None
        for block, move in zip(self.blocks, moves, strict=True):
            before, after = (
                np.reshape(state, (len(state), -1)).astype(float)
                for state in (move.before, move.after)
            )
            with np.errstate(invalid="ignore"):  # reported in a line
                moved = after - before
            sizes = np.linalg.norm(before, axis=1)
            norms = np.linalg.norm(moved, axis=1)
            _check_finite(move.name, sizes + norms)
            block.add(moved, norms, sizes, move.elements)
            if previous is not None and lengths is not None:
                both = (lengths > 0) & (norms > 0)
                dots = np.einsum("bi,bi->b", previous[both], moved[both])
                block.cosine.add(dots / (lengths[both] * norms[both]))
            path.step(moved, norms)
            previous, lengths = moved, norms
        self.path_ratio.add(path.path_ratio())
        self.line_shape_score.add(path.line_shape_score())


def _check_finite(name: str, values: np.ndarray) -> None:
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise NotFinite(
            f"The states around the block {name!r} are not finite for {bad} of "
            f"{len(values)} samples of a batch. Check the data and the weights for NaN "
            "and infinity; a network whose training diverged has no transport."
        )
