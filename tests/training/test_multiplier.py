"""λ and its schedule, in training and by itself."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from support.basics import as_numpy, crossentropy

import keras_lap
from keras_lap.callbacks import MultiplierUpdate

RATE, BATCH = 0.05, 8


def ascend(losses, tau=1.0, every=1, averaged=False, start=2.0):
    """λ after each of some losses, on the layer alone."""
    ascent = keras_lap.MultiplierAscent(start)
    ascent.start(tau, every, averaged)
    return [float(ascent.step(keras.ops.convert_to_tensor(x))) for x in losses], ascent


def test_batch_losses():
    values, _ = ascend([1.0, 2.0, 4.0, 8.0, 16.0], tau=0.5, every=2)
    assert values == [2.0, 3.0, 3.0, 7.0, 7.0]


def test_mean_losses_since_the_last_update():
    values, _ = ascend([1.0, 2.0, 4.0, 8.0, 16.0], tau=0.5, every=2, averaged=True)
    assert values == [2.0, 2.75, 2.75, 5.75, 5.75]


def test_zero_tau_holds():
    assert ascend([1.0, 2.0, 3.0], tau=0.0)[0] == [2.0, 2.0, 2.0]


def test_a_stopped_ascent_counts_nothing():
    _, ascent = ascend([1.0], every=3)
    ascent.stop()
    ascent.step(keras.ops.convert_to_tensor(1.0))
    assert int(ascent.steps) == 1
    assert float(ascent.multiplier) == 2.0


@pytest.mark.parametrize("averaged", [False, True])
def test_a_loss_that_is_not_finite_never_reaches_the_multiplier(averaged):
    bad = [float("nan"), 1.0, float("inf"), float("inf"), 1.0, 1.0]
    values, ascent = ascend(bad, every=2, averaged=averaged)
    spoilt = 2 if averaged else 1
    assert values[-1] == 2.0 + 3 - spoilt
    assert int(ascent.skipped) == spoilt


def test_the_multiplier_stays_positive():
    values, ascent = ascend([-0.5, -1.5, -0.5, 4.0])
    assert values == [1.5, 1.5, 1.0, 5.0]
    assert int(ascent.skipped) == 1


def test_steps_are_the_optimizers(dense_network, digits):
    """Four batches gathered for one step: an update every second step."""
    network = dense_network()
    model = keras_lap.LeastActionModel(network, initial_multiplier=1e9)
    optimizer = keras.optimizers.SGD(RATE, gradient_accumulation_steps=4)
    model.compile(optimizer, crossentropy())
    update = MultiplierUpdate(tau=1e9, every=2)
    values = model.fit(*digits, **fit_options(4, update)).history["multiplier"]
    assert values[0] == 1e9 < values[1] == values[2] < values[3]


def test_restored_weights_do_not_bring_the_schedule_back(model, digits):
    restore = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    model.fit(*digits, **fit_options(2, MultiplierUpdate(tau=1.0), restore))
    before = float(model.multiplier)
    model.train_on_batch(*digits)
    assert float(model.multiplier) == before


def test_the_multiplier_is_float32_whatever_the_model_is():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        ascent = keras_lap.MultiplierAscent(1.0)
        ascent.start(1.0, 1, averaged=False)
        # In half precision 1 + 0.0001 is 1.
        value = ascent.step(keras.ops.cast(0.0001, "float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(ascent.multiplier.dtype) == "float32"
    assert float(value) == pytest.approx(1.0001, rel=1e-7)


def fit_options(epochs, *callbacks):
    return {
        "epochs": epochs,
        "batch_size": BATCH,
        "shuffle": False,
        "verbose": 0,
        "callbacks": list(callbacks),
    }


def plain_losses(network, x, y, epochs):
    """The loss of every batch before its step, in plain training by SGD."""
    network.compile(keras.optimizers.SGD(RATE), crossentropy())
    losses = []
    for _ in range(epochs):
        for i in range(0, len(x), BATCH):
            batch = x[i : i + BATCH], y[i : i + BATCH]
            losses.append(float(network.test_on_batch(*batch)))
            network.train_on_batch(*batch)
    return losses


@pytest.mark.parametrize("loss", ["batch", "mean"])
def test_every_is_counted_over_epochs_and_over_fits(dense_network, digits, loss):
    x, y = digits  # four batches an epoch; an update every third step
    network, reference = dense_network(), dense_network()
    reference.set_weights(network.get_weights())
    # λ is so large that C/λ is lost in rounding: the reference is plain training.
    start = tau = 1e9
    model = keras_lap.LeastActionModel(network, initial_multiplier=start)
    model.compile(keras.optimizers.SGD(RATE), crossentropy())
    update = MultiplierUpdate(tau=tau, every=3, loss=loss)
    seen = [model.fit(x, y, **fit_options(epochs, update)) for epochs in (1, 2)]
    trajectory = [v for history in seen for v in history.history["multiplier"]]

    losses = plain_losses(reference, x, y, epochs=3)
    expected, multiplier = [], start
    for step in range(1, 13):
        if step % 3 == 0:
            window = losses[step - 3 : step] if loss == "mean" else losses[step - 1]
            multiplier += tau * np.mean(window)
        if step % 4 == 0:
            expected.append(multiplier)
    np.testing.assert_allclose(trajectory, expected, rtol=1e-4)


@pytest.fixture
def model(dense_network):
    model = keras_lap.LeastActionModel(dense_network(), initial_multiplier=3.0)
    model.compile(keras.optimizers.SGD(RATE), crossentropy())
    return model


def test_without_the_callback_the_multiplier_is_constant(model, digits):
    model.fit(*digits, **fit_options(1, MultiplierUpdate(tau=1.0)))
    raised = float(model.multiplier)
    assert raised > 3.0
    model.fit(*digits, **fit_options(1))
    model.train_on_batch(*digits)
    assert float(model.multiplier) == raised


def test_an_interrupted_fit_leaves_no_schedule_behind(model, digits):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(*digits, **fit_options(1, MultiplierUpdate(tau=1.0), Interrupt()))
    before = float(model.multiplier)
    model.fit(*digits, **fit_options(1))
    assert float(model.multiplier) == before


def test_one_warning_for_losses_that_are_not_finite(model, digits):
    x, y = digits
    poisoned = np.full_like(x, np.nan)
    with pytest.warns(UserWarning, match=r"not finite.*λ stays at 3\b") as caught:
        model.fit(poisoned, y, **fit_options(2, MultiplierUpdate(tau=1.0)))
    assert len([w for w in caught if "multiplier" in str(w.message)]) == 1
    assert float(model.multiplier) == 3.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.network.set_weights([np.zeros(w.shape) for w in model.network.weights])
        model.fit(x, y, **fit_options(1, MultiplierUpdate(tau=1.0)))
    assert float(model.multiplier) > 3.0


def test_the_callback_needs_a_least_action_model(dense_network, digits):
    network = dense_network()
    network.compile("sgd", crossentropy())
    weights = network.get_weights()
    with pytest.raises(TypeError, match=r"Received: a Functional.*Wrap the network"):
        network.fit(*digits, callbacks=[MultiplierUpdate()], verbose=0)
    for before, after in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": -1}, r"tau must be a finite number >= 0. Received: tau=-1\. Use 0"),
        ({"tau": float("inf")}, "tau=inf"),
        ({"every": 0}, "every must be a whole number of at least 1.*every=0"),
        ({"every": 1.5}, "every=1.5"),
        ({"every": True}, "every=True"),
        ({"loss": "epoch"}, "'batch', 'mean'. Received: loss='epoch'"),
    ],
)
def test_bad_arguments_say_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiplierUpdate(**arguments)


def test_steps_in_progress_are_saved_and_the_schedule_is_not(model, digits, tmp_path):
    update = MultiplierUpdate(tau=1.0, every=3, loss="mean")
    model.fit(*digits, **fit_options(1, update))
    model.ascent.start(1.0, 3, averaged=True)  # as in the middle of a training
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert int(loaded.ascent.steps) == 1
    assert as_numpy(loaded.ascent.loss_sum.value) == as_numpy(
        model.ascent.loss_sum.value
    )
    loaded.train_on_batch(*digits)
    loaded.train_on_batch(*digits)
    assert float(loaded.multiplier) == float(model.multiplier)
