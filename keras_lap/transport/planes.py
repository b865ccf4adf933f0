"""A plane to look at states in: their own, or that of their principal components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_lap._checks import refusal
from keras_lap._drawing import COLORS
from keras_lap.transport.report import StageTransport, TransportReport

# Principal components are fitted to so many points at most.
_FITTED = 500


@dataclass(frozen=True, eq=False)
class Plane:
    """Two coordinates of states.

    Attributes:
        center: `(features,)`.
        axes: `(features, 2)`.
        labels: What the coordinates are called.
    """

    center: np.ndarray
    axes: np.ndarray
    labels: tuple[str, str]

    def project(self, states: np.ndarray) -> np.ndarray:
        """Coordinates of states `(n, ...)`, shape `(n, 2)`."""
        flat = np.reshape(states, (len(states), -1))
        return (flat - self.center) @ self.axes


def plane_of(states: Sequence[np.ndarray]) -> Plane:
    """The plane in which states are drawn.

    The data's own if they have two features; one feature lies on the first axis; else
    the first two principal components of the first and the last state together, which
    show most of what was moved where.

    Args:
        states: ``x_0 … x_K`` of the same samples, each of shape `(n, ...)`.
    """
    ends = [np.reshape(state, (len(state), -1)) for state in (states[0], states[-1])]
    features = ends[0].shape[1]
    if features <= 2:
        return Plane(np.zeros(features), np.eye(features, 2), ("$x_1$", "$x_2$"))
    points = np.concatenate([end[:_FITTED].astype(float) for end in ends])
    center = points.mean(axis=0)
    _, sizes, rows = np.linalg.svd(points - center, full_matrices=False)
    shares = 100 * sizes[:2] ** 2 / max(float(np.sum(sizes**2)), np.finfo(float).tiny)
    first, second = (f"component {i + 1} ({shares[i]:.0f} %)" for i in range(2))
    return Plane(center, rows[:2].T, (first, second))


def stage_and_plane(
    report: TransportReport, stage: int
) -> tuple[StageTransport, Plane]:
    """A stage of a report by its index, and the plane to draw it in.

    Raises:
        ValueError: If there is no such stage.
    """
    if not -len(report.stages) <= stage < len(report.stages):
        accepted = f"be one of 0 … {len(report.stages) - 1}, the stages of the report"
        raise refusal("stage", accepted, stage)
    chosen = report.stages[stage]
    return chosen, plane_of(chosen.states)


def classes(report: TransportReport, count: int) -> list[tuple[str, np.ndarray]]:
    """The sample's first points by class: a name and the points' indices each.

    Labels that are not whole numbers or names of at most ten classes are not used.
    """
    everyone = np.arange(min(count, report.sample_size))
    if report.labels is None:
        return [("", everyone)]
    labels = report.labels
    if labels.ndim == 2 and labels.shape[1] > 1:  # one-hot
        labels = labels.argmax(axis=1)
    labels = labels.reshape(len(labels), -1)[:, 0]
    names = np.unique(labels)
    whole = labels.dtype.kind in "iubUSO" or np.all(labels == np.round(labels))
    if len(names) > len(COLORS) or not whole:
        return [("", everyone)]
    return [
        (f"{name:g}" if name.dtype.kind == "f" else str(name), chosen)
        for name in names
        if len(chosen := everyone[labels[everyone] == name])
    ]
