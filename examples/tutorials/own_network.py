# %% [markdown]
# # Your own network
#
# Least action needs to know which parts of a network move the data. This tutorial shows
# what the package finds by itself, how to read its report, and how to say otherwise.

# %%
import os
import re
import textwrap

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from keras import layers

import keras_lap

# %% [markdown]
# ## What counts as a block
#
# A residual block is a sum one of whose terms is a state from which another term is
# computed: `x_out = x_in + r(x_in)`. It does not matter how the sum is written. This
# network has one `layers.Add`, one `+`, one sum followed by an activation, one block
# whose shortcut is a projection, and a sum that is no block.


# %%
def branch(x: keras.KerasTensor, filters: int, strides: int = 1) -> keras.KerasTensor:
    """Two convolutions."""
    x = layers.Conv2D(filters, 3, strides, padding="same", activation="relu")(x)
    return layers.Conv2D(filters, 3, padding="same")(x)


inputs = keras.Input((16, 16, 3))
x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
x = layers.Add(name="early_one")([x, branch(x, 8)])
x = x + branch(x, 8)
x = layers.Add(name="early_three")([x, branch(x, 8)])
x = layers.ReLU(name="early_three_relu")(x)
shortcut = layers.Conv2D(16, 1, 2, name="shortcut")(x)
x = layers.Add(name="down")([shortcut, branch(x, 16, strides=2)])
x = layers.Add(name="late_one")([x, branch(x, 16)])
pooled = layers.GlobalAveragePooling2D()(x)
views = layers.Add(name="two_views")(
    [layers.Dense(10, "relu")(pooled), layers.Dense(10, "tanh")(pooled)]
)
network = keras.Model(inputs, views, name="mine")

# %% [markdown]
# ## The report
#
# Print it for every new network, and count.

# %%
report = keras_lap.find_residual_blocks(network)
print(report)

# %% [markdown]
# The first column has the names that `blocks=` takes. A `layer` is a whole layer that
# keeps a residual connection inside its `call`. `state` is the shape of what the block
# moves. Below stands what was left out, with the reason: the shortcut of `down` changes
# the shape, so the two ends of its displacement cannot be compared; and the last sum
# adds two views of one vector, neither of which is computed from the other.
#
# The report is a sequence as well:

# %%
for block in report:
    print(block.name, block.kind, block.shape)
print([skipped.name for skipped in report.skipped])

# %% [markdown]
# The command line prints the same for anything in `keras.applications`, for a saved
# model, and for any class that can be imported:
#
# ```console
# python -m keras_lap ResNet50V2
# python -m keras_lap model.keras --picture blocks.png
# python -m keras_lap keras_hub.models.ViTBackbone "image_shape=(32,32,3)" \
#     patch_size=4 num_layers=2 num_heads=2 hidden_dim=8 mlp_dim=16
# ```
#
# `--picture`, or `keras_lap.plot_blocks(network, "blocks.png")`, draws the network with
# its blocks marked. It needs Graphviz.
#
# ## Counting other blocks
#
# A block with a projection counts if you ask for it. Its displacement starts at the
# projected input.

# %%
model = keras_lap.LeastActionModel(network, include_projections=True)
print([block.name for block in model.blocks])

# %% [markdown]
# `blocks=` takes names, layers, regular expressions, or a function of the layer.

# %%
for choice in (["late_one"], re.compile("early_"), lambda layer: "one" in layer.name):
    model = keras_lap.LeastActionModel(network, blocks=choice)
    print([block.name for block in model.blocks])

# %% [markdown]
# A name that is not there is an error, which lists close ones.

# %%
try:
    keras_lap.LeastActionModel(network, blocks=["early_two"])
except ValueError as error:
    print(textwrap.fill(str(error), 72))

# %% [markdown]
# ## Blocks inside layers
#
# Transformers and many models of one's own keep the sum in the `call` of a layer. It is
# found there by running the `call` once on symbolic tensors. A layer whose `call` is
# one residual block counts as a whole.


# %%
class Mixer(layers.Layer):
    """Mixes the tokens, then the features of each, with a residual connection each."""

    def __init__(self, tokens: int, features: int):
        super().__init__()
        self.mix_tokens = layers.Dense(tokens, "relu")
        self.mix_features = layers.Dense(features, "relu")

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Builds both dense layers."""
        batch, tokens, features = shape
        self.mix_tokens.build((batch, features, tokens))
        self.mix_features.build((batch, tokens, features))

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Moves the state twice."""
        mixed = self.mix_tokens(keras.ops.swapaxes(x, 1, 2))
        x = x + keras.ops.swapaxes(mixed, 1, 2)
        return x + self.mix_features(x)


mixer = keras.Sequential(
    [
        keras.Input((12, 8)),
        Mixer(12, 8),
        Mixer(12, 8),
        layers.GlobalAveragePooling1D(),
        layers.Dense(3),
    ],
    name="mixer",
)
print(keras_lap.find_residual_blocks(mixer))

# %% [markdown]
# A layer whose `call` cannot be run that way, because it needs values, is left out with
# the reason. Name it in `blocks=`, or set `is_residual_block = True` in its class.
#
# ## A subclassed model
#
# It has to be built: call it once, or give it an input shape. Then it is read as any
# other.


# %%
class Points(keras.Model):
    """Moves points of the plane in a loop."""

    def __init__(self, steps: int):
        super().__init__(name="points")
        self.steps = [layers.Dense(2, "tanh", name=f"step{k}") for k in range(steps)]
        self.head = layers.Dense(2)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """As many steps of Euler's scheme as there are layers."""
        for step in self.steps:
            x = x + step(x)
        return self.head(x)


keras.utils.set_random_seed(0)
points = Points(steps=4)
points(keras.ops.zeros((1, 2)))
print(keras_lap.find_residual_blocks(points))

# %% [markdown]
# ## Training it

# %%
data = keras_lap.datasets.load("moons", train_size=200)
model = keras_lap.LeastActionModel(points, initial_multiplier=5.0)
model.compile(
    keras.optimizers.Adam(0.02),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
update = keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)
model.fit(*data.train, epochs=20, verbose=0, callbacks=[update])
print(model.evaluate(*data.test, verbose=0, return_dict=True))

# %% [markdown]
# If nothing is found, or too much, see [the troubleshooting
# page](../how-to.md#no-residual-block-found); what the search does not see is listed
# under [Limits](../limits.md#blocks-that-are-not-found-or-found-wrongly).
