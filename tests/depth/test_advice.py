"""The rule of the advice on constructed curves, and its interval."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import norm, ttest_rel

from keras_lap.depth.advice import advise, loss_interval, share_interval

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="NumPy alone"
)


def of_losses(curve, tolerance):
    return advise(np.array([curve] * 4, float), None, tolerance)


def of_shares(curve, tolerance, count=1000):
    """So many samples of which the first are right at each exit."""
    right = np.arange(count)[:, None] < np.round(np.array(curve) * count)
    return advise(np.zeros(right.shape), right.astype(float), tolerance)


@pytest.mark.parametrize(
    ("curve", "tolerance", "keep"),
    [
        ([0.5, 0.9, 0.95, 0.96], 0.02, 2),
        ([0.5, 0.9, 0.95, 0.96], 0.01, 2),  # just within
        ([0.5, 0.9, 0.949, 0.96], 0.01, 3),
        ([0.5, 0.98, 0.90, 0.97, 0.98], 0.01, 3),  # the first hit is luck
        ([0.5, 0.99, 0.98, 0.97, 0.96], 0.01, 1),  # better than the whole network
        ([0.96, 0.96, 0.96], 0.0, 0),
        ([0.1, 0.2, 0.3], 0.0, 2),
        ([0.1, 0.2, 0.3], 1.0, 0),
    ],
)
def test_by_accuracy(curve, tolerance, keep):
    advice = of_shares(curve, tolerance)
    assert advice.keep == keep
    assert advice.accuracy == pytest.approx(curve[keep])
    assert advice.change == pytest.approx(curve[keep] - curve[-1])
    assert advice.low < advice.change < advice.high


@pytest.mark.parametrize("count", [3, 7, 100, 297, 300, 10_000])
def test_a_difference_of_just_the_tolerance_is_within(count):
    right = np.ones((count, 2))
    right[0, 0] = 0
    assert advise(1 - right, right, 1 / count).keep == 0
    assert advise(1 - right, right, 0.999 / count).keep == 1


@pytest.mark.parametrize(
    ("curve", "tolerance", "keep"),
    [
        ([2.0, 1.0, 0.1, 0.09, 0.1], 0.01, 2),  # 0.09 + 0.01 · 1.91
        ([2.0, 1.0, 0.1, 0.09, 0.1], 0.001, 3),
        ([2.0, 0.1, 0.5, 0.11, 0.1], 0.01, 3),
        # It rises again: the whole network is no reference, and what follows the last
        # good exit does not count.
        ([2.0, 1.0, 0.376, 0.37, 0.38, 0.446], 0.01, 2),
        ([2.0, 0.3, 0.5, 0.29, 0.6], 0.01, 3),
        ([0.3, 0.3, 0.3], 0.0, 0),
        ([0.1, 0.2, 0.3], 0.01, 0),
        ([np.inf, 1.0, 0.1, 0.1], 0.01, 2),
    ],
)
def test_by_loss(curve, tolerance, keep):
    advice = of_losses(curve, tolerance)
    assert advice.keep == keep
    assert advice.accuracy is None
    assert advice.change == pytest.approx(curve[keep] - curve[-1])


def test_the_interval_of_losses_is_that_of_paired_samples():
    before, after = np.random.default_rng(0).gamma(1.0, size=(2, 3000))
    expected = ttest_rel(before, after).confidence_interval(0.95)
    # Student's quantile of 2 999 degrees is 1.0004 times the normal one.
    found = loss_interval(before - after)
    np.testing.assert_allclose(found, [expected.low, expected.high], atol=5e-5)


@pytest.mark.parametrize(("won", "lost"), [(5, 12), (3, 0), (0, 1), (40, 44)])
def test_the_ends_are_where_the_score_test_just_rejects(won, lost):
    """The likeliest shares under a change are found by a search."""
    count = 200
    found = share_interval(np.repeat([1.0, -1.0, 0.0], [won, lost, count - won - lost]))
    for change in found:

        def unlikely(share, change=change):
            shares = np.array([share + change, share, 1 - 2 * share - change])
            return -np.sum(xlogy([won, lost, count - won - lost], shares))

        bounds = (max(0, -change), (1 - change) / 2)
        share = minimize_scalar(
            unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}
        ).x
        variance = count * (2 * share + change - change**2)
        score = (won - lost - count * change) / np.sqrt(variance)
        # The search ends where the likelihood is flat to rounding.
        assert abs(score) == pytest.approx(norm.ppf(0.975), rel=1e-4)


@pytest.mark.parametrize(("won", "lost"), [(0.0, 0.01), (0.02, 0.05), (0.1, 0.1)])
def test_the_interval_of_accuracies_covers(won, lost):
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(200, [won, lost, 1 - won - lost], size=500)
    ends = np.array([share_interval(np.repeat([1.0, -1.0, 0.0], d)) for d in drawn])
    covered = np.mean((ends[:, 0] <= won - lost) & (won - lost <= ends[:, 1]))
    # 95 % less 3 deviations of a share of 500.
    assert covered >= 0.92


def test_no_difference_is_no_certainty():
    low, high = share_interval(np.zeros(300))
    # Of 300 samples none is lost in 2.5 % of draws if 1.2 % are lost in truth.
    assert high == pytest.approx(-low) == pytest.approx(1 - 0.025 ** (1 / 300), rel=0.1)
