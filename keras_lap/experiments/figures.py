"""Pictures of a study's results, from its records alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_lap.experiments import measures
from keras_lap.experiments.measures import Results
from keras_lap.experiments.statistics import mean_interval
from keras_lap.experiments.study import Method, Study

_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
_PANEL = (4.2, 3.4)


def accuracies(study: Study, results: Results) -> Any:
    """Highest test accuracy of every setting and method, with its interval."""
    figure, axes = _panels(1, width=max(6.0, 0.9 * len(study.settings)))
    axis = axes[0]
    methods = _methods(study)
    for number, method in enumerate(methods):
        offset = 0.12 * (number - (len(methods) - 1) / 2)
        points = _points(study, results, method)
        axis.errorbar(
            [position + offset for position, _ in points],
            [interval.mean for _, interval in points],
            yerr=[np.nan_to_num(interval.half_width) for _, interval in points],
            fmt="o",
            capsize=3,
            color=_color(number),
            label=str(method),
        )
    labels = [setting.label for setting in study.settings]
    axis.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axis.set_ylabel("highest test accuracy (%)")
    columns = len(methods) if len(methods) < 4 else 2
    figure.legend(fontsize=8, loc="outside upper center", ncols=columns)
    return figure


def training(study: Study, results: Results) -> Any:
    """Test accuracy and λ over the epochs, mean over the seeds, of every setting."""
    figure, axes = _panels(2 * len(study.settings))
    for number, setting in enumerate(study.settings):
        accuracy, multiplier = axes[2 * number : 2 * number + 2]
        for method in setting.methods:
            found = list(measures.cell(study, setting, method, results).values())
            style = {"color": _color(_methods(study).index(method))}
            if found:
                curves = [record["result"]["test_accuracy"] for record in found]
                accuracy.plot(100 * np.mean(curves, axis=0), label=str(method), **style)
            lambdas = [
                r["result"]["multiplier"]
                for r in found
                if r["result"].get("multiplier")
            ]
            if lambdas:
                multiplier.plot(np.mean(np.array(lambdas, float), axis=0), **style)
        accuracy.set(title=setting.label, ylabel="test accuracy (%)", xlabel="epoch")
        multiplier.set(title=setting.label, ylabel="λ", xlabel="epoch")
    axes[0].legend(fontsize=7)
    return figure


def depth(study: Study, results: Results) -> Any:
    """Highest test accuracy against the number of blocks, one panel an initialiser."""
    initializers = [str(setting.network.initializer) for setting in study.settings]
    names = list(dict.fromkeys(initializers))
    figure, axes = _panels(len(names))
    for number, method in enumerate(_methods(study)):
        points = _points(study, results, method)
        for name, axis in zip(names, axes, strict=True):
            own = [(p, interval) for p, interval in points if initializers[p] == name]
            axis.errorbar(
                [study.settings[p].network.num_blocks for p, _ in own],
                [interval.mean for _, interval in own],
                yerr=[np.nan_to_num(interval.half_width) for _, interval in own],
                marker="o",
                capsize=3,
                color=_color(number),
                label=str(method),
            )
            axis.set(title=name, xlabel="residual blocks")
    axes[0].set_ylabel("highest test accuracy (%)")
    axes[0].legend(fontsize=8)
    return figure


def cost_against_accuracy(study: Study, results: Results) -> Any:
    """One point for every plainly trained network, one panel for every data set."""
    names = list(dict.fromkeys(setting.data.name for setting in study.settings))
    figure, axes = _panels(len(names))
    for setting in study.settings:
        axis = axes[names.index(setting.data.name)]
        found = measures.cell(study, setting, setting.methods[0], results).values()
        axis.scatter(
            [measures.transport_cost(record) for record in found],
            [measures.last_accuracy(record) for record in found],
            s=14,
            label=setting.label,
        )
    for name, axis in zip(names, axes, strict=True):
        axis.set(title=name, xlabel="transport cost on test data", xscale="log")
        axis.set_ylabel("last test accuracy (%)")
        axis.legend(fontsize=7)
    return figure


def states(study: Study, results: Results) -> Any:
    """Where the test points are after every block, one row for every training.

    The first seed is drawn; every panel has a scale of its own, as bad initialisations
    move points very far.
    """
    drawn = []
    first = study.seeds[0]
    for setting in study.settings:
        for method in setting.methods:
            record = measures.cell(study, setting, method, results).get(first)
            if record is not None:
                drawn.append((f"{setting.label}\n{method}", record["result"]["states"]))
    columns = max((len(kept["positions"]) for _, kept in drawn), default=1)
    figure, axes = _panels(len(drawn) * columns, columns=columns, size=(1.5, 1.6))
    for row, (label, kept) in enumerate(drawn):
        colors = [_COLORS[label] for label in kept["labels"]]
        for block, positions in enumerate(kept["positions"]):
            axis = axes[row * columns + block]
            points = np.array(positions, float)
            # As vectors, the points of all panels would make a file of megabytes.
            axis.scatter(*points.T, s=3, c=colors, linewidths=0, rasterized=True)
            axis.set_title("input" if block == 0 else f"block {block}", fontsize=7)
            axis.tick_params(labelsize=4)
            for scale in (axis.xaxis, axis.yaxis):
                scale.get_offset_text().set_fontsize(4)
        axes[row * columns].set_ylabel(label, fontsize=6)
    return figure


def _panels(
    count: int,
    columns: int = 4,
    size: tuple[float, float] = _PANEL,
    width: float | None = None,
) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    columns = max(1, min(columns, count))
    rows = max(1, math.ceil(count / columns))
    total = (width or columns * size[0], rows * size[1])
    figure = Figure(figsize=total, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes


def _methods(study: Study) -> list[Method]:
    """Every method of a study once, in order."""
    return list(dict.fromkeys(m for setting in study.settings for m in setting.methods))


def _points(study: Study, results: Results, method: Method) -> list[Any]:
    """Position of each setting that has results of a method, and their interval."""
    points = []
    for position, setting in enumerate(study.settings):
        if method in setting.methods:
            found = measures.cell(study, setting, method, results).values()
            values = [measures.highest_accuracy(record) for record in found]
            if values:
                points.append((position, mean_interval(values)))
    return points


def _color(number: int) -> str:
    return _COLORS[number % len(_COLORS)]
