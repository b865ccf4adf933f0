"""Tables of rates, clipping and the capped rule, from the lines of the study alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from studies.defaults import judging
from studies.defaults.clipping import (
    CAPPED,
    CELLS,
    CHOSEN,
    DEFAULT,
    KEY,
    NAMES,
    SEEDS,
    TRIALS,
    chosen,
    trials,
)
from studies.defaults.growing import by_key
from studies.defaults.methods import PLAIN
from studies.defaults.switched import BOUND
from studies.engine import published, records
from studies.engine.statistics import mean_interval, paired_difference
from studies.engine.tables import Table, interval_text

Lines = Mapping[tuple, records.Record]


def cells(lines: Lines) -> Table:
    """Each method against plain training of the same cell.

    Args:
        lines: By their keys.
    """
    names = [PLAIN.name, CHOSEN.name, DEFAULT.name]
    if _has_trials(lines):
        names.append(chosen(lines).name)
    rows = []
    for setting in NAMES:
        for rate, is_clipped in CELLS:
            for name in names:
                row = _row(lines, (setting, rate, is_clipped), name)
                if row:
                    rows.append((setting, rate, _shown(is_clipped), name, *row))
    header = (
        *("setting", "rate", "gradient norm", "method", "seeds", "test accuracy"),
        *("change", "C/plain", "‖v‖/‖x‖", f"steps above {BOUND:g}"),
    )
    note = (
        "Accuracies in percent. Changes in points from plain training of the same "
        "seeds, rate and clipping, with 95 % Student-t intervals; C/plain, a geometric "
        "mean, and ‖v‖/‖x‖ on the test data. The last column has the part of the steps "
        f"whose gradient has a norm above {BOUND:g}, before it is clipped. A constant "
        "rate is the peak of the schedule, from the first step on."
    )
    return Table("With and without a schedule and clipping", header, tuple(rows), note)


def schedules(lines: Lines) -> Table:
    """What a schedule, and clipping, change in the price of least action.

    Args:
        lines: By their keys.
    """
    rows = []
    for setting in NAMES:
        for method in (CHOSEN, DEFAULT):
            texts = []
            for first, second in (
                (("constant", False), ("cosine", False)),
                (("constant", False), ("constant", True)),
                (("cosine", False), ("cosine", True)),
            ):
                by_seed = [
                    _by_seed(lines, (setting, *cell), method.name)
                    for cell in (first, second)
                ]
                seeds = sorted(set(by_seed[0]) & set(by_seed[1]))
                pair = [[of[seed] for seed in seeds] for of in by_seed]
                interval = paired_difference(*pair)[0]
                texts.append(interval_text(interval, signed=True))
            rows.append((setting, method.name, *texts))
    header = (
        *("setting", "method", "schedule for a constant rate"),
        *("clipping, constant rate", "clipping, schedule"),
    )
    note = (
        "Differences, in points, between the changes of the first table, paired by "
        "seeds, with 95 % intervals: above zero where least action costs less, or "
        "gains more, with the schedule or with clipping."
    )
    return Table("What they change in the price", header, tuple(rows), note)


def rivals(lines: Lines) -> Table:
    """The capped rule against a constant λ, cell by cell.

    Args:
        lines: By their keys.
    """
    rows = []
    name = chosen(lines).name if _has_trials(lines) else ""
    for setting in NAMES:
        for rate, is_clipped in CELLS:
            cell = setting, rate, is_clipped
            own, other = (_by_seed(lines, cell, m) for m in (name, CHOSEN.name))
            seeds = sorted(set(own) & set(other))
            if seeds:
                pair = [[of[seed] for seed in seeds] for of in (other, own)]
                change = interval_text(paired_difference(*pair)[0], signed=True)
                ratio = _cost_ratio(lines, cell, (name, CHOSEN.name), seeds)
                rows.append((setting, rate, _shown(is_clipped), change, ratio))
    header = ("setting", "rate", "gradient norm", "change", "ratio of C")
    note = (
        f"{name} less {CHOSEN.name}, test accuracy in points, paired by seeds, with "
        "95 % intervals; and the geometric mean of C of the one over that of the other."
    )
    return Table("The capped rule against a constant λ", header, tuple(rows), note)


def tried(lines: Lines) -> Table:
    """The trials of the capped rule.

    Args:
        lines: By their keys.
    """
    of = trials(lines)
    best = chosen(lines).name if _has_trials(lines) else ""
    rows = []
    for name in (method.name for method in CAPPED):
        each = []
        for setting in NAMES:
            if all((setting, m, s) in of for m in (name, PLAIN.name) for s in TRIALS):
                pair = of, setting, name, PLAIN.name, TRIALS
                each.append((judging.change(*pair), judging.cost_ratio(*pair)))
        if len(each) == len(NAMES):
            mean = np.mean([change for change, _ in each])
            ratio = np.exp(np.mean(np.log([ratio for _, ratio in each])))
            mark = "**" if name == best else ""
            texts = [f"{change:+.1f}, {ratio:.2g}" for change, ratio in each]
            rows.append((f"{mark}{name}{mark}", f"{mean:+.2f}", f"{ratio:.2g}", *texts))
    note = (
        f"Seeds {TRIALS[0]} and {TRIALS[1]}, validation data; schedule, no clipping. "
        "Change of the accuracy from plain training in points, and C/plain. In bold "
        "what was chosen."
    )
    header = ("method", "mean change", "C/plain", *NAMES)
    return Table("Trials of the capped rule", header, tuple(rows), note)


def texts(path: Path) -> dict[str, str]:
    """The tables by file name.

    Args:
        path: The result file.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = published.lines_of(path)
    lines = by_key(found, KEY)
    return published.page(
        path, found, [make(lines) for make in (cells, schedules, rivals, tried)]
    )


