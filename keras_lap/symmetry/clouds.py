"""Clouds of parameters as laws: distances, projections, symmetrisation, a picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from keras_lap import _drawing as drawing
from keras_lap._checks import refusal
from keras_lap._extras import require
from keras_lap.symmetry.actions import Linear, fixed_basis, projector

# Two clouds are matched as an assignment while so many points repeat each fairly.
ASSIGNED = 4000


def w2(a: Any, b: Any) -> float:
    """The Wasserstein distance W₂ between two clouds of equal weights.

    ``W₂²(a, b) = min_π Σ_ij π_ij |a_i − b_j|²``, solved exactly: by SciPy as an
    assignment of up to 4000 points, of which the smaller cloud is repeated, else by
    POT.

    Args:
        a: Points, `(n, ...)`.
        b: Points, `(m, ...)`, of as many coordinates.

    Raises:
        ValueError: If one is empty or not finite, or the coordinates are not as many.
        ImportError: If SciPy, or POT where it is needed, is not installed.
        RuntimeError: If POT finds no optimum.

    Examples:
        >>> keras_lap.symmetry.w2([[0.0], [2.0]], [[3.0], [1.0]])
        1.0
    """
    a, b = _pair(a, b)
    purpose = "The distance of two clouds"
    distances = require("scipy.spatial.distance", "SciPy", "plots", purpose)
    common = math.lcm(len(a), len(b))
    if common <= ASSIGNED:
        optimize = require("scipy.optimize", "SciPy", "plots", purpose)
        repeated = [each.repeat(common // len(each), axis=0) for each in (a, b)]
        # Of differences: the fast formula rounds away what is near.
        costs = distances.cdist(*repeated, "sqeuclidean")
        return math.sqrt(costs[optimize.linear_sum_assignment(costs)].mean())
    ot = require("ot", "POT", "transport", f"{purpose} of {len(a)} and {len(b)} points")
    costs = distances.cdist(a, b, "sqeuclidean")
    scale = costs.max() or 1.0
    value, log = ot.emd2([], [], costs / scale, numItermax=10_000_000, log=True)
    if log["warning"] is not None:
        raise RuntimeError(
            f"POT found no optimal coupling of {len(a)} and {len(b)} points: "
            f"{log['warning']}. Pass fewer points, or sizes of which one divides the "
            "other."
        )
    return math.sqrt(max(float(value) * scale, 0.0))


def rmd(a: Any, b: Any) -> float:
    """The relative distance ``W₂(a, b) / √(M₂(a) + M₂(b))``, ``M₂ = 2 mean |θ|²``.

    In [0, 1]: 0 for equal laws, 1 only for a point and its opposite. Figures of the
    theory show its square.

    Args:
        a: As in `w2`.
        b: As in `w2`.

    Raises:
        ValueError: As `w2`.
        ImportError: As `w2`.
        RuntimeError: As `w2`.
    """
    a, b = _pair(a, b)
    size = math.sqrt(2 * (_square(a) + _square(b)))
    return w2(a, b) / size if size else 0.0


def rmd_to_fixed(cloud: Any, action: Linear) -> float:
    """`rmd` between a cloud and its projection on what a group leaves fixed.

    In closed form, ``√(mean |θ − Pθ|² / 2(mean |θ|² + mean |Pθ|²))``: a projection is
    an optimal coupling of the two.

    Args:
        cloud: Parameters of units, `(n, ...)`, as `MeanFieldEnsemble.cloud` returns.
        action: How the group acts on them; a layer's `parameter_action`.

    Raises:
        ValueError: If the cloud is empty, not finite, or of another size.
        TypeError: If the action is not linear.
    """
    points, projected = _points("cloud", cloud), project(cloud, action)
    size = 2 * (_square(points) + _square(projected))
    return math.sqrt(_square(points - projected) / size) if size else 0.0


def project(cloud: Any, action: Linear) -> np.ndarray:
    """The projected law ``P#μ``, ``P = mean_g M_g``: the points Pθ, `(n, D)`.

    Arguments and errors as in `rmd_to_fixed`.
    """
    points, matrix = _points("cloud", cloud), projector(action)
    if points.shape[1] != len(matrix):
        raise ValueError(
            f"cloud must have points of the {len(matrix)} coordinates that the action "
            f"moves. Received: points of {points.shape[1]}."
        )
    return points @ matrix.T


def symmetrize(cloud: Any, action: Linear) -> np.ndarray:
    """The symmetrised law ``mean_g M_g#μ``: the points M_gθ, `(|G|·n, D)`.

    Arguments and errors as in `rmd_to_fixed`.
    """
    project(cloud, action)  # which checks
    return np.concatenate(list(action.orbit(_points("cloud", cloud))))


def plot_clouds(clouds: dict[str, Any], action: Linear, ax: Any = None) -> Any:
    """Draws clouds beside what a group leaves fixed, in three dimensions.

    Across are the two directions among the fixed points in which the clouds together
    are greatest, upwards is the distance from the fixed points.

    Args:
        clouds: Clouds `(n, D)` by their names.
        action: How the group acts on them.
        ax: Three-dimensional axes; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: If a cloud is none, or there is none at all.
        TypeError: If the action is not linear.
        ImportError: If matplotlib is not installed.
    """
    if not isinstance(clouds, dict) or not clouds:
        raise refusal("clouds", "be a dictionary of at least one cloud", clouds)
    if not (ax is None or hasattr(ax, "set_zlim")):
        advice = "Make them by figure.add_subplot(projection='3d')."
        raise refusal("ax", "be three-dimensional axes", ax, advice)
    clouds = {name: _points(f"Cloud {name!r}", c) for name, c in clouds.items()}
    if ax is None:
        figure = drawing.matplotlib().Figure(figsize=(5, 5), layout="constrained")
        ax = figure.add_subplot(projection="3d")
    basis = fixed_basis(action)
    inside = {name: project(cloud, action) @ basis for name, cloud in clouds.items()}
    together = np.concatenate(list(inside.values()))
    _, _, directions = np.linalg.svd(together, full_matrices=False)
    for number, (name, cloud) in enumerate(clouds.items()):
        seen = np.zeros((len(inside[name]), 2))
        two = inside[name] @ directions[:2].T
        seen[:, : two.shape[1]] = two
        rest = np.linalg.norm(cloud - project(cloud, action), axis=1)
        shape = {"marker": drawing.marker(number), "color": drawing.color(number)}
        ax.scatter(
            *seen.T, rest, s=14, depthshade=False, label=drawing.label(name), **shape
        )
    ax.set(xlabel="fixed, 1", ylabel="fixed, 2", zlabel="|θ − Pθ|")
    ax.set_box_aspect(None, zoom=0.85)  # or the label upwards is cut
    ax.tick_params(labelsize=7)
    ax.locator_params(nbins=5)
    ax.legend(fontsize=8)
    return ax


def _pair(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    first, second = _points("a", a), _points("b", b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            "Two clouds must have points of as many coordinates. Received: "
            f"{first.shape[1]} and {second.shape[1]}."
        )
    return first, second


def _points(argument: str, cloud: Any) -> np.ndarray:
    """A cloud as `(n, D)` in float64."""
    points = np.asarray(
        cloud if isinstance(cloud, (list, tuple)) else ops.convert_to_numpy(cloud),
        float,
    )
    if points.ndim < 2 or not points.size or not np.isfinite(points).all():
        what = f"shape {points.shape}" if points.ndim < 2 or not points.size else "NaN"
        raise ValueError(
            f"{argument} must be finite points (n, D), at least one. Received: {what}."
        )
    return points.reshape(len(points), -1)


def _square(points: np.ndarray) -> float:
    return float(np.mean(np.sum(points**2, axis=1)))
