"""What gets in each other's way is refused, or does not."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from support.basics import build_dense_network, crossentropy

import keras_lap
from keras_lap.callbacks import MultiplierUpdate

FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


def compiled(model, **options):
    model.compile(keras.optimizers.SGD(0.05), **{"loss": crossentropy(), **options})
    return model


def assert_refuses(model, error, message, *data, **options):
    """`fit` raises before it changes any weight."""
    before = model.network.get_weights()
    with pytest.raises(error, match=message):
        model.fit(*data, **FIT, **options)
    for old, new in zip(before, model.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def two_headed(names):
    inputs = keras.Input((64,))
    state = keras.layers.Dense(6)(inputs)
    state = state + keras.layers.Dense(6)(state)
    outputs = {name: keras.layers.Dense(10, name=name)(state) for name in names}
    return keras_lap.LeastActionModel(keras.Model(inputs, outputs))


def test_an_output_named_task(digits):
    x, y = digits
    names = ("task", "other")
    targets = dict.fromkeys(names, y)
    model = compiled(two_headed(names), loss={name: crossentropy() for name in names})
    message = r"logged as 'task_loss'.*the output another name"
    assert_refuses(model, ValueError, message, x, targets)


@pytest.mark.parametrize("name", ["transport_cost", "multiplier"])
def test_a_metric_with_a_name_of_ours(digits, name):
    metric = keras.metrics.SparseCategoricalAccuracy(name=name)
    model = compiled(
        keras_lap.LeastActionModel(build_dense_network()), metrics=[metric]
    )
    assert_refuses(model, ValueError, f"logged as {name!r}", *digits)
    compiled(model, metrics=["accuracy"]).fit(*digits, **FIT)  # and it works again


def test_names_that_only_look_like_ours(digits):
    """Keras puts the output before the metric's name, where there are several."""
    x, y = digits
    names = ("a", "b")
    model = compiled(
        two_headed(names),
        loss={name: crossentropy() for name in names},
        metrics={"a": [keras.metrics.SparseCategoricalAccuracy(name="multiplier")]},
    )
    history = model.fit(x, dict.fromkeys(names, y), **FIT).history
    assert {"a_multiplier", "multiplier", "a_loss", "task_loss"} <= set(history)
    assert history["multiplier"] == [1.0]


def test_two_schedules_in_one_training(digits):
    model = compiled(keras_lap.LeastActionModel(build_dense_network()))
    two = [MultiplierUpdate(tau=1.0), MultiplierUpdate(tau=2.0)]
    message = r"Only one MultiplierUpdate.*Leave one of them out"
    assert_refuses(model, ValueError, message, *digits, callbacks=two)
    model.fit(*digits, **FIT, callbacks=two[:1])
    assert float(model.multiplier) > 1.0


@pytest.mark.parametrize("order", [1, -1])
def test_updates_skipped_before_a_backup_are_not_warned_of_again(
    digits, tmp_path, order
):
    """Whether the backup is restored before or after λ's schedule begins."""

    def build():
        return compiled(keras_lap.LeastActionModel(build_dense_network()))

    backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    model = build()
    model.ascent.skipped.assign(3)
    model.fit(*digits, **FIT, callbacks=[backup])
    model = build()
    callbacks = [MultiplierUpdate(), keras.callbacks.BackupAndRestore(tmp_path)][
        ::order
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(*digits, epochs=2, **FIT, callbacks=callbacks)
    assert int(model.ascent.skipped) == 3
    assert float(model.multiplier) > 1.0


def test_another_network_needs_another_model():
    network = build_dense_network()
    model = keras_lap.LeastActionModel(network)
    with pytest.raises(AttributeError, match="Wrap the other network in a model"):
        model.network = build_dense_network()
    assert model.network is network
    model.network = network  # is no other one


class Twice(keras_lap.LeastActionModel):
    """Asks for the objective twice in a step and takes the mean."""

    def compute_loss(self, *args, **kwargs):
        first = super().compute_loss(*args, **kwargs)
        return (first + super().compute_loss(*args, **kwargs)) / 2


@pytest.mark.parametrize("loss", ["batch", "mean"])
def test_a_subclass_that_asks_twice_counts_once(digits, loss):
    network = build_dense_network()
    start, histories = network.get_weights(), []
    for each in (keras_lap.LeastActionModel, Twice):
        network.set_weights(start)
        model = compiled(each(network, initial_multiplier=2.0))
        update = MultiplierUpdate(tau=0.5, every=3, loss=loss)
        histories.append(
            model.fit(*digits, epochs=3, **FIT, callbacks=[update]).history
        )
    once, twice = histories
    for name, values in once.items():
        np.testing.assert_allclose(twice[name], values, rtol=1e-5, err_msg=name)


def test_a_callback_that_monitors_our_loss_is_told_the_direction(digits):
    model = compiled(keras_lap.LeastActionModel(build_dense_network()))
    stop = keras.callbacks.EarlyStopping("val_task_loss", patience=0, min_delta=1e9)
    with pytest.raises(ValueError, match="mode='min'"):
        model.fit(*digits, validation_data=digits, **FIT, callbacks=[stop])
    stop = keras.callbacks.EarlyStopping(
        "val_task_loss", mode="min", patience=0, min_delta=1e9
    )
    history = model.fit(
        *digits, validation_data=digits, epochs=5, **FIT, callbacks=[stop]
    )
    assert history.epoch == [0, 1]
