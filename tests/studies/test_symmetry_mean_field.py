"""The study of mean fields: its teachers, its report, and one run beside NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support import mean_field as by_hand

from studies.engine import records
from studies.symmetry import mean_field_report as report

pytest.importorskip("jax")
pytest.importorskip("matplotlib")
# Importing the study needs JAX alone; its loops are of that backend.
on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="loops of JAX")
on_torch = pytest.mark.skipif(keras.backend.backend() != "torch", reason="plain data")
SWAP = np.array([[0.0, 1.0], [1.0, 0.0]])


def student(fixed, **labels):
    """A line of the result file with one distance for all schemes."""
    numbers = dict.fromkeys(("fixed", "own", "fresh", "risk"), fixed)
    names = ("free", "augmented", "averaged", "equivariant")
    pairs = {f"{a}, {b}": fixed for a in names for b in names if a != b}
    return {
        "teacher": "weakly invariant",
        "batch": 20,
        "schemes": {name: dict(numbers) for name in names},
        "pairs": pairs,
        **labels,
    }


def lines(scale=1.0):
    """Made up: distances as 1 / N², and all that a report shows."""
    made = []
    for seed in range(10):
        for units in (5, 50, 100, 500):
            for part in ("drift", "schemes"):
                value = scale * 0.2 / units**1.7
                made.append(student(value, part=part, units=units, seed=seed))
        for batch in (20, 80, 320):
            line = student(1 / batch, part="noise", units=50, seed=seed)
            made.append({**line, "batch": batch})
        risks = {"free": {"risk": 1e-5}, "equivariant": {"risk": 0.0213}}
        made.append({"part": "counterexample", "seed": seed, "schemes": risks})
        for closed, fixed in ((True, 1e-12), (False, 1e-2)):
            data = "whole orbits" if closed else "samples"
            line = {"part": "residual", "plan": f"{data}, C/λ + L", "units": 50}
            numbers = {"fixed": [fixed, fixed / 2], "cost": 0.5, "risk": 0, "path": 2}
            made.append({**line, **numbers, "seed": seed})
    steps = [{"dimension": 0, "rmd2": 0.5, "drift": 0.5, "error": 0.01}]
    for seed in range(5):
        line = {"part": "discovery", "teacher": "C2", "seed": seed, "steps": steps}
        found = 2 if seed else 4
        made.append({**line, "found": found, "true": 2, "sine": 0.05})
    return made


@on_torch
def test_criteria_are_judged_by_medians():
    def judged(scale):
        criteria = report.criteria(report.Found(lines(scale)))
        return {each.claim: each.passed for each in criteria}

    good, bad = judged(1.0), judged(100.0)
    name = "drift, WI teacher, free, N = 100: median ≤ 2e-4"
    assert good[name]
    assert not bad[name]
    assert good["drift: log–log slope from N = 100 to 500 between −2 and −1"]
    assert not good["drift, equivariant: < 1e-12 in every run"]
    assert good["noise, N = 50: falls by ≥ 2.5 from B = 20 to 80 and from 80 to 320"]
    assert good["discovery, C2: dimension right in ≥ 4 of 5, sine ≤ .1"]
    claim = "residual, C/λ + L on whole orbits, N = 50: median < 1e-9"
    assert good[claim]
    left = lines()
    for line in left:
        if line["part"] == "residual":
            line["fixed"][1] = 1.0  # it is enough that one of the blocks is off
    assert not {e.claim: e.passed for e in report.criteria(report.Found(left))}[claim]
    odd = lines()
    odd[0]["schemes"]["free"]["fixed"] = 1e3  # one seed in ten decides nothing
    claims = {e.claim: e.passed for e in report.criteria(report.Found(odd))}
    assert {k: v for k, v in claims.items() if "free" in k} == {
        k: v for k, v in good.items() if "free" in k
    }


@on_torch
def test_the_variance_of_the_even_function():
    x = np.random.default_rng(0).normal(size=1_000_000)
    y = (np.log1p(np.exp(x)) + np.log1p(np.exp(-x))) / 2
    # A million squares: the standard error is about 6e-5.
    np.testing.assert_allclose(report.VARIANCE, np.var(y), atol=3e-4)


@on_torch
def test_the_report_is_written_beside_its_lines(tmp_path):
    path = tmp_path / "symmetry-mean-field.jsonl"
    made = {"backend": "jax", "versions": {"keras": "3.99"}}
    for number, line in enumerate(lines()):
        revision = "older" if number < 9 else "newer"
        records.append(path, {**line, **made, "revision": revision})
    page, figure = report.write(path)
    text = page.read_text("utf-8")
    assert "| weakly invariant | 50 | 10 |" in text
    assert text.endswith("Made with Keras 3.99 on jax, code at older, newer.\n")
    assert "**no**" in text
    assert "4 / 2" in text
    assert "| 50 | samples, C/λ + L | 10 | 0.01 [0.01, 0.01] | 0.5 [0.5, 0.5] |" in text
    assert figure.read_bytes().startswith(b"<?xml")
    first = text, figure.read_bytes()
    report.write(path)
    assert (page.read_text("utf-8"), figure.read_bytes()) == first


@on_jax
def test_a_whole_training_in_one_loop_is_that_of_numpy(monkeypatch):
    from studies.symmetry import students

    monkeypatch.setattr(students, "TEMPERATURE", 0.0)
    monkeypatch.setattr(students, "TIME", 2)
    plan = students.Plan("weakly invariant", False, 3)
    x, y = students.batches(plan, 0)
    teacher = students.TEACHERS["weakly invariant"]
    np.testing.assert_allclose(y[0], by_hand.forward(teacher, x[0]), atol=1e-6)
    np.testing.assert_allclose(
        sorted(by_hand.moved(teacher, SWAP).tolist()), sorted(teacher.tolist())
    )
    for scheme in ("free", "averaged"):
        function = by_hand.losses([np.eye(2), SWAP])[scheme]
        want = students.first(plan, 0)
        for inputs, targets in zip(x.astype(float), y.astype(float), strict=True):
            gradient = by_hand.gradient(function, want, inputs, targets)
            want = want - 50.0 * (gradient + 1e-4 * 2 * want / 3)
        got, _ = students.train(plan, scheme, 0, (x, y))
        # Six steps at a rate of 50 amplify what float32 rounds.
        np.testing.assert_allclose(got, want, atol=2e-3)


@on_jax
def test_the_energy_keeps_what_the_data_keep():
    pytest.importorskip("ot")
    from studies.symmetry import residual

    for closed in (True, False):
        found = residual.run(residual.Plan(5, True, closed), 0)
        assert found["cost"] > 0.1
        assert found["path"] >= 1
        # A hundred steps of rounding; data that are not closed leave the fixed units.
        assert max(found["fixed"]) < 1e-8 if closed else max(found["fixed"]) > 1e-3


@on_torch
def test_no_two_runs_have_the_same_labels():
    from studies.symmetry import mean_field

    every = [report.labels(labels) for labels, _ in mean_field.parts()]
    assert len(set(every)) == len(every)
    assert {labels["part"] for labels, _ in mean_field.parts()} == set(mean_field.PARTS)
