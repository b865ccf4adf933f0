"""Weighted energies against NumPy: masks, sample weights, and both together."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy, gradient

from keras_lap.energies import DisplacementEnergy, Energy, position_weights

every_norm = pytest.mark.parametrize("norm", ["elementwise", "euclidean"])
every_reduction = pytest.mark.parametrize("reduction", ["mean", "sum"])
every_p = pytest.mark.parametrize("p", [1.1, 1.5, 2, 3])

SHAPE = (4, 3, 2, 5)  # four samples, 3 × 2 positions, five features


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def v(rng):
    return rng.normal(size=SHAPE).astype("float32")


@pytest.fixture
def mask(rng):
    mask = rng.random(SHAPE[:3]) < 0.6
    mask[2] = False  # a sample of padding alone
    return mask


def numpy_cost(v, mask, samples, p, norm, reduction):
    """The definition, on the valid positions alone, in double precision."""
    total = 0.0
    for b, weight in enumerate(samples):
        valid = v[b][mask[b]].astype("float64")
        length = np.sqrt((valid**2).sum())
        total += weight * (
            (np.abs(valid) ** p).sum() if norm == "elementwise" else length**p
        )
    return total / (len(v) if reduction == "sum" else mask.sum() * v.shape[-1])


def cost(energy, v, mask=None, sample_weight=None):
    weights = energy.weights_for(v, mask, sample_weight)
    return energy.of_blocks([keras.ops.convert_to_tensor(v)], [weights])[0]


@every_norm
@every_reduction
@every_p
def test_masked_and_weighted_energies_follow_the_definition(
    p, norm, reduction, v, mask, rng
):
    samples = rng.uniform(0, 3, size=len(v)).astype("float32")
    everything, ones = np.ones_like(mask), np.ones(len(v))
    energy = DisplacementEnergy(p, norm, reduction)
    for own_mask, own_samples in (
        (mask, None),
        (None, samples),
        (mask, samples),
        (mask.astype("float32"), samples[:, None]),
    ):
        expected = numpy_cost(
            v,
            everything if own_mask is None else mask,
            ones if own_samples is None else samples,
            *(p, norm, reduction),
        )
        value = float(cost(energy, v, own_mask, own_samples))
        assert value == pytest.approx(expected, rel=1e-5)


@every_norm
@every_reduction
@every_p
def test_weights_of_one_change_nothing(p, norm, reduction, v):
    energy = DisplacementEnergy(p, norm, reduction)
    plain = float(energy(v))
    for ones in (np.ones(4, "float32"), np.ones(SHAPE[:3], "float32")):
        assert float(cost(energy, v, None, ones)) == pytest.approx(plain, rel=1e-6)
        assert float(cost(energy, v, ones > 0)) == pytest.approx(plain, rel=1e-6)
    assert energy.weights_for(v, None, None) is None
    assert float(energy.of_blocks([v], [None])[0]) == float(energy.of_blocks([v])[0])


@every_norm
@every_reduction
@every_p
def test_padding_has_no_influence_and_no_gradient(p, norm, reduction, v, mask):
    """Not even where it is NaN, and as much of it as there may be."""
    energy = DisplacementEnergy(p, norm, reduction)
    expected = float(cost(energy, v, mask))
    spoiled = np.where(mask[..., None], v, np.nan).astype("float32")
    slope = gradient(lambda v: cost(energy, v, mask), spoiled)
    assert np.isfinite(slope).all()
    assert (slope[~mask] == 0).all()
    assert (slope[mask] != 0).all()
    longer = np.pad(spoiled, ((0, 0), (0, 7), (0, 0), (0, 0)), constant_values=np.nan)
    padded = np.pad(mask, ((0, 0), (0, 7), (0, 0)))
    assert float(cost(energy, longer, padded)) == pytest.approx(expected, rel=1e-5)


@every_norm
@every_p
def test_gradient_of_a_masked_energy_against_finite_differences(p, norm, rng):
    v = rng.normal(size=(2, 2, 2)).astype("float32")
    mask, samples = np.array([[1, 0], [1, 1]], bool), np.array([0.5, 2.0], "float32")
    energy, step = DisplacementEnergy(p, norm), 1e-6
    expected = np.zeros_like(v)
    for index in np.ndindex(v.shape):
        ends = []
        for sign in (1, -1):
            moved = v.astype("float64")
            moved[index] += sign * step
            ends.append(numpy_cost(moved, mask, samples, p, norm, "mean"))
        expected[index] = (ends[0] - ends[1]) / (2 * step)
    slope = gradient(lambda v: cost(energy, v, mask, samples), v)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6)


def test_weights_of_positions(v, rng):
    """They multiply what each position costs, or what it adds to the square."""
    weights = rng.uniform(0.5, 2, size=SHAPE[:3]).astype("float32")
    w, squares = weights.astype("float64"), (v.astype("float64") ** 2).sum(-1)
    energy = DisplacementEnergy(2, "elementwise")
    expected = (w * squares).sum() / v.size
    assert float(cost(energy, v, None, weights)) == pytest.approx(expected, rel=1e-5)
    largest = w.max(axis=(1, 2))
    inside = (w * squares).sum(axis=(1, 2)) / largest
    expected = (largest * inside**1.5).mean()
    energy = DisplacementEnergy(3, "euclidean", "sum")
    assert float(cost(energy, v, None, weights)) == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_which_nothing_counts_costs_nothing(v):
    for norm in ("elementwise", "euclidean"):
        energy = DisplacementEnergy(1.5, norm)
        for zeros in ({"mask": np.zeros(SHAPE[:3])}, {"sample_weight": np.zeros(4)}):
            slope = gradient(lambda v, z=zeros, e=energy: cost(e, v, **z), v)
            assert float(cost(energy, v, **zeros)) == 0
            assert (slope == 0).all()


def test_masks_weigh_as_in_the_losses_of_keras(v, mask, rng):
    """Keras's own loss of a tensor with a mask, with zeros for its targets."""
    samples = rng.uniform(0.5, 2, size=4).astype("float32")
    predicted = keras.layers.Masking(mask_value=0.0)(np.where(mask[..., None], v, 0))
    loss = keras.losses.MeanSquaredError()(
        np.zeros(SHAPE, "float32"), predicted, np.tile(samples[:, None, None], (3, 2))
    )
    value = float(cost(DisplacementEnergy(2), v, mask, samples))
    assert value == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(
    ("sample_weight", "expected"),
    [
        (np.arange(4.0), np.arange(4.0)),
        (np.arange(4.0)[:, None], np.arange(4.0)),
        (np.arange(12.0).reshape(4, 3), np.arange(12.0).reshape(4, 3)),
        (np.arange(12.0).reshape(4, 3, 1), np.arange(12.0).reshape(4, 3)),
        (np.arange(28.0).reshape(4, 7), np.arange(28.0).reshape(4, 7).mean(1)),
        ({"a": np.arange(4.0), "b": None}, (np.arange(4.0) + 1) / 2),
        ([np.arange(4.0), np.arange(28.0).reshape(4, 7)], np.arange(4.0) * 4 + 1.5),
        ({"a": None}, None),
    ],
)
def test_forms_of_sample_weights(sample_weight, expected, v):
    weights = position_weights(None, sample_weight, v)
    if expected is None:
        assert weights is None
    else:
        np.testing.assert_allclose(as_numpy(weights), expected)


