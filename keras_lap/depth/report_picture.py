"""The picture of a `DepthReport`."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_lap._drawing import BLUE, GREY, ORANGE, VERMILION, grid, label, whole_ticks


def draw(report: Any) -> Any:
    """Draws a `DepthReport`; see `DepthReport.plot`."""
    panels = [_error, _moves] + [_early] * (report.confidences is not None)
    figure, axes = grid(len(panels), len(panels), (4.8, 3.6))
    for panel, axis in zip(panels, axes, strict=True):
        panel(axis, report)
    figure.suptitle(label(f"{report.model_name}: {report.summary}"), fontsize=10)
    return figure


def _error(axis: Any, report: Any) -> None:
    times = np.array([exit.time for exit in report.exits])
    errors = np.array([exit.loss for exit in report.exits])
    axis.plot(times, errors, "o-", ms=4, color=BLUE, label="loss")
    decay = report.decay
    if decay.rate is not None:
        fine = np.linspace(times[0], times[-1], 200)
        curve = decay.floor + decay.amplitude * np.exp(-decay.rate * fine)
        text = f"fit, rate {decay.rate:.3g}"
        axis.plot(fine, curve, "--", color=GREY, label=text)
    keep = report.advice.keep
    text = f"advice: {report.summary}"
    axis.axvline(times[keep], color=VERMILION, lw=1, ls=":", label=text)
    axis.set(xlabel="time", ylabel="loss")
    shown = errors[np.isfinite(errors)]
    axis.set_yscale("log" if len(shown) and np.all(shown > 0) else "linear")
    if report.accuracies is not None:
        share = axis.twinx()
        values = [exit.accuracy for exit in report.exits]
        share.plot(times, values, "s-", ms=3, lw=0.8, color=ORANGE, label="accuracy")
        share.set_ylabel("accuracy")
        axis.plot([], [], "s-", ms=3, lw=0.8, color=ORANGE, label="accuracy")
    _legend(axis)


def _moves(axis: Any, report: Any) -> None:
    at = np.arange(1, len(report.blocks) + 1)
    parts = (
        (-0.2, "control_energy", "control energy", BLUE),
        (0.2, "cost", "cost", VERMILION),
    )
    for shift, key, text, shade in parts:
        values = np.array([getattr(block, key) for block in report.blocks])
        share = values / max(values.max(), np.finfo(float).tiny)
        axis.bar(at + shift, share, 0.4, color=shade, label=text)
    axis.set(xlabel="block", ylabel="share of the largest")
    whole_ticks(axis.xaxis)
    _legend(axis)


def _early(axis: Any, report: Any) -> None:
    cuts = [(exit.blocks, exit.accuracy) for exit in report.exits]
    points = report.early_exits(np.linspace(0, 1, 101))
    ways = [(point["blocks"], point["accuracy"]) for point in points]
    axis.plot(*zip(*ways, strict=True), color=BLUE, label="each sample stops once sure")
    axis.plot(*zip(*cuts, strict=True), "s-", ms=3, lw=0.8, color=ORANGE, label="cut")
    axis.set(xlabel="mean number of blocks", ylabel="accuracy")
    _legend(axis)


def _legend(axis: Any) -> None:
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    axis.legend(fontsize=8, ncols=2, frameon=False, **above)
