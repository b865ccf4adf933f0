"""The layers that the networks share, and the checks of their arguments."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras

from keras_lap._checks import finite_number, is_whole, refusal, whole_number

_Tensor: TypeAlias = keras.KerasTensor
CHANNELS_LAST = {"data_format": "channels_last"}
# PyTorch's defaults, with which the authors trained. Keras' momentum of 0.99 needs
# hundreds of steps to settle, more than a small training set gives in many epochs.
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}


class Layers:
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
            "kernel_initializer": own_initializer(self.kernel_initializer, name),
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
        made = {"padding": "same"} | self.kernel_options(name, normalized) | options
        return keras.layers.Conv2D(filters, size, **made, **CHANNELS_LAST)(x)

    def dense(
        self, x: _Tensor, units: int, name: str, *, normalized: bool = False
    ) -> _Tensor:
        """A dense layer; `normalized` as for `conv`."""
        options = self.kernel_options(name, normalized)
        return keras.layers.Dense(units, **options)(x)

    def norm(self, x: _Tensor, name: str) -> _Tensor:
        """Batch normalisation, if the network has any."""
        if not self.batch_norm:
            return x
        return keras.layers.BatchNormalization(**BATCH_NORM, name=name)(x)

    def norm_relu(self, x: _Tensor, prefix: str, number: str = "") -> _Tensor:
        """Normalises and rectifies."""
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
        """Convolves, normalises and rectifies."""
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
        x = self.conv(x, half(filters), 3, "stem_conv1", use_bias=True)
        x = keras.layers.ReLU(name="stem_relu1")(x)
        x = self.conv(x, filters, 5, "stem_conv2", strides=2, use_bias=True)
        return keras.layers.ReLU(name="stem_relu2")(x)

    def small_image_stem(self, x: _Tensor, filters: int) -> _Tensor:
        """Keeps the resolution."""
        return self.conv_norm_relu(x, filters, 3, "stem")

    def large_image_stem(self, x: _Tensor, filters: int) -> _Tensor:
        """Halves the resolution twice."""
        x = self.conv_norm_relu(x, filters, 7, "stem", strides=2)
        return keras.layers.MaxPooling2D(
            3, strides=2, padding="same", **CHANNELS_LAST, name="stem_pool"
        )(x)

    def pre_activation_block(
        self, x: _Tensor, name: str, *, first_in_network: bool
    ) -> _Tensor:
        """One block ``x + conv(relu(bn(conv(relu(bn(x))))))``."""
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
            if transition and block == 1 and stage > 1:
                x = transition(x, f"stage{stage}_transition")
            name = f"stage{stage}_block{block}" if len(blocks) > 1 else f"block{block}"
            first = stage == block == 1
            x = self.pre_activation_block(x, name, first_in_network=first)
        return x

    def strided_transition(self, x: _Tensor, name: str) -> _Tensor:
        """Halves the resolution and doubles the channels."""
        return self.conv(x, 2 * x.shape[-1], 1, name, strides=2)

    def pooling_transition(self, x: _Tensor, name: str) -> _Tensor:
        """Halves the resolution."""
        return keras.layers.AveragePooling2D(2, **CHANNELS_LAST, name=name)(x)

    def resnext_block(
        self, x: _Tensor, inner: int, outer: int, name: str, groups: int, strides: int
    ) -> _Tensor:
        """One block ``relu(x + r(x))``, grouped where it has `inner` channels."""
        r = self.conv_norm_relu(x, inner, 1, name, "1")
        r = self.conv_norm_relu(r, inner, 3, name, "2", strides=strides, groups=groups)
        r = self.conv(r, outer, 1, f"{name}_conv3", normalized=True)
        r = self.end_of_branch(r, name)
        if strides > 1 or x.shape[-1] != outer:
            shortcut = f"{name}_projection_conv"
            x = self.conv(x, outer, 1, shortcut, strides=strides, normalized=True)
            x = self.norm(x, f"{name}_projection_bn")
        return keras.layers.ReLU(name=f"{name}_relu3")(self.step(x, r, name))

    def end_of_branch(self, r: _Tensor, name: str) -> _Tensor:
        """What follows the last convolution of a ResNeXt branch."""
        return self.norm(r, f"{name}_bn3")

    def resnext_stages(
        self, x: _Tensor, filters: int, blocks: Sequence[int], groups: int, width: int
    ) -> _Tensor:
        """Stacks blocks, whose channels double and whose resolution halves by stage."""
        check_positive_integers(cardinality=groups, group_width=width)
        for stage, block in _stages_and_blocks(blocks):
            growth = 2 ** (stage - 1)
            inner, outer = groups * width * growth, 4 * filters * growth
            strides = 2 if stage > 1 and block == 1 else 1
            name = f"stage{stage}_block{block}"
            x = self.resnext_block(x, inner, outer, name, groups, strides)
        return x

    def pooled_logits(
        self, x: _Tensor, num_classes: int, window: int, strides: int
    ) -> _Tensor:
        """The head: average pooling, here global, and a dense layer.

        `window` and `strides` are those of the authors' network.
        """
        x = keras.layers.GlobalAveragePooling2D(**CHANNELS_LAST, name="head_pool")(x)
        return self.dense(x, num_classes, "logits")


def own_initializer(initializer: Any, layer_name: str) -> Any:
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


def half(filters: int) -> int:
    """Half of `filters`, which must be even."""
    if filters % 2:
        accepted = "be an even integer, as the first convolution has half as many"
        raise refusal("`filters`", accepted, filters, "Pass e.g. 32 or 64.")
    return filters // 2


def image_input(
    input_shape: Sequence[int], num_classes: int, filters: int, smallest: int = 1
) -> _Tensor:
    """The input of a network whose images have at least `smallest` pixels a side."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "The networks of keras_lap take images as (height, width, channels). "
            f"Received: image_data_format={keras.config.image_data_format()!r}. Call "
            "keras.config.set_image_data_format('channels_last') before building, and "
            "pass data as x.transpose(0, 2, 3, 1)."
        )
    check_positive_integers(num_classes=num_classes, filters=filters)
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
    valid = len(shape) == 3 and all(is_whole(size, 1) for size in shape)
    if not valid or min(shape[:2]) < smallest:
        raise refusal(
            "`input_shape`",
            "be three positive integers, (height, width, channels), with height and "
            f"width of at least {smallest}",
            input_shape,
            "Leave out the batch axis; gray images have one channel, which "
            "`x[..., None]` adds.",
        )
    return keras.Input(shape, name="image")


def per_stage(num_blocks: int | Sequence[int], num_stages: int) -> tuple[int, ...]:
    """The number of blocks in each stage."""
    if isinstance(num_blocks, Sequence):
        blocks = tuple(num_blocks)
    else:
        blocks = (num_blocks,) * num_stages
    if len(blocks) != num_stages or not all(is_whole(count, 1) for count in blocks):
        raise refusal(
            "`num_blocks`",
            f"be a positive integer, or a sequence of {num_stages}, one for each stage",
            num_blocks,
            "Give a single integer for stages of one depth.",
        )
    return blocks


def check_positive_integers(**values: Any) -> None:
    """Refuses what is no whole number of at least 1."""
    for argument, value in values.items():
        whole_number(f"`{argument}`", value, 1)
