"""`MultiplierUpdate(before_step=...)`: which λ the objective of a step has."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

import keras_lap
from keras_lap.callbacks import MultiplierUpdate

SAMPLES, FEATURES, BATCH, RATE, START = 24, 5, 4, 0.3, 0.02


def data():
    generator = np.random.default_rng(5)
    x = generator.normal(size=(SAMPLES, FEATURES)).astype("float32")
    return x, (x @ generator.normal(size=(FEATURES, FEATURES))).astype("float32")


def kernel():
    return np.random.default_rng(6).normal(scale=0.5, size=(FEATURES, FEATURES))


def wrapped(start=START, **options):
    """``x + xW``, of which cost and gradient are known."""
    inputs = keras.Input((FEATURES,))
    dense = keras.layers.Dense(FEATURES, use_bias=False)
    network = keras.Model(inputs, inputs + dense(inputs))
    network.set_weights([kernel()])
    model = keras_lap.LeastActionModel(network, 2.0, start, **options)
    return model


def by_hand(epochs, tau, every, averaged, before, weights=None):
    """The same in NumPy, in float64: W, and (λ, C, L, objective) of every step."""
    x, y = (each.astype("float64") for each in data())
    w, multiplier, window, seen = kernel(), START, [], []
    weights = np.ones(SAMPLES) if weights is None else weights
    for _ in range(epochs):
        for i in range(0, SAMPLES, BATCH):
            part = slice(i, i + BATCH)
            each = weights[part, None] / (BATCH * FEATURES)
            moved = x[part] @ w
            error = x[part] + moved - y[part]
            cost, loss = np.sum(each * moved**2), np.sum(each * error**2)
            window.append(loss)
            used = multiplier
            if len(window) == every:
                multiplier += tau * (np.mean(window) if averaged else loss)
                window = []
            if before:
                used = multiplier
            seen.append((multiplier, cost, loss, cost / used + loss))
            w = w - RATE * x[part].T @ (2 * each * (moved / used + error))
    return w, np.array(seen)


class Batches(keras.callbacks.Callback):
    """What was logged of every batch by itself."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        names = ("multiplier", "transport_cost", "task_loss", "loss")
        self.seen.append([float(logs[name]) for name in names])


def trained(model, epochs, *callbacks, **options):
    batches = Batches()
    model.fit(
        *data(),
        epochs=epochs,
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, batches],
        **options,
    )
    return as_numpy(model.network.weights[0]), np.array(batches.seen)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    ("every", "loss"), [(1, "batch"), (3, "batch"), (4, "mean")], ids=str
)
def test_each_order_is_that_of_a_loop_by_hand(before, every, loss):
    model = wrapped()
    model.compile(keras.optimizers.SGD(RATE), "mse")
    update = MultiplierUpdate(0.05, every, loss, before_step=before)
    ours = trained(model, 4, update)
    expected = by_hand(4, 0.05, every, loss == "mean", before)
    other = by_hand(4, 0.05, every, loss == "mean", not before)
    for one, right, wrong in zip(ours, expected, other, strict=True):
        # 24 steps in float32.
        np.testing.assert_allclose(one, right, rtol=1e-4, atol=1e-5)
        assert np.abs(right - wrong).max() > 1e-2


def test_weights_of_samples_are_weighed_by_the_new_multiplier():
    weights = np.random.default_rng(7).uniform(0.2, 2.0, SAMPLES)
    model = wrapped()
    model.compile(keras.optimizers.SGD(RATE), "mse")
    update = MultiplierUpdate(0.05, before_step=True)
    ours = trained(model, 4, update, sample_weight=weights)
    expected = by_hand(4, 0.05, 1, False, True, weights)
    for one, right in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", [{"run_eagerly": True}, {"jit_compile": True}], ids=str)
def test_eager_and_compiled_steps(way):
    if way == {"jit_compile": True} and keras.backend.backend() == "torch":
        pytest.skip("torch.compile is tried elsewhere: it takes half a minute.")
    model = wrapped()
    model.compile(keras.optimizers.SGD(RATE), "mse", **way)
    ours = trained(model, 4, MultiplierUpdate(0.05, before_step=True))
    expected = by_hand(4, 0.05, 1, False, True)
    for one, right in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-4, atol=1e-5)


def test_the_next_training_of_a_compiled_model_has_its_own_order():
    """Keras keeps the compiled step from one `fit` to the next."""
    model = wrapped()
    model.compile(keras.optimizers.SGD(RATE), "mse")
    for before in (True, False, True):
        model.network.set_weights([kernel()])
        model.multiplier.assign(START)
        ours = trained(model, 2, MultiplierUpdate(0.05, before_step=before))
        for one, right in zip(ours, by_hand(2, 0.05, 1, False, before), strict=True):
            np.testing.assert_allclose(one, right, rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_not_finite_leaves_the_old_multiplier():
    model = wrapped()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x, y = data()
    y[-BATCH:] = np.nan
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    batches = Batches()
    update = MultiplierUpdate(0.05, before_step=True)
    with pytest.warns(UserWarning, match="not finite"):
        model.fit(x, y, callbacks=[update, batches], **options)
    assert batches.seen[-1][0] == batches.seen[-2][0] > START


def test_the_order_is_yes_or_no():
    with pytest.raises(ValueError, match=r"True or False. Received: before_step='y'"):
        MultiplierUpdate(before_step="y")
