"""Tables and the figure of the study, from its lines alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_lap._drawing import colors_of, grid, whole_ticks
from studies.engine import published, records
from studies.engine.statistics import Interval, mean_interval, paired_difference
from studies.engine.tables import Table
from studies.layers import judging
from studies.layers.methods import METHODS
from studies.layers.settings import SETTINGS, Setting

PLAIN = METHODS[0].name
OURS = ("least action", "λ held", "group norm, λ held", "path loss", "both")
RIVALS = ("stochastic depth", "deep supervision")
_FIRST_TRIAL = 100  # the seeds from here on chose strengths


class Results:
    """The lines of a result file, by what is asked of them.

    Args:
        lines: The records.
    """

    def __init__(self, lines: Sequence[records.Record]):
        chosen = _chosen(lines)
        reported = [
            line
            for line in lines
            if line["seed"] < _FIRST_TRIAL
            and line["strength"] == chosen.get(_of(line), line["strength"])
        ]
        self._lines = {judging.key(line): line for line in reported}

    def runs(self, setting: Setting, method: str) -> dict[int, records.Record]:
        """The runs of a method on the whole network, by seed."""
        wanted = setting.name, method, setting.blocks
        return {k[4]: line for k, line in self._lines.items() if k[:3] == wanted}

    def by_depth(self, setting: Setting) -> dict[int, list[float]]:
        """Test accuracies in percent of each depth trained by itself.

        On the seeds that were trained at all of them.
        """
        lines = {
            depth: {
                k[4]: 100 * line["test"][-1]
                for k, line in self._lines.items()
                if k[:3] == (setting.name, PLAIN, depth)
            }
            for depth in setting.depths
        }
        seeds = sorted(set.intersection(*map(set, lines.values())))
        return {depth: [of[seed] for seed in seeds] for depth, of in lines.items()}

    def need(self, setting: Setting) -> int | None:
        """How many blocks are needed; None if not all depths were trained."""
        by_depth = self.by_depth(setting)
        if not all(by_depth.values()):
            return None
        means = {depth: float(np.mean(each)) for depth, each in by_depth.items()}
        return judging.needed(means, 100 * judging.TOLERANCE)

    def cells(self) -> list[tuple[Setting, str]]:
        """The settings and methods that were run."""
        pairs = [(s, method.name) for s in SETTINGS for method in METHODS]
        return [(s, method) for s, method in pairs if self.runs(s, method)]


def _of(line: records.Record) -> tuple[str, str]:
    return line["setting"], line["method"]


def _chosen(lines: Sequence[records.Record]) -> dict[tuple[str, str], float]:
    """The strength that the trials have chosen for each setting and method."""
    cuts = {setting.name: setting.cuts for setting in SETTINGS}
    trials: dict[tuple[str, str], dict[float, list[records.Record]]] = {}
    for line in lines:
        if line["seed"] >= _FIRST_TRIAL:
            of_one = trials.setdefault(_of(line), {})
            of_one.setdefault(line["strength"], []).append(line)
    return {key: judging.choose(each, cuts[key[0]]) for key, each in trials.items()}


def at(line: records.Record, blocks: int, again: bool = False) -> float:
    """Test accuracy in percent after a cut; `again`: the better of two statistics.

    Args:
        line: A run.
        blocks: How many are kept.
        again: Whether batch normalisation that is estimated anew may be taken, if it
            is better on validation data.
    """
    anew = line["recalibrated"].get(str(blocks)) if again else None
    if anew and anew["validation"] > line["validation"][blocks]:
        return 100 * anew["test"]
    return 100 * line["test"][blocks]


def advice(line: records.Record) -> int:
    """How many blocks the run advises."""
    return judging.advise(line["validation"])


def comparison(results: Results) -> Table:
    """All settings and methods side by side."""
    header = (
        *("setting", "method", "strength", "seeds", "full", "cut to ¼", "cut to ½"),
        *("advised blocks", "at advice", "blocks needed", "error of the advice"),
        *("price of the method", "price of the cut to ¼", "seconds"),
    )
    rows = tuple(_row(results, *cell) for cell in results.cells())
    note = (
        "Test accuracies in percent, means over the seeds; no network was retrained, "
        "and batch normalisation keeps its moving statistics. Advised blocks: median, "
        "and least to most; its error is the median of what is advised less what is "
        "needed. The price of the method is the change of the full network's accuracy "
        "from plain training of the same seeds, that of the cut the change from the "
        "same run's full network; 95 % Student-t intervals. Seconds are processor time "
        "of the optimizer steps, on a machine with other work on it."
    )
    return Table("How many layers", header, rows, note)


def _row(results: Results, setting: Setting, method: str) -> tuple[str, ...]:
    runs = list(results.runs(setting, method).values())
    quarter, half = setting.cuts
    advised = [advice(line) for line in runs]
    need = results.need(setting)
    error = "" if need is None else f"{statistics.median(advised) - need:+g}"
    return (
        *(setting.name, method, f"{runs[0]['strength']:g}", str(len(runs))),
        *(_mean([at(r, k) for r in runs]) for k in (setting.blocks, quarter, half)),
        f"{statistics.median(advised):g} ({min(advised)}–{max(advised)})",
        _mean([at(r, k) for r, k in zip(runs, advised, strict=True)]),
        "" if need is None else str(need),
        error,
        "" if method == PLAIN else _signed(price(results, setting, method)),
        _signed(_cut(runs, setting)),
        f"{np.mean([r['seconds'] for r in runs]):.2g}",
    )


def price(results: Results, setting: Setting, method: str) -> Interval:
    """Paired change of the full network's accuracy from plain training."""
    return _paired(results, setting, PLAIN, method, setting.blocks)


