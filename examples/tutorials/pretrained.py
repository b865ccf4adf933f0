# %% [markdown]
# # Pretrained networks
#
# Networks of `keras.applications` and KerasHub are wrapped like any other. Nothing is
# downloaded here: the networks start from random weights, and the call that loads
# pretrained ones stands beside each.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import keras_hub
import numpy as np
from keras import layers

import keras_lap

# %% [markdown]
# ## From keras.applications
#
# ```python
# backbone = keras.applications.ResNet50V2(
#     weights="imagenet",  # downloads them once, into ~/.keras/models
#     include_top=False,
#     pooling="avg",
#     input_shape=(224, 224, 3),
# )
# ```
#
# A smaller one, without its weights, for images of 32×32:

# %%
keras.utils.set_random_seed(0)
backbone = keras.applications.MobileNetV2(
    weights=None, include_top=False, pooling="avg", alpha=0.35, input_shape=(32, 32, 3)
)
inputs = keras.Input((32, 32, 3))
network = keras.Model(inputs, layers.Dense(10)(backbone(inputs)), name="transfer")
report = keras_lap.find_residual_blocks(network)
print(report)

# %% [markdown]
# Blocks are found inside the nested model. The first column has their names for
# `blocks=`. Which networks have blocks at all, and how many, `python -m keras_lap
# ResNet50V2` says for each of `keras.applications`.
#
# Data come as the network was pretrained on them: `keras.applications.resnet_v2` and
# its like have a `preprocess_input`. Here, digits are enlarged and given three
# channels.

# %%
data = keras_lap.datasets.load("digits", train_size=100)


def enlarge(x: np.ndarray) -> np.ndarray:
    """Images of 8×8×1 as 32×32×3."""
    return np.repeat(np.kron(x, np.ones((1, 4, 4, 1), "float32")), 3, axis=-1)


images = enlarge(data.train.x)

# %% [markdown]
# ## Head first, then all
#
# With pretrained weights, train the new head with the backbone frozen. That is plain
# training: what is frozen does not move. Then thaw the backbone, compile again, and
# train all of it with a small learning rate. Here least action has its place: it keeps
# the blocks' displacements small while they adapt.
#
# A pretrained network is no bad start. From good starts least action lowered the
# transport cost and did not raise the accuracy ([results](../results/README.md)).
# Fine-tuning of pretrained weights has not been studied here.


# %%
def compiled(model: keras.Model, rate: float) -> keras.Model:
    """Compiles for this task."""
    model.compile(
        keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


backbone.trainable = False
compiled(network, 1e-2).fit(images, data.train.y, epochs=2, verbose=2)

backbone.trainable = True
model = keras_lap.LeastActionModel(network, initial_multiplier=5.0)
update = keras_lap.callbacks.MultiplierUpdate(tau=1.0)
compiled(model, 1e-3).fit(images, data.train.y, epochs=3, verbose=2, callbacks=[update])

# %% [markdown]
# These weights are random and the epochs few, so the accuracy means nothing.
#
# ## From KerasHub
#
# ```python
# backbone = keras_hub.models.Backbone.from_preset("vit_base_patch16_224_imagenet")
# ```
#
# downloads a vision transformer and its weights from Kaggle. A tiny one with the same
# code, made by hand:

# %%
backbone = keras_hub.models.ViTBackbone(
    image_shape=(32, 32, 3),
    patch_size=8,
    num_layers=3,
    num_heads=2,
    hidden_dim=16,
    mlp_dim=32,
)
inputs = keras.Input((32, 32, 3))
tokens = backbone(inputs)
vit = keras.Model(inputs, layers.Dense(10)(tokens[:, 0]), name="tiny_vit")
print(keras_lap.find_residual_blocks(vit))

# %% [markdown]
# Each layer of a transformer is one block: attention and feed-forward part together
# carry the state from its input to its output.

# %%
model = compiled(keras_lap.LeastActionModel(vit, initial_multiplier=5.0), 1e-3)
update = keras_lap.callbacks.MultiplierUpdate(tau=1.0)
model.fit(images, data.train.y, epochs=3, verbose=2, callbacks=[update])

# %% [markdown]
# Text models take dictionaries, and so does the wrapped model. Name the loss by the
# output that it is for:

# %%
bert = keras_hub.models.BertBackbone(
    vocabulary_size=50,
    num_layers=2,
    num_heads=2,
    hidden_dim=8,
    intermediate_dim=16,
    max_sequence_length=16,
)
model = keras_lap.LeastActionModel(bert, initial_multiplier=5.0)
model.compile("sgd", loss={"pooled_output": "mse"})
words = {
    "token_ids": np.arange(32).reshape(2, 16),
    "segment_ids": np.zeros((2, 16), "int32"),
    "padding_mask": np.ones((2, 16), "int32"),
}
logs = model.train_on_batch(
    words, {"pooled_output": np.zeros((2, 8), "float32")}, return_dict=True
)
print({name: round(float(value), 4) for name, value in logs.items()})

# %% [markdown]
# A few architectures are read wrongly; they are listed under
# [Limits](../limits.md#blocks-that-are-not-found-or-found-wrongly). Print the report,
# and count.
