"""Tables of a study's results, as Markdown and CSV, from its records alone."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from studies.engine import measures
from studies.engine.measures import Results
from studies.engine.methods import PLAIN, Method
from studies.engine.records import Record
from studies.engine.statistics import (
    ENOUGH_SEEDS,
    Interval,
    mean_interval,
    paired_difference,
    scipy_stats,
)
from studies.engine.study import Setting, Study

_ACCURACIES = {
    "highest": measures.highest_accuracy,
    "at best validation": measures.chosen_accuracy,
    "last": measures.last_accuracy,
}
# Only of runs that measured it.
_SCORE = "best on half of the test data"
_NOTE = (
    "Accuracies are in percent on the test data, with 95 % Student-t intervals over "
    "the seeds: the highest over the epochs (as on the slides), that at the epoch of "
    "best validation accuracy, and the last. Changes are paired with plain training of "
    "the same seeds (same examples, initial weights and batches), with p-values of the "
    "paired t-test, not corrected for their number. Training loss, transport cost "
    "(kinetic energy on the test data) and λ are medians after the last epoch; losses "
    "that are not finite are left out of them, costs count as infinite."
)


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: A heading.
        header: Names of the columns.
        rows: The cells.
        note: What a reader must know.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """The table in Markdown, heading and note included."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        note = f"\n\n{self.note}" if self.note else ""
        return f"## {self.title}\n\n{table}{note}\n"

    def csv(self) -> str:
        """The table as comma-separated values, without heading and note."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()


def comparison(study: Study, results: Results) -> Table:
    """All settings and methods of a study side by side.

    Args:
        study: The study.
        results: Its records by fingerprint.

    Returns:
        A table with one row for each setting and method.
    """
    cells = list(cells_of(study, results))
    score = any("half_accuracy" in record["result"] for record in results.values())
    header = (
        *("setting", "method", "seeds", "slides"),
        *_ACCURACIES,
        *("change of highest", "change at best validation"),
        *(("change of last", _SCORE, "its change") if score else ()),
        *("training loss", "transport cost", "λ", "seconds per epoch"),
    )
    rows = tuple(_row(study, cell, score) for cell in cells)
    return Table(study.title, header, rows, _NOTE)


def differences(study: Study, reference: Study, name: str = "preset paper") -> Table:
    """In what a study differs from another.

    Args:
        study: A small one, say.
        reference: The one in the authors' protocol.
        name: What the reference is called.

    Returns:
        A table with a row for each attribute whose values differ.
    """
    here, there = _values(study), _values(reference)
    rows = tuple(
        (name, _listed(there.get(name)), _listed(here.get(name)))
        for name in dict.fromkeys([*there, *here])
        if there.get(name) != here.get(name)
    )
    note = (
        "Every attribute of which the two studies have other values; – stands for "
        "none, or for what the engine leaves at its default."
    )
    header = ("attribute", name, "here")
    return Table(f"What differs from {name}", header, rows, note)


def search(study: Study, results: Results) -> Table:
    """All settings and methods by validation accuracy alone, for choosing among them.

    Args:
        study: The study.
        results: Its records by fingerprint.
    """
    header = ("setting", "method", "seeds", "best validation accuracy", "change")
    measure = measures.best_validation_accuracy
    rows = tuple(
        (*cell.begin(study), cell.mean(measure), cell.change(measure))
        for cell in cells_of(study, results)
    )
    note = (
        "Highest validation accuracy over the epochs in percent, and its paired change "
        "from plain training. For choosing only: what is chosen here is measured on "
        "fresh seeds elsewhere."
    )
    return Table(study.title, header, rows, note)


def correlation(study: Study, results: Results) -> Table:
    """Transport cost against test accuracy over the plainly trained networks.

    Args:
        study: The study.
        results: Its records by fingerprint.

    Returns:
        Spearman's rank correlation for each setting and for groups of all settings
        that share their data.
    """
    groups: dict[str, list[Record]] = {}
    for setting in study.settings:
        for method in setting.methods:
            if method.kind == PLAIN:
                found = list(measures.cell(study, setting, method, results).values())
                size = setting.data.train_size or "all"
                group = f"all of {size} {setting.data} examples"
                groups.setdefault(group, []).extend(found)
                groups[setting.label] = found
    header = ("networks", "count", "rank correlation [95 % interval]", "p")
    rows = tuple((label, *_correlation(found)) for label, found in groups.items())
    note = (
        "Spearman's correlation of the transport cost on the test data with the test "
        "accuracy, both after the last epoch; below zero, networks that move their "
        "data less are more accurate. Intervals are Fisher's."
    )
    return Table("Transport cost against test accuracy", header, rows, note)


def seeds_text(count: int, planned: int) -> str:
    """How many seeds there are, and whether that is enough to conclude from."""
    if count == 0:
        return "not run"
    text = str(count) if count == planned else f"{count} of {planned}"
    return text if count >= ENOUGH_SEEDS else f"{text}: too few to conclude"


def interval_text(interval: Interval, signed: bool = False) -> str:
    """`mean [low, high]` with one decimal place."""
    if math.isnan(interval.mean):
        return "–"
    sign = "+" if signed else ""
    mean = f"{interval.mean:{sign}.1f}"
    if math.isnan(interval.half_width):
        return mean
    return f"{mean} [{interval.low:{sign}.1f}, {interval.high:{sign}.1f}]"


def change_text(
    reference: Mapping[int, Record],
    found: Mapping[int, Record],
    measure: measures.Measure,
) -> str:
    """The paired change of a measure between two cells, with interval and p-value."""
    return paired_text(*measures.pairs(reference, found, measure))


def paired_text(before: Sequence[float], after: Sequence[float]) -> str:
    """The paired change between two lists, with interval and p-value."""
    interval, p_value = paired_difference(before, after)
    text = interval_text(interval, signed=True)
    return text if math.isnan(p_value) else f"{text}, p {p_text(p_value)}"


def p_text(p_value: float) -> str:
    """A p-value for readers."""
    if math.isnan(p_value):
        return "–"
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


@dataclass(frozen=True)
class Cell:
    """The records of a setting and method, and those of plain training beside it.

    Attributes:
        setting: The setting.
        method: One of its methods.
        found: The records of the method by seed.
        reference: Those of plain training.
    """

    setting: Setting
    method: Method
    found: Mapping[int, Record]
    reference: Mapping[int, Record]

    def begin(self, study: Study) -> tuple[str, str, str]:
        """What every row begins with."""
        seeds = seeds_text(len(self.found), len(study.seeds))
        return self.setting.label, str(self.method), seeds

    def values(self, measure: measures.Measure) -> list[float]:
        """A measure of all runs."""
        return [measure(record) for record in self.found.values()]

    def mean(self, measure: measures.Measure) -> str:
        """Its mean, with the interval."""
        return interval_text(mean_interval(self.values(measure)))

    def change(self, measure: measures.Measure) -> str:
        """Its change from plain training of the same seeds."""
        if self.method.kind == PLAIN:
            return "–"
        return change_text(self.reference, self.found, measure)


def cells_of(study: Study, results: Results) -> Iterator[Cell]:
    """Every setting and method of a study, in order.

    Args:
        study: The study.
        results: Its records by fingerprint.
    """
    for setting in study.settings:
        cells = {m: measures.cell(study, setting, m, results) for m in setting.methods}
        reference = next((cells[m] for m in cells if m.kind == PLAIN), {})
        for method, found in cells.items():
            yield Cell(setting, method, found, reference)


def _values(study: Study) -> dict[str, list[str]]:
    """By the name of an attribute, the values that the study's runs have."""
    found: dict[str, list[str]] = {"seeds": [str(len(study.seeds))]}

    def note(name: str, value: Any) -> None:
        if isinstance(value, dict) and "class" not in value:
            for key, each in value.items():
                note(f"{name} {key}".replace("_", " ").strip(), each)
        else:
            text = json.dumps(value, ensure_ascii=False, sort_keys=True).strip('"')
            found.setdefault(name, [])
            if text not in found[name]:
                found[name].append(text)

    for setting in study.settings:
        for method in setting.methods:
            run = study.run(setting, method, study.seeds[0])
            note("", {**run.configuration(), "seed": 0, "keep_states": 0})
    return found


