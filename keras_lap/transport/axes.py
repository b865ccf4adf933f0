"""Figures and axes for the pictures, and what matplotlib they need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from keras_lap._extras import require
from keras_lap.transport.report import TransportReport

Reports = TransportReport | Mapping[str, TransportReport]


def matplotlib(module: str = "figure") -> Any:
    """A module of matplotlib, imported when a picture is drawn.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    return require(f"matplotlib.{module}", "matplotlib", "plots", "A picture")


def single(ax: Any, size: tuple[float, float] = (5.0, 3.6)) -> Any:
    """The user's axes, or those of a new figure that belongs to no window."""
    if ax is not None:
        return ax
    return matplotlib().Figure(figsize=size, layout="constrained").add_subplot()


def grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """A new figure with `count` axes of equal size; those left over are hidden."""
    columns = max(1, min(columns, count))
    rows = math.ceil(count / columns)
    figure = matplotlib().Figure(
        figsize=(columns * size[0], rows * size[1]), layout="constrained"
    )
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def named(reports: Reports) -> dict[str, TransportReport]:
    """Reports by the names they are drawn under."""
    if isinstance(reports, TransportReport):
        return {reports.model_name: reports}
    return dict(reports)
