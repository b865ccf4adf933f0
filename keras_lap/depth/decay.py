"""`fit_decay`: how fast an error falls along the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_lap._checks import finite_number
from keras_lap._extras import require

# A point counts while its error is above this share of the first.
_ABOVE = 0.02
_FEWEST = 3
_LEVEL = 0.95
_RESAMPLES = 200
# How fine rates are searched; each of the rounds looks between two rates of the last.
_RATES, _ROUNDS, _QUICK_ROUNDS = 60, 7, 3


@dataclass(frozen=True)
class Decay:
    """The curve ``floor + amplitude · exp(−rate · t)`` that fits some errors.

    Attributes:
        rate: μ, per unit of time; None if too few points tell.
        low: The lower end of its 95 % interval; without a rate, a bound that the rate
            is not below; None if nothing tells.
        high: The upper end of the interval, or None.
        floor: What the error tends to; None where there is no rate and none was given.
        amplitude: How far above it the curve begins, or None.
        points: How many points were used.
    """

    rate: float | None
    low: float | None
    high: float | None
    floor: float | None
    amplitude: float | None
    points: int


def fit_decay(
    times: Sequence[float], errors: Sequence[float], floor: float | None = None
) -> Decay:
    """Fits ``e(t) = floor + amplitude · exp(−rate · t)``.

    With a floor that is known, ``log(e − floor)`` is fitted by a line, through the
    leading points whose excess over the floor is above 2 % of the first. Otherwise
    floor, amplitude and rate are fitted to the errors themselves by least squares, with
    ``floor ≥ 0`` and ``amplitude ≥ 0``, over all rates.

    Where fewer than three leading points are above 2 %, counted from the least error if
    no floor is known, no rate can be told: it is None, and ``low = log(e_0/e_n)/t_n``
    is the bound by the first point that is not above. So it often is after training
    with a `keras_lap.running_costs.PathLoss`.

    The interval comes from the residuals, and takes them for independent. It holds its
    95 % where the floor is known and far less where that is fitted; `analyze` resamples
    the samples instead.

    Args:
        times: Ascending times of the exits, `(n,)`.
        errors: Their errors, `(n,)`.
        floor: What the error tends to, from 0. Defaults to None, fitted.

    Returns:
        A `Decay`.

    Raises:
        ValueError: If there are not as many errors as times, fewer than two, the times
            do not ascend, or a number is not finite.
        ImportError: If SciPy is not installed.

    Examples:
        >>> decay = keras_lap.depth.fit_decay([0, 1, 2, 3], [1.0, 0.5, 0.25, 0.125], 0)
        >>> round(decay.rate, 4)
        0.6931
    """
    if floor is not None:
        floor = finite_number("floor", floor, ">= 0", "Use None to fit it.")
    t, e = (np.asarray(values, float) for values in (times, errors))
    fits = t.ndim == 1 and t.shape == e.shape and len(t) > 1
    if not fits or not np.all(np.isfinite([t, e])) or np.any(np.diff(t) <= 0):
        raise ValueError(
            "A decay is fitted to two errors or more, finite numbers at as many "
            f"ascending times. Received: times={times!r}, errors={errors!r}."
        )
    decay = _fit(t, e, floor)
    if decay.rate is None:
        return decay
    deviation, free = _spread(t, e, decay, is_line=floor is not None)
    if free < 1:
        return decay
    quantile = require("scipy.stats", "SciPy", "plots", "fit_decay()").t.ppf
    half = float(quantile((1 + _LEVEL) / 2, free)) * deviation
    low, high = decay.rate - half, decay.rate + half
    return Decay(decay.rate, low, high, decay.floor, decay.amplitude, decay.points)


def resampled(times: np.ndarray, losses: np.ndarray) -> Decay:
    """Fits the mean loss of each exit, with an interval by bootstrap over the samples.

    Args:
        times: Times of the exits, `(exits,)`.
        losses: Loss of each sample at each, `(samples, exits)`.

    Returns:
        A `Decay` of which 95 % of 200 resamples have a rate between `low` and `high`.
    """
    mean = losses.mean(axis=0)
    if not np.all(np.isfinite(mean)):
        return Decay(None, None, None, None, None, 0)
    decay = _fit(times, mean, None)
    generator, count = np.random.default_rng(0), len(losses)
    even = np.full(count, 1 / count)
    curves = [
        generator.multinomial(count, even) @ losses / count for _ in range(_RESAMPLES)
    ]
    fits = [_fit(times, curve, None, _QUICK_ROUNDS) for curve in curves]
    # Where a resample tells no more than a bound, its rate is at least that.
    least = [fit.low if fit.rate is None else fit.rate for fit in fits]
    most = [math.inf if fit.rate is None else fit.rate for fit in fits]
    tail = (1 - _LEVEL) / 2
    known = [-math.inf if each is None else each for each in least]
    low = float(np.quantile(known, tail, method="lower"))
    high = float(np.quantile(most, 1 - tail, method="higher"))
    bounded = decay.rate is not None and math.isfinite(high)
    return Decay(
        decay.rate,
        low if math.isfinite(low) else None,
        high if bounded else None,
        decay.floor,
        decay.amplitude,
        decay.points,
    )


def _fit(
    times: np.ndarray,
    errors: np.ndarray,
    floor: float | None,
    rounds: int = _ROUNDS,
) -> Decay:
    """The decay without an interval; a bound where there is no rate."""
    excess = errors - (errors.min() if floor is None else floor)
    below = np.flatnonzero(~(excess > _ABOVE * max(excess[0], 0.0)))
    points = int(below[0]) if len(below) else len(times)
    if points < _FEWEST:
        return Decay(
            None, _bound(times, errors, floor, points), None, floor, None, points
        )
    if floor is not None:
        slope, start = np.polyfit(times[:points], np.log(excess[:points]), 1)
        return Decay(-float(slope), None, None, floor, math.exp(start), points)
    rate = _best_rate(times, errors, rounds)
    base, amplitude, _ = _at_rates(times, errors, np.array([rate]))
    return Decay(rate, None, None, float(base[0]), float(amplitude[0]), len(times))


def _bound(
    times: np.ndarray, errors: np.ndarray, floor: float | None, points: int
) -> float | None:
    """``log(e_0/e_n)/t_n`` of the first point that is not above 2 %."""
    last = min(points, len(times) - 1)
    first, later = errors[0] - (floor or 0.0), errors[last] - (floor or 0.0)
    if last == 0 or first <= 0:
        return None
    # At or below the floor, all that is known is that less than 2 % are left.
    ratio = first / later if later > 0 else 1 / _ABOVE
    return math.log(ratio) / float(times[last] - times[0])


def _best_rate(times: np.ndarray, errors: np.ndarray, rounds: int) -> float:
    """The rate of least squares, by a search that sees all rates at once."""
    ends = 1e-3 / (times[-1] - times[0]), 50 / np.diff(times).min()
    for _ in range(rounds):
        rates = np.geomspace(*ends, _RATES)
        best = int(np.argmin(_at_rates(times, errors, rates)[2]))
        ends = rates[max(best - 1, 0)], rates[min(best + 1, _RATES - 1)]
    return float(rates[best])


def _at_rates(times: np.ndarray, errors: np.ndarray, rates: np.ndarray) -> Any:
    """Floor, amplitude and sum of squares at each of some rates, each `(rates,)`."""
    # For a rate that is known this is a line, and its two bounds are met one by one.
    falls = np.exp(-rates[:, None] * (times - times[0]))
    centred = falls - falls.mean(axis=1, keepdims=True)
    tiny = np.finfo(float).tiny
    amplitude = centred @ errors / np.maximum(np.sum(centred**2, axis=1), tiny)
    base = errors.mean() - amplitude * falls.mean(axis=1)
    through_zero = falls @ errors / np.sum(falls**2, axis=1)
    amplitude = np.where(base < 0, through_zero, amplitude)
    base = np.maximum(base, 0.0)
    rising = amplitude < 0
    amplitude = np.where(rising, 0.0, amplitude)
    base = np.where(rising, max(errors.mean(), 0.0), base)
    residuals = errors - base[:, None] - amplitude[:, None] * falls
    # As of time 0.
    amplitude = amplitude * np.exp(rates * times[0])
    return base, amplitude, np.sum(residuals**2, axis=1)


def _spread(
    times: np.ndarray, errors: np.ndarray, decay: Decay, is_line: bool
) -> tuple[float, int]:
    """Standard deviation of the rate by the residuals, and degrees of freedom."""
    assert decay.rate is not None  # so all of it is known
    assert decay.floor is not None
    assert decay.amplitude is not None
    if is_line:
        t = times[: decay.points]
        fitted = math.log(decay.amplitude) - decay.rate * t
        residuals = np.log(errors[: decay.points] - decay.floor) - fitted
        slopes = np.stack([np.ones_like(t), -t])
    else:
        falls = np.exp(-decay.rate * times)
        residuals = errors - decay.floor - decay.amplitude * falls
        last = -decay.amplitude * times * falls
        slopes = np.stack([np.ones_like(times), falls, last])
    free = slopes.shape[1] - slopes.shape[0]
    variance = float(np.sum(residuals**2)) / max(free, 1)
    covariance = np.linalg.pinv(slopes @ slopes.T) * variance
    return math.sqrt(covariance[-1, -1]), free
