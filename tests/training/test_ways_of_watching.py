"""Keras's callbacks see in a least action training what they see in a plain one."""

from __future__ import annotations

import contextlib
import csv

import keras
import numpy as np
import pytest
from support import ways
from support.ways import BATCH, assert_trains_alike, data, fit

import keras_lap

EPOCHS = 4


def with_callback(make, **options):
    """A way to train, with a callback of its own for each training."""

    def train(model, callbacks=()):
        return fit(model, [make(), *callbacks], epochs=EPOCHS, **options)

    return train


@pytest.mark.way("`EarlyStopping`")
def test_early_stopping():
    """No epoch is better by ten than the first: two are waited for, then it stops."""

    def make():
        return keras.callbacks.EarlyStopping("task", 10, patience=2, mode="min")

    *_, theirs, ours = assert_trains_alike(with_callback(make))
    assert len(ours["loss"]) == len(theirs["loss"]) == 3


@pytest.mark.way("`ReduceLROnPlateau`")
def test_a_learning_rate_that_falls():
    def make():
        return keras.callbacks.ReduceLROnPlateau(
            "task", factor=0.5, patience=1, mode="min", min_delta=10
        )

    *_, ours = assert_trains_alike(with_callback(make))  # compares the rates too
    np.testing.assert_allclose(ours["learning_rate"], [0.1, 0.1, 0.05, 0.025])


@pytest.mark.way("`TerminateOnNaN`")
def test_a_loss_that_is_no_number():
    """Both stop after the spoilt batch; λ has risen by the one before."""
    x, *_ = data()
    x[BATCH] = np.nan  # in the second of four batches
    plain, model = ways.pair()
    update = keras_lap.callbacks.MultiplierUpdate(ways.TAU)
    skipped = pytest.warns(UserWarning, match="update of the multiplier")
    for each, callbacks, warning in (
        (plain, [], contextlib.nullcontext()),
        (model, [update], skipped),
    ):
        each.compile(**ways.compile_options())
        seen = []
        count = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, seen=seen: seen.append(batch)
        )
        stop = keras.callbacks.TerminateOnNaN()
        with warning:
            history = fit(each, [stop, count, *callbacks], x=x, epochs=EPOCHS)
        assert seen == [0, 1]
        assert len(history["loss"]) == 1
    assert ways.MULTIPLIER < float(model.multiplier) < 10


@pytest.mark.way("`CSVLogger`")
def test_a_file_of_logs(tmp_path):
    path = tmp_path / "log.csv"
    *_, model = ways.pair()
    model.compile(**ways.compile_options())
    callbacks = [
        keras.callbacks.CSVLogger(path),
        keras_lap.callbacks.MultiplierUpdate(ways.TAU),
    ]
    history = fit(model, callbacks, epochs=EPOCHS, validation_split=0.25)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == set(history) | {"epoch"}
    assert set(history) > ways.OURS | {"val_task_loss"}
    for name, values in history.items():
        np.testing.assert_allclose([float(row[name]) for row in rows], values)


@pytest.mark.way("`TensorBoard`")
def test_tensorboard(tmp_path):
    """Read by TensorBoard's own reader: every log of every epoch."""
    pytest.importorskip("tensorflow")  # which Keras writes with, on every backend
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    *_, model = ways.pair()
    model.compile(**ways.compile_options())
    callbacks = [
        keras.callbacks.TensorBoard(tmp_path),
        keras_lap.callbacks.MultiplierUpdate(ways.TAU),
    ]
    history = fit(model, callbacks, epochs=EPOCHS)
    events = EventAccumulator(str(tmp_path / "train")).Reload()
    for name, values in history.items():
        written = [
            float(make_ndarray(event.tensor_proto))
            for event in events.Tensors(f"epoch_{name}")
        ]
        np.testing.assert_allclose(written, values, rtol=1e-6, err_msg=name)
