"""Which networks are trained on which data, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

import keras_lap
from studies.engine.augmentation import pooled
from studies.engine.small_images import small_image_resnet
from studies.layers import data
from studies.layers.data import Parts
from studies.layers.networks import mlp, transformer
from studies.layers.settings import Setting

_resnet = keras_lap.networks.one_representation_resnet
BAD_START = "MNIST 300, ResNet9, bad start"


def badly_started(
    shape: tuple[int, ...], classes: int, blocks: int, filters: int
) -> keras.Model:
    """ResNet9 whose kernels all start as a normal of standard deviation one.

    As in `studies.paper.initialisations`; batch normalisation hides their size from the
    forward pass, and the optimizer's steps are small beside them.
    """
    start = keras.initializers.RandomNormal(stddev=1.0)
    return _resnet(
        shape, classes, filters=filters, num_blocks=blocks, kernel_initializer=start
    )


def started(
    shape: tuple[int, ...], classes: int, blocks: int, filters: int
) -> keras.Model:
    """ResNet9 as the package builds it."""
    return _resnet(shape, classes, filters=filters, num_blocks=blocks)


def small_images(
    shape: tuple[int, ...], classes: int, blocks: int, filters: int
) -> keras.Model:
    """Blocks at the size of the image, and a pooled head."""
    return small_image_resnet(
        shape, classes, filters=filters, num_blocks=blocks, head_size=1
    )


def load(setting: Setting) -> Parts:
    """The data of a setting; convolutions see large images at half their size."""
    parts = data.load(*setting.data)
    if parts.train[0].shape[1:] == setting.shape:
        return parts
    train, validation, test = (
        (pooled(x, 2), y) for x, y in (parts.train, parts.validation, parts.test)
    )
    return Parts(train, validation, test, parts.classes)


@dataclass(frozen=True)
class Trained(Setting):
    """A setting with its optimizer.

    Attributes:
        optimizer: `"adamw"`, or `"sgd"` with momentum 0.9.
    """

    optimizer: str = "adamw"


def _adam(
    name: str, data: tuple, shape: tuple[int, ...], blocks: int, steps: int, build: Any
) -> Trained:
    """A network without batch normalisation, small enough for one compiled loop."""
    return Trained(
        name, data, shape, 10, build, blocks, steps, rate=3e-3, depths=(), batch=50
    )


def _sgd(
    name: str, data: tuple, shape: tuple[int, ...], blocks: int, steps: int, build: Any
) -> Trained:
    """Convolutions, batch normalisation, and what such networks are trained by."""
    return Trained(
        *(name, data, shape, 10, partial(build, filters=8), blocks, steps),
        rate=0.1,
        depths=(),
        batch=50,
        in_one_loop=False,
        optimizer="sgd",
    )


_DIGITS, _MNIST = (8, 8, 1), (28, 28, 1)
_HALF_MNIST, _HALF_CIFAR = (14, 14, 1), (16, 16, 3)
_FEW, _MORE = ("digits", 200, 300), ("digits", 1000, 300)
_M300, _M2000 = ("mnist", 300, 1000, 2000), ("mnist", 2000, 1000, 4000)
_CIFAR = ("cifar10", 2000, 1000, 2000)
_MLP = partial(mlp, width=24, step=0.5)
_VIT = partial(transformer, width=16, patch=2)

SETTINGS = (
    _adam("digits 1000, MLP", _MORE, _DIGITS, 12, 600, _MLP),
    _sgd("digits 200, ResNet9", _FEW, _DIGITS, 9, 160, started),
    _sgd("digits 1000, ResNet9", _MORE, _DIGITS, 9, 200, started),
    _adam("digits 1000, ViT", _MORE, _DIGITS, 8, 250, _VIT),
    _sgd("MNIST 300, ResNet9", _M300, _HALF_MNIST, 9, 120, started),
    _adam("MNIST 2000, MLP", _M2000, _MNIST, 12, 800, _MLP),
    _sgd("CIFAR 2000, 4 conv", _CIFAR, _HALF_CIFAR, 4, 120, small_images),
    _sgd(BAD_START, _M300, _HALF_MNIST, 9, 120, badly_started),
)
