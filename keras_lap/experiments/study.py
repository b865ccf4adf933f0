"""A study is data: what is trained on what, how, and with which seeds.

Nothing here trains. A `Study` lists its runs; each `Run` is complete in itself and has
a fingerprint, by which results are found again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keras_lap._checks import choice

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
)
PLAIN, LEAST_ACTION, FIXED_WEIGHT = "plain", "least action", "fixed weight"


@dataclass(frozen=True)
class Initializer:
    """How the kernels of all convolution and dense layers start.

    Attributes:
        kind: `"kaiming"` (normal, over the fan-out), `"normal"` or `"orthogonal"`.
        scale: Standard deviation of `"normal"`, gain of `"orthogonal"`; `None` for
            `"kaiming"`.
    """

    kind: str = "kaiming"
    scale: float | None = None

    def __post_init__(self) -> None:
        choice("kind", self.kind, INITIALIZERS)
        if (self.scale is None) != (self.kind == "kaiming"):
            raise ValueError(
                '"normal" and "orthogonal" need a scale, "kaiming" takes none. '
                f"Received: kind={self.kind!r}, scale={self.scale!r}. Pass e.g. "
                'Initializer("normal", 1.0).'
            )

    def __str__(self) -> str:
        return self.kind if self.scale is None else f"{self.kind} {self.scale:g}"


@dataclass(frozen=True)
class Network:
    """Which network is trained. `None` leaves an option at the network's default.

    Attributes:
        kind: A function of `keras_lap.networks`, or `"dense_resnet"` for points.
        filters: Its width.
        num_blocks: Residual blocks, or blocks of each stage.
        batch_norm: Whether it normalises.
        initializer: How its kernels start.
        cardinality: Groups of a ResNeXt's convolutions.
        group_width: Channels of one such group.
    """

    kind: str = "resnet9"
    filters: int | None = None
    num_blocks: int | tuple[int, ...] | None = None
    batch_norm: bool = True
    initializer: Initializer = Initializer()
    cardinality: int | None = None
    group_width: int | None = None

    def __post_init__(self) -> None:
        choice("kind", self.kind, NETWORKS)


@dataclass(frozen=True)
class Data:
    """Which data a network is trained, chosen and reported on.

    The training and validation examples are drawn by the seed of a run. The test
    examples are the same in all runs.

    Attributes:
        name: A name that `keras_lap.datasets.load` knows.
        train_size: Training examples; `None` for all.
        validation_size: Validation examples; 0 where there is nothing to choose.
        test_size: Test examples, one fixed random sample; `None` for all.
    """

    name: str
    train_size: int | None = None
    validation_size: int = 0
    test_size: int | None = None


@dataclass(frozen=True)
class Training:
    """How a network is trained: stochastic gradient descent on cross-entropy.

    Attributes:
        epochs: Passes over the training examples.
        batch_size: Examples of one step; the last batch of an epoch may be smaller.
        learning_rate: Its value at the start.
        momentum: Momentum of the optimizer.
        weight_decay: Keras's decoupled decay, which equals an L2 penalty of the same
            weight on the gradient where there is no momentum.
        drop_epochs: Epochs, counted from 0, at which the learning rate is divided by
            ten.
        clip_norm: Bound on the norm of the whole gradient; `None` for no bound.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float | None = None
    drop_epochs: tuple[int, ...] = ()
    clip_norm: float | None = None

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return self.learning_rate * 0.1 ** sum(epoch >= e for e in self.drop_epochs)


@dataclass(frozen=True)
class Method:
    """Plain training, least action, or the energy at a constant weight.

    Made by `plain`, `least_action` and `fixed_weight`.

    Attributes:
        kind: `"plain"`, `"least action"` or `"fixed weight"`.
        initial_multiplier: λ_0; of a fixed weight, λ throughout.
        tau: Step τ of the ascent of λ.
        every: Optimizer steps s between two updates of λ.
        p: Exponent of the energy.
    """

    kind: str
    initial_multiplier: float | str | None = None
    tau: float | None = None
    every: int | None = None
    p: float | None = None

    def __post_init__(self) -> None:
        choice("kind", self.kind, (PLAIN, LEAST_ACTION, FIXED_WEIGHT))

    def __str__(self) -> str:
        if self.kind == PLAIN:
            return self.kind
        ascends = self.kind == LEAST_ACTION
        parts = [f"λ_0 = {_short(self.initial_multiplier)}"]
        if not ascends:
            parts = [f"λ = {_short(self.initial_multiplier)}"]
        if ascends and self.tau != 1:
            parts.append(f"τ = {_short(self.tau)}")
        if ascends and self.every != 5:
            parts.append(f"s = {self.every}")
        if self.p != 2:
            parts.append(f"p = {_short(self.p)}")
        return f"{self.kind}, {', '.join(parts)}"


