"""Sums over batches from which the numbers of blocks and stages are made.

Everything is added up in float64 and in NumPy, so that the backends agree.
"""

from __future__ import annotations

import numpy as np

from keras_lap.transport.sampling import Reservoir
from keras_lap.transport.scores import PathSums
from keras_lap.transport.states import Pair

# Norms are kept of so many samples; up to there quantiles are exact.
_NORMS_KEPT = 10_000


class NotFinite(ValueError):
    """A state is NaN or infinite; the text says where."""


class Mean:
    """A mean of values that come in parts; None without any value."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, values: np.ndarray) -> None:
        """Adds values, any shape."""
        self._total += float(np.sum(values))
        self._count += np.size(values)

    def result(self) -> float | None:
        """Their mean."""
        return self._total / self._count if self._count else None


class BlockSums:
    """What is added up of one block.

    Attributes:
        cost: Of ``|v|^p`` over elements.
        norm: Of ``‖v‖`` over samples.
        relative: Of ``‖v‖/‖x‖`` over samples with ``x ≠ 0``.
        cosine: Of the cosine with the displacement before, over samples where both
            blocks move.
    """

    def __init__(self) -> None:
        self.cost, self.norm, self.relative, self.cosine = (Mean() for _ in range(4))
        self._norms = Reservoir(_NORMS_KEPT)

    def add(
        self, displacement: np.ndarray, norms: np.ndarray, sizes: np.ndarray, p: float
    ) -> None:
        """Adds a batch.

        Args:
            displacement: `(batch, features)`.
            norms: Their norms, `(batch,)`.
            sizes: Norms of the states before, `(batch,)`.
            p: Exponent of the cost.
        """
        squares = displacement**2 if p == 2 else np.abs(displacement) ** p
        self.cost.add(squares)
        self.norm.add(norms)
        self.relative.add(norms[sizes > 0] / sizes[sizes > 0])
        self._norms.add([norms])

    def quantiles(self, levels: tuple[float, ...]) -> list[float]:
        """Quantiles of the displacement norms."""
        return [float(q) for q in np.quantile(self._norms.rows()[0], levels)]


class StageSums:
    """What is added up of the path through one stage.

    Args:
        p: Exponent of the costs.
        names: Names of the stage's blocks.
    """

    def __init__(self, p: float, names: list[str]):
        self.blocks = [BlockSums() for _ in names]
        self.path_ratio, self.line_shape_score = Mean(), Mean()
        self._p, self._names = p, names

    def add(self, states: list[Pair]) -> None:
        """Adds a batch: the states before and after each block, `(batch, ...)`.

        Raises:
            NotFinite: If a state is not finite.
        """
        path = PathSums(len(states[0][0]))
        previous, lengths = None, None
        for name, block, pair in zip(self._names, self.blocks, states, strict=True):
            before, after = (
                np.reshape(state, (len(state), -1)).astype(float) for state in pair
            )
            with np.errstate(invalid="ignore"):  # reported in a line
                moved = after - before
            sizes = np.linalg.norm(before, axis=1)
            norms = np.linalg.norm(moved, axis=1)
            _check_finite(name, sizes + norms)
            block.add(moved, norms, sizes, self._p)
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
