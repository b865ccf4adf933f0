"""Least action against what a user would try instead, each at its chosen strength."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from studies.engine import measures
from studies.engine.measures import Results
from studies.engine.methods import LEAST_ACTION, RIVALS
from studies.engine.records import Record
from studies.engine.study import Study
from studies.engine.tables import Cell, Table, cells_of, change_text

_NOTE = (
    "Of each kind the strength of highest mean validation accuracy after the last "
    "epoch, of as many as were tried; test accuracies in percent, after the last epoch "
    "and the highest over the epochs. Differences are paired, with 95 % Student-t "
    "intervals over the seeds and p-values that are not corrected for their number."
)


def rivals(study: Study, results: Results) -> Table:
    """Each kind of method at the strength that validation chooses, beside least action.

    Args:
        study: The study; only settings that have rivals come into it.
        results: Its records by fingerprint.
    """
    header = (
        *("with rivals", "kind", "chosen", "of", "trained", "validation"),
        *("last test accuracy", "it − plain, last", "least action − it, last"),
        "least action − it, highest",
    )
    rows: list[tuple[str, ...]] = []
    by_setting = itertools.groupby(cells_of(study, results), lambda cell: cell.setting)
    for _, group in by_setting:
        cells = list(group)
        if any(cell.method.kind in RIVALS for cell in cells):
            rows += _rows(study, cells)
    title = "Rivals at the strength that validation chooses"
    return Table(title, header, tuple(rows), _NOTE)


def _rows(study: Study, cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    """Of one setting, least action first."""
    ours: Mapping[int, Record] = {}
    for kind in (LEAST_ACTION, *RIVALS):
        tried = [cell for cell in cells if cell.method.kind == kind]
        cell = _chosen(study, tried)
        if cell is None:
            continue
        if kind == LEAST_ACTION:
            ours = cell.found
        setting, method, seeds = cell.begin(study)
        yield (
            *(setting, kind, method, str(len(tried)), seeds),
            cell.mean(measures.last_validation_accuracy),
            cell.mean(measures.last_accuracy),
            cell.change(measures.last_accuracy),
            *(
                "–" if kind == LEAST_ACTION else change_text(cell.found, ours, measure)
                for measure in (measures.last_accuracy, measures.highest_accuracy)
            ),
        )


def _chosen(study: Study, tried: Sequence[Cell]) -> Cell | None:
    """The strength of best validation accuracy, over the seeds that all have."""
    shared = set(study.seeds).intersection(*(cell.found for cell in tried))
    if not (tried and shared):
        return None
    accuracy = measures.last_validation_accuracy
    return max(tried, key=lambda c: np.mean([accuracy(c.found[s]) for s in shared]))
