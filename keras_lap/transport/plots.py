"""Pictures of where points are moved, from a report alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_lap._drawing import (
    BLUE,
    GREY,
    VERMILION,
    color,
    colors_of,
    grid,
    label,
    marker,
    matplotlib,
    single,
    whole_ticks,
)
from keras_lap.transport.planes import Projection
from keras_lap.transport.report import TransportReport

Reports = TransportReport | Mapping[str, TransportReport]


def plot_points(
    report: TransportReport,
    stage: int = 0,
    max_points: int = 500,
    same_scale: bool = True,
) -> Any:
    """Draws the sample's points before the first block of a stage and after each.

    The circles figures of the paper's slides. States of two features are drawn as they
    are, others in the plane of their first two principal components, the same plane for
    all panels.

    Args:
        report: From `analyze`; its labels give colour and shape.
        stage: Index of the stage. Defaults to 0.
        max_points: How many points to draw. Defaults to 500.
        same_scale: Whether all panels show the same part of the plane; where points are
            moved far, each panel's own shows more. Defaults to True.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.

    Examples:
        >>> keras_lap.transport.plot_points(report).savefig("points.png")
    """
    seen = Projection(report, stage, max_points)
    count = len(seen.points)
    figure, axes = grid(count, math.ceil(count / math.ceil(count / 5)), (2.1, 2.2))
    names = ("before", *seen.stage.blocks)
    for axis, points, name in zip(axes, seen.points, names, strict=True):
        seen.scatter(axis, points)
        axis.set_title(label(_short(name)), fontsize=8)
        axis.tick_params(labelsize=6)
    if same_scale:
        _same_limits(axes, seen.points)
    figure.supxlabel(seen.labels[0], fontsize=8)
    figure.supylabel(seen.labels[1], fontsize=8)
    _legend(figure, axes[0])
    return figure


def plot_trajectories(reports: Reports, stage: int = 0, max_points: int = 40) -> Any:
    """Draws the paths of single points through the blocks of a stage.

    Args:
        reports: A report, or reports by name, drawn side by side on the same points,
            e.g. ``{"plain": …, "least action": …}``.
        stage: Index of the stage. Defaults to 0.
        max_points: How many points to follow. Defaults to 40.

    Returns:
        A `matplotlib.figure.Figure`. A ring marks where a path begins, a filled shape
        where it ends.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    reports = _named(reports)
    columns = 2 if len(reports) in (2, 4) else 3
    figure, axes = grid(len(reports), columns, (4.2, 3.8))
    for axis, (name, report) in zip(axes, reports.items(), strict=True):
        seen = Projection(report, stage, max_points)
        for number, (_, members) in enumerate(seen.groups):
            paths, style = seen.points[:, members], {"c": color(number)}
            axis.plot(*paths.transpose(2, 0, 1), lw=0.8, **style)
            axis.plot(*paths[0].T, "o", mfc="none", ms=4, **style)
        seen.scatter(axis, seen.points[-1], size=18)
        seen.frame(axis, f"{label(name)}: path ratio {seen.stage.path_ratio:.3g}")
    _legend(figure, axes[0])
    return figure


def plot_matching(report: TransportReport, stage: int = 0, max_points: int = 60) -> Any:
    """Draws the network's moves beside the optimal matching of the same points.

    Args:
        report: From `analyze`.
        stage: Index of the stage. Defaults to 0.
        max_points: How many points of the sample to draw. Defaults to 60.

    Returns:
        A `matplotlib.figure.Figure` of two panels: lines from each point to its image,
        and from each point to its partner in the optimal matching, orange where that is
        not its own image.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    seen = Projection(report, stage)
    matching = seen.stage.matching
    after, before = seen.points[-1], seen.points[0, :max_points]
    drawn = np.arange(len(before))
    figure, axes = grid(2, 2, (4.2, 3.8))
    ratio = f"{matching.optimal_cost:.4g} (ratio {matching.optimality:.3g})"
    panels = (
        (f"network: {matching.network_cost:.4g}", drawn, np.ones(len(drawn), bool)),
        (f"optimal: {ratio}", matching.partners[drawn], matching.own[drawn]),
    )
    for axis, (title, partners, own) in zip(axes, panels, strict=True):
        for members, shade in ((own, BLUE), (~own, VERMILION)):
            lines = np.stack([before, after[partners]])[:, members]
            axis.plot(*lines.transpose(2, 0, 1), lw=0.8, c=shade)
        axis.plot(*before.T, "o", mfc="none", ms=4, c="black", label="before")
        axis.plot(*after[partners].T, "s", ms=3, c=GREY, label="after")
        seen.frame(axis, title)
    _same_limits(axes, np.concatenate([before, after]))
    _legend(figure, axes[0])
    return figure


def plot_displacements(reports: Reports, ax: Any = None) -> Any:
    """Draws median and quantiles of each block's displacement norms.

    Args:
        reports: A report, or reports by name, drawn beside one another.
        ax: Axes to draw in; by default those of a new figure.

    Returns:
        The `matplotlib.axes.Axes`. Thick bars reach from the 25 % to the 75 % quantile,
        thin lines from 5 % to 95 %.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    axis = single(ax)
    reports = _named(reports)
    shades = colors_of(reports)
    for number, (name, report) in enumerate(reports.items()):
        blocks = np.arange(1, len(report.blocks) + 1)
        at = blocks + 0.22 * (number - (len(reports) - 1) / 2)
        quantiles = [block.displacement_quantiles for block in report.blocks]
        table = np.array([list(levels.values()) for levels in quantiles]).T
        style = {"color": shades[number]}
        axis.vlines(at, table[0], table[4], lw=1, **style)
        axis.vlines(at, table[1], table[3], lw=4, alpha=0.5, **style)
        axis.plot(at, table[2], marker(number), ms=4, label=label(name), **style)
    positive = all(b.displacement_mean > 0 for r in reports.values() for b in r.blocks)
    axis.set(xlabel="block", ylabel="displacement $\\|x_{k+1} - x_k\\|$")
    axis.set_yscale("log" if positive else "linear")
    whole_ticks(axis.xaxis)
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    axis.legend(fontsize=8, ncols=2, frameon=False, **above)
    return axis


