"""A residual network for images of a few pixels: its states keep their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_lap.networks.layers import Layers, image_input


def small_image_resnet(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 8,
    num_blocks: int = 12,
    batch_norm: bool = True,
    dropout: float = 0.0,
    head_size: int = 4,
    kernel_initializer: Any = None,
) -> keras.Model:
    """Pre-activation blocks at the size of the image, and a linear, pooled head.

    The paper's networks halve the image before the first block, and their head sees
    every pixel of the last state: with as many weights it learns a few thousand images
    by heart. Averaged over the whole image, a state of few channels tells too little.
    Dropout lies between the two convolutions of a block, as in wide residual networks
    (Zagoruyko and Komodakis, 2016, arXiv:1605.07146).

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the states.
        num_blocks: Number of residual blocks.
        batch_norm: Whether it normalises.
        dropout: Rate of dropout; 0 for none.
        head_size: The last state is averaged to so many times so many places, which
            the head sees; 1 for the average over the image. Divides its sides.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.
    """
    layers = Layers(batch_norm, 1.0, kernel_initializer)
    inputs = image_input(input_shape, num_classes, filters)
    x = layers.conv(inputs, filters, 3, "stem_conv")
    for block in range(1, num_blocks + 1):
        name = f"block{block}"
        v = x if block == 1 else layers.norm_relu(x, name, "1")
        v = layers.conv(v, filters, 3, f"{name}_conv1", normalized=True)
        v = layers.norm_relu(v, name, "2")
        if dropout:
            v = keras.layers.Dropout(dropout, name=f"{name}_dropout")(v)
        v = layers.conv(v, filters, 3, f"{name}_conv2")
        x = layers.step(x, v, name)
    x = layers.norm_relu(x, "head")
    window = (x.shape[1] // head_size, x.shape[2] // head_size)
    x = keras.layers.AveragePooling2D(window, name="head_pool")(x)
    x = keras.layers.Flatten(name="head_flatten")(x)
    return keras.Model(inputs, layers.dense(x, num_classes, "logits"))
