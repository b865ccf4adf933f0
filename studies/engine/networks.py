"""Which network a run trains, and how its weights start."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

import keras_lap
from keras_lap._checks import choice, finite_number, whole_number
from studies.engine.dense import dense_resnet
from studies.engine.description import Described, Recipe
from studies.engine.small_images import small_image_resnet

INITIALIZERS = ("kaiming", "normal", "orthogonal")
NETWORKS = (
    "resnet9",
    "one_representation_resnet",
    "resnet",
    "avgpool_resnet",
    "wide_resnet",
    "resnext29",
    "resnext50",
    "dense_resnet",
    "small_image_resnet",
)
_OURS = {"dense_resnet": dense_resnet, "small_image_resnet": small_image_resnet}
# Options that are numbers of something.
_COUNTS = ("filters", "num_blocks", "cardinality", "group_width")


@dataclass(frozen=True, eq=False)
class Initializer(Described):
    """How the kernels of all convolution and dense layers start.

    Attributes:
        kind: `"kaiming"` (normal, over the fan-out), `"normal"`, `"orthogonal"`, or a
            `keras.initializers.Initializer`, whose seed becomes that of the run.
        scale: Standard deviation of `"normal"`, gain of `"orthogonal"`; `None` for
            others.
    """

    kind: str | keras.initializers.Initializer = "kaiming"
    scale: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, keras.initializers.Initializer):
            choice("kind", self.kind, INITIALIZERS)
        if (self.scale is None) == (self.kind in ("normal", "orthogonal")):
            raise ValueError(
                '"normal" and "orthogonal" need a scale, others take none. '
                f"Received: kind={self.kind!r}, scale={self.scale!r}. Pass e.g. "
                'Initializer("normal", 1.0).'
            )
        if self.scale is not None:
            finite_number("scale", self.scale, "> 0", "Pass e.g. 1.0.")
        super().__post_init__()

    def _said(self) -> dict[str, Any]:
        if isinstance(self.kind, str):
            return super()._said()
        config = {**self.kind.get_config(), "seed": None}
        return {"kind": Recipe(type(self.kind), config).description("kind")}

    def __str__(self) -> str:
        if isinstance(self.kind, str):
            return self.kind if self.scale is None else f"{self.kind} {self.scale:g}"
        config = self.configuration()["kind"]["config"].items()
        options = ", ".join(f"{key}={value}" for key, value in config)
        return f"{type(self.kind).__name__}({options})"


@dataclass(frozen=True, eq=False)
class Network(Described):
    """Which network is trained. `None` leaves an option at the network's default.

    Attributes:
        kind: A function of `keras_lap.networks`, `"dense_resnet"` for points, or
            `"small_image_resnet"` for images of a few pixels; or a function
            of your own that is called as they are, `build(input_shape, num_classes, *,
            batch_norm, kernel_initializer, ...)`, and returns a `keras.Model`.
        filters: Its width.
        num_blocks: Residual blocks, or blocks of each stage.
        batch_norm: Whether it normalises.
        initializer: How its kernels start.
        cardinality: Groups of a ResNeXt's convolutions.
        group_width: Channels of one such group.
        like_the_paper: Whether it is the authors' network to the last padding; see
            `keras_lap.networks`.
        dropout: Rate of dropout, of a builder that takes it.
    """

    kind: str | Callable[..., keras.Model] = "resnet9"
    filters: int | None = None
    num_blocks: int | tuple[int, ...] | None = None
    batch_norm: bool = True
    initializer: Initializer = Initializer()
    cardinality: int | None = None
    group_width: int | None = None
    like_the_paper: bool | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.kind):
            choice("kind", self.kind, NETWORKS)
        if not isinstance(self.batch_norm, bool):
            raise ValueError(
                "batch_norm must be True or False. Received: "
                f"batch_norm={self.batch_norm!r}."
            )
        for name, value in self.options().items():
            several = value if isinstance(value, tuple) and value else (value,)
            for each in several if name in _COUNTS else ():
                whole_number(name, each, 1, "Use None for the network's default.")
        self._check_options()
        super().__post_init__()

    @property
    def build(self) -> Callable[..., Any]:
        """What builds the network."""
        if not isinstance(self.kind, str):
            return self.kind
        return _OURS.get(self.kind) or getattr(keras_lap.networks, self.kind)

    def options(self) -> dict[str, Any]:
        """What `build` is called with, beside shape, classes and initializer."""
        names = (*_COUNTS, "batch_norm", "like_the_paper", "dropout")
        options = {name: getattr(self, name) for name in names}
        return {name: value for name, value in options.items() if value is not None}

    def _check_options(self) -> None:
        """Refuses what the builder does not take, before anything is trained."""
        options, build = self.options(), self.build
        if self.kind == "resnet9":  # which hands on all options but one
            build = keras_lap.networks.one_representation_resnet
            options |= {} if self.num_blocks is None else {"num_blocks of resnet9": 9}
        try:
            signature = inspect.signature(build)
            signature.bind((), 1, kernel_initializer=None, **options)
        except TypeError as error:
            raise ValueError(
                "The builder of a network must take (input_shape, num_classes, *, "
                f"kernel_initializer, {', '.join(options)}). Received: "
                f"kind={self.kind!r}, which does not: {error}. Leave out what it does "
                "not take, or let your function take **options."
            ) from error
