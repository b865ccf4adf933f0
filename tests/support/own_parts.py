"""What a user may put into a study: at the top of a module, as a file can name it."""

from __future__ import annotations

import keras
import numpy as np

import keras_lap
from keras_lap.datasets import Dataset, Split
from studies.engine.dense import dense_resnet


def build(input_shape, num_classes, *, kernel_initializer, blocks=2, **options):
    """A residual network that no function of the package builds."""
    x = inputs = keras.Input(input_shape)
    for _ in range(blocks):
        v = keras.layers.Dense(
            x.shape[-1], "tanh", kernel_initializer=kernel_initializer
        )(x)
        x = keras.layers.Add()([x, v])
    return keras.Model(inputs, keras.layers.Dense(num_classes)(x), name="own")


def build_nothing(input_shape, num_classes, **options):
    return None


def build_without_options(input_shape, num_classes):
    return dense_resnet(input_shape, num_classes)


def load(seed):
    """Two clouds, drawn anew for each seed."""
    rng = np.random.default_rng(seed)
    y = np.arange(30) % 2
    x = (rng.normal(size=(30, 3)) + 2 * y[:, None]).astype("float32")
    first, second, third = (Split(x[k::3], y[k::3]) for k in range(3))
    return Dataset("clouds", 2, (3,), first, second, third)


def load_nothing(seed):
    return None


class LogEnergy(keras_lap.energies.Energy):
    def __init__(self, scale=1.0):
        self.scale = scale

    def __call__(self, displacement):
        return self.scale * keras.ops.mean(keras.ops.log1p(displacement**2))

    def get_config(self):
        return {"scale": self.scale}


def make_adam():
    return keras.optimizers.Adam(0.25)


def hinge(labels, logits):
    signs = keras.ops.one_hot(keras.ops.cast(labels, "int32"), logits.shape[-1])
    return keras.losses.categorical_hinge(signs, logits)
