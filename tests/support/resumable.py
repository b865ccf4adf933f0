"""A training that may be killed and started again by the same command.

Run by `test_resume.py`. Four savers of Keras write while it trains; started again, it
goes on from what each of them left, one after the other. Weights and batches come from
NumPy and are the same every time.
"""

import argparse
import os
import signal
from pathlib import Path

import keras
import numpy as np

import keras_lap

WIDTH, BATCH, STEPS, EPOCHS = 6, 8, 4, 5
EVERY, SAVE_EVERY, KILL_AFTER = 3, 5, 11  # λ, files, death: none at the end of an epoch
FIT = {"batch_size": BATCH, "shuffle": False, "verbose": 0}


class Kill(keras.callbacks.Callback):
    """Ends the process as `kill -9` does after a number of batches."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch, logs=None):
        self.batches -= 1
        if self.batches == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * BATCH, WIDTH)).astype("float32")
    return x, rng.integers(0, 3, len(x)).astype("int64")


def build():
    """A residual network with batch norm, of weights that never vary."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((WIDTH,))
    for _ in range(2):
        v = keras.layers.BatchNormalization()(x)
        v = keras.layers.Dense(WIDTH, activation="tanh")(v)
        x = keras.layers.Add()([x, keras.layers.Dense(WIDTH)(v)])
    network = keras.Model(inputs, keras.layers.Dense(3)(x))
    model = keras_lap.LeastActionModel(network, initial_multiplier=2.0)
    model.compile(
        keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def update():
    return keras_lap.callbacks.MultiplierUpdate(tau=0.5, every=EVERY, loss="mean")


def train(model, log, callbacks=(), first_epoch=0, skipped=0):
    """Trains to the end; the first epoch lacks so many batches at its beginning."""
    x, y = data()
    callbacks = [update(), keras.callbacks.CSVLogger(log, append=True), *callbacks]
    if skipped:
        rest = x[skipped * BATCH :], y[skipped * BATCH :]
        options = {"initial_epoch": first_epoch, "epochs": first_epoch + 1}
        model.fit(*rest, **options, **FIT, callbacks=callbacks)
        first_epoch += 1
    options = {"initial_epoch": first_epoch, "epochs": EPOCHS}
    model.fit(x, y, **options, **FIT, callbacks=callbacks)


def train_on(model, log):
    """Goes on at the very batch that the optimizer has come to."""
    first_epoch, skipped = divmod(int(model.optimizer.iterations), STEPS)
    train(model, log, first_epoch=first_epoch, skipped=skipped)


def savers(folder):
    backup, checkpoint = (
        keras.callbacks.BackupAndRestore,
        keras.callbacks.ModelCheckpoint,
    )
    weights = folder / "saved.weights.h5"
    return {
        "epoch": backup(folder / "epoch"),
        "batch": backup(folder / "batch", save_freq=SAVE_EVERY),
        "model": checkpoint(folder / "saved.keras", save_freq=SAVE_EVERY),
        "weights": checkpoint(weights, save_freq=SAVE_EVERY, save_weights_only=True),
    }


def resume(folder):
    """Goes on from each of the files, with a model of its own."""
    for way in ("epoch", "batch"):
        model = build()
        train(model, folder / f"{way}.csv", [savers(folder)[way]])
        keep(model, folder / f"{way}.npz")
    model = keras.saving.load_model(folder / "saved.keras")
    train_on(model, folder / "model.csv")
    keep(model, folder / "model.npz")
    model = build()
    model.optimizer.build(model.trainable_variables)
    model.load_weights(folder / "saved.weights.h5")
    train_on(model, folder / "weights.csv")
    keep(model, folder / "weights.npz")


def run_through(folder):
    """What the files should lead to, without any file."""
    model = build()
    train(model, folder / "whole.csv")
    keep(model, folder / "whole.npz")
    # `BackupAndRestore` begins the epoch anew in which it has saved.
    model = build()
    x, y = data()
    for first in (True, False):
        epoch, batches = divmod(SAVE_EVERY * (KILL_AFTER // SAVE_EVERY), STEPS)
        if first:
            model.fit(x, y, epochs=epoch, **FIT, callbacks=[update()])
            some = x[: batches * BATCH], y[: batches * BATCH]
            model.fit(*some, **FIT, callbacks=[update()])
        else:
            train(model, folder / "again.csv", first_epoch=epoch)
    keep(model, folder / "again.npz")


def keep(model, path):
    """Writes the weights of the network, of the optimizer and of the ascent of λ."""
    ascent = {v.name: np.asarray(v) for v in model.ascent.variables}
    state = [*model.network.weights, *model.optimizer.variables]
    arrays = {f"{i}": keras.ops.convert_to_numpy(v.value) for i, v in enumerate(state)}
    np.savez(path, **ascent, **arrays)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    if (options.folder / "epoch").exists():
        resume(options.folder)
    else:
        callbacks = [*savers(options.folder).values(), Kill(KILL_AFTER)]
        train(build(), options.folder / "killed.csv", callbacks)


if __name__ == "__main__":
    main()
