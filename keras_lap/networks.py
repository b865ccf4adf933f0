"""The residual networks of the paper, as Functional models that return logits.

The layers follow the code of Karkar, Ayed, de Bezenac and Gallinari, "A Principle of
Least Action for the Training of Neural Networks", 2020, arXiv:2009.08372. Every
residual merge is one `keras.layers.Add`, named `..._add`. Images are channels-last.

The options that all networks share:

* `batch_norm`: whether to normalise. A convolution or dense layer has a bias exactly
  where no batch normalisation directly follows it.
* `time_step`: the step `h > 0` of `x_{k+1} = x_k + h * v_k(x_k)`.
* `kernel_initializer`: for the kernels of all convolution and dense layers, anything
  `keras.initializers.get` takes; `None` is Kaiming normal over the fan-out. An integer
  seed is turned into one seed per layer, so that no two layers start equal.
* `name`: the name of the model.
"""

from __future__ import annotations

import numbers
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras

from keras_lap._checks import finite_number

__all__ = [
    "avgpool_resnet",
    "one_representation_resnet",
    "resnet",
    "resnet9",
    "resnext29",
    "resnext50",
    "wide_resnet",
]

_Tensor: TypeAlias = keras.KerasTensor
_CHANNELS_LAST = {"data_format": "channels_last"}
# PyTorch's defaults, with which the authors trained. Keras' momentum of 0.99 needs
# hundreds of steps to settle, more than a small training set gives in many epochs.
_BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}


def one_representation_resnet(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 64,
    num_blocks: int = 9,
    batch_norm: bool = True,
    time_step: float = 1.0,
    kernel_initializer: Any = None,
    name: str = "one_representation_resnet",
) -> keras.Model:
    """Builds a pre-activation ResNet whose blocks all share one representation space.

    A stem (3x3 convolution to `filters / 2`, 5x5 convolution of stride 2 to `filters`)
    is followed by `num_blocks` blocks of one shape and a head of two dense layers, the
    first of `10 * num_classes` units. From Karkar et al., 2020, arXiv:2009.08372.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the blocks, even.
        num_blocks: Number of residual blocks.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `x_{k+1} = x_k + h * v_k(x_k)`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> network = one_representation_resnet((28, 28, 1), 10, num_blocks=5)
    """
    layers = _Layers(batch_norm, time_step, kernel_initializer)
    inputs = _input(input_shape, num_classes)
    x = layers.halving_stem(inputs, filters)
    x = layers.pre_activation_stages(x, _per_stage(num_blocks, 1))
    x = keras.layers.Flatten(**_CHANNELS_LAST, name="head_flatten")(x)
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

    From Karkar et al., 2020, arXiv:2009.08372.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        name: Name of the model.
        **options: Any other option of `one_representation_resnet` but `num_blocks`.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
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
    name: str = "resnet",
) -> keras.Model:
    """Builds a pre-activation ResNet of three stages, joined by strided convolutions.

    The stem is that of `one_representation_resnet`. Between stages a 1x1 convolution of
    stride 2, outside any block, doubles the channels. From Karkar et al., 2020,
    arXiv:2009.08372.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the first stage, even.
        num_blocks: Residual blocks in each stage, or one number for each of the three.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `x_{k+1} = x_k + h * v_k(x_k)`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> network = resnet((32, 32, 3), 10, num_blocks=(2, 3, 2))
    """
    layers = _Layers(batch_norm, time_step, kernel_initializer)
    inputs = _input(input_shape, num_classes)
    x = layers.halving_stem(inputs, filters)
    x = layers.pre_activation_stages(
        x, _per_stage(num_blocks, 3), layers.strided_transition
    )
    x = layers.norm_relu(x, "head")
    return keras.Model(inputs, layers.pooled_logits(x, num_classes), name=name)


def avgpool_resnet(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 64,
    num_blocks: int | Sequence[int] = 9,
    batch_norm: bool = True,
    time_step: float = 1.0,
    kernel_initializer: Any = None,
    name: str = "avgpool_resnet",
) -> keras.Model:
    """Builds a pre-activation ResNet of three stages, joined by average pooling.

    As `resnet`, but 2x2 average pooling joins the stages and the width never changes.
    From Karkar et al., 2020, arXiv:2009.08372.

    Args:
        input_shape: `(height, width, channels)`, at least 7 pixels either way.
        num_classes: Number of logits.
        filters: Channels of all blocks, even.
        num_blocks: Residual blocks in each stage, or one number for each of the three.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `x_{k+1} = x_k + h * v_k(x_k)`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> network = avgpool_resnet((32, 32, 3), 10, filters=32)
    """
    layers = _Layers(batch_norm, time_step, kernel_initializer)
    inputs = _input(input_shape, num_classes, smallest=7)
    x = layers.halving_stem(inputs, filters)
    x = layers.pre_activation_stages(
        x, _per_stage(num_blocks, 3), layers.pooling_transition
    )
    x = layers.norm_relu(x, "head")
    return keras.Model(inputs, layers.pooled_logits(x, num_classes), name=name)


