"""The paper's ResNeXt networks, of post-activation blocks ``relu(x + r(x))``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_lap._checks import choice
from keras_lap.networks.layers import image_input, per_stage
from keras_lap.networks.paper_layers import choose_layers


def resnext29(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 64,
    cardinality: int = 16,
    group_width: int = 64,
    num_blocks: int | Sequence[int] = 3,
    batch_norm: bool = True,
    time_step: float = 1.0,
    kernel_initializer: Any = None,
    like_the_paper: bool = False,
    name: str = "resnext29",
) -> keras.Model:
    """Builds ResNeXt-29, 16x64d: three stages of three post-activation blocks.

    A block is `z = relu(x + h * r(x))` with a grouped bottleneck `r`; where it changes
    the shape, `x` is first projected by a 1x1 convolution. The architecture is that of
    Xie et al., 2017, arXiv:1611.05431, as trained by Karkar et al., 2020,
    arXiv:2009.08372.

    By default the stem is one 3x3 convolution, the branch ends with its norm, and the
    head pools globally. With `like_the_paper` the stem is the authors', of two, the
    branch ends with a ReLU, and the head pools 7x7 with stride 1, so its dense layer
    has four times the inputs for 32x32 images; strided convolutions are padded alike on
    both sides, for Keras's `"same"`, and moving variances are the unbiased ones of
    PyTorch. Their network is always normalised. Its penalty counts the blocks with
    projections too: `include_projections=True`.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the stem. The stages put out 4, 8 and 16 times as many.
        cardinality: Groups of the 3x3 convolutions.
        group_width: Channels of one group in the first stage; they double from stage to
            stage.
        num_blocks: Residual blocks in each stage, or one number for each of the three.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `z = relu(x + h * r(x))`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        like_the_paper: Whether to build the network of the authors' code; see above.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> network = resnext29((32, 32, 3), 10, cardinality=8)
    """
    layers = choose_layers(like_the_paper, batch_norm, time_step, kernel_initializer)
    inputs = image_input(input_shape, num_classes, filters)
    x = layers.small_image_stem(inputs, filters)
    blocks = per_stage(num_blocks, 3)
    x = layers.resnext_stages(x, filters, blocks, cardinality, group_width)
    return keras.Model(inputs, layers.pooled_logits(x, num_classes, 7, 1), name=name)


def resnext50(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 64,
    cardinality: int = 32,
    group_width: int = 4,
    num_blocks: int | Sequence[int] = (3, 4, 6, 3),
    stem: str = "cifar",
    batch_norm: bool = True,
    time_step: float = 1.0,
    kernel_initializer: Any = None,
    like_the_paper: bool = False,
    name: str = "resnext50",
) -> keras.Model:
    """Builds ResNeXt-50, 32x4d: four stages of 3, 4, 6 and 3 post-activation blocks.

    The blocks are those of `resnext29`. The default stem is for small images, as the
    paper trains this network on the 32x32 images of CIFAR-100. From Xie et al., 2017,
    arXiv:1611.05431, as trained by Karkar et al., 2020, arXiv:2009.08372.

    The default deviates from the authors' network as that of `resnext29` does, but the
    head pools 4x4 there, 7x7 for images 224 pixels wide, which for 32x32 and 224x224
    images is global too.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the stem. The stages put out 4, 8, 16 and 32 times as many.
        cardinality: Groups of the 3x3 convolutions.
        group_width: Channels of one group in the first stage; they double from stage to
            stage.
        num_blocks: Residual blocks in each stage, or one number for each of the four.
        stem: `"cifar"`, a 3x3 convolution that keeps the resolution, or `"imagenet"`, a
            7x7 convolution and a 3x3 maximum pooling, each of stride 2. With
            `like_the_paper`, `"cifar"` is that of `resnext29`, and `"imagenet"` has a
            second 3x3 convolution in the pooling's place.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `z = relu(x + h * r(x))`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        like_the_paper: Whether to build the network of the authors' code; see above.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> small = resnext50((32, 32, 3), 100)
        >>> large = resnext50((224, 224, 3), 1000, stem="imagenet")
    """
    layers = choose_layers(like_the_paper, batch_norm, time_step, kernel_initializer)
    inputs = image_input(input_shape, num_classes, filters)
    stems = {"cifar": layers.small_image_stem, "imagenet": layers.large_image_stem}
    x = stems[choice("`stem`", stem, tuple(stems))](inputs, filters)
    blocks = per_stage(num_blocks, 4)
    x = layers.resnext_stages(x, filters, blocks, cardinality, group_width)
    window = 7 if inputs.shape[2] == 224 else 4
    logits = layers.pooled_logits(x, num_classes, window, 1)
    return keras.Model(inputs, logits, name=name)
