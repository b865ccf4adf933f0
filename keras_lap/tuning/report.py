"""What a search found: a table of its trials and a picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from keras_lap._checks import is_number
from keras_lap._drawing import (
    BLUE,
    PALE,
    VERMILION,
    counted,
    grid,
    html_table,
    label,
    matplotlib,
    short,
    text_table,
)
from keras_lap.tuning.hypermodel import REASON_FILE

Row = dict[str, Any]

# Where the ticks of an axis are written.
_BESIDE = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": 7}


class TrialTable(list[Row]):
    """The trials of a search, one row each, the best first; `str(table)` aligns them.

    A list of what `trial_table` found, all rows with the same keys.
    """

    def __repr__(self) -> str:
        done = sum(row["status"] == "COMPLETED" for row in self)
        return f"<{counted(len(self), 'trial')}, {done} completed>"

    def __str__(self) -> str:
        return "\n".join(text_table(*self._cells())) if self else repr(self)

    def _repr_html_(self) -> str:
        head, rows = self._cells()
        return html_table([head, *rows])

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        rows = [[_cell(value) for value in row.values()] for row in self]
        return list(self[0]) if self else [], rows


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return short(value) if value is None or is_number(value) else str(value)


def trial_table(tuner: Any) -> TrialTable:
    """Lists the trials of a search, the best first.

    Args:
        tuner: A KerasTuner tuner that has searched, or reloaded a search.

    Returns:
        One row for each trial: `trial`, `status`, one entry for each hyperparameter
        under its name, the objective under its name (`None` where there is none),
        `epoch` (the best, from 1) and `reason` (why a trial failed).
    """
    trials = tuner.oracle.get_best_trials(len(tuner.oracle.trials))
    names = _names(tuner)
    return TrialTable(_row(tuner, trial, names) for trial in trials)


def write_report(tuner: Any, path: str | Path | None = None) -> list[Path]:
    """Writes the trials of a search as a table (CSV) and a picture (PNG).

    The picture has an axis for each hyperparameter that was searched and one for the
    objective (parallel coordinates), and a line for each completed trial; the best is
    drawn thick.

    Args:
        tuner: A KerasTuner tuner that has searched, or reloaded a search.
        path: Both files' name without the ending. Defaults to `None`: next to the
            search's directory, `<directory>/<project_name>-trials`.

    Returns:
        The files written; without a completed trial there is no picture.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the search has no trial.
    """
    rows = trial_table(tuner)
    if not rows:
        raise ValueError(
            f"There is no trial to report. Received: a search in {tuner.project_dir}. "
            "Call tuner.search(...) first, or construct the tuner with the directory "
            "and project_name of a search and overwrite=False."
        )
    stem = Path(path or f"{tuner.project_dir}-trials")
    table, picture = (stem.with_name(stem.name + end) for end in (".csv", ".png"))
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    objective = tuner.oracle.objective
    figure = _draw(rows, _names(tuner), objective)
    if figure is None:
        return [table]
    figure.savefig(picture, dpi=150)
    return [table, picture]


def _names(tuner: Any) -> list[str]:
    """The hyperparameters in the order in which they were declared, each once."""
    return list(dict.fromkeys(known.name for known in tuner.oracle.get_space().space))


def _row(tuner: Any, trial: Any, names: list[str]) -> Row:
    completed = trial.status == "COMPLETED"
    values = trial.hyperparameters.values
    return {
        "trial": trial.trial_id,
        "status": trial.status,
        **{name: values.get(name) for name in names},
        tuner.oracle.objective.name: float(trial.score) if completed else None,
        "epoch": trial.best_step + 1 if completed else None,
        "reason": None if completed else _reason(tuner, trial),
    }


def _reason(tuner: Any, trial: Any) -> str:
    """The last line of the error, or what a worker could not send to its chief."""
    file = Path(tuner.get_trial_dir(trial.trial_id)) / REASON_FILE
    if file.exists():
        return file.read_text(encoding="utf-8")
    lines = (trial.message or "").strip().splitlines()
    return lines[-1] if lines else ""


def _draw(rows: list[Row], names: list[str], objective: Any) -> Any:
    """Parallel coordinates, or `None` without a completed trial."""
    rows = [row for row in rows if row["status"] == "COMPLETED"]
    if not rows:
        return None
    searched = [name for name in names if len({row[name] for row in rows}) > 1]
    columns = [*searched, objective.name]
    scales = [_positions([row[name] for row in rows]) for name in columns]
    figure, (axis,) = grid(1, size=(max(4.0, 1.8 * len(columns)), 4.2))
    colors = matplotlib("colors")
    shade = colors.LinearSegmentedColormap.from_list("", (PALE, BLUE))
    lines = np.array([positions for positions, _ in scales]).T
    goodness = lines[:, -1] if objective.direction == "max" else 1 - lines[:, -1]
    for line, good in zip(lines[::-1], goodness[::-1], strict=True):
        axis.plot(line, color=shade(good), lw=1.2, marker="o", ms=3)
    axis.plot(lines[0], color=VERMILION, lw=3, marker="o", label="best trial")
    for column, (_, ticks) in enumerate(scales):
        axis.axvline(column, color="black", lw=0.8, zorder=0)
        for position, text in ticks:
            axis.annotate(label(text), (column, position), **_BESIDE)
    axis.set_xticks(range(len(columns)), map(label, columns))
    axis.set_xlim(-0.2, len(columns) - 0.5)
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_title(f"{len(rows)} trials; bluer lines are better", fontsize=9)
    figure.legend(loc="outside lower right", fontsize=8)
    return figure


def _positions(values: list[Any]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Heights from 0 to 1 on one axis, and a few ticks with their labels.

    Positive numbers over more than a decade are spread by their logarithm, with 0, if
    it is among them, below the smallest; what is not a number evenly, in order.
    """
    kinds = sorted(set(values), key=lambda v: (isinstance(v, str), v is None, str(v)))
    if all(isinstance(v, (int, float)) for v in kinds):
        spread, texts = _spread(np.array(values, float)), [f"{v:.3g}" for v in values]
    else:
        spread, texts = np.array([kinds.index(v) for v in values], float), values
    span = np.ptp(spread)
    heights = (spread - spread.min()) / span if span else np.full_like(spread, 0.5)
    ticks = dict(zip(heights.tolist(), map(str, texts), strict=True))
    return heights, _thin(sorted(ticks.items()))


def _spread(numbers: np.ndarray) -> np.ndarray:
    """The numbers, or their logarithms; see `_positions`."""
    positive = numbers[numbers > 0]
    if numbers.min() < 0 or not positive.size or positive.max() <= 10 * positive.min():
        return numbers
    low, high = np.log10([positive.min(), positive.max()])
    zeros = np.full_like(numbers, low - 0.15 * (high - low))
    return np.log10(numbers, where=numbers > 0, out=zeros)


def _thin(ticks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Ticks that do not write over each other, both ends among them."""
    kept = ticks[:1]
    for tick in ticks[1:-1]:
        if tick[0] - kept[-1][0] > 0.06 and ticks[-1][0] - tick[0] > 0.06:
            kept.append(tick)
    return kept if len(ticks) < 2 else [*kept, ticks[-1]]
