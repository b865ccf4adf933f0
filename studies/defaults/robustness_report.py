"""The table of robustness, calibration and detection, from the study's lines alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from studies.defaults.growing import by_key
from studies.defaults.harm import ATTACKS, NOISE
from studies.defaults.methods import PLAIN
from studies.defaults.robustness import (
    FAMILIES,
    KEY,
    NAMES,
    PARTS,
    SEEDS,
    TRIALS,
    chosen,
)
from studies.engine import published, records
from studies.engine.statistics import mean_interval, paired_difference
from studies.engine.tables import Table, interval_text

Lines = Mapping[tuple, records.Record]
_RIGHT, _WRONG = PARTS


class Measure(NamedTuple):
    """A row of the table.

    Attributes:
        name: As in the table.
        field: Of a line.
        part: Of the training labels that are wrong.
        better: `"higher"` or `"lower"`.
    """

    name: str
    field: str
    part: float = _RIGHT
    better: str = "higher"


MEASURES = (
    Measure("accuracy", "test"),
    *(Measure(f"accuracy, FGSM {e:g}", f"fgsm_{e:g}") for e in ATTACKS),
    Measure(f"accuracy, noise {NOISE:g}", "noise"),
    Measure("calibration error", "ece", better="lower"),
    Measure("NLL, in 0.01", "nll", better="lower"),
    Measure("AUROC, inverted", "inverted"),
    Measure("AUROC, turned", "turned"),
    Measure(f"accuracy, {100 * _WRONG:g} % wrong labels", "test", part=_WRONG),
)


def robustness(lines: Lines) -> Table:
    """Every measure of plain training, and what each method changes in it.

    Args:
        lines: By their keys.
    """
    rows = []
    for setting in NAMES:
        for measure in MEASURES:
            if not _has_trials(lines, setting, measure.part):
                continue
            best = chosen(lines, setting, measure.part)
            methods = [PLAIN.name, *(method.name for method in best.values())]
            keys = [(setting, measure.part, name) for name in methods]
            seeds = [s for s in SEEDS if all((*key, s) in lines for key in keys)]
            plain, *others = (
                [100 * lines[*key, seed][measure.field] for seed in seeds]
                for key in keys
            )
            if seeds:
                changes = [paired_difference(plain, other)[0] for other in others]
                texts = [interval_text(change, signed=True) for change in changes]
                mean = interval_text(mean_interval(plain))
                row = measure.name, measure.better, str(len(seeds)), mean
                rows.append((setting, *row, *texts))
    header = ("setting", "measure", "better", "seeds", PLAIN.name, *FAMILIES)
    note = (
        "In percent, the NLL in hundredths of a nat; of plain training the mean, of "
        "the others the change from it on the same seeds; 95 % Student-t intervals, "
        "all on the test data. The steps of FGSM, and the standard deviation of "
        "Gaussian noise, are parts of the range from the least to the greatest pixel "
        "of the training images, black to white; disturbed images are clipped to it. "
        "Calibration error: 15 bins of equal width. AUROC of the greatest softmax, "
        "test images against the same ones inverted or turned by a quarter, of which "
        "some (0, 1, 8) still look like digits."
    )
    return Table("Robustness", header, tuple(rows), note)


def tried(lines: Lines) -> Table:
    """What was chosen, and the validation accuracies of the trials.

    Args:
        lines: By their keys.
    """
    rows = []
    for setting in NAMES:
        for part in PARTS:
            if not _has_trials(lines, setting, part):
                continue
            best = chosen(lines, setting, part)
            for family, methods in FAMILIES.items():
                texts = [
                    f"{method.name}: {_validation(lines, setting, part, method.name)}"
                    for method in methods
                ]
                plain = _validation(lines, setting, part, PLAIN.name)
                row = setting, f"{100 * part:g} %", family, best[family].name, plain
                rows.append((*row, "; ".join(texts)))
    header = ("setting", "wrong labels", "family", "chosen", PLAIN.name, "tried")
    note = (
        f"Validation accuracy in percent, mean of the seeds {TRIALS[0]} and "
        f"{TRIALS[1]}. Validation labels are right."
    )
    return Table("Trials", header, tuple(rows), note)


def texts(path: Path) -> dict[str, str]:
    """The tables by file name.

    Args:
        path: The result file.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = published.lines_of(path)
    lines = by_key(found, KEY)
    return published.page(path, found, [make(lines) for make in (robustness, tried)])


def write(path: Path) -> list[Path]:
    """Writes the tables beside the result file.

    Args:
        path: The result file.

    Returns:
        What was written.
    """
    return published.write_beside(path, texts(path))


def _has_trials(lines: Lines, setting: str, part: float) -> bool:
    names = [PLAIN.name, *(m.name for methods in FAMILIES.values() for m in methods)]
    return all(
        (setting, part, name, seed) in lines for name in names for seed in TRIALS
    )


def _validation(lines: Lines, setting: str, part: float, name: str) -> str:
    found = [lines[setting, part, name, seed]["validation"] for seed in TRIALS]
    return f"{100 * sum(found) / len(found):.1f}"
