"""The residual networks of the study, of any number of blocks.

Every layer has a name that does not depend on what was built before, so that the same
initial weights can be given to networks that differ in what lies on their branches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

import keras_lap

Tensor = Any


def mlp(
    input_shape: tuple[int, ...], classes: int, blocks: int, width: int, step: float
) -> keras.Model:
    """``x + step · (W_2 relu(W_1 x + b_1) + b_2)`` between two dense layers.

    Args:
        input_shape: Shape of one input; images are flattened.
        classes: Number of logits.
        blocks: Number of residual blocks, from 0.
        width: Features of the state.
        step: Time step of a block.

    Returns:
        A model from `(batch, ...)` to `(batch, classes)`.
    """
    layers = keras.layers
    inputs = keras.Input(input_shape)
    x = layers.Flatten(name="flat")(inputs) if len(input_shape) > 1 else inputs
    x = layers.Dense(width, name="stem")(x)
    for k in range(1, blocks + 1):
        v = layers.Dense(width, activation="relu", name=f"block{k}_dense1")(x)
        v = layers.Dense(width, name=f"block{k}_dense2")(v)
        v = layers.Rescaling(step, name=f"block{k}_step")(v)
        x = layers.Add(name=f"block{k}_add")([x, v])
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x))


def convolutional(
    input_shape: tuple[int, ...], classes: int, blocks: int, filters: int
) -> keras.Model:
    """Pre-activation blocks with batch normalisation; nine are the paper's ResNet9.

    Args:
        input_shape: `(height, width, channels)`; the states have half of both.
        classes: Number of logits.
        blocks: Number of residual blocks, from 0.
        filters: Channels of the state.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, classes)`.
    """
    network = keras_lap.networks.one_representation_resnet(
        input_shape, classes, filters=filters, num_blocks=max(blocks, 1)
    )
    # Its builder makes no network without blocks.
    return network if blocks else keras_lap.depth.prune(network, 0)


def pooled(
    input_shape: tuple[int, ...], classes: int, blocks: int, filters: int
) -> keras.Model:
    """Pre-activation blocks whose head sees the mean over the image alone.

    Where the head takes every pixel of the state, as that of `convolutional`, it does
    much of the work and few blocks are needed; here the blocks have to gather what is
    said of an image in one vector.

    Args:
        input_shape: `(height, width, channels)`; the states have a quarter of both.
        classes: Number of logits.
        blocks: Number of residual blocks, from 0.
        filters: Channels of the state.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, classes)`.
    """
    layers = keras.layers

    def norm_relu(x: Tensor, name: str) -> Tensor:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def conv(x: Tensor, name: str, strides: int = 1) -> Tensor:
        return layers.Conv2D(
            filters,
            3,
            strides,
            "same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=name,
        )(x)

    inputs = keras.Input(input_shape)
    x = conv(inputs, "stem", strides=4)
    for k in range(1, blocks + 1):
        v = conv(norm_relu(x, f"block{k}_1"), f"block{k}_conv1")
        v = conv(norm_relu(v, f"block{k}_2"), f"block{k}_conv2")
        x = layers.Add(name=f"block{k}_add")([x, v])
    x = layers.GlobalAveragePooling2D(name="head_pool")(norm_relu(x, "head"))
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x))


def transformer(
    input_shape: tuple[int, ...], classes: int, blocks: int, width: int, patch: int
) -> keras.Model:
    """A small pre-norm vision transformer; its blocks are attention and MLP in turn.

    Args:
        input_shape: `(height, width, channels)`.
        classes: Number of logits.
        blocks: Number of residual blocks, from 0; two are one transformer layer.
        width: Features of a token.
        patch: Pixels a side of a token.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, classes)`.
    """
    layers = keras.layers
    inputs = keras.Input(input_shape)
    x = layers.Conv2D(width, patch, strides=patch, name="patches")(inputs)
    x = layers.Reshape((-1, width), name="tokens")(x)
    # A kernel and a bias for each place tell the tokens where they are.
    x = layers.EinsumDense(
        "bpc,pcd->bpd", (x.shape[1], width), bias_axes="pd", name="stem"
    )(x)
    for k in range(1, blocks + 1):
        v = layers.LayerNormalization(name=f"block{k}_norm")(x)
        if k % 2:
            v = layers.MultiHeadAttention(2, width // 2, name=f"block{k}_attention")(
                v, v
            )
        else:
            v = layers.Dense(2 * width, activation="gelu", name=f"block{k}_dense1")(v)
            v = layers.Dense(width, name=f"block{k}_dense2")(v)
        x = layers.Add(name=f"block{k}_add")([x, v])
    x = layers.LayerNormalization(name="head_norm")(x)
    x = layers.GlobalAveragePooling1D(name="head_pool")(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x))


def with_branches(
    network: keras.Model, change: Callable[[int, Tensor], Tensor]
) -> keras.Model:
    """A copy of a network with something at the end of each branch.

    Args:
        network: One of this file.
        change: Called with the block's number, from 1, and what its branch returns;
            returns what is added instead.

    Returns:
        A model with new layers of the same names, and those of `change`.
    """
    names = [block.name for block in keras_lap.find_residual_blocks(network)]

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if layer.name in names:
            ((x, v),) = args
            return layer([x, change(names.index(layer.name) + 1, v)])
        return layer(*args, **kwargs)

    return keras.models.clone_model(network, call_function=call)
