"""The figures that a finished run is judged by, and those of all runs of a cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from studies.engine.methods import Method
from studies.engine.records import Record
from studies.engine.study import Setting, Study

Results = Mapping[str, Record]
Measure = Callable[[Record], float]


def highest_accuracy(record: Record) -> float:
    """Highest test accuracy over the epochs in percent: the figure of the slides.

    It chooses the epoch by the test data and is therefore a little too high.
    """
    return 100 * max(record["result"]["test_accuracy"])


def chosen_accuracy(record: Record) -> float:
    """Test accuracy in percent at the (first) epoch of best validation accuracy.

    NaN for a run without a validation split.
    """
    validation = record["result"].get("validation_accuracy")
    if not validation:
        return math.nan
    return 100 * record["result"]["test_accuracy"][int(np.argmax(validation))]


def best_validation_accuracy(record: Record) -> float:
    """Highest validation accuracy in percent: for choosing, not for reporting."""
    return 100 * max(record["result"].get("validation_accuracy") or [math.nan])


def last_validation_accuracy(record: Record) -> float:
    """Validation accuracy in percent after the last epoch: for choosing, too."""
    return 100 * (record["result"].get("validation_accuracy") or [math.nan])[-1]


def half_accuracy(record: Record) -> float:
    """Highest accuracy in percent on a random half of the test data: the authors'.

    NaN for a run that was made before it was measured.
    """
    return 100 * max(record["result"].get("half_accuracy") or [math.nan])


def last_accuracy(record: Record) -> float:
    """Test accuracy in percent after the last epoch."""
    return 100 * record["result"]["test_accuracy"][-1]


def last_loss(record: Record) -> float:
    """Cross-entropy of the last epoch on the training data; NaN if not finite."""
    return _number(record["result"]["task_loss"][-1])


def transport_cost(record: Record) -> float:
    """Kinetic energy of all blocks on the test data; infinite if not finite."""
    costs = [_number(cost) for cost in record["result"]["block_costs"]]
    return sum(costs) if all(map(math.isfinite, costs)) else math.inf


def final_multiplier(record: Record) -> float:
    """λ after training; NaN for plain training."""
    return _number(record["result"].get("multiplier", [None])[-1])


def epoch_seconds(record: Record) -> float:
    """Median time of an epoch, evaluation left out."""
    return record["result"]["epoch_seconds"]


def cell(
    study: Study, setting: Setting, method: Method, results: Results
) -> dict[int, Record]:
    """The records of one setting and method by seed; seeds not yet run are absent.

    Args:
        study: The study.
        setting: One of its settings.
        method: One of the setting's methods.
        results: Records by fingerprint.
    """
    found = {}
    for seed in study.seeds:
        record = results.get(study.run(setting, method, seed).fingerprint())
        if record is not None:
            found[seed] = record
    return found


def pairs(
    first: Mapping[int, Record],
    second: Mapping[int, Record],
    measure: Measure,
) -> tuple[list[float], list[float]]:
    """`measure` of two cells for the seeds that both have, in the same order."""
    seeds = [seed for seed in first if seed in second]
    return (
        [measure(first[seed]) for seed in seeds],
        [measure(second[seed]) for seed in seeds],
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