def _paired(
    results: Results, setting: Setting, first: str, second: str, blocks: int
) -> Interval:
    """Change from one method to another at a cut, statistics as they are best."""
    one, other = results.runs(setting, first), results.runs(setting, second)
    seeds = sorted(one.keys() & other.keys())
    return paired_difference(
        [at(one[seed], blocks, again=True) for seed in seeds],
        [at(other[seed], blocks, again=True) for seed in seeds],
    )[0]


def _cut(runs: Sequence[records.Record], setting: Setting) -> Interval:
    quarter, _ = setting.cuts
    return mean_interval([at(r, quarter) - at(r, setting.blocks) for r in runs])


def recalibration(results: Results) -> Table:
    """What estimating the statistics of batch normalisation anew does to a cut."""
    rows = []
    for setting, method in results.cells():
        runs = results.runs(setting, method).values()
        if any(run["recalibrated"] for run in runs):
            cells = [
                _mean([100 * run["recalibrated"][str(keep)]["test"] for run in runs])
                for keep in setting.cuts
            ]
            moving = [_mean([at(r, keep) for r in runs]) for keep in setting.cuts]
            row = moving[0], cells[0], moving[1], cells[1]
            rows.append((setting.name, method, *row))
    header = "setting", "method", "¼", "¼, anew", "½", "½, anew"
    note = (
        "Test accuracies in percent of networks that were cut, with the moving "
        "statistics of the full network and with those of the cut one, estimated on "
        "1000 training images."
    )
    return Table("Statistics estimated anew", header, tuple(rows), note)


def truth(results: Results) -> Table:
    """What each depth reaches by itself."""
    rows = []
    for setting in SETTINGS:
        for depth, accuracies in results.by_depth(setting).items():
            if accuracies:
                seeds = str(len(accuracies))
                rows.append((setting.name, str(depth), seeds, _mean(accuracies)))
    header = "setting", "blocks", "seeds", "test accuracy"
    note = "Plain training of a network with so many blocks, in percent."
    return Table("Every depth trained by itself", header, tuple(rows), note)


