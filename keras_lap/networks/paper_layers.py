"""The layers of the paper's networks as the authors' code has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

from keras_lap._checks import refusal
from keras_lap.networks.layers import BATCH_NORM, CHANNELS_LAST, Layers, half

_Tensor: TypeAlias = keras.KerasTensor


@keras.saving.register_keras_serializable("keras_lap")
class UnbiasedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation whose moving variance is PyTorch's.

    A batch is normalised by its biased variance, as everywhere; what enters the moving
    average is the unbiased one, `n / (n - 1)` times as large for `n` values a channel.
    """

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Normalises, as `keras.layers.BatchNormalization`."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        kept = ops.multiply(self.moving_variance, self.momentum)
        outputs = super().call(inputs, training=training, mask=mask)
        count = ops.cast(ops.size(inputs) // inputs.shape[self.axis], kept.dtype)
        # One value has no unbiased variance: PyTorch refuses it, here it counts as 0.
        more = (self.moving_variance - kept) / ops.maximum(count - 1, 1)
        self.moving_variance.assign(self.moving_variance + more)
        return outputs


class PaperLayers(Layers):
    """Makes the layers as the authors do, where `Layers` differs from them.

    Read in the code of Karkar et al., 2020, arXiv:2009.08372.
    """

    def conv(
        self,
        x: _Tensor,
        filters: int,
        size: int,
        name: str,
        *,
        strides: int = 1,
        **options: Any,
    ) -> _Tensor:
        """Convolves, padded alike on both sides; no bias unless asked for."""
        options = {"use_bias": False, "strides": strides} | options
        if strides > 1 and size > 1:
            x = keras.layers.ZeroPadding2D(
                size // 2, **CHANNELS_LAST, name=f"{name}_pad"
            )(x)
            options["padding"] = "valid"
        return super().conv(x, filters, size, name, **options)

    def dense(
        self, x: _Tensor, units: int, name: str, *, normalized: bool = False
    ) -> _Tensor:
        """A dense layer, always with a bias."""
        return super().dense(x, units, name)

    def norm(self, x: _Tensor, name: str) -> _Tensor:
        """Batch normalisation; without it in the blocks, stem and head keep theirs."""
        return UnbiasedBatchNormalization(**BATCH_NORM, name=name)(x)

    def small_image_stem(self, x: _Tensor, filters: int) -> _Tensor:
        """Keeps the resolution, in two convolutions."""
        x = self.conv_norm_relu(x, half(filters), 3, "stem", "1", use_bias=True)
        return self.conv_norm_relu(x, filters, 3, "stem", "2", use_bias=True)

    def large_image_stem(self, x: _Tensor, filters: int) -> _Tensor:
        """Halves the resolution twice, in two convolutions."""
        options = {"strides": 2, "use_bias": True}
        x = self.conv_norm_relu(x, filters, 7, "stem", "1", **options)
        return self.conv_norm_relu(x, filters, 3, "stem", "2", **options)

    def pre_activation_block(
        self, x: _Tensor, name: str, *, first_in_network: bool
    ) -> _Tensor:
        """One block; without batch normalisation ``x + conv(relu(x))``.

        The authors' code makes a first convolution there and does not use its output.
        """
        if self.batch_norm:
            return super().pre_activation_block(
                x, name, first_in_network=first_in_network
            )
        v = keras.layers.ReLU(name=f"{name}_relu2")(x)
        return self.step(x, self.conv(v, x.shape[-1], 3, f"{name}_conv2"), name)

    def end_of_branch(self, r: _Tensor, name: str) -> _Tensor:
        """The branch is rectified too, before the sum."""
        r = super().end_of_branch(r, name)
        return keras.layers.ReLU(name=f"{name}_branch_relu")(r)

    def resnext_stages(
        self, x: _Tensor, filters: int, blocks: Sequence[int], groups: int, width: int
    ) -> _Tensor:
        """Stacks blocks; the authors' are always normalised."""
        if not self.batch_norm:
            advice = "Leave `batch_norm` out, or set like_the_paper=False."
            accepted = "be True for a ResNeXt with like_the_paper=True"
            raise refusal("`batch_norm`", accepted, self.batch_norm, advice)
        return super().resnext_stages(x, filters, blocks, groups, width)

    def pooled_logits(
        self, x: _Tensor, num_classes: int, window: int, strides: int
    ) -> _Tensor:
        """The head: average pooling by a window, which small images cut."""
        height, width = (min(window, size) for size in x.shape[1:3])
        x = keras.layers.AveragePooling2D(
            (height, width), strides, **CHANNELS_LAST, name="head_pool"
        )(x)
        x = keras.layers.Flatten(**CHANNELS_LAST, name="head_flatten")(x)
        return self.dense(x, num_classes, "logits")


def choose_layers(like_the_paper: bool, *options: Any) -> Layers:
    """The authors' layers or ours; `options` are those of `Layers`."""
    if not isinstance(like_the_paper, bool):
        advice = "True builds the network of the authors' code."
        raise refusal("`like_the_paper`", "be True or False", like_the_paper, advice)
    return PaperLayers(*options) if like_the_paper else Layers(*options)
