"""Which networks are trained on which data, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras

from studies.layers.networks import convolutional, mlp, pooled, transformer


@dataclass(frozen=True)
class Setting:
    """A network on some data.

    Attributes:
        name: As in the tables.
        data: What `data.load` is called with.
        shape: Of one input.
        classes: Number of classes.
        build: From shape, classes and number of blocks to a network.
        blocks: Number of blocks of the network that is cut.
        steps: Optimizer steps.
        rate: Learning rate of Adam at first; it falls to 0 as a cosine.
        step: Time step of a block, for the integrals of running costs.
        batch: Examples of a step.
        depths: Which are trained by themselves.
        in_one_loop: Whether all steps are one compiled loop.
        widely: Whether each method is tried at six strengths instead of four.
    """

    name: str
    data: tuple
    shape: tuple[int, ...]
    classes: int
    build: Callable[..., keras.Model]
    blocks: int
    steps: int
    rate: float
    depths: tuple[int, ...]
    step: float = 1.0
    batch: int = 64
    in_one_loop: bool = True
    widely: bool = True

    def network(self, blocks: int) -> keras.Model:
        """A network with so many blocks, initialised by Keras's global seed."""
        return self.build(self.shape, self.classes, blocks)

    @property
    def cuts(self) -> tuple[int, int]:
        """A quarter and a half of the blocks."""
        return round(self.blocks / 4), round(self.blocks / 2)


def _dense(
    name: str, data: tuple, shape: tuple[int, ...], classes: int, width: int, steps: int
) -> Setting:
    """Sixteen dense blocks of a time of one half each."""
    return Setting(
        f"{name}, MLP",
        data,
        shape,
        classes,
        partial(mlp, width=width, step=0.5),
        16,
        steps,
        3e-3,
        (0, 1, 2, 3, 4, 6, 8, 12, 16),
        step=0.5,
    )


SETTINGS = (
    _dense("digits", ("digits", 1000, 300), (8, 8, 1), 10, 24, 700),
    _dense("spirals", ("spirals", 1000, 1000, 4000), (2,), 2, 5, 2500),
    _dense("MNIST 2000", ("mnist", 2000, 1000), (28, 28, 1), 10, 24, 700),
    Setting(
        "digits, ResNet9",
        ("digits", 1000, 300),
        (8, 8, 1),
        10,
        partial(convolutional, filters=16),
        9,
        250,
        3e-3,
        (0, 1, 2, 3, 4, 6, 9),
        in_one_loop=False,
    ),
    Setting(
        "CIFAR 4000, 16 conv",
        ("cifar10", 4000, 1000, 2000),
        (32, 32, 3),
        10,
        partial(pooled, filters=16),
        16,
        600,
        3e-3,
        (0, 1, 2, 3, 4, 6, 8, 12, 16),
        in_one_loop=False,
        widely=False,
    ),
    Setting(
        "digits, ViT",
        ("digits", 1000, 300),
        (8, 8, 1),
        10,
        partial(transformer, width=32, patch=2),
        12,
        400,
        2e-3,
        (0, 1, 2, 3, 4, 6, 8, 10, 12),
    ),
)
