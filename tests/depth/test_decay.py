"""`depth.fit_decay` on curves whose rate is known, and against SciPy's fits."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import linregress, t

from keras_lap.depth import fit_decay
from keras_lap.depth.decay import resampled

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="NumPy alone"
)
TIMES = np.linspace(0, 4, 17)


@pytest.mark.parametrize("rate", [0.05, 0.9, 4.0])
@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_curves_without_noise(rate, floor):
    errors = floor + 2.0 * np.exp(-rate * TIMES)
    for given in (floor, None):
        decay = fit_decay(TIMES, errors, given)
        # The fitted rate of the flattest curve has its floor far below what is seen.
        assert decay.rate == pytest.approx(rate, rel=1e-5)
        assert decay.floor == pytest.approx(floor, abs=1e-4)
        assert decay.amplitude == pytest.approx(2.0, rel=1e-4)
        assert decay.low <= decay.rate <= decay.high
    assert fit_decay(TIMES, errors).points == 17


def test_a_known_rate_of_the_regulator():
    """e_k = e0 cosh(μ(T − t_k))/cosh(μT), which is exp(−μt) far from the end."""
    mu, times = 1.979732, np.arange(0, 20.01, 0.25)
    errors = 1.3 * np.cosh(mu * (20 - times)) / math.cosh(mu * 20)
    assert fit_decay(times, errors, 0.0).rate == pytest.approx(mu, rel=1e-6)


def test_the_line_and_its_interval_are_those_of_scipy():
    noise = np.random.default_rng(1).normal(0, 0.2, 17)
    errors = 0.5 + np.exp(-0.5 * TIMES + noise)
    decay = fit_decay(TIMES, errors, 0.5)
    line = linregress(TIMES, np.log(errors - 0.5))
    half = t.ppf(0.975, 15) * line.stderr
    assert decay.points == 17
    expected = [-line.slope, -line.slope - half, -line.slope + half]
    np.testing.assert_allclose([decay.rate, decay.low, decay.high], expected)
    assert decay.amplitude == pytest.approx(math.exp(line.intercept))


@pytest.mark.parametrize(("floor", "seed"), [(0.4, 0), (0.4, 1), (0.0, 2), (0.0, 7)])
def test_the_curve_is_that_of_bounded_least_squares(floor, seed):
    """A floor of 0 is on the bound, or near it."""
    noise = np.random.default_rng(seed).normal(0, 0.03, 17)
    errors = floor + np.exp(-0.8 * TIMES) + noise

    def curve(t, base, size, rate):
        return base + size * np.exp(-rate * t)

    best = min(
        (
            curve_fit(curve, TIMES, errors, [0.1, 1, start], bounds=(0, np.inf))
            for start in (0.1, 1.0, 5.0)
        ),
        key=lambda fit: np.sum((errors - curve(TIMES, *fit[0])) ** 2),
    )
    decay = fit_decay(TIMES, errors)
    found = [decay.floor, decay.amplitude, decay.rate]
    # SciPy ends where a step changes the sum of squares by 1e-8 of it.
    np.testing.assert_allclose(found, best[0], rtol=1e-3, atol=1e-3)
    half = t.ppf(0.975, 14) * math.sqrt(best[1][2, 2])
    assert decay.high - decay.rate == pytest.approx(half, rel=5e-3)


def test_the_interval_covers_where_the_floor_is_known():
    generator, covered = np.random.default_rng(0), 0
    for _ in range(400):
        noise = generator.normal(0, 0.1, 9)
        decay = fit_decay(TIMES[:9], np.exp(-0.7 * TIMES[:9] + noise), 0.0)
        covered += decay.low <= 0.7 <= decay.high
    # 95 % ± 3 standard deviations of a share of 400.
    assert 0.917 <= covered / 400 <= 0.983


def test_points_below_two_percent_are_left_out():
    errors = np.exp(-1.0 * TIMES)
    errors[TIMES > 3.8] = 0.5  # after the first that is below, whatever comes
    errors[14] = 0.01
    decay = fit_decay(TIMES, errors, 0.0)
    assert decay.points == 14
    assert decay.rate == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("times", "errors", "floor", "low", "points"),
    [
        ([0, 1, 2, 3], [1.0, 0.01, 0.01, 0.01], None, math.log(100), 1),
        ([0, 1, 2, 3], [1.0, 0.5, 0.01, 0.01], 0.0, math.log(100) / 2, 2),
        ([0, 1, 2], [1.0, 0.0, 0.0], 0.0, math.log(50), 1),
        ([0, 2], [1.0, 0.5], 0.0, math.log(2) / 2, 2),
        ([0, 1, 2], [0.5, 0.5, 0.5], 0.5, None, 0),
        ([0, 1, 2], [0.5, 0.7, 0.9], None, None, 0),
    ],
)
def test_too_few_points_give_a_bound(times, errors, floor, low, points):
    decay = fit_decay(times, errors, floor)
    assert decay.rate is None
    assert decay.high is None
    assert decay.low == (None if low is None else pytest.approx(low))
    assert decay.points == points


@pytest.mark.parametrize(
    ("times", "errors", "floor", "message"),
    [
        ([0, 1], [1.0], None, "as many ascending times"),
        ([0], [1.0], None, "two errors or more"),
        ([0, 1, 1], [1.0, 0.5, 0.2], None, "ascending times"),
        ([0, 1, 2], [1.0, np.nan, 0.2], None, "finite numbers"),
        ([0, 1, 2], [1.0, 0.5, 0.2], -1, "floor must be a finite number >= 0"),
    ],
)
def test_what_is_refused(times, errors, floor, message):
    with pytest.raises(ValueError, match=message):
        fit_decay(times, errors, floor)


def test_the_interval_of_samples_is_as_wide_as_new_samples_would_say():
    """Losses of samples fall at rates of their own, from starts of their own."""
    generator, times = np.random.default_rng(0), np.linspace(0, 3, 10)

    def losses():
        starts = generator.exponential(size=(200, 1))
        rates = generator.normal(1.0, 0.2, size=(200, 1))
        return 0.2 + starts * np.exp(-rates * times)

    drawn = [fit_decay(times, losses().mean(axis=0)).rate for _ in range(200)]
    widths = []
    for _ in range(3):
        decay = resampled(times, losses())
        assert decay.low < decay.rate < decay.high
        widths.append(decay.high - decay.low)
    # 2 · 1.96 deviations; each deviation of 200 draws is known to 5 %, each width's
    # ends, quantiles of 200, to some 10 %.
    expected = 2 * 1.96 * np.std(drawn)
    assert np.mean(widths) == pytest.approx(expected, rel=0.25)


def test_samples_whose_losses_fall_at_once_give_a_bound():
    losses = np.random.default_rng(0).exponential(size=(50, 1)) * [1, 0.01, 0.011, 0.01]
    decay = resampled(np.arange(4.0), losses)
    assert decay.rate is None
    assert decay.high is None
    assert decay.low == pytest.approx(math.log(100))
