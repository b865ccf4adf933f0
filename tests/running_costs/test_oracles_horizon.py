"""XOR by its task and `ControlCost` alone: known costs and the laws of growing T."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_lap
from keras_lap.networks import continue_from
from keras_lap.running_costs import ControlCost, PathLoss
from studies.turnpike import horizon
from studies.turnpike.exact import double_precision, objective

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="test_by_hand compares objective and gradients on every backend",
)


@pytest.fixture(scope="module")
def found():
    pytest.importorskip("scipy.optimize")
    with double_precision():
        return list(horizon.continued([2.0, 4.0, 8.0, 16.0, 64.0], seed=0))


def test_costs_and_their_slope_are_the_known_ones(found):
    """The package's, where its gradient is zero; the optimiser knows NumPy alone."""
    known = {2.0: 0.33497, 4.0: 0.17542, 8.0: 0.09125, 16.0: 0.04763, 64.0: 0.01349}
    errors = {2.0: 0.0266, 4.0: 0.0103, 8.0: 0.00527, 16.0: 0.00324, 64.0: 0.00157}
    for each in found:
        # What was asked for is 3 %; the numbers have five digits.
        assert each.cost == pytest.approx(known[each.horizon], rel=1e-3)
        assert each.error == pytest.approx(errors[each.horizon], rel=4e-3)
        assert each.cost == pytest.approx(each.error + 0.05 * each.price, rel=1e-6)
        # Keras multiplies matrices in float32 on PyTorch, and sums dt = T / 16 of them.
        assert each.slope < 1e-7 * each.horizon
    early = np.log([[each.horizon, each.cost] for each in found[:4]]).T
    assert np.polyfit(*early, 1)[0] == pytest.approx(-0.94, abs=0.03)


def test_the_laws_of_global_minima(found):
    *_, longest = found
    bound = horizon.interpolating(longest.controls * longest.horizon)
    laws = horizon.laws(found, bound)
    assert [law.claim for law in laws if not law.passed] == []
    # They are no matter of course: each fails when time runs backwards, or too soon.
    failed = [law.passed for law in horizon.laws(found[::-1], bound)[:3]]
    failed += [law.passed for law in horizon.laws(found, bound / 4)[4:5]]
    assert not any(failed)


def priced(net, time):
    """E, J with a path loss, and ``½ ∫ |u|²``."""
    costs = [PathLoss(0.7), ControlCost(horizon.ALPHA)]
    model = keras_lap.LeastActionModel(net, None, running_costs=costs, horizon=time)
    logs, _ = objective(model, horizon.POINTS, horizon.TARGETS)
    return [logs[name] for name in ("task_loss", "loss", "control_cost")]


def test_what_a_continued_horizon_costs(found):
    first = found[0].network
    with double_precision():
        error, cost, price = priced(first, 2.0)
        for net, time, scale in (
            (continue_from(first, horizon=64.0, steps=16), 64.0, 32.0),
            (continue_from(first, horizon=3.0, steps=24), 3.0, 1.0),
            (continue_from(first, horizon=2.0, steps=48), 2.0, 1.0),
        ):
            other, total, control = priced(net, time)
            assert control == pytest.approx(price / scale, rel=1e-6)
            if scale == 32:  # the same states at times that are 32 times later
                path = cost - error - horizon.ALPHA * price
                expected = error + 32 * path + horizon.ALPHA * control
            elif time == 3:  # idle blocks repeat the last exit for a time of 1
                expected = cost + 0.7 * 1.0 * error
            else:  # finer steps go another way
                assert abs(other / error - 1) > 1e-3
                continue
            assert other == pytest.approx(error, rel=1e-6)
            assert total == pytest.approx(expected, rel=1e-6)
