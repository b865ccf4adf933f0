"""What one change of the setting does to each method, and to what they differ by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from studies.engine import measures
from studies.engine.measures import Results
from studies.engine.methods import LEAST_ACTION, PLAIN
from studies.engine.records import Record
from studies.engine.study import Setting, Study
from studies.engine.tables import Table, change_text, paired_text, seeds_text

_NOTE = (
    "Gain: test accuracy of least action less that of plain training, in points. "
    "Each row takes a setting from the one that has one thing otherwise; differences "
    "are paired, with 95 % Student-t intervals over the seeds and p-values that are "
    "not corrected for their number."
)
_Pair = Sequence[Mapping[int, Record]]


def ingredients(study: Study, results: Results) -> Table:
    """Whether least action's gain depends on an ingredient, or plain training does.

    Args:
        study: Its settings of two methods, plain training and least action, whose label
            is that of another with a comma and what is otherwise behind it, come in.
        results: Its records by fingerprint.
    """
    header = (
        *("setting", "otherwise", "seeds", "difference of gains, last"),
        *("the same, highest", "of plain training, last", "of least action, last"),
    )
    paired = [s for s in study.settings if _kinds(s) == [PLAIN, LEAST_ACTION]]
    rows = []
    for base in paired:
        for other in paired:
            label = other.label.removeprefix(f"{base.label}, ")
            if label != other.label:
                row = _row(study, base, other, results)
                rows.append((base.label, label, *row))
    return Table("What one ingredient brings", header, tuple(rows), _NOTE)


def _kinds(setting: Setting) -> list[str]:
    return [method.kind for method in setting.methods]


def _row(
    study: Study, base: Setting, other: Setting, results: Results
) -> tuple[str, ...]:
    with_it, without = (
        [measures.cell(study, setting, method, results) for method in setting.methods]
        for setting in (base, other)
    )
    seeds = sorted(set(study.seeds).intersection(*with_it, *without))
    last = measures.last_accuracy
    return (
        seeds_text(len(seeds), len(study.seeds)),
        *(
            paired_text(_gains(without, seeds, each), _gains(with_it, seeds, each))
            for each in (last, measures.highest_accuracy)
        ),
        *(change_text(without[k], with_it[k], last) for k in range(2)),
    )


def _gains(pair: _Pair, seeds: Sequence[int], measure: measures.Measure) -> list[float]:
    plain, ours = pair
    return [measure(ours[seed]) - measure(plain[seed]) for seed in seeds]
