"""Other ways to take energies together: that they are right, and what they count."""

from __future__ import annotations

import importlib
from pathlib import Path

import keras
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="by XLA's counts"
)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("reductions")


def test_each_way_gives_what_it_says(script):
    rng = np.random.default_rng(0)
    moved = [rng.normal(size=(4, width)).astype("float32") for width in (3, 5, 3)]
    parts = [np.mean(each.astype("float64") ** 2) for each in moved]
    tensors = [keras.ops.convert_to_tensor(each) for each in moved]
    energy = script.DisplacementEnergy()
    for name in ("one by one", "one reduction of a stack"):
        np.testing.assert_allclose(
            script.WAYS[name](energy, tensors), parts, rtol=1e-6, err_msg=name
        )
    by_sum = np.array(script.WAYS["one reduction of a sum"](energy, tensors))
    np.testing.assert_allclose(by_sum, [sum(parts), 0, 0], rtol=1e-6)


def test_todays_way_takes_less_than_one_by_one(script):
    (case,) = script.cases(True)
    rows = {row["way"]: row for row in script.measure(case["subject"])}
    assert set(rows) == {"plain", "today", *script.WAYS}
    for count in ("fusions", "instructions"):
        assert rows["today"][count] < rows["one by one"][count]
    # A reduction for each of five blocks, and one of the vector that they are put into.
    assert rows["today"]["reductions"] == rows["plain"]["reductions"] + 5 + 1
    assert rows["today"]["memory"] < rows["one reduction of a stack"]["memory"]
