# %% [markdown]
# # Checkpoints, resuming, export
#
# λ and the counters of its ascent are variables of the model, and are saved with it. So
# a training that was killed goes on as if it had not been. This tutorial kills one,
# resumes it, and then takes the network out for use without this package.

# %%
import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

import keras_lap

folder = Path(tempfile.mkdtemp())
data = keras_lap.datasets.load("digits", train_size=320)


def build() -> keras_lap.LeastActionModel:
    """The same compiled model, with the same weights, at every call."""
    keras.utils.set_random_seed(0)
    network = keras_lap.networks.one_representation_resnet(
        data.input_shape, data.num_classes, filters=4, num_blocks=3
    )
    model = keras_lap.LeastActionModel(network, initial_multiplier=5.0)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback) -> None:
    """Six epochs, in the same order of data at every call."""
    update = keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=3)
    model.fit(
        *data.train,
        batch_size=64,
        epochs=6,
        shuffle=False,
        verbose=0,
        callbacks=[update, *callbacks],
    )


# %% [markdown]
# ## A training that is killed
#
# First one that is not, to compare with. An epoch has five steps and λ rises after
# every third, so that the epochs' ends fall between two rises: the count has to be
# right, too.

# %%
whole = build()
fit(whole)
print("λ", float(whole.multiplier))

# %% [markdown]
# `BackupAndRestore` saves the whole state after every epoch, and `fit` takes it up
# again. Here an interruption in the fourth epoch stands for what kills a training. The
# second model is made anew, as a new process would.


# %%
class Killed(keras.callbacks.Callback):
    """Ends the training in its fourth epoch."""

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Raises."""
        if self.model.optimizer.iterations == 17:
            raise KeyboardInterrupt


killed = build()
try:
    fit(killed, keras.callbacks.BackupAndRestore(folder / "backup"), Killed())
except KeyboardInterrupt:
    print("killed at step", int(killed.optimizer.iterations))

resumed = build()
fit(resumed, keras.callbacks.BackupAndRestore(folder / "backup"))
print("λ", float(resumed.multiplier))

# %%
same = all(
    np.array_equal(a, b)
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True)
)
print("weights and λ equal to the last bit:", same)

# %% [markdown]
# That they are equal takes the same data in the same order in every epoch: Keras saves
# neither the order of `fit(shuffle=True)` nor what `Dropout` draws from. A resumed
# training is a good one then, but another.
#
# ## A checkpoint file
#
# `ModelCheckpoint` and `model.save` write the whole model: network, optimizer, λ, and
# which blocks count. It is loaded by Keras, without `custom_objects`, once `keras_lap`
# is imported.

# %%
whole.save(folder / "model.keras")
loaded = keras.saving.load_model(folder / "model.keras")
print(type(loaded).__name__, "λ", float(loaded.multiplier))
print([block.name for block in loaded.blocks])

# %% [markdown]
# It can train on, and λ goes on from where it was:

# %%
fit(loaded)
print("λ", float(loaded.multiplier))

# %% [markdown]
# A callback that monitors one of this model's own values must be told which way is
# better:
#
# ```python
# keras.callbacks.ModelCheckpoint(
#     "best.keras", monitor="val_task_loss", mode="min", save_best_only=True
# )
# ```
#
# ## The bare network
#
# `model.network` has been trained in place. Saved by itself, it is a plain Keras
# network, and a program that loads it needs no `keras_lap`.

# %%
whole.network.save(folder / "network.keras")
network = keras.saving.load_model(folder / "network.keras")
x = data.test.x[:64]
print(type(network).__name__)
print(np.array_equal(network.predict(x, verbose=0), whole.predict(x, verbose=0)))

# %% [markdown]
# For a server, `model.export` writes the bare network as a TensorFlow SavedModel. On
# TensorFlow and on JAX that works; on PyTorch Keras 3.15.1 fails: save the network
# there, load it under another backend, and export it from there.

# %%
if keras.backend.backend() != "torch":
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it would say where it writes
    whole.export(folder / "exported", verbose=False)
    exported = tf.saved_model.load(folder / "exported")
    difference = np.max(np.abs(exported.serve(x) - whole.predict(x, verbose=0)))
    print(f"largest difference {difference:.1e}")

# %% [markdown]
# Weights alone go into `model.save_weights` and `model.load_weights`, with λ. Those of
# a bare network go into `model.network.load_weights`.
