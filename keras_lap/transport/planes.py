"""A plane to look at states in: their own, or that of their principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lap._checks import refusal
from keras_lap._drawing import COLORS, color, label, marker
from keras_lap.transport.report import TransportReport

# Principal components are fitted to so many points at most.
_FITTED = 500


class Projection:
    """A stage of a report, the points of its states seen in one plane.

    Args:
        report: From `analyze`.
        stage: Index of the stage.
        max_points: How many points of the sample to show; None for all.

    Attributes:
        stage: The `StageTransport`.
        points: Coordinates of the points in every state, `(states, points, 2)`.
        labels: What the two coordinates are called.
        groups: The points by class: a name and the points' indices each.

    Raises:
        ValueError: If there is no such stage.
    """

    def __init__(
        self, report: TransportReport, stage: int, max_points: int | None = None
    ):
        last = len(report.stages) - 1
        if not -last - 1 <= stage <= last:
            accepted = f"be one of 0 … {last}, the stages of the report"
            raise refusal("stage", accepted, stage)
        self.stage = report.stages[stage]
        center, axes, self.labels = _plane(self.stage.states)
        shown = [_flat(state[:max_points]) for state in self.stage.states]
        self.points = np.stack([(points - center) @ axes for points in shown])
        self.groups = _classes(report.labels, len(shown[0]))

    def frame(self, axis: Any, title: str) -> None:
        """Names the axes, and what they show."""
        axis.set(xlabel=self.labels[0], ylabel=self.labels[1])
        axis.set_title(title, fontsize=10)

    def scatter(self, axis: Any, points: np.ndarray, size: float = 9) -> None:
        """Draws points `(points, 2)`, one collection for each class."""
        for number, (name, members) in enumerate(self.groups):
            axis.scatter(
                *points[members].T,
                s=size,
                color=color(number),
                marker=marker(number),
                linewidths=0,
                label=label(name) or None,
                rasterized=True,  # as vectors, they would make a file of megabytes
            )


def _flat(states: np.ndarray) -> np.ndarray:
    return np.reshape(states, (len(states), -1))


def _plane(
    states: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """The plane in which states are drawn.

    The data's own if they have two features; one feature lies on the first axis; else
    the first two principal components of the first and the last state together, which
    show most of what was moved where.

    Args:
        states: ``x_0 … x_K`` of the same samples, each of shape `(n, ...)`.

    Returns:
        Its center, `(features,)`, its axes, `(features, 2)`, and their names.
    """
    ends = [_flat(state) for state in (states[0], states[-1])]
    features = ends[0].shape[1]
    if features <= 2:
        return np.zeros(features), np.eye(features, 2), ("$x_1$", "$x_2$")
    points = np.concatenate([end[:_FITTED].astype(float) for end in ends])
    center = points.mean(axis=0)
    _, sizes, rows = np.linalg.svd(points - center, full_matrices=False)
    shares = 100 * sizes[:2] ** 2 / max(float(np.sum(sizes**2)), np.finfo(float).tiny)
    first, second = (f"component {i + 1} ({shares[i]:.0f} %)" for i in range(2))
    return center, rows[:2].T, (first, second)


def _classes(labels: np.ndarray | None, count: int) -> list[tuple[str, np.ndarray]]:
    """The first points by class; see `Projection`.

    Labels that are not whole numbers or names of at most ten classes are not used.
    """
    everyone = np.arange(count)
    if labels is None:
        return [("", everyone)]
    if labels.ndim == 2 and labels.shape[1] > 1:  # one-hot
        labels = labels.argmax(axis=1)
    labels = _flat(labels)[:, 0]
    names = np.unique(labels)
    whole = labels.dtype.kind in "iubUSO" or np.all(labels == np.round(labels))
    if len(names) > len(COLORS) or not whole:
        return [("", everyone)]
    return [
        (f"{name:g}" if name.dtype.kind == "f" else str(name), chosen)
        for name in names
        if len(chosen := everyone[labels[everyone] == name])
    ]
