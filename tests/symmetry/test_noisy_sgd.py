"""Noise that differs from step to step, under every compiler, and goes on."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lap.symmetry import (
    MeanFieldEnsemble,
    NoisySGD,
    conjugation,
    cyclic,
    projector,
)

one_backend = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
UNITS, STEPS, RATE, TEMPERATURE = 2000, 50, 3.0, 0.4
X = np.zeros((STEPS, 2), "float32")


def nothing(y_true, y_pred):
    """A loss whose gradient is 0."""
    return 0 * keras.ops.sum(y_pred, axis=-1)


def model_with(optimizer, units=UNITS, layers=1, **how):
    clouds = [
        MeanFieldEnsemble(units, 2, initial_std=0.0, **how) for _ in range(layers)
    ]
    model = keras.Sequential([keras.Input((2,)), *clouds])
    model.compile(optimizer, loss=nothing)
    return model, *clouds


def noise_of(optimizer, steps=1, dtype="float32"):
    """What single steps without a gradient, not compiled, add to 2000 units."""
    variable = keras.Variable(np.zeros((UNITS, 4)), dtype=dtype)
    path = [np.zeros((UNITS, 4))]
    for _ in range(steps):
        optimizer.apply([keras.ops.zeros((UNITS, 4), dtype)], [variable])
        path.append(keras.ops.convert_to_numpy(variable).astype(float))
    return np.diff(path, axis=0)


def assert_unlike(a, b):
    # Six standard deviations of a correlation of 8000 pairs.
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 6 / np.sqrt(8000)


@pytest.mark.parametrize("projected", [False, pytest.param(True, marks=one_backend)])
def test_the_variance_grows_by_the_step(projected):
    matrix = projector(conjugation(cyclic(2))) if projected else None
    optimizer = NoisySGD(RATE, TEMPERATURE, matrix, seed=1)
    model, *layers = model_with(optimizer, layers=1 if projected else 2)
    model.fit(X, X, batch_size=1, verbose=0)
    clouds = [layer.cloud() for layer in layers]
    dimension = 2 if projected else 4
    want = STEPS * 2 * TEMPERATURE * RATE / UNITS * dimension
    for cloud in clouds:
        # Of 4000 or 8000 squares, whose mean is off by 2 % or less; six times that.
        # Noise drawn once would give 50 times as much.
        assert np.mean(np.sum(cloud**2, axis=1)) == pytest.approx(want, rel=0.13)
        assert abs(cloud.mean()) < 6 * np.sqrt(want / dimension / cloud.size)
        swapped = cloud.reshape(-1, 2, 2)[:, ::-1, ::-1].reshape(-1, 4)
        away = np.abs(cloud - swapped).max()
        assert away < 1e-6 if projected else away > 0.01
    if not projected:  # variables of one shape get noise of their own
        assert_unlike(*clouds)


def test_steps_are_independent_and_a_seed_repeats_them():
    runs = [noise_of(NoisySGD(RATE, TEMPERATURE, seed=s), 2) for s in (1, 1, 2)]
    np.testing.assert_array_equal(runs[1], runs[0])
    assert_unlike(*runs[0])
    assert_unlike(runs[0], runs[2])


def test_what_was_saved_goes_on_with_the_same_noise(tmp_path):
    matrix = projector(conjugation(cyclic(2)))
    optimizer = NoisySGD(RATE, TEMPERATURE, matrix, name="descent")
    model, layer = model_with(optimizer, units=50)
    model.fit(X[:3], X[:3], batch_size=1, verbose=0)
    model.save(tmp_path / "model.keras")
    custom = {"nothing": nothing}
    again = keras.saving.load_model(tmp_path / "model.keras", custom_objects=custom)
    for each in (model, again):
        each.fit(X[:3], X[:3], batch_size=1, verbose=0)
    np.testing.assert_array_equal(again.layers[0].cloud(), layer.cloud())
    assert again.optimizer.get_config() == optimizer.get_config()


def test_a_schedule_of_the_rate_is_that_of_the_noise():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1], [RATE, RATE / 100]
    )
    steps = noise_of(NoisySGD(schedule, TEMPERATURE, seed=1), 4)
    # 8000 numbers: a standard deviation is off by less than 1 %.
    assert np.std(steps[-1]) / np.std(steps[0]) == pytest.approx(0.1, rel=0.06)


def test_without_temperature_it_is_plain_descent_in_mixed_precision():
    # In single precision: test_mean_field_exact.
    found = []
    for make in (keras.optimizers.SGD, NoisySGD):
        layer = MeanFieldEnsemble(20, 2, seed=0, dtype="mixed_float16")
        model = keras.Sequential([keras.Input((2,)), layer])
        model.compile(make(0.5), loss="mse")
        model.fit(X[:4] + 1, X[:4], batch_size=2, verbose=0, shuffle=False)
        found.append(layer.cloud())
    np.testing.assert_array_equal(*found)


def test_noise_in_mixed_precision_is_of_the_same_size():
    optimizer = NoisySGD(RATE, TEMPERATURE, seed=1)
    model, layer = model_with(optimizer, dtype="mixed_float16")
    model.fit(X[:5], X[:5], batch_size=1, verbose=0)
    want = 5 * 2 * TEMPERATURE * RATE / UNITS * 4
    assert np.mean(np.sum(layer.cloud() ** 2, axis=1)) == pytest.approx(want, rel=0.13)


def test_noise_in_half_precision_is_of_the_same_size():
    cold = 1e-5  # 2β/N = 1e-8 is 0 in half precision, its root is not
    step = noise_of(NoisySGD(RATE, cold, seed=1), dtype="float16")
    want = np.sqrt(2 * cold * RATE / UNITS)
    assert np.std(step) == pytest.approx(want, rel=0.06)


@one_backend
def test_mistakes_are_told():
    with pytest.raises(ValueError, match="temperature must be a finite number >= 0"):
        NoisySGD(1.0, temperature=-1)
    wrong = [np.ones((2, 3)), np.full((2, 2), np.nan), conjugation(cyclic(2))]
    for each in wrong:
        with pytest.raises(ValueError, match="projector must be a square matrix"):
            NoisySGD(1.0, projector=each)
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    with pytest.raises(ValueError, match="units of 4 parameters"):
        NoisySGD(1.0, projector=np.eye(4)).build(layer.trainable_variables)
