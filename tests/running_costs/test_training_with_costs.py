"""Three costs together on a neural ODE: compiled or not, in half precision, resumed."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

import keras_lap
from keras_lap.networks import neural_ode
from keras_lap.running_costs import ControlCost, PathLoss, TrackingCost

BACKEND = keras.backend.backend()
NAMES = ["path_loss", "control_cost", "tracking_cost", "task_loss", "loss"]
CORNERS = np.array([[-1.0, 0.5, 0.0], [1.0, -0.5, 0.0]])
OPTIONS = {"batch_size": 8, "shuffle": False, "verbose": 0}


def data():
    numbers = np.random.default_rng(2)
    x = numbers.normal(size=(24, 2)).astype("float32")
    return x, (x[:, :1] > 0).astype("int64")


def build(energy=None, **options):
    """A model of the same weights each time."""
    keras.utils.set_random_seed(0)
    net = neural_ode((2,), 1, horizon=2.0, steps=2, augment=1)
    model = keras_lap.LeastActionModel(
        net,
        energy,
        running_costs=[PathLoss(0.5), ControlCost(0.1), TrackingCost(0.2, CORNERS)],
        horizon=2.0,
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, **options)
    return model


def fit(model, epochs, first=0):
    """The logs of some epochs; with an energy, λ rises."""
    update = keras_lap.callbacks.MultiplierUpdate(tau=0.5, every=2)
    callbacks = [] if model.energy is None else [update]
    options = {"initial_epoch": first, "epochs": first + epochs, **OPTIONS}
    return model.fit(*data(), **options, callbacks=callbacks).history


def check_close(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], err_msg=name, **tolerance)


@pytest.mark.skipif(BACKEND == "torch", reason="its compiler takes minutes")
def test_compiled_or_not():
    """XLA, a graph and single operations order sums anew: some roundings of 6e-8."""
    bare, compiled = (fit(build(jit_compile=jit), 2) for jit in (False, True))
    assert set(NAMES) <= bare.keys()
    check_close(bare, compiled, rtol=2e-5)


def test_mixed_precision():
    """With the scale of the loss that float16 brings."""
    full = fit(build(), 2)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy(before)
    half = fit(model, 2)
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    # float16 keeps eleven bits of each state, 5e-4, and twenty sums of them; a cost
    # that was scaled with the loss, or left out of it, is off by far more.
    check_close(full, half, rtol=1e-2)
    assert half["loss"] != full["loss"]


def test_a_training_goes_on_from_its_file_as_if_uninterrupted(tmp_path):
    """To the last bit: one machine, one backend, one order of the data."""
    whole = build(energy=2.0)
    expected = fit(whole, 4)
    part = build(energy=2.0)
    fit(part, 2)
    part.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    history = fit(loaded, 2, first=2)
    assert history["multiplier"][-1] > 1
    for name in expected:
        assert history[name] == expected[name][2:], name
    for ours, theirs in zip(loaded.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(as_numpy(ours), as_numpy(theirs), ours.path)
