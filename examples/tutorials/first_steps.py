# %% [markdown]
# # Quickstart
#
# This tutorial trains one small network twice on 100 images of digits: plainly, and by
# least action. It then looks at what changed.
#
# Keras takes its backend from an environment variable, which has to be set before Keras
# is imported. PyTorch starts quickest; `jax` and `tensorflow` work as well.

# %%
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

import keras_lap

Path("out").mkdir(exist_ok=True)  # for the pictures

# %% [markdown]
# ## Data and network
#
# The digits are 8×8 images that scikit-learn has, so nothing is downloaded. `load`
# normalises them and takes a class-balanced subset to train on.

# %%
data = keras_lap.datasets.load("digits", train_size=100)
print(data)
print("train", data.train.x.shape, "test", data.test.x.shape)

# %% [markdown]
# The network is a ResNet9: nine residual blocks at one resolution. Its kernels are
# drawn from a normal distribution of standard deviation 1. That is a bad start, chosen
# on purpose: it is where least action has something to do.


# %%
def build() -> keras.Model:
    """The same network, with the same weights, at every call."""
    keras.utils.set_random_seed(0)
    return keras_lap.networks.resnet9(
        data.input_shape,
        data.num_classes,
        filters=8,
        kernel_initializer=keras.initializers.RandomNormal(stddev=1.0),
    )


def compiled(model: keras.Model) -> keras.Model:
    """Compiles any model for this task."""
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


# %% [markdown]
# ## Plain training

# %%
FIT = {"batch_size": 100, "epochs": 60, "verbose": 0}

plain = compiled(build())
plain.fit(*data.train, **FIT)

# %% [markdown]
# ## Least action
#
# Two things are new. `LeastActionModel` wraps the network; its first value of λ says
# how much the energy weighs: the smaller, the more. And the callback raises λ by τ
# times the task loss, here after every fifth step, so that the energy fades while the
# task is unsolved. `compile` and `fit` are Keras's own.

# %%
model = compiled(keras_lap.LeastActionModel(build(), initial_multiplier=5.0))
update = keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)
history = model.fit(*data.train, **FIT, callbacks=[update]).history
print(keras_lap.compare({"plain": plain, "least action": model}, data.test))

# %% [markdown]
# The logs have four entries for this: `loss` is what was minimised, `task_loss` the
# cross-entropy alone, `transport_cost` the sum of the blocks' energies, `multiplier` λ.

# %%
print("epoch    loss  task_loss  transport_cost  multiplier")
for epoch in (0, 4, 9, 19, 39, 59):
    row = (history[name][epoch] for name in ("loss", "task_loss"))
    cost, multiplier = history["transport_cost"][epoch], history["multiplier"][epoch]
    losses = "  ".join(f"{value:8.3g}" for value in row)
    print(f"{epoch + 1:5}{losses}  {cost:14.4g}  {multiplier:10.3f}")

# %%
figure = keras_lap.transport.plot_training(history)
figure.savefig("out/first_steps_training.png", dpi=150)

# %% [markdown]
# ![Three curves over 60 epochs of training by least action: λ rises in steps, the task
# loss and the transport cost fall.](out/first_steps_training.png)
#
# ## What changed
#
# `transport.analyze` measures any network with residual blocks on any data. The plain
# network is measured in the same way.

# %%
reports = {
    "plain": keras_lap.transport.analyze(plain, *data.test, verbose=0),
    "least action": keras_lap.transport.analyze(model, *data.test, verbose=0),
}
for name, report in reports.items():
    print(f"{name:13} transport cost on the test data {report.total_cost:.4g}")

# %%
axes = keras_lap.transport.plot_displacements(reports)
axes.figure.savefig("out/first_steps_displacements.png", dpi=150)

# %% [markdown]
# ![How far each of the nine blocks moves the test data, plain training beside least
# action. Least action moves them less.](out/first_steps_displacements.png)
#
# The transport cost has fallen. Whether the accuracy has risen is another question: one
# run of each, as here, says nothing sure about it. `make quickstart` repeats this with
# five seeds and from a good start too; [the results](../results/README.md) have ten
# seeds and more. In short: least action gains from bad starts with few data, and from
# good starts it changes little or costs a point or two.
#
# ## Afterwards
#
# `model.network` is the network itself, trained in place, free of this package.

# %%
model.network.save("out/first_steps.keras")
network = keras.saving.load_model("out/first_steps.keras")
guesses = network.predict(data.test.x, verbose=0).argmax(axis=-1)
print(type(network).__name__, "is right about", (guesses == data.test.y).mean())

# %% [markdown]
# Next: [which parts of your own network count](own_network.md), and [which λ_0, τ, s
# and p to take](choosing_values.md).