def wide_resnet(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 160,
    num_blocks: int | Sequence[int] = 4,
    batch_norm: bool = True,
    time_step: float = 1.0,
    kernel_initializer: Any = None,
    name: str = "wide_resnet",
) -> keras.Model:
    """Builds the wide pre-activation ResNet: 160, 320 and 640 channels.

    As `resnet`, but the stem is a single 3x3 convolution that keeps the resolution.
    From Karkar et al., 2020, arXiv:2009.08372.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the first stage; they double from stage to stage.
        num_blocks: Residual blocks in each stage, or one number for each of the three.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `x_{k+1} = x_k + h * v_k(x_k)`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> network = wide_resnet((32, 32, 3), 100)
    """
    layers = _Layers(batch_norm, time_step, kernel_initializer)
    inputs = _input(input_shape, num_classes)
    _check_positive_integers(filters=filters)
    x = layers.conv(inputs, filters, 3, "stem_conv")
    x = layers.pre_activation_stages(
        x, _per_stage(num_blocks, 3), layers.strided_transition
    )
    x = layers.norm_relu(x, "head")
    return keras.Model(inputs, layers.pooled_logits(x, num_classes), name=name)


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
    name: str = "resnext29",
) -> keras.Model:
    """Builds ResNeXt-29, 16x64d: three stages of three post-activation blocks.

    A block is `z = relu(x + h * r(x))` with a grouped bottleneck `r`; where it changes
    the shape, `x` is first projected by a 1x1 convolution. The architecture is that of
    Xie et al., 2017, arXiv:1611.05431, as trained by Karkar et al., 2020,
    arXiv:2009.08372.

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
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> network = resnext29((32, 32, 3), 10, cardinality=8)
    """
    layers = _Layers(batch_norm, time_step, kernel_initializer)
    inputs = _input(input_shape, num_classes)
    x = layers.small_image_stem(inputs, filters)
    x = layers.resnext_stages(
        x, filters, _per_stage(num_blocks, 3), cardinality, group_width
    )
    return keras.Model(inputs, layers.pooled_logits(x, num_classes), name=name)


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
    name: str = "resnext50",
) -> keras.Model:
    """Builds ResNeXt-50, 32x4d: four stages of 3, 4, 6 and 3 post-activation blocks.

    The blocks are those of `resnext29`. The default stem is for small images, as the
    paper trains this network on the 32x32 images of CIFAR-100. From Xie et al., 2017,
    arXiv:1611.05431, as trained by Karkar et al., 2020, arXiv:2009.08372.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        filters: Channels of the stem. The stages put out 4, 8, 16 and 32 times as many.
        cardinality: Groups of the 3x3 convolutions.
        group_width: Channels of one group in the first stage; they double from stage to
            stage.
        num_blocks: Residual blocks in each stage, or one number for each of the four.
        stem: `"cifar"`, a 3x3 convolution that keeps the resolution, or `"imagenet"`, a
            7x7 convolution and a 3x3 maximum pooling, each of stride 2.
        batch_norm: Whether to use batch normalisation.
        time_step: The step `h` of `z = relu(x + h * r(x))`.
        kernel_initializer: Initializer of every kernel; `None` for Kaiming normal.
        name: Name of the model.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> small = resnext50((32, 32, 3), 100)
        >>> large = resnext50((224, 224, 3), 1000, stem="imagenet")
    """
    layers = _Layers(batch_norm, time_step, kernel_initializer)
    inputs = _input(input_shape, num_classes)
    stems = {"cifar": layers.small_image_stem, "imagenet": layers.large_image_stem}
    if stem not in stems:
        raise ValueError(
            f'`stem` must be "cifar" or "imagenet". Received: stem={stem!r}. Use '
            '"cifar" for images of about 32x32 pixels, "imagenet" for large ones.'
        )
    x = stems[stem](inputs, filters)
    x = layers.resnext_stages(
        x, filters, _per_stage(num_blocks, 4), cardinality, group_width
    )
    return keras.Model(inputs, layers.pooled_logits(x, num_classes), name=name)


