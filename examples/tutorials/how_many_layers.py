# %% [markdown]
# # How many layers do I need?
#
# A network is often deeper than its task. To find out by how much, one would train
# every depth by itself. This tutorial trains one deep network once, reads from it how
# many blocks the task needs, and cuts it there, without training again.

# %%
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_lap

Path("out").mkdir(exist_ok=True)  # for the picture

# %% [markdown]
# ## Data and network
#
# Digits are 8×8 images that scikit-learn has. Depth is chosen by data that are neither
# trained on nor reported: the validation split.

# %%
data = keras_lap.datasets.load("digits", train_size=1000, validation_size=300)
assert data.validation is not None  # for type checkers
BLOCKS = 12


def build() -> keras.Model:
    """Twelve residual blocks, with the same weights at every call."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(data.input_shape)
    x = keras.layers.Dense(24)(keras.layers.Flatten()(inputs))
    for _ in range(BLOCKS):
        v = keras.layers.Dense(24, activation="relu")(x)
        v = keras.layers.Rescaling(0.5)(keras.layers.Dense(24)(v))
        x = keras.layers.Add()([x, v])
    return keras.Model(inputs, keras.layers.Dense(data.num_classes)(x))


def train(model: keras.Model) -> None:
    """Compiles and fits any model for this task."""
    model.compile(
        keras.optimizers.Adam(3e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(*data.train, batch_size=100, epochs=30, verbose=0)


# %% [markdown]
# ## Two trainings
#
# The first one is plain. The second adds one term: `PathLoss`, the loss of the task
# after *every* block, through the same head. It has no layers of its own, and what is
# trained is the same network.

# %%
plain = build()
train(plain)

network = build()
model = keras_lap.LeastActionModel(
    network,
    energy=None,
    running_costs=[keras_lap.running_costs.PathLoss(0.2)],
    horizon=0.5 * BLOCKS,
)
train(model)

# %% [markdown]
# `horizon` is the time that the blocks share: each has a step of .5, as its `Rescaling`
# says.
#
# ## Accuracy after each number of blocks
#
# `depth.analyze` looks at all exits in one pass: at what the network returns if only
# its first 0, 1, …, K blocks run. Nothing is trained for it.

# %%
reports = {
    "plain": keras_lap.depth.analyze(plain, *data.validation, verbose=0),
    "path loss": keras_lap.depth.analyze(model, *data.validation, verbose=0),
}
figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for (name, report), style in zip(reports.items(), ("C1o--", "C0s-"), strict=True):
    shares = [exit.accuracy for exit in report.exits]
    axis.plot(100 * np.array(shares), style, label=name)
axis.set(xlabel="blocks kept", ylabel="validation accuracy (%)")
axis.legend()
figure.savefig("out/how_many_layers.png", dpi=100)

# %% [markdown]
# ![Accuracy against the number of blocks kept, after plain training and with path
# loss](out/how_many_layers.png)
#
# After plain training the last blocks are needed because the head was only ever trained
# behind all of them: the curve says nothing of the task. With path loss it does.
#
# ## The advice
#
# The fewest blocks from which on *every* cut is within one point of the full network,
# as a first good exit alone can be luck; and what that cut changes, with an interval.

# %%
for name, report in reports.items():
    change, low, high = (
        100 * each
        for each in (report.advice.change, report.advice.low, report.advice.high)
    )
    print(f"{name}: {report.summary}, {change:+.1f} points [{low:+.1f}, {high:+.1f}]")

# %% [markdown]
# `print(report)` shows the table of all exits and blocks, and
# `report.save_html("out/depth.html")` writes a page of it.
#
# ## The cut
#
# `report.prune()` makes the smaller network: a plain Keras model over the same layers,
# which can be saved, exported and trained further without this package. Beside it,
# the plainly trained network, cut at the same place. Test data are looked at here for
# the first time.


# %%
def accuracy(model: keras.Model) -> float:
    """In percent, of the test data."""
    found = model.predict(data.test.x, verbose=0).argmax(-1)
    return 100 * float(np.mean(found == data.test.y))


keep = reports["path loss"].layers_needed
for name, report in reports.items():
    full, small = report.prune(BLOCKS), report.prune(keep)
    print(
        f"{name}: {accuracy(full):.1f} % with {BLOCKS} blocks and "
        f"{full.count_params()} weights, {accuracy(small):.1f} % with {keep} and "
        f"{small.count_params()}"
    )
reports["path loss"].prune().save("out/small.keras")

# %% [markdown]
# One training of one network says little of a method.
# [The study](../results/layers.md) repeats this with ten seeds and other methods,
# beside every depth trained by itself, and says what path loss costs where blocks are
# needed.
# A network with batch normalisation is cut with the moving statistics of the whole one;
# path loss trains its exits by these, and `report.prune(recalibrate=x)` estimates them
# anew.
