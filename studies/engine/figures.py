"""Pictures of a study's results, from its records alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_lap._drawing import COLORS, MARKERS, VERMILION, grid
from keras_lap._drawing import label as escaped
from studies.engine import measures
from studies.engine.measures import Results
from studies.engine.methods import PLAIN, Method
from studies.engine.statistics import Interval, mean_interval
from studies.engine.study import Study


def accuracies(study: Study, results: Results) -> Any:
    """Highest test accuracy of every setting and method, with its interval."""
    count = len(study.settings)
    figure, axes = grid(1, size=(max(6.4, 0.9 * count), 4.4))
    axis, methods = axes[0], _styles(study)
    beside = [list(setting.methods) for setting in study.settings]
    step = min(0.12, 0.8 / max(map(len, beside)))  # between settings stays a gap
    for method, style in methods.items():
        points = _points(study, results, method)
        at = [
            p + step * (beside[p].index(method) - (len(beside[p]) - 1) / 2)
            for p in points
        ]
        _intervals(axis, at, points.values(), method, style, "none")
    # A label of several lines leaves the room to the picture.
    wide = max(16, int(64 / count))
    labels = [escaped(textwrap.fill(setting.label, wide)) for setting in study.settings]
    turned = {"rotation": 30, "ha": "right"} if count > 4 else {}
    axis.set_xticks(range(count), labels, fontsize=8, **turned)
    axis.set_xlim(-0.5, count - 0.5)
    _percent(axis, "highest test accuracy (%)")
    # As many columns as the longest name of a method leaves room for.
    longest = max(len(str(method)) for method in methods)
    columns = max(1, int(figure.get_figwidth() * 13 / (longest + 8)))
    figure.legend(
        fontsize=8, loc="outside upper center", ncols=min(columns, len(methods))
    )
    return figure


def training(study: Study, results: Results) -> Any:
    """Test accuracy and λ over the epochs, mean over the seeds, of every setting."""
    figure, axes = grid(2 * len(study.settings))
    styles = _styles(study)
    for number, setting in enumerate(study.settings):
        accuracy, multiplier = axes[2 * number : 2 * number + 2]
        for method in setting.methods:
            found = list(measures.cell(study, setting, method, results).values())
            curves = [100 * np.array(r["result"]["test_accuracy"]) for r in found]
            lambdas = [r["result"].get("multiplier") for r in found]
            style = {"color": styles[method]["color"], "label": escaped(method)}
            for axis, lines in ((accuracy, curves), (multiplier, lambdas)):
                known = [line for line in lines if line is not None]
                if known:
                    mean = np.mean(np.array(known, float), axis=0)
                    axis.plot(np.arange(1, len(mean) + 1), mean, **style)
        accuracy.set(title=escaped(setting.label), xlabel="epoch")
        _percent(accuracy, "test accuracy (%)")
        multiplier.set(title=escaped(setting.label), ylabel="λ", xlabel="epoch")
    axes[0].legend(fontsize=7)
    return figure


def depth(study: Study, results: Results) -> Any:
    """Highest test accuracy against the number of blocks, one panel an initialiser."""
    initializers = [str(setting.network.initializer) for setting in study.settings]
    names = list(dict.fromkeys(initializers))
    figure, axes = grid(len(names))
    for method, style in _styles(study).items():
        points = _points(study, results, method)
        for name, axis in zip(names, axes, strict=True):
            own = {p: points[p] for p in points if initializers[p] == name}
            blocks = [study.settings[p].network.num_blocks for p in own]
            _intervals(axis, blocks, own.values(), method, style, "-")
    for name, axis in zip(names, axes, strict=True):
        axis.set(title=escaped(name), xlabel="residual blocks")
        _percent(axis, "highest test accuracy (%)")
    axes[0].legend(fontsize=8)
    return figure


def cost_against_accuracy(study: Study, results: Results) -> Any:
    """One point for every plainly trained network, one panel for every data set."""
    names = list(dict.fromkeys(str(setting.data) for setting in study.settings))
    figure, axes = grid(len(names))
    for setting in study.settings:
        axis = axes[names.index(str(setting.data))]
        found = measures.cell(study, setting, setting.methods[0], results).values()
        axis.scatter(
            [measures.transport_cost(record) for record in found],
            [measures.last_accuracy(record) for record in found],
            s=14,
            label=escaped(setting.label),
        )
    for name, axis in zip(names, axes, strict=True):
        axis.set(
            title=escaped(name), xlabel="transport cost on test data", xscale="log"
        )
        _percent(axis, "last test accuracy (%)")
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
    figure, axes = grid(len(drawn) * columns, columns=columns, size=(1.5, 1.6))
    for row, (label, kept) in enumerate(drawn):
        colors = [COLORS[label % len(COLORS)] for label in kept["labels"]]
        for block, positions in enumerate(kept["positions"]):
            axis = axes[row * columns + block]
            points = np.array(positions, float)
            # As vectors, the points of all panels would make a file of megabytes.
            axis.scatter(*points.T, s=3, c=colors, linewidths=0, rasterized=True)
            axis.set_title("input" if block == 0 else f"block {block}", fontsize=7)
            axis.tick_params(labelsize=4)
            for scale in (axis.xaxis, axis.yaxis):
                scale.get_offset_text().set_fontsize(4)
        axes[row * columns].set_ylabel(escaped(label), fontsize=6)
    return figure


def _intervals(
    axis: Any,
    at: Iterable[Any],
    intervals: Iterable[Interval],
    method: Method,
    style: dict[str, str],
    line: str,
) -> None:
    """Draws means with their intervals."""
    known = list(intervals)
    axis.errorbar(
        list(at),
        [interval.mean for interval in known],
        yerr=[np.nan_to_num(interval.half_width) for interval in known],
        linestyle=line,
        capsize=3,
        **style,
        label=escaped(method),
    )


def _percent(axis: Any, label: str) -> None:
    """Names the axis, and ends it where percentages do: intervals of few runs do not.

    A little beyond, so that points at the ends are seen whole.
    """
    axis.set_ylabel(label)
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, -2), min(high, 102))


def _styles(study: Study) -> dict[Method, dict[str, str]]:
    """Every method of a study once, in order, with its colour and marker.

    The colour of plain training is the same in all pictures, and that of the first
    other method, least action: whichever are compared. Where colours come again,
    markers differ.
    """
    methods = dict.fromkeys(m for setting in study.settings for m in setting.methods)
    others = [method for method in methods if method.kind != PLAIN]
    rest = [color for color in COLORS if color != VERMILION]
    styles = {
        method: {"color": rest[i % len(rest)], "marker": MARKERS[i // len(rest)]}
        for i, method in enumerate(others)
    }
    of_plain = {"color": VERMILION, "marker": MARKERS[0]}
    return {method: styles.get(method, of_plain) for method in methods}


def _points(study: Study, results: Results, method: Method) -> dict[int, Interval]:
    """Interval of each setting, by its position, that has results of a method."""
    points = {}
    for position, setting in enumerate(study.settings):
        if method in setting.methods:
            found = measures.cell(study, setting, method, results).values()
            values = [measures.highest_accuracy(record) for record in found]
            if values:
                points[position] = mean_interval(values)
    return points
