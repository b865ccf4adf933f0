"""How straight a path is: scores of sequences of states."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np


class PathSums:
    """Follows each sample of a batch along one path, block by block."""

    def __init__(self) -> None:
        # Numbers until the first step makes arrays of them.
        self._length: Any = 0.0
        self._moves: Any = 0.0
        self._moved: Any = 0.0
        self._directions: Any = 0.0

    def step(self, displacement: np.ndarray, norms: np.ndarray) -> None:
        """Adds one move.

        Args:
            displacement: ``x_{k+1} − x_k``, `(batch, features)`, in float64.
            norms: Their Euclidean norms, `(batch,)`.
        """
        self._length += norms
        self._moves += norms > 0
        self._moved += displacement
        self._directions += displacement / np.where(norms > 0, norms, 1.0)[:, None]

    def path_ratio(self) -> np.ndarray:
        """See `path_ratio`; `(batch,)`."""
        return _ratio(self._length, np.linalg.norm(self._moved, axis=1))

    def line_shape_score(self) -> np.ndarray:
        """See `line_shape_score`; `(batch,)`."""
        return _ratio(self._moves, np.linalg.norm(self._directions, axis=1))


def path_ratio(states: Iterable[np.ndarray]) -> np.ndarray:
    """Computes ``Σ_k ‖x_{k+1} − x_k‖ / ‖x_K − x_0‖``, 1 for a straight line.

    A sample that never moves has the ratio 1; one that moves and comes back to where it
    was has an infinite one.

    Args:
        states: ``x_0 … x_K``, each of shape `(n, ...)`.

    Returns:
        The ratio of each sample, `(n,)`, at least 1 up to rounding.

    Examples:
        >>> path_ratio(np.array([[[0.0, 0.0]], [[3.0, 0.0]], [[3.0, 4.0]]]))
        array([1.4])
    """
    return _follow(states).path_ratio()


def line_shape_score(states: Iterable[np.ndarray]) -> np.ndarray:
    """Computes ``m / ‖Σ_k v_k/‖v_k‖‖`` with ``v_k = x_{k+1} − x_k``.

    The line-shape score (LSS) of Gai and Zhang: with every step cut to length one, the
    number of steps over the distance they lead to. At least 1, and 1 exactly if all
    steps go the same way. Unlike `path_ratio` it weighs small steps as much as large
    ones. Steps of length zero have no direction and are not counted, so m is the number
    of blocks that move the sample; a sample that never moves scores 1, one whose
    directions cancel scores infinity.

    Source: Gai and Zhang, arXiv 2102.09235. The definition is taken from later papers
    that use the score; what they say of steps of length zero is not known, the rule for
    them is ours.

    Args:
        states: ``x_0 … x_K``, each of shape `(n, ...)`.

    Returns:
        The score of each sample, `(n,)`.
    """
    return _follow(states).line_shape_score()


def _follow(states: Iterable[np.ndarray]) -> PathSums:
    flat = [np.reshape(state, (len(state), -1)).astype(float) for state in states]
    path = PathSums()
    for before, after in itertools.pairwise(flat):
        path.step(after - before, np.linalg.norm(after - before, axis=1))
    return path


def _ratio(length: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """``length / distance``, 1 where both are zero."""
    still = length == 0
    with np.errstate(divide="ignore"):
        return np.where(still, 1.0, length / np.where(still, 1.0, distance))
