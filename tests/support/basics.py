"""Small networks, the usual loss, and values of any backend as NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

# What depends on no backend is tested on the quickest one.
ON_ONE = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


def build_dense_network(blocks=3, width=6, features=64, classes=10, **dense_options):
    """A residual network of dense layers, merged by `layers.Add`."""
    inputs = keras.Input((features,))
    x = keras.layers.Dense(width, name="stem")(inputs)
    for k in range(blocks):
        r = keras.layers.Dense(width, activation="tanh", name=f"b{k}_in")(x)
        r = keras.layers.Dense(width, name=f"b{k}_out", **dense_options)(r)
        x = keras.layers.Add(name=f"b{k}")([x, r])
    return keras.Model(inputs, keras.layers.Dense(classes, name="head")(x), name="net")


def crossentropy():
    """The loss of all classification tests."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def as_numpy(value):
    """A NumPy array, whatever the backend."""
    return np.asarray(keras.ops.convert_to_numpy(value))


def gradient(function, x):
    """The gradient of a scalar function of one array, by the backend in use."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tf.convert_to_tensor(tape.gradient(y, x)).numpy()
    import torch

    x = torch.tensor(x, requires_grad=True)
    function(x).backward()
    return x.grad.numpy()
