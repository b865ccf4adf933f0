"""A network for points, whose states can be drawn where the points are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


def dense_resnet(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 16,
    num_blocks: int = 9,
    batch_norm: bool = True,
    kernel_initializer: Any = None,
) -> keras.Model:
    """A residual network that moves points in the space in which they are given.

    A block is ``x + W_2 relu(bn(W_1 x))``; there is no stem, so the states of a
    network for points in the plane can be drawn. The head is one dense layer.

    Args:
        input_shape: `(features,)`.
        num_classes: Number of logits.
        filters: Units of a block's hidden layer.
        num_blocks: Number of residual blocks.
        batch_norm: Whether hidden layers are normalised.
        kernel_initializer: Initializer of every kernel; its integer seed, if it has
            one, becomes one for every layer. `None` for Keras's default.

    Returns:
        A model from `(batch, features)` to `(batch, num_classes)`.
    """
    counter = iter(range(2 * num_blocks + 1))

    def dense(units: int, name: str) -> keras.Layer:
        # One instance draws the same values each time: a seed for every layer.
        own = kernel_initializer
        config = own.get_config() if own is not None else {}
        if config.get("seed") is not None:
            seed = 1000 * config["seed"] + next(counter)
            own = type(own).from_config({**config, "seed": seed})
        return keras.layers.Dense(units, kernel_initializer=own, name=name)

    (features,) = input_shape
    x = inputs = keras.Input((features,), name="point")
    for block in range(1, num_blocks + 1):
        v = dense(filters, f"block{block}_dense1")(x)
        if batch_norm:
            v = keras.layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, name=f"block{block}_bn"
            )(v)
        v = keras.layers.ReLU(name=f"block{block}_relu")(v)
        v = dense(features, f"block{block}_dense2")(v)
        x = keras.layers.Add(name=f"block{block}_add")([x, v])
    return keras.Model(inputs, dense(num_classes, "logits")(x), name="dense_resnet")