def targets(results: Results) -> Table:
    """What was asked of the methods of this package, and whether it holds."""
    rows = []
    for setting, method in results.cells():
        if method in OURS:
            for name, value, passed in _targets(results, setting, method):
                verdict = "pass" if passed else "no"
                rows.append((setting.name, method, name, value, verdict))
    header = "setting", "method", "target", "measured", "holds"
    note = (
        "The rival is that of stochastic depth and deep supervision whose cut to a "
        "quarter is best, each with the statistics of batch normalisation that are "
        "better on validation data. Ahead: the whole interval is above 0."
    )
    return Table("Targets", header, tuple(rows), note)


def _targets(
    results: Results, setting: Setting, method: str
) -> list[tuple[str, str, bool]]:
    runs = list(results.runs(setting, method).values())
    quarter, _ = setting.cuts
    cut, cost = _cut(runs, setting), price(results, setting, method)
    found = [
        ("cut to ¼ costs ≤ 1.5 points", _signed(cut), cut.mean >= -1.5),
        ("full within .5 points of plain", _signed(cost), cost.mean >= -0.5),
    ]
    need = results.need(setting)
    if need is not None:
        error = statistics.median([abs(advice(run) - need) for run in runs])
        found.append(("median error of the advice ≤ 3", f"{error:g}", error <= 3))
    rivals = {
        rival: float(np.mean([at(r, quarter, again=True) for r in of.values()]))
        for rival in RIVALS
        if (of := results.runs(setting, rival))
    }
    if rivals:
        best = max(rivals, key=lambda name: rivals[name])
        ahead = _paired(results, setting, best, method, quarter)
        found.append((f"cut to ¼ ahead of {best}", _signed(ahead), ahead.low > 0))
    return found


def accuracy_by_depth(results: Results) -> Any:
    """Test accuracy of the cuts of each method, and of each depth by itself."""
    settings = [s for s in SETTINGS if results.runs(s, PLAIN)]
    figure, axes = grid(len(settings), columns=3)
    for setting, axis in zip(settings, axes, strict=True):
        colors = colors_of(method.name for method in METHODS)
        for method, color in zip(METHODS, colors, strict=True):
            runs = results.runs(setting, method.name).values()
            if runs:
                curve = 100 * np.mean([run["test"] for run in runs], axis=0)
                style = {"lw": 2.4} if method.name in OURS else {"lw": 1.2, "ls": "--"}
                axis.plot(curve, color=color, label=method.name, **style)
        by_depth = {k: v for k, v in results.by_depth(setting).items() if v}
        means = [np.mean(each) for each in by_depth.values()]
        label = "each depth by itself"
        axis.plot(list(by_depth), means, "ks", ms=4, ls="none", label=label)
        axis.set(title=setting.name, xlabel="blocks kept", ylabel="test accuracy (%)")
        whole_ticks(axis.xaxis)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure


TABLES = {"": comparison, "-targets": targets, "-anew": recalibration, "-truth": truth}


def texts(path: Path) -> dict[str, str]:
    """The tables by file name: one Markdown file with all, one CSV file for each.

    Args:
        path: The result file.

    Raises:
        FileNotFoundError: If there is none.
    """
    lines = published.lines_of(path)
    results = Results(lines)
    made = {name: make(results) for name, make in TABLES.items()}
    made_by = published.made_by(path, lines)
    tables = [table.markdown() for table in made.values() if table.rows]
    files = {f"{path.stem}.md": "\n".join([*tables, made_by])}
    for name, table in made.items():
        if table.rows:
            files[f"{path.stem}{name}.csv"] = table.csv()
    return files


def write(path: Path) -> list[Path]:
    """Writes the tables, and the figure as SVG, beside the result file.

    Args:
        path: The result file.

    Returns:
        What was written.
    """
    figure = accuracy_by_depth(Results(records.read(path)))
    return published.write_beside(path, texts(path), figure)


def _mean(values: Sequence[float]) -> str:
    interval = mean_interval(values)
    half = "" if len(values) < 2 else f" ± {interval.half_width:.1f}"
    return f"{interval.mean:.1f}{half}"


def _signed(interval: Interval) -> str:
    half = "" if interval.count < 2 else f" ± {interval.half_width:.1f}"
    return f"{interval.mean:+.1f}{half}"
