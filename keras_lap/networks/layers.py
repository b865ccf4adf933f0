"""The layers that the networks share, and the checks of their arguments."""

from __future__ import annotations

import numbers
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras

from keras_lap._checks import finite_number

_Tensor: TypeAlias = keras.KerasTensor
_CHANNELS_LAST = {"data_format": "channels_last"}
# PyTorch's defaults, with which the authors trained. Keras' momentum of 0.99 needs
# hundreds of steps to settle, more than a small training set gives in many epochs.
_BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}


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

    def flatten(self, x: _Tensor, name: str) -> _Tensor:
        return keras.layers.Flatten(**_CHANNELS_LAST, name=name)(x)

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
        check_positive_integers(filters=filters)
        return self.conv_norm_relu(x, filters, 3, "stem")

    def large_image_stem(self, x: _Tensor, filters: int) -> _Tensor:
        check_positive_integers(filters=filters)
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
        check_positive_integers(cardinality=cardinality, group_width=group_width)
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


def image_input(
    input_shape: Sequence[int], num_classes: int, smallest: int = 1
) -> _Tensor:
    check_positive_integers(num_classes=num_classes)
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


def per_stage(num_blocks: int | Sequence[int], num_stages: int) -> tuple[int, ...]:
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


def check_positive_integers(**values: Any) -> None:
    for argument, value in values.items():
        if not _is_positive_integer(value):
            raise ValueError(
                f"`{argument}` must be a positive integer. Received: "
                f"{argument}={value!r}. Pass an integer of at least 1."
            )


def _is_positive_integer(value: Any) -> bool:
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_integer and value >= 1