def animate(
    reports: Reports,
    path: str | Path,
    stage: int = 0,
    max_points: int = 300,
    frames_per_block: int = 8,
    fps: int = 12,
    same_scale: bool = False,
    size: tuple[float, float] = (4.4, 4.2),
    dpi: int = 90,
) -> None:
    """Writes an animation of the points as they move from block to block.

    Args:
        reports: From `analyze`; or reports by name, side by side on the same points.
            Networks of fewer blocks take as long for all of them as the others.
        path: Where to: ``….gif``, written by Pillow, which matplotlib brings, or
            ``….mp4``, written by ffmpeg, which the system must have.
        stage: Index of the stage. Defaults to 0.
        max_points: How many points to draw. Defaults to 300.
        frames_per_block: Pictures from one state to the next, which are joined by
            straight lines. Defaults to 8.
        fps: Pictures a second. Defaults to 12.
        same_scale: Whether all networks are drawn on one scale, so that the eye can
            compare how far they move the points; where one moves them much farther, the
            points of the other are hard to tell apart. Defaults to False.
        size: Width and height of a network's part of the picture, in inches. Letters
            stay as they are: in a smaller picture of more `dpi` they are larger.
            Defaults to (4.4, 4.2).
        dpi: Pixels of an inch. Defaults to 90.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the ending of `path` is neither, or no ffmpeg was found.
    """
    writer = _writer(Path(path), fps)
    names = [label(name) for name in _named(reports)]
    seen = [Projection(r, stage, max_points) for r in _named(reports).values()]
    figure, axes = grid(len(seen), 3, size)
    everywhere = np.concatenate([each.points.reshape(-1, 2) for each in seen])
    for axis, each in zip(axes, seen, strict=True):
        each.scatter(axis, each.points[0])
        _same_limits([axis], everywhere if same_scale else each.points)
    last = max(len(each.points) for each in seen) - 1
    with writer.saving(figure, str(path), dpi=dpi):
        for part in np.linspace(0, 1, last * max(1, frames_per_block) + 1):
            for axis, each, name in zip(axes, seen, names, strict=True):
                position = part * (len(each.points) - 1)
                points = _between(each.points, position)
                for dots, (_, own) in zip(axis.collections, each.groups, strict=True):
                    dots.set_offsets(points[own])
                each.frame(axis, f"{name}: state {position:.1f}")
            writer.grab_frame()


def _between(states: np.ndarray, position: float) -> np.ndarray:
    """Points `(points, 2)` on the lines from one of their states to the next."""
    block = min(int(position), len(states) - 2)
    part = position - block
    return (1 - part) * states[block] + part * states[block + 1]


def _writer(path: Path, fps: int) -> Any:
    animation = matplotlib("animation")
    kinds = {".gif": animation.PillowWriter, ".mp4": animation.FFMpegWriter}
    if path.suffix not in kinds:
        raise ValueError(
            f"An animation is a .gif or an .mp4 file. Received: path={str(path)!r}."
        )
    kind = kinds[path.suffix]
    if not kind.isAvailable():
        raise ValueError(
            "An .mp4 file is written by ffmpeg, which was not found. Install it (on "
            "Debian and Ubuntu: apt install ffmpeg), or write a .gif file."
        )
    return kind(fps=fps)


def _named(reports: Reports) -> dict[str, TransportReport]:
    """Reports by the names they are drawn under."""
    if isinstance(reports, TransportReport):
        return {reports.model_name: reports}
    return dict(reports)


def _same_limits(axes: list[Any], points: np.ndarray) -> None:
    """One scale for all panels, on which all points `(..., 2)` are seen."""
    points = points.reshape(-1, 2)
    margin = 0.05 * np.ptp(points, axis=0) + 1e-6
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    for axis in axes:
        axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def _legend(figure: Any, axis: Any) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        columns = min(len(handles), 5)
        figure.legend(
            handles, labels, loc="outside upper center", ncols=columns, fontsize=8
        )


def _short(name: str, limit: int = 18) -> str:
    return name if len(name) <= limit else f"…{name[1 - limit :]}"
