"""What one ingredient brings: the table of differences between gains."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.basics import ON_ONE
from support.tiny_study import fake_record, fake_result, tiny_study

from studies.engine.ingredients import ingredients
from studies.engine.statistics import mean_interval

pytestmark = ON_ONE

pytest.importorskip("scipy.stats")


def study_and_results():
    """Gains of five points, a little more for each seed; of one without one thing."""
    study = tiny_study(seeds=range(10))
    (whole,) = study.settings
    plain, _ = whole.methods
    training = dataclasses.replace(whole.training, clip_norm=1.0)
    other = dataclasses.replace(whole, label="tiny, bounded", training=training)
    study = dataclasses.replace(study, settings=(whole, other))
    results = {}
    cases = ((whole, 0.5, 0.05, 0.001), (other, 0.52, 0.01, 0.0))
    for setting, start, gain, more in cases:
        for method in setting.methods:
            for seed in study.seeds:
                added = 0 if method == plain else gain + more * seed
                run = study.run(setting, method, seed)
                result = fake_result([0.9, start + added])
                results[run.fingerprint()] = fake_record(run, result)
    return study, results


def test_the_gain_with_it_less_the_gain_without():
    table = ingredients(*study_and_results())
    (row,) = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert (row["setting"], row["otherwise"], row["seeds"]) == ("tiny", "bounded", "10")
    wanted = mean_interval([4 + 0.1 * seed for seed in range(10)])
    text = f"{wanted.mean:+.1f} [{wanted.low:+.1f}, {wanted.high:+.1f}], p < 0.001"
    assert row["difference of gains, last"] == text
    # The highest is that of the first epoch, the same for all.
    assert row["the same, highest"] == "+0.0 [+0.0, +0.0], p = 1.000"
    assert row["of plain training, last"].startswith("-2.0 [-2.0, -2.0]")
    ours = np.mean([2 + 0.1 * seed for seed in range(10)])
    assert row["of least action, last"].startswith(f"{ours:+.1f} [")


def test_seeds_that_one_of_the_four_lacks_are_left_out():
    study, results = study_and_results()
    few = dict(list(results.items())[:36])
    (row,) = ingredients(study, few).rows
    assert row[2] == "6 of 10: too few to conclude"


def test_a_study_without_such_settings_has_no_rows():
    assert ingredients(tiny_study(), {}).rows == ()
