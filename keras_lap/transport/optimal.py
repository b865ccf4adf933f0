"""A network's map beside the optimal transport between the same two clouds.

The solvers are those of POT, the Python Optimal Transport library, which nothing else
here needs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_lap._extras import require
from keras_lap.transport.distances import squared_distances

# Above so many points the exact solver takes many seconds, and Sinkhorn's is used.
EXACT_LIMIT = 2000
# Regularisation of Sinkhorn's algorithm, relative to the mean cost of a pair.
_SINKHORN = 1e-2


@dataclass(frozen=True, eq=False)
class Matching:
    """The optimal matching of a cloud with its image under a map T.

    Attributes:
        network_cost: ``mean_i ‖T(x_i) − x_i‖₂^p``.
        optimal_cost: ``min_π Σ_ij π_ij ‖T(x_j) − x_i‖₂^p`` over all couplings π of the
            two clouds, never above `network_cost`; with `exact` False an upper bound.
        partners: Index j of the image that each point is matched with, `(n,)`.
        own: Whether that is its own image, or one at the same place, `(n,)`.
        exact: Whether the problem was solved exactly or by Sinkhorn's algorithm.
    """

    network_cost: float
    optimal_cost: float
    partners: np.ndarray
    own: np.ndarray
    exact: bool

    @property
    def optimality(self) -> float:
        """``optimal_cost / network_cost`` in [0, 1]; 1 for a map that moves nothing.

        0 only for a map that permutes the points of its cloud.
        """
        return self.optimal_cost / self.network_cost if self.network_cost else 1.0

    @property
    def own_share(self) -> float:
        """Share of the points whose optimal partner is their own image."""
        return float(np.mean(self.own))


def match(before: np.ndarray, after: np.ndarray, p: float = 2.0) -> Matching:
    """Matches a cloud with its image at the least cost ``‖y − x‖₂^p``.

    Solved exactly by POT's network simplex (`ot.emd2`) for up to 2000 points, above
    that by Sinkhorn's algorithm with a small regularisation. The network's own matching
    is kept where it is as good as what the solver found.

    A few points in a space of many dimensions lie so far apart that almost any map is
    optimal between them: there a ratio of 1 says little, and one below 1 the more.

    Args:
        before: Points x_i, `(n, ...)`.
        after: Their images T(x_i) in the same order and of the same shape.
        p: Exponent, above 1. Defaults to 2.

    Returns:
        A `Matching`.

    Raises:
        ImportError: If POT is not installed.
        RuntimeError: If POT finds no optimum.

    Examples:
        >>> points = np.array([[0.0], [1.0]])
        >>> match(points, points[::-1]).optimality  # they change places
        0.0
    """
    ot = solver()
    x, y = (np.reshape(points, (len(points), -1)) for points in (before, after))
    squares = squared_distances(x, y)
    # The network's own moves to the last digit; the fast formula rounds.
    np.fill_diagonal(squares, np.sum((y.astype(float) - x) ** 2, axis=1))
    costs = squares if p == 2 else squares ** (p / 2)
    network_cost = float(np.mean(np.diag(costs)))
    own = np.arange(len(x))
    exact = len(x) <= EXACT_LIMIT
    if not network_cost:
        return Matching(0.0, 0.0, own, np.ones(len(x), bool), exact)
    plan_cost, plan = (_exact if exact else _sinkhorn)(ot, costs)
    # Where both are optimal, rounding must not decide which is shown.
    if plan_cost >= network_cost * (1 - 1e-9):
        return Matching(network_cost, network_cost, own, np.ones(len(x), bool), exact)
    partners = np.argmax(plan, axis=1)
    same = np.all(y[partners] == y, axis=1)
    return Matching(network_cost, plan_cost, partners, same, exact)


def optimal_transport_score(states: Sequence[np.ndarray]) -> float:
    """Computes ``mean_k W₂²(X_k, X_{k+1}) / mean_i ‖x_{k+1,i} − x_{k,i}‖²``.

    How near each block by itself is to the optimal transport between the cloud that
    enters it and the one that leaves it, averaged over the blocks: in [0, 1], and 1
    exactly if every block is optimal for the squared distance. Together with a
    line-shape score of 1 it says that the whole path is a geodesic between its ends.

    Source: after the optimal transport score (OTS) of Gai and Zhang, arXiv 2102.09235,
    whose text was not at hand: this is a reconstruction from what its abstract says the
    score measures, how near a map is to the optimal one. Do not compare its values with
    theirs.

    Args:
        states: ``x_0 … x_K`` of the same samples, each of shape `(n, ...)`.

    Raises:
        ImportError: If POT is not installed.
    """
    pairs = itertools.pairwise(states)
    return float(np.mean([match(before, after).optimality for before, after in pairs]))


def solver() -> Any:
    """POT's module.

    Raises:
        ImportError: If it is not installed.
    """
    return require("ot", "POT", "transport", "The comparison with optimal transport")


def _exact(ot: Any, costs: np.ndarray) -> tuple[float, np.ndarray]:
    scale = costs.max()
    _, log = ot.emd2(
        [], [], costs / scale, numItermax=10_000_000, return_matrix=True, log=True
    )
    if log["warning"] is not None:
        raise RuntimeError(
            f"POT found no optimal matching of {len(costs)} points: {log['warning']}. "
            "Lower max_samples."
        )
    plan = log["G"]
    return float(np.sum(plan * costs)), plan


def _sinkhorn(ot: Any, costs: np.ndarray) -> tuple[float, np.ndarray]:
    plan = ot.sinkhorn(
        [],
        [],
        costs,
        reg=_SINKHORN * costs.mean(),
        method="sinkhorn_log",
        numItermax=2000,
        stopThr=1e-6,
        warn=False,  # any coupling gives an upper bound
    )
    return float(np.sum(plan * costs) / plan.sum()), plan