def test_weights_as_wide_as_the_features_are_no_weights_of_positions():
    flat = np.ones((4, 5), "float32")
    weights = position_weights(None, np.arange(20.0).reshape(4, 5), flat)
    np.testing.assert_allclose(as_numpy(weights), np.arange(20.0).reshape(4, 5).mean(1))


class Own(Energy):
    """Knows nothing of weights."""

    def __call__(self, displacement):
        return keras.ops.mean(keras.ops.log1p(displacement**2))


class Weighing(Own):
    """Weighs its terms."""

    def weighted(self, displacement, weights):
        costs = keras.ops.mean(keras.ops.log1p(displacement**2), axis=-1)
        return keras.ops.mean(weights * costs)


def test_energies_of_ones_own(v, mask, rng):
    """By default what weighs nothing is left out; who wants more can weigh."""
    samples = rng.uniform(0.5, 2, size=4).astype("float32")
    spoiled = np.where(mask[..., None], v, np.nan).astype("float32")
    costs = np.log1p(np.where(mask[..., None], v, 0).astype("float64") ** 2)
    value = float(cost(Own(), spoiled, mask, samples))
    assert value == pytest.approx(costs[mask].mean(), rel=1e-5)
    slope = gradient(lambda v: cost(Own(), v, mask, samples), spoiled)
    assert (slope[~mask] == 0).all()
    assert (slope[mask] != 0).all()
    expected = (samples[:, None, None, None] * costs).sum() / (mask.sum() * 5)
    value = float(cost(Weighing(), v, mask, samples))
    assert value == pytest.approx(expected, rel=1e-5)
