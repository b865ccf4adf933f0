"""Distances of points, and how a map stretches them: Lipschitz and Hölder quotients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_lap._checks import finite_number

_FEATURES_AT_ONCE = 4096


@dataclass(frozen=True)
class Quotients:
    """Quotients of a map over all pairs of different points.

    Attributes:
        median: Their median.
        high: Their 95 % quantile.
        maximum: The largest: a lower bound of the map's true constant.
    """

    median: float
    high: float
    maximum: float


@dataclass(frozen=True)
class Regularity:
    """How regular a map and its inverse are on data.

    Attributes:
        exponent: The Hölder exponent a.
        forward: Of the map: ``‖T(x) − T(y)‖ / ‖x − y‖^a``.
        inverse: Of its inverse: ``‖x − y‖ / ‖T(x) − T(y)‖^a``; infinite where T sends
            two points to one.
    """

    exponent: float
    forward: Quotients
    inverse: Quotients


def regularity(
    before: np.ndarray, after: np.ndarray, exponent: float = 1.0
) -> Regularity:
    """Measures Hölder quotients of a map and of its inverse on data.

    The theory behind least action says that its solution T and T⁻¹ are Hölder
    continuous (Karkar et al., arXiv 2009.08372, section 3). No finite sample can show
    that; a quotient that is large can show where it fails.

    Args:
        before: Points x, `(n, ...)`.
        after: Their images T(x), `(n, ...)`, in the same order.
        exponent: Hölder exponent a above 0; 1 gives Lipschitz quotients. Defaults to 1.

    Returns:
        A `Regularity`. Pairs of equal points are left out; without any other pair all
        quotients are NaN. Points nearer to each other than a millionth of the cloud's
        diameter count as equal, as float32 states cannot tell them apart.

    Raises:
        ValueError: If the exponent is not above 0.

    Examples:
        >>> points = np.array([[0.0], [1.0], [3.0]])
        >>> regularity(points, 2 * points).forward.maximum
        2.0
    """
    exponent = finite_number("exponent", exponent, "> 0", "Use 1 for Lipschitz.")
    near, far = (_pair_distances(points) for points in (before, after))
    return Regularity(
        exponent,
        _quotients(far[near > 0], near[near > 0], exponent),
        _quotients(near[near > 0], far[near > 0], exponent),
    )


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``‖y_j − x_i‖²`` in float64, `(n, m)`, from points `(n, d)` and `(m, d)`.

    In parts: a copy of high-dimensional points in float64 would be the largest array.
    """
    squares = np.zeros((len(x), len(y)))
    for first in range(0, x.shape[1], _FEATURES_AT_ONCE):
        part = slice(first, first + _FEATURES_AT_ONCE)
        a, b = x[:, part].astype(float), y[:, part].astype(float)
        center = a.mean(axis=0)  # far from zero the fast formula rounds away digits
        a, b = a - center, b - center
        lengths = (np.sum(points**2, axis=1) for points in (a, b))
        squares += np.add.outer(*lengths) - 2 * a @ b.T
    return np.maximum(squares, 0.0)


def _pair_distances(points: np.ndarray) -> np.ndarray:
    flat = np.reshape(points, (len(points), -1))
    rows, columns = np.triu_indices(len(flat), k=1)
    squares = squared_distances(flat, flat)[rows, columns]
    squares[squares <= 1e-12 * squares.max(initial=0.0)] = 0.0
    return np.sqrt(squares)


def _quotients(above: np.ndarray, below: np.ndarray, exponent: float) -> Quotients:
    if not len(above):
        return Quotients(np.nan, np.nan, np.nan)
    with np.errstate(divide="ignore"):
        quotients = above / below**exponent
    median, high, maximum = np.quantile(
        quotients, (0.5, 0.95, 1.0), method="inverted_cdf"
    )
    return Quotients(float(median), float(high), float(maximum))