def write(path: Path) -> list[Path]:
    """Writes the tables beside the result file.

    Args:
        path: The result file.

    Returns:
        What was written.
    """
    return published.write_beside(path, texts(path))


def _has_trials(lines: Lines) -> bool:
    needed = (PLAIN, *CAPPED)
    return all(
        (setting, *CELLS[0], method.name, seed) in lines
        for setting in NAMES
        for method in needed
        for seed in TRIALS
    )


def _by_seed(lines: Lines, cell: tuple, name: str) -> dict[int, float]:
    """Changes of the test accuracy from plain training, in points."""
    both = {
        seed: [lines.get((*cell, each, seed)) for each in (PLAIN.name, name)]
        for seed in SEEDS
    }
    return {
        seed: 100 * (own["test"] - plain["test"])
        for seed, (plain, own) in both.items()
        if plain is not None and own is not None
    }


def _row(lines: Lines, cell: tuple, name: str) -> tuple[str, ...] | None:
    change = _by_seed(lines, cell, name)
    if not change:
        return None
    own = [lines[*cell, name, seed] for seed in change]
    accuracy = f"{100 * np.mean([line['test'] for line in own]):.1f}"
    moved = f"{np.mean([np.mean(_numbers(line['relative'])) for line in own]):.3f}"
    steep = f"{np.mean([line['steep'] for line in own]):.2f}"
    if name == PLAIN.name:
        return str(len(own)), accuracy, "", "", moved, steep
    ratio = _cost_ratio(lines, cell, (name, PLAIN.name), [*change])
    text = interval_text(mean_interval([*change.values()]), signed=True)
    return str(len(own)), accuracy, text, ratio, moved, steep


def _cost_ratio(
    lines: Lines, cell: tuple, names: tuple[str, str], seeds: Sequence[int]
) -> str:
    """Geometric mean of C of the first method over that of the second."""
    own, other = (
        np.log(_numbers([lines[*cell, name, seed]["cost"] for seed in seeds]))
        for name in names
    )
    return f"{np.exp(np.mean(own - other)):.2g}"


def _shown(is_clipped: bool) -> str:
    return f"≤ {BOUND:g}" if is_clipped else "free"


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    """Numbers of a result file, which has none for what is not finite."""
    return np.array([np.inf if value is None else value for value in values])