class _Layers:
    """Makes the layers of one network from the options that all of them share."""

    def __init__(
        self, batch_norm: bool, time_step: float, kernel_initializer: Any
    ) -> None:
        if kernel_initializer is None:
            kernel_initializer = keras.initializers.VarianceScaling(
                scale=2.0, mode="fan_out", distribution="untruncated_normal"
            )
        self.batch_norm: bool = batch_norm
        self.time_step: float = finite_number(
            "time_step",
            time_step,
            "> 0",
            "Use 1.0 for a plain residual network, T / K for K blocks over a time T.",
        )
        self.kernel_initializer: Any = keras.initializers.get(kernel_initializer)

    def kernel_options(self, name: str, normalized: bool) -> dict[str, Any]:
        """Returns what is common to convolution and dense layers."""
        return {
            "name": name,
            "kernel_initializer": _own_initializer(self.kernel_initializer, name),
            "use_bias": not (normalized and self.batch_norm),
        }

    def conv(
        self,
        x: _Tensor,
        filters: int,
        size: int,
        name: str,
        *,
        normalized: bool = False,
        **options: Any,
    ) -> _Tensor:
        """Convolves; `normalized` says that a batch normalisation directly follows."""
        options |= self.kernel_options(name, normalized) | _CHANNELS_LAST
        return keras.layers.Conv2D(filters, size, padding="same", **options)(x)

    def dense(
        self, x: _Tensor, units: int, name: str, *, normalized: bool = False
    ) -> _Tensor:
        options = self.kernel_options(name, normalized)
        return keras.layers.Dense(units, **options)(x)

    def norm(self, x: _Tensor, name: str) -> _Tensor:
        if not self.batch_norm:
            return x
        return keras.layers.BatchNormalization(**_BATCH_NORM, name=name)(x)

    def norm_relu(self, x: _Tensor, prefix: str, number: str = "") -> _Tensor:
        x = self.norm(x, f"{prefix}_bn{number}")
        return keras.layers.ReLU(name=f"{prefix}_relu{number}")(x)

    def conv_norm_relu(
        self,
        x: _Tensor,
        filters: int,
        size: int,
        prefix: str,
        number: str = "",
        **options: Any,
    ) -> _Tensor:
        name = f"{prefix}_conv{number}"
        x = self.conv(x, filters, size, name, normalized=True, **options)
        return self.norm_relu(x, prefix, number)

    def step(self, x: _Tensor, v: _Tensor, block: str) -> _Tensor:
        """Returns `x + h * v`."""
        if self.time_step != 1:
            v = keras.layers.Rescaling(self.time_step, name=f"{block}_scale")(v)
        return keras.layers.Add(name=f"{block}_add")([x, v])

    def halving_stem(self, x: _Tensor, filters: int) -> _Tensor:
        """Halves the resolution and brings the channels to `filters`."""
        if not _is_positive_integer(filters) or filters % 2:
            raise ValueError(
                "`filters` must be a positive, even integer, as the first convolution "
                f"has half as many. Received: filters={filters!r}. Pass an even number "
                "such as 32 or 64."
            )
        x = self.conv(x, filters // 2, 3, "stem_conv1")
        x = keras.layers.ReLU(name="stem_relu1")(x)
        x = self.conv(x, filters, 5, "stem_conv2", strides=2)
        return keras.layers.ReLU(name="stem_relu2")(x)

    def small_image_stem(self, x: _Tensor, filters: int) -> _Tensor:
        _check_positive_integers(filters=filters)
        return self.conv_norm_relu(x, filters, 3, "stem")

    def large_image_stem(self, x: _Tensor, filters: int) -> _Tensor:
        _check_positive_integers(filters=filters)
        x = self.conv_norm_relu(x, filters, 7, "stem", strides=2)
        return keras.layers.MaxPooling2D(
            3, strides=2, padding="same", **_CHANNELS_LAST, name="stem_pool"
        )(x)

    def pre_activation_block(
        self, x: _Tensor, name: str, *, first_in_network: bool
    ) -> _Tensor:
        filters = x.shape[-1]
        v = x if first_in_network else self.norm_relu(x, name, "1")
        v = self.conv(v, filters, 3, f"{name}_conv1", normalized=True)
        v = self.norm_relu(v, name, "2")
        v = self.conv(v, filters, 3, f"{name}_conv2")
        return self.step(x, v, name)

    def pre_activation_stages(
        self,
        x: _Tensor,
        blocks: Sequence[int],
        transition: Callable[[_Tensor, str], _Tensor] | None = None,
    ) -> _Tensor:
        """Stacks blocks; `transition` joins the stages and is no part of a block."""
        for stage, block in _stages_and_blocks(blocks):
            first_in_stage = block == 1
            if transition and first_in_stage and stage > 1:
                x = transition(x, f"stage{stage}_transition")
            prefix = f"stage{stage}_" if len(blocks) > 1 else ""
            x = self.pre_activation_block(
                x,
                f"{prefix}block{block}",
                first_in_network=first_in_stage and stage == 1,
            )
        return x

    def strided_transition(self, x: _Tensor, name: str) -> _Tensor:
        return self.conv(x, 2 * x.shape[-1], 1, name, strides=2)

    def pooling_transition(self, x: _Tensor, name: str) -> _Tensor:
        return keras.layers.AveragePooling2D(2, **_CHANNELS_LAST, name=name)(x)

    def resnext_block(
        self,
        x: _Tensor,
        inner: int,
        outer: int,
        name: str,
        *,
        groups: int,
        strides: int,
    ) -> _Tensor:
        r = self.conv_norm_relu(x, inner, 1, name, "1")
        r = self.conv_norm_relu(r, inner, 3, name, "2", strides=strides, groups=groups)
        r = self.conv(r, outer, 1, f"{name}_conv3", normalized=True)
        r = self.norm(r, f"{name}_bn3")
        if strides > 1 or x.shape[-1] != outer:
            shortcut = f"{name}_projection"
            x = self.conv(
                x, outer, 1, f"{shortcut}_conv", strides=strides, normalized=True
            )
            x = self.norm(x, f"{shortcut}_bn")
        return keras.layers.ReLU(name=f"{name}_relu3")(self.step(x, r, name))

    def resnext_stages(
        self,
        x: _Tensor,
        filters: int,
        blocks: Sequence[int],
        cardinality: int,
        group_width: int,
    ) -> _Tensor:
        _check_positive_integers(cardinality=cardinality, group_width=group_width)
        for stage, block in _stages_and_blocks(blocks):
            growth = 2 ** (stage - 1)
            x = self.resnext_block(
                x,
                cardinality * group_width * growth,
                4 * filters * growth,
                f"stage{stage}_block{block}",
                groups=cardinality,
                strides=2 if stage > 1 and block == 1 else 1,
            )
        return x

    def pooled_logits(self, x: _Tensor, num_classes: int) -> _Tensor:
        x = keras.layers.GlobalAveragePooling2D(**_CHANNELS_LAST, name="head_pool")(x)
        return self.dense(x, num_classes, "logits")


def _own_initializer(initializer: Any, layer_name: str) -> Any:
    """Returns an initializer that draws other values than those of other layers.

    Keras does not copy an initializer, and one instance, seeded or not, draws the same
    values each time it is called with the same shape.
    """
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    config = initializer.get_config()
    seed = config.get("seed")
    if isinstance(seed, int):
        config["seed"] = zlib.crc32(f"{seed}/{layer_name}".encode()) & 0x7FFFFFFF
    elif seed is not None or "seed" not in config:
        # A `keras.random.SeedGenerator` moves on with each draw by itself.
        return initializer
    return type(initializer).from_config(config)


def _stages_and_blocks(blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yields the numbers of stage and block, from 1, in forward order."""
    for stage, count in enumerate(blocks, start=1):
        for block in range(1, count + 1):
            yield stage, block


def _input(input_shape: Sequence[int], num_classes: int, smallest: int = 1) -> _Tensor:
    _check_positive_integers(num_classes=num_classes)
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
    valid = len(shape) == 3 and all(map(_is_positive_integer, shape))
    if not valid or min(shape[:2]) < smallest:
        raise ValueError(
            "`input_shape` must be three positive integers, (height, width, channels), "
            f"with height and width of at least {smallest}. Received: "
            f"input_shape={input_shape!r}. Leave out the batch axis; gray images have "
            "one channel, which `x[..., None]` adds."
        )
    return keras.Input(shape, name="image")


def _per_stage(num_blocks: int | Sequence[int], num_stages: int) -> tuple[int, ...]:
    if isinstance(num_blocks, Sequence):
        blocks = tuple(num_blocks)
    else:
        blocks = (num_blocks,) * num_stages
    if len(blocks) != num_stages or not all(map(_is_positive_integer, blocks)):
        raise ValueError(
            f"`num_blocks` must be a positive integer, or a sequence of {num_stages}, "
            f"one for each stage. Received: num_blocks={num_blocks!r}. Give a single "
            "integer for stages of one depth."
        )
    return blocks


def _check_positive_integers(**values: Any) -> None:
    for argument, value in values.items():
        if not _is_positive_integer(value):
            raise ValueError(
                f"`{argument}` must be a positive integer. Received: "
                f"{argument}={value!r}. Pass an integer of at least 1."
            )


def _is_positive_integer(value: Any) -> bool:
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_integer and value >= 1