def plain() -> Method:
    """The task loss alone."""
    return Method(PLAIN)


def least_action(
    initial_multiplier: float | str = 5.0,
    tau: float = 1.0,
    every: int = 5,
    p: float = 2.0,
) -> Method:
    """Energy over λ, and λ raised by τ times the task loss every `every` steps."""
    return Method(LEAST_ACTION, initial_multiplier, tau, every, p)


def fixed_weight(multiplier: float, p: float = 2.0) -> Method:
    """Energy over a λ that never moves."""
    return Method(FIXED_WEIGHT, multiplier, p=p)


@dataclass(frozen=True)
class Run:
    """One training: everything that decides its result but the machine.

    Attributes:
        network: What is trained.
        data: On which data.
        training: With which optimizer and schedule.
        method: By which method.
        seed: Draws the training examples, the initial weights and the batches.
        keep_states: Test points whose positions after every block are kept, for
            pictures of two-dimensional states; `None` for none.
    """

    network: Network
    data: Data
    training: Training
    method: Method
    seed: int
    keep_states: int | None = None

    def configuration(self) -> dict[str, Any]:
        """All of it as plain data.

        What is `None` says nothing and is left out, so that attributes added later
        leave the fingerprints of earlier results as they are.
        """
        return _without_none(dataclasses.asdict(self))

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that are the same for equal configurations."""
        text = json.dumps(self.configuration(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Setting:
    """One row of a study: a network, data and training, and the methods compared.

    Attributes:
        label: What tells it from the study's other settings; for readers only.
        network: What is trained.
        data: On which data.
        training: With which optimizer and schedule.
        methods: Methods that are compared, plain training first if it is among them.
        published: For each kind of method the figure of the paper's slides, as text.
    """

    label: str
    network: Network
    data: Data
    training: Training
    methods: tuple[Method, ...]
    published: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Study:
    """Settings, each with several methods, all trained with the same seeds.

    Attributes:
        name: Short name, part of the names of its files.
        title: One line for readers.
        settings: What is compared.
        seeds: Seeds of the runs.
        keep_states: See `Run`; only the runs of the first seed keep them.

    Examples:
        >>> study = keras_lap.experiments.Study(
        ...     name="first",
        ...     title="A first comparison",
        ...     settings=(
        ...         Setting(
        ...             "100 digits",
        ...             Network(filters=8),
        ...             Data("digits", train_size=100, validation_size=100),
        ...             Training(epochs=20, batch_size=50),
        ...             methods=(plain(), least_action(5.0)),
        ...         ),
        ...     ),
        ...     seeds=tuple(range(10)),
        ... )
    """

    name: str
    title: str
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    keep_states: int | None = None

    def __post_init__(self) -> None:
        labels = [setting.label for setting in self.settings]
        if len(set(labels)) < len(labels) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                "The labels of a study's settings, and its seeds, must differ from one "
                f"another. Received: labels={labels}, seeds={self.seeds}."
            )

    def run(self, setting: Setting, method: Method, seed: int) -> Run:
        """The run of one cell and seed."""
        return Run(
            setting.network,
            setting.data,
            setting.training,
            method,
            seed,
            self.keep_states if seed == self.seeds[0] else None,
        )

    def runs(self) -> Iterator[Run]:
        """All runs, seed by seed: stopped early, whole pairs are left."""
        for seed in self.seeds:
            for setting in self.settings:
                for method in setting.methods:
                    yield self.run(setting, method, seed)


def _short(number: float | str | None) -> str:
    return number if isinstance(number, str) else f"{number:g}"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return list(value) if isinstance(value, tuple) else value
