"""The paper's pre-activation networks: ``x + conv(relu(bn(conv(relu(bn(x))))))``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_lap._checks import choice
from keras_lap.networks.layers import image_input, per_stage
from keras_lap.networks.paper_layers import choose_layers


def one_representation_resnet(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 64,
    num_blocks: int = 9,
    stem: str = "halving",
    batch_norm: bool = True,
    time_step: float = 1.0,
    kernel_initializer: Any = None,
    like_the_paper: bool = False,
    name: str = "one_representation_resnet",
) -> keras.Model:
    """Builds a pre-activation ResNet whose blocks all share one representation space.

    A stem (3x3 convolution to `filters / 2`, 5x5 convolution of stride 2 to `filters`)
    is followed by `num_blocks` blocks of one shape and a head of two dense layers, the
    first of `10 * num_classes` units. From Karkar et al., 2020, arXiv:2009.08372.

    By default all convolutions are padded as Keras pads `"same"`, the second
    convolution of a block has a bias and the head's first dense layer none, moving
    variances are Keras's, and without `batch_norm` there is no norm at all. With
    `like_the_paper` strided convolutions are padded alike on both sides, of the two
    biases only the second is there, and moving variances are the unbiased ones of
    PyTorch; without `batch_norm` their blocks are `x + conv(relu(x))`, and the norm in
    the head stays.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the blocks, even.
        num_blocks: Number of residual blocks.
        stem: `"halving"`, as above, which the authors use on MNIST and CIFAR-10, or
            `"cifar"`, which keeps the resolution: a 3x3 convolution with norm and ReLU;
            with `like_the_paper` two, theirs on CIFAR-100.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `x_{k+1} = x_k + h * v_k(x_k)`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        like_the_paper: Whether to build the network of the authors' code; see above.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> network = one_representation_resnet((28, 28, 1), 10, num_blocks=5)
    """
    layers = choose_layers(like_the_paper, batch_norm, time_step, kernel_initializer)
    inputs = image_input(input_shape, num_classes, filters)
    stems = {"halving": layers.halving_stem, "cifar": layers.small_image_stem}
    x = stems[choice("`stem`", stem, tuple(stems))](inputs, filters)
    x = layers.pre_activation_stages(x, per_stage(num_blocks, 1))
    x = keras.layers.Flatten(data_format="channels_last", name="head_flatten")(x)
    x = layers.dense(x, 10 * num_classes, "head_dense", normalized=True)
    x = layers.norm_relu(x, "head")
    return keras.Model(inputs, layers.dense(x, num_classes, "logits"), name=name)


def resnet9(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    name: str = "resnet9",
    **options: Any,
) -> keras.Model:
    """Builds the paper's ResNet9, a one-representation ResNet of nine blocks.

    By default it deviates from the authors' network as `one_representation_resnet`
    does; `like_the_paper=True` builds theirs. From Karkar et al., 2020,
    arXiv:2009.08372.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        name: Name of the model.
        **options: Any other option of `one_representation_resnet` but `num_blocks`.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> network = resnet9((28, 28, 1), 10)
    """
    return one_representation_resnet(
        input_shape, num_classes, num_blocks=9, name=name, **options
    )


def resnet(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 64,
    num_blocks: int | Sequence[int] = 9,
    batch_norm: bool = True,
    time_step: float = 1.0,
    kernel_initializer: Any = None,
    like_the_paper: bool = False,
    name: str = "resnet",
) -> keras.Model:
    """Builds a pre-activation ResNet of three stages, joined by strided convolutions.

    The stem is that of `one_representation_resnet`. Between stages a 1x1 convolution of
    stride 2, outside any block, doubles the channels. From Karkar et al., 2020,
    arXiv:2009.08372.

    By default the stem halves the resolution, so 32x32 images pass the stages at 16, 8
    and 4 pixels, and the head pools globally; blocks and transitions have biases. With
    `like_the_paper` the stem is the authors' on CIFAR-100, two 3x3 convolutions of
    stride 1, which makes that 32, 16 and 8; the head pools 8x8; padding, biases of
    blocks, moving variances, and what is left without `batch_norm`, are as in
    `one_representation_resnet`.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the first stage, even.
        num_blocks: Residual blocks in each stage, or one number for each of the three.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `x_{k+1} = x_k + h * v_k(x_k)`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        like_the_paper: Whether to build the network of the authors' code; see above.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> network = resnet((32, 32, 3), 10, num_blocks=(2, 3, 2))
    """
    layers = choose_layers(like_the_paper, batch_norm, time_step, kernel_initializer)
    inputs = image_input(input_shape, num_classes, filters)
    stem = layers.small_image_stem if like_the_paper else layers.halving_stem
    x = stem(inputs, filters)
    blocks = per_stage(num_blocks, 3)
    x = layers.pre_activation_stages(x, blocks, layers.strided_transition)
    x = layers.norm_relu(x, "head")
    return keras.Model(inputs, layers.pooled_logits(x, num_classes, 8, 8), name=name)


def avgpool_resnet(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 64,
    num_blocks: int | Sequence[int] = 9,
    batch_norm: bool = True,
    time_step: float = 1.0,
    kernel_initializer: Any = None,
    like_the_paper: bool = False,
    name: str = "avgpool_resnet",
) -> keras.Model:
    """Builds a pre-activation ResNet of three stages, joined by average pooling.

    As `resnet`, but 2x2 average pooling joins the stages and the width never changes.
    From Karkar et al., 2020, arXiv:2009.08372.

    By default it deviates from the authors' network as `resnet` does. Theirs, which
    `like_the_paper` builds, also pools 2x2 once more before its last norm, and 4x4 in
    the head.

    Args:
        input_shape: `(height, width, channels)`, at least 7 pixels either way; 8 with
            `like_the_paper`.
        num_classes: Number of logits.
        filters: Channels of all blocks, even.
        num_blocks: Residual blocks in each stage, or one number for each of the three.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `x_{k+1} = x_k + h * v_k(x_k)`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        like_the_paper: Whether to build the network of the authors' code; see above.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> network = avgpool_resnet((32, 32, 3), 10, filters=32)
    """
    layers = choose_layers(like_the_paper, batch_norm, time_step, kernel_initializer)
    smallest = 8 if like_the_paper else 7
    inputs = image_input(input_shape, num_classes, filters, smallest)
    stem = layers.small_image_stem if like_the_paper else layers.halving_stem
    x = stem(inputs, filters)
    blocks = per_stage(num_blocks, 3)
    x = layers.pre_activation_stages(x, blocks, layers.pooling_transition)
    if like_the_paper:
        x = layers.pooling_transition(x, "head_transition")
    x = layers.norm_relu(x, "head")
    return keras.Model(inputs, layers.pooled_logits(x, num_classes, 4, 4), name=name)


def wide_resnet(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 160,
    num_blocks: int | Sequence[int] = 4,
    batch_norm: bool = True,
    time_step: float = 1.0,
    kernel_initializer: Any = None,
    like_the_paper: bool = False,
    name: str = "wide_resnet",
) -> keras.Model:
    """Builds the wide pre-activation ResNet: 160, 320 and 640 channels.

    As `resnet`, but the stem is a single 3x3 convolution that keeps the resolution.
    From Karkar et al., 2020, arXiv:2009.08372.

    By default stem, blocks and transitions have biases, which the authors' network, as
    `like_the_paper` builds it, has not, and the head pools globally, theirs 8x8.
    Padding, moving variances and what is left without `batch_norm` are as in
    `one_representation_resnet`.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the first stage; they double from stage to stage.
        num_blocks: Residual blocks in each stage, or one number for each of the three.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `x_{k+1} = x_k + h * v_k(x_k)`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        like_the_paper: Whether to build the network of the authors' code; see above.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> network = wide_resnet((32, 32, 3), 100)
    """
    layers = choose_layers(like_the_paper, batch_norm, time_step, kernel_initializer)
    inputs = image_input(input_shape, num_classes, filters)
    x = layers.conv(inputs, filters, 3, "stem_conv")
    blocks = per_stage(num_blocks, 3)
    x = layers.pre_activation_stages(x, blocks, layers.strided_transition)
    x = layers.norm_relu(x, "head")
    return keras.Model(inputs, layers.pooled_logits(x, num_classes, 8, 8), name=name)
