"""Least action against what a user would try instead, each at its chosen strength."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from studies.engine import measures
from studies.engine.measures import Results
from studies.engine.methods import LEAST_ACTION, PLAIN, RIVALS, Method
from studies.engine.statistics import mean_interval
from studies.engine.study import Setting, Study
from studies.engine.tables import Table, change_text, interval_text, seeds_text

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
    rows = [
        row
        for setting in study.settings
        if any(method.kind in RIVALS for method in setting.methods)
        for row in _rows(study, setting, results)
    ]
    title = "Rivals at the strength that validation chooses"
    return Table(title, header, tuple(rows), _NOTE)


def _rows(study: Study, setting: Setting, results: Results) -> Iterable[tuple]:
    cells = {m: measures.cell(study, setting, m, results) for m in setting.methods}
    plain = next((cells[m] for m in cells if m.kind == PLAIN), {})
    chosen = {
        kind: _chosen(study, {m: cells[m] for m in cells if m.kind == kind})
        for kind in (LEAST_ACTION, *RIVALS)
    }
    first = chosen[LEAST_ACTION]
    ours = {} if first is None else cells[first]
    last, highest = measures.last_accuracy, measures.highest_accuracy
    for kind, method in chosen.items():
        if method is None:
            continue
        found = cells[method]
        values = [_validation(record) for record in found.values()]
        yield (
            setting.label,
            kind,
            str(method),
            str(sum(m.kind == kind for m in cells)),
            seeds_text(len(found), len(study.seeds)),
            interval_text(mean_interval(values)),
            interval_text(mean_interval([last(record) for record in found.values()])),
            change_text(plain, found, last),
            *(
                "–" if kind == LEAST_ACTION else change_text(found, ours, measure)
                for measure in (last, highest)
            ),
        )


def _chosen(study: Study, cells: dict[Method, dict]) -> Method | None:
    """The strength of best validation accuracy, over the seeds that all have."""
    shared = set(study.seeds).intersection(*cells.values())
    if not (cells and shared):
        return None

    def mean(method: Method) -> float:
        return float(np.mean([_validation(cells[method][seed]) for seed in shared]))

    return max(cells, key=mean)


def _validation(record: measures.Record) -> float:
    return 100 * record["result"]["validation_accuracy"][-1]
