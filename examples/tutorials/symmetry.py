# %% [markdown]
# # Which symmetry do my data obey?
#
# An image turned or mirrored often shows the same thing, and a network can be told so:
# it then needs fewer examples. Told of a symmetry that the data do not have, it gets
# worse. So test first, then augment. Nothing here needs residual blocks.

# %%
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from keras import layers

import keras_lap
from keras_lap.symmetry import (
    DataAugmentation,
    FeatureAveraging,
    GroupAugmentation,
    dihedral,
    equivariance_report,
    from_generators,
    law_test,
    mirror,
    plot_equivariance,
    rotations,
)

keras.utils.set_random_seed(0)
Path("out").mkdir(exist_ok=True)

# %% [markdown]
# ## Two data sets
#
# Handwritten digits as they are, and the same digits each turned by a random quarter.

# %%
data = keras_lap.datasets.load("digits", train_size=100, validation_size=600)


def turned(images: np.ndarray, seed: int) -> np.ndarray:
    """Each image turned by 0, 90, 180 or 270 degrees."""
    turns = np.random.default_rng(seed).integers(0, 4, len(images))
    pairs = zip(images, turns, strict=True)
    return np.stack([np.rot90(image, k) for image, k in pairs])


splits = [split for split in (data.train, data.validation, data.test) if split]
upright = [(split.x, split.y) for split in splits]
at_random = [(turned(split.x, seed), split.y) for seed, split in enumerate(splits)]

# %% [markdown]
# ## Test
#
# Train any model, and let it judge samples that it has not seen. If the data obey a
# group, the loss on transformed samples cannot be told from that on the samples
# themselves: the p-value is exact, whatever the model. Samples of the training make it
# meaningless.


# %%
def network() -> keras.Model:
    """A small classifier, the same at each call."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(64, "relu"),
            layers.Dense(64, "relu"),
            layers.Dense(10),
        ]
    )


def trained(model: keras.Model, train: tuple) -> keras.Model:
    """Trains for 60 epochs."""
    model.compile(
        "adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*train, batch_size=20, epochs=60, verbose=0)
    return model


candidates = {
    "left-right mirror": mirror(),
    "transposition": from_generators([[[0, -1], [-1, 0]]]),
    "half turn": rotations(2),
    "quarter turns": rotations(4),
    "quarter turns and mirror": dihedral(4),
}
plain = {}
for name, (train, held_out, _) in {"upright": upright, "turned": at_random}.items():
    plain[name] = trained(network(), train)
    law = law_test(plain[name], *held_out, candidates, inputs="images")
    print(f"{name}\n{law}\n\nthe largest group kept: {law.largest}\n")

# %% [markdown]
# A group that is kept is not proven: a poor model, or few samples, find less. One that
# is rejected is.
#
# ## What the network makes of it
#
# How far is the plain network from treating turned images alike, and what does that
# cost?

# %%
group = rotations(4)
x, y = at_random[1]
report = equivariance_report(plain["turned"], x, group, inputs="images", y=y)
print(report)
plot_equivariance(report).figure.savefig("out/equivariance.png")

# %% [markdown]
# ![The error of the outputs for each quarter turn, and the change of the
# loss](out/equivariance.png)
#
# ## Use it
#
# - `FeatureAveraging` around the trained network: no training at all.
# - `DataAugmentation` while training: on all turns of each image, or on one at random.
# - `FeatureAveraging` while training: exactly equivariant. What is shipped is the
#   average, not the network in it.


# %%
def accuracies(name: str, train: tuple, test: tuple) -> None:
    """Prints the accuracy of each way on test data."""
    before = plain[name]
    augmented = DataAugmentation(network(), group, "images")
    averaged = FeatureAveraging(network(), group, "images")
    at_test = FeatureAveraging(before, group, "images")
    at_test.compile(loss=before.loss, metrics=["accuracy"])
    models = {
        "plain": before,
        "averaged at test": at_test,
        "augmented": trained(augmented, train),
        "averaged": trained(averaged, train),
    }
    for way, model in models.items():
        found = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
        print(f"{name}, {way}: {100 * found:.1f} %")


accuracies("turned", at_random[0], at_random[2])

# %% [markdown]
# And the same with the wrong group, one that the test rejected. Trained on whole
# orbits, a network sees the same images in both data sets: it cannot tell a 6 from a 9
# any better here.

# %%
accuracies("upright", upright[0], upright[2])

# %% [markdown]
# ## With least action
#
# A `GroupAugmentation` in front of the blocks augments what a `LeastActionModel`
# trains. Do not wrap one model by the other: average `model.network` when it is
# trained.

# %%
inputs = keras.Input((8, 8, 1))
moved = GroupAugmentation(group, seed=0)(inputs)
resnet = keras_lap.networks.resnet9((8, 8, 1), 10, filters=4)
model = keras_lap.LeastActionModel(keras.Model(inputs, resnet(moved)))
model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(*at_random[0], epochs=2, verbose=0)
invariant = FeatureAveraging(model.network, group, "images")
print(equivariance_report(invariant, x[:100], group, inputs="images"))
