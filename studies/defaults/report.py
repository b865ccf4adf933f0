"""Tables and the figure of the study, from its lines alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_lap._drawing import colors_of, grid
from studies.defaults import judging
from studies.defaults.growing import by_key
from studies.defaults.methods import CONSTANT, DECAYS, FIXED, PLAIN, RISING
from studies.defaults.one_default import (
    CANDIDATES,
    SEEDS,
    TRIALS,
    chosen,
    good_starts,
)
from studies.defaults.settings import SETTINGS
from studies.engine import published, records
from studies.engine.statistics import Interval, paired_difference
from studies.engine.tables import Table

FAMILIES = {
    "Share, λ rising": RISING,
    "Share, λ constant": CONSTANT,
    "fixed λ_0, rising": FIXED,
    "weight decay": DECAYS,
}
_ENOUGH, _SHORT = -0.5, 0.01  # points of accuracy, C/plain


class Results:
    """The lines of a result file, by what is asked of them.

    Args:
        lines: The records.
    """

    def __init__(self, lines: Sequence[records.Record]):
        self.lines = by_key(lines, judging.KEY)
        self.settings = [
            setting.name
            for setting in SETTINGS
            if any(key[0] == setting.name for key in self.lines)
        ]

    def seeds(self, setting: str, method: str, among: Sequence[int]) -> list[int]:
        """Those at which both the method and plain training were run."""
        both = method, PLAIN.name
        return [s for s in among if all((setting, m, s) in self.lines for m in both)]

    def trial(self, setting: str, method: str) -> tuple[float, float] | None:
        """Change of validation accuracy in points, and C/plain; None without trials."""
        seeds = self.seeds(setting, method, TRIALS)
        if not seeds:
            return None
        of = self.lines, setting, method, PLAIN.name, seeds
        return judging.change(*of), judging.cost_ratio(*of)

    @property
    def has_all_trials(self) -> bool:
        """Whether a method can be chosen."""
        return all(
            (setting, method.name, seed) in self.lines
            for setting in good_starts()
            for method in CANDIDATES
            for seed in TRIALS
        )

    def confirmed(self, setting: str) -> list[str]:
        """The methods that were run on the seeds that are reported."""
        names = [key[1] for key in self.lines if key[0] == setting and key[2] in SEEDS]
        return list(dict.fromkeys(names))

    def price(self, setting: str, method: str) -> Interval:
        """Paired change of test accuracy from plain training, in points."""
        seeds = self.seeds(setting, method, SEEDS)
        pair = [
            [100 * self.lines[setting, name, seed]["test"] for seed in seeds]
            for name in (PLAIN.name, method)
        ]
        return paired_difference(*pair)[0]

    def cost_ratio(self, setting: str, method: str) -> float:
        """Geometric mean of C on the test data over that of plain training."""
        pairs = [
            (self.lines[setting, method, seed], self.lines[setting, PLAIN.name, seed])
            for seed in self.seeds(setting, method, SEEDS)
        ]
        return float(np.exp(np.mean([np.log(a["cost"] / b["cost"]) for a, b in pairs])))


def trials(results: Results) -> Table:
    """What the trials say of each method, on validation data alone."""
    names, rows = [name for name in results.settings if name in good_starts()], []
    found = {
        method.name: [results.trial(name, method.name) for name in names]
        for method in CANDIDATES[1:]
    }
    best = {m.name for m in chosen(results.lines)} if results.has_all_trials else set()
    for method, each in found.items():
        known = [one for one in each if one is not None]
        if not known:
            continue
        changes, ratios = zip(*known, strict=True)
        path = float(np.exp(np.mean(np.log(ratios))))
        cells = [f"{one[0]:+.1f}, {_ratio(one[1])}" if one else "" for one in each]
        row = (f"{np.mean(changes):+.2f}", f"{min(changes):+.1f}", _ratio(path))
        mark = "**" if method in best else ""
        rows.append((f"{mark}{method}{mark}", *row, *cells))
    header = ("method", "mean change", "worst", "C/plain", *names)
    count = len({key[2] for key in results.lines} & set(TRIALS))
    note = (
        f"{count} of {len(TRIALS)} trial seeds, validation data. Change of the "
        "accuracy from plain training in points; C/plain is a geometric mean. For each "
        "setting both. In bold what was chosen, which waits for all trials."
    )
    return Table("Trials", header, tuple(rows), note)


def confirmation(results: Results) -> Table:
    """What was chosen, on fresh seeds and test data."""
    rows = []
    for setting in results.settings:
        for method in results.confirmed(setting):
            seeds = results.seeds(setting, method, SEEDS)
            lines = [results.lines[setting, method, seed] for seed in seeds]
            if not lines:
                continue
            accuracy = f"{100 * np.mean([line['test'] for line in lines]):.1f}"
            moved = f"{np.mean([np.mean(line['relative']) for line in lines]):.3f}"
            row = [setting, method, str(len(seeds)), accuracy]
            if method == PLAIN.name:
                rows.append((*row, "", "", moved, "", ""))
                continue
            price, ratio = (
                results.price(setting, method),
                results.cost_ratio(setting, method),
            )
            verdict = "yes" if price.low > _ENOUGH else "no"
            short = "yes" if ratio <= _SHORT else "no"
            rows.append(
                (*row, _signed(price), _ratio(ratio), moved, verdict, short),
            )
    header = (
        *("setting", "method", "seeds", "test accuracy", "change", "C/plain"),
        *("‖v‖/‖x‖", f"low end > {_ENOUGH:g}", f"C/plain ≤ {_SHORT:g}"),
    )
    note = (
        "Accuracies in percent; changes from plain training of the same seeds in "
        "points, with 95 % Student-t intervals; C and ‖v‖/‖x‖ on the test data."
    )
    return Table("Confirmation", header, tuple(rows), note)


def cost_against_accuracy(results: Results) -> Any:
    """C/plain and the change of accuracy, of every method in every setting."""
    names = [s for s in results.settings if results.trial(s, RISING[0].name)]
    figure, axes = grid(len(names), columns=4, size=(3.2, 2.8))
    colors = dict(zip(FAMILIES, colors_of(FAMILIES), strict=True))
    for name, axis in zip(names, axes, strict=True):
        for family, methods in FAMILIES.items():
            found = [results.trial(name, method.name) for method in methods]
            points = [(ratio, change) for change, ratio in filter(None, found)]
            if points:
                x, y = zip(*points, strict=True)
                axis.plot(x, y, "o-", ms=4, lw=1, color=colors[family], label=family)
        for method in results.confirmed(name):
            if method != PLAIN.name and results.seeds(name, method, SEEDS):
                price = results.price(name, method)
                half = None if price.count < 2 else price.half_width
                at = results.cost_ratio(name, method)
                axis.errorbar(at, price.mean, half, fmt="ks", ms=4, capsize=2, lw=1)
        axis.axhline(0.0, color="0.7", lw=0.8, zorder=0)
        axis.set(title=name, xscale="log", xlabel="C / plain", ylabel="change (points)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def texts(path: Path) -> dict[str, str]:
    """The tables by file name.

    Args:
        path: The result file.

    Raises:
        FileNotFoundError: If there is none.
    """
    lines = published.lines_of(path)
    results = Results(lines)
    tables = [make(results) for make in (trials, confirmation)]
    return published.page(path, lines, [table for table in tables if table.rows])


def write(path: Path) -> list[Path]:
    """Writes the tables, and the figure as SVG, beside the result file.

    Args:
        path: The result file.

    Returns:
        What was written.
    """
    figure = cost_against_accuracy(Results(records.read(path)))
    return published.write_beside(path, texts(path), figure)


def _ratio(value: float) -> str:
    return f"{value:.2g}"


def _signed(interval: Interval) -> str:
    half = "" if interval.count < 2 else f" ± {interval.half_width:.1f}"
    return f"{interval.mean:+.1f}{half}"
