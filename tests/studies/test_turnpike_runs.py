"""What the studies on two circles read off one training, by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

pytest.importorskip("jax")
from studies.turnpike.circles import criteria
from studies.turnpike.runs import DYNAMICS, Run, kept

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="asks nothing of the backend"
)


def run(errors, controls, path_loss=1.0):
    return Run(
        errors=np.array(errors, float),
        controls=np.array(controls, float)[:, None],
        accuracies=np.linspace(0.5, 1.0, len(errors)),
        time_step=0.5,
        path_loss=path_loss,
    )


def test_numbers_of_a_run():
    one = run([1.0, 0.5, 0.06, 0.02, 0.02], [3.0, 1.0, 0.0, 0.0])
    assert one.arrival == 2  # .06 ≤ .02 + 5 % of .98
    assert one.early_energy == pytest.approx(0.9)
    assert one.accurate == 4
    # .02 at the end, the trapezoid of the errors, and .01 · ½ · .5 · 10.
    assert one.objective == pytest.approx(0.02 + 0.5 * 1.09 + 0.025)


def test_a_run_is_made_once(tmp_path):
    path = tmp_path / "folder" / "run.npz"
    first = kept(path, lambda: run([1.0, 0.0], [1.0]))
    again = kept(path, lambda: pytest.fail("trained again"))
    np.testing.assert_array_equal(first["errors"], again["errors"])
    assert [file.name for file in path.parent.iterdir()] == ["run.npz"]


def test_criteria_are_those_of_every_seed():
    early = run([1.0] + [0.0] * 40, [9.0] + [0.0] * 39)
    late = run([1.0] * 40 + [0.0], [1.0] * 40, path_loss=0.0)
    runs = {(d, b): [each] for d in DYNAMICS for b, each in ((1.0, early), (0.0, late))}
    # A constant control spends .25 in the first quarter.
    assert [each.passed for each in criteria(runs)] == [True] * 3 + [False, True, True]
    runs["bottleneck", 1.0].append(late)
    assert [each.passed for each in criteria(runs)][:3] == [False, True, False]
