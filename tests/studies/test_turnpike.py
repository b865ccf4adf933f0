"""The studies of running costs: their numbers by formulas, and what they write."""

from __future__ import annotations

import csv
import dataclasses

import keras
import numpy as np
import pytest

from studies.engine.tables import Table
from studies.turnpike import sparsity, unequal_steps
from studies.turnpike.records import Criterion, Findings, main

pytest.importorskip("scipy.optimize")
figure = pytest.importorskip("matplotlib.figure")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)

# In percent, from the problem's table: equal steps, and the best ones.
EXCESS = {4: (410, 6.8), 8: (169, 1.5), 20: (41, 0.24), 40: (12, 0.07)}


@pytest.mark.parametrize("blocks", EXCESS)
def test_few_steps_lose_little_where_they_are_chosen(blocks):
    equal, best = EXCESS[blocks]
    steps = unequal_steps.optimal(blocks)
    assert steps.sum() == pytest.approx(20.0)
    assert 1 + unequal_steps.excess(steps) == pytest.approx(1 + best / 100, rel=0.01)
    uniform = unequal_steps.excess(unequal_steps.uniform(blocks))
    assert 1 + uniform == pytest.approx(1 + equal / 100, rel=0.01)
    formula = unequal_steps.by_formula(blocks)
    assert formula.sum() == pytest.approx(20.0)
    # Said to cost about twice what the best steps lose.
    ratio = unequal_steps.excess(formula) / unequal_steps.excess(steps)
    assert 1.4 < ratio < 2.1


def test_the_package_computes_these_costs():
    steps = unequal_steps.by_formula(8)
    ours, slope = unequal_steps.by_package(steps)
    assert ours == pytest.approx(unequal_steps.excess(steps), rel=1e-5)
    # Kernels are zero, so that no product is rounded to float32.
    assert slope < 1e-6


def test_idle_layers_and_their_tail():
    sizes = np.array([*[1.0] * 9, 0.0, 2.0, *[1e-9] * 9])
    found = sparsity.Trained(sizes, 0.0, 1.0)
    assert (found.idle.sum(), found.tail) == (10, 9)
    assert found.end == pytest.approx(5e-10)
    alive = dataclasses.replace(found, sizes=np.ones(20))
    by_norm = {"group": [found], "l1": [found], "l2": [alive], "h1": [alive]}
    assert all(each.passed for each in sparsity.judged(by_norm))
    other = {norm: by_norm["group" if "l2" in norm else "l2"] for norm in by_norm}
    assert [each.passed for each in sparsity.judged(other)] == [False] * 3 + [True]
    known, _ = sparsity.scalar_problem(32)
    assert known.passed


def test_what_a_study_writes(tmp_path, capsys):
    table = Table("Numbers", ("T", "J"), (("1", "0.5"),))
    criteria = [Criterion("J is small", "0.5", True), Criterion("T rises", "1", False)]
    found = Findings("A title", criteria, [table, table], figure.Figure(), "A note.")
    main("mine", lambda: found, ["--results", str(tmp_path / "new")])
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    ends = ("-2.csv", ".csv", ".md", ".svg")
    assert names == [f"turnpike-mine{end}" for end in ends]
    page = (tmp_path / "new" / "turnpike-mine.md").read_text(encoding="utf-8")
    assert "| T rises | 1 | **no** |" in page
    assert page.startswith("# A title\n\nA note.\n")
    with (tmp_path / "new" / "turnpike-mine.csv").open() as file:
        assert list(csv.reader(file)) == [["T", "J"], ["1", "0.5"]]
    assert "NOT  T rises | 1" in capsys.readouterr().out