def _listed(values: list[str] | None) -> str:
    return "; ".join(values) if values else "–"


def _row(study: Study, cell: Cell, score: bool) -> tuple[str, ...]:
    kind = cell.method.kind
    medians = (
        measures.last_loss,
        measures.transport_cost,
        measures.final_multiplier,
        measures.epoch_seconds,
    )
    return (
        *cell.begin(study),
        dict(cell.setting.published).get(kind, "–"),
        *map(cell.mean, _ACCURACIES.values()),
        *map(cell.change, (measures.highest_accuracy, measures.chosen_accuracy)),
        *(_scored(cell) if score else ()),
        *(_median(cell.values(measure)) for measure in medians),
    )


def _scored(cell: Cell) -> tuple[str, str, str]:
    half = measures.half_accuracy
    return cell.change(measures.last_accuracy), cell.mean(half), cell.change(half)


def _median(values: list[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{np.median(known):.3g}" if known else "–"


def _correlation(found: list[Record]) -> tuple[str, str, str]:
    cost = [measures.transport_cost(record) for record in found]
    accuracy = [measures.last_accuracy(record) for record in found]
    if len(found) < ENOUGH_SEEDS or min(len(set(cost)), len(set(accuracy))) < 2:
        return str(len(found)), "too few to conclude", "–"
    rank, p_value = scipy_stats().spearmanr(cost, accuracy)
    # Fisher's transformation, with the variance of Bonett and Wright for ranks.
    spread = 1.96 * math.sqrt((1 + rank**2 / 2) / (len(found) - 3))
    low, high = np.tanh(np.arctanh(rank) + np.array([-spread, spread]))
    return str(len(found)), f"{rank:+.2f} [{low:+.2f}, {high:+.2f}]", p_text(p_value)
