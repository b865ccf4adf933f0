"""Problems with known solutions, solved through the package in double precision.

Linear problems are solved by a linear system in NumPy. The package's gradient is zero
at the solution and its objective is convex, so the solution is the package's too.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_lap
from keras_lap.running_costs import ControlCost, TrackingCost
from studies.turnpike.exact import (
    double_precision,
    objective,
    solve,
    solve_l1,
    states,
    steered,
)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="test_by_hand compares objective and gradients on every backend",
)
# Keras multiplies matrices in float32 on PyTorch, whatever the policy, and logs so too:
# 6e-8 of numbers near 1.
ZERO = {"rtol": 0, "atol": 2e-7}


@pytest.fixture(autouse=True)
def _double():
    with double_precision():
        yield


def solved(start, target, steps, alpha, drift=None):
    """The states of the package at the optimum by hand, where it has no gradient."""
    controls, cost = solve(start, target, steps, alpha, drift=drift)
    net = steered(controls, steps, drift)
    costs = [ControlCost(alpha), TrackingCost(1.0, target)]
    model = keras_lap.LeastActionModel(net, None, running_costs=costs, horizon=steps)
    x = np.array([start])
    logs, gradients = objective(model, x, x, task=0.0)
    assert logs["loss"] == pytest.approx(cost, rel=2e-7)
    for k in range(1, len(steps) + 1):
        np.testing.assert_allclose(gradients[f"block{k}_dense"][1], 0, **ZERO)
    return cost, states(net, x)[:, 0]


RATES = {0.25: 1.979732, 0.5: 1.92485, 1.0: 1.76275, 2.0: 1.44364}


@pytest.mark.parametrize(
    ("dt", "horizon"),
    [(0.25, 5.0), (0.25, 10.0), (0.25, 20.0), (0.5, 20.0), (1.0, 10.0), (2.0, 20.0)],
)
def test_the_tracking_error_falls_at_the_exact_rate(dt, horizon):
    """``μ = arccosh(1 + dt² β / 2a) / dt``, whatever the horizon."""
    rate = np.arccosh(1 + dt**2 / (2 * 0.25)) / dt
    assert rate == pytest.approx(RATES[dt], abs=5e-6)
    cost, path = solved([-1.3], [0.0], [dt] * round(horizon / dt), 0.25)
    times = dt * np.arange(len(path))
    early = times <= 2
    slope, _ = np.polyfit(times[early], np.log(np.abs(path[early, 0])), 1)
    assert -slope == pytest.approx(rate, rel=0.01)
    # cosh(μ(T − t)) is no exponential at the end; at T = 10 that is below 1e-5 at 2.
    if horizon >= 10:
        assert -slope == pytest.approx(rate, rel=1e-5)
    if dt == 0.25:
        assert cost == pytest.approx(0.435503, abs=1e-6)


def l1_slopes(controls, horizon=8.0, alpha=0.3):
    """The gradient of the package's objective, where every control has a sign."""
    steps = [horizon / len(controls)] * len(controls)
    costs = [ControlCost(alpha, "l1"), TrackingCost(1.0, [0.0])]
    net = steered(controls[:, None], steps)
    model = keras_lap.LeastActionModel(net, None, running_costs=costs, horizon=horizon)
    start = np.array([[-1.5]])
    _, gradients = objective(model, start, start, task=0.0)
    return np.array([gradients[f"block{k}_dense"][1][0] for k in range(1, 33)])


def check_is_optimal(controls, bound):
    """The problem is convex: what no small change makes cheaper is the optimum."""
    idle, full = controls == 0, controls == bound
    slopes = l1_slopes(np.where(idle, 1e-9, controls))
    np.testing.assert_allclose(slopes[~idle & ~full], 0, atol=2e-7)
    assert slopes[full].max(initial=-1) < 0 < slopes[idle].min()
    assert l1_slopes(np.where(idle, -1e-9, controls))[idle].max() < 0


def test_bounded_controls_of_small_l1_norm_end_at_the_known_time():
    """Full speed, then exactly zero: ``(e_0 − M T*) (T − T*) = a / β``."""
    controls = solve_l1(1.5, 8.0, 32, 0.3, bound=1.0)
    check_is_optimal(controls, 1.0)
    exact = 1.45417
    assert (1.5 - exact) * (8 - exact) == pytest.approx(0.3, abs=5e-5)
    assert controls.sum() / 4 == pytest.approx(exact, rel=0.01)
    assert controls.sum() / 4 == pytest.approx(1.454717, abs=2e-6)
    assert np.count_nonzero(controls) == 6
    assert (controls[:5] == 1).all()


def test_without_a_bound_they_are_one_impulse():
    controls = solve_l1(1.5, 8.0, 32, 0.3, bound=None)
    check_is_optimal(controls, None)
    assert np.flatnonzero(controls).tolist() == [0]
    assert 1.5 - controls[0] / 4 == pytest.approx(0.3 / (8 - 0.25 / 2), abs=1e-6)


def test_a_drift_has_a_turnpike_of_its_own_and_a_leaving_arc():
    drift, target = np.array([[0.2, 1.0], [-0.5, -0.3]]), np.array([-1.0, 0.5])
    cost, path = solved([1.5, -1.0], target, [0.25] * 40, 0.5, drift)
    assert cost == pytest.approx(2.9480566, abs=6e-7)
    # Where ``|x − x̄|² + a |A x|²`` is least: standing still costs a control −A x.
    turnpike = np.linalg.solve(np.eye(2) + 0.5 * drift.T @ drift, target)
    np.testing.assert_allclose(turnpike, [-0.939082, 0.429993], atol=1e-6)
    away = np.linalg.norm(path - turnpike, axis=1)
    assert away[20] < 0.003 < 0.03 < np.linalg.norm(turnpike - target)
    assert away.argmin() in range(15, 30)
    assert away[-1] > 10 * away[20]
