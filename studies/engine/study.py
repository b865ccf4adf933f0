"""A study is data: what is trained on what, how, and with which seeds.

Nothing here trains. A `Study` lists its runs; each `Run` is complete in itself and has
a fingerprint, by which results are found again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_lap._checks import choice, finite_number, whole_number
from keras_lap.datasets import Dataset
from studies.engine.description import Described, Recipe
from studies.engine.methods import DROPOUT, SMOOTHING, WEIGHT_DECAY, Method
from studies.engine.networks import Network
from studies.engine.optimisation import SmoothedCrossEntropy

SCHEDULES = ("one cycle", "cosine")
# The classes of the data sets that can be named: of each, one example is the least.
CLASSES = {
    "mnist": 10,
    "fashion_mnist": 10,
    "cifar10": 10,
    "cifar100": 100,
    "digits": 10,
    "circles": 2,
    "moons": 2,
}


@dataclass(frozen=True, eq=False)
class Data(Described):
    """Which data a network is trained, chosen and reported on.

    The training and validation examples are drawn by the seed of a run. The test
    examples are the same in all runs.

    Attributes:
        name: A name that `keras_lap.datasets.load` knows, or a source of your own: a
            function from a seed to a `keras_lap.datasets.Dataset`, or one `Dataset`
            for all seeds. A source decides the sizes of training and validation.
        train_size: Training examples; `None` for all.
        validation_size: Validation examples; 0 where there is nothing to choose.
        test_size: Test examples, one fixed random sample; `None` for all.
        balanced: Whether training and validation examples are as many of each class,
            or drawn uniformly, as the authors draw them.
        pool: Images are averaged over squares of so many pixels; `None` leaves them.
    """

    name: str | Dataset | Callable[[int], Dataset]
    train_size: int | None = None
    validation_size: int = 0
    test_size: int | None = None
    balanced: bool = True
    pool: int | None = None
    _LATER = ("balanced",)

    def __post_init__(self) -> None:
        own = isinstance(self.name, Dataset) or callable(self.name)
        if not own and self.name not in CLASSES:
            raise ValueError(
                f"name must be one of {', '.join(CLASSES)}, a function from a seed to "
                "a keras_lap.datasets.Dataset, or a Dataset. Received: "
                f"name={self.name!r}. Pass such a function for data of your own."
            )
        told = self.train_size is not None or self.validation_size != 0
        if own and (told or not self.balanced):
            raise ValueError(
                "A source of your own decides the sizes of training and validation. "
                f"Received: train_size={self.train_size!r}, validation_size="
                f"{self.validation_size!r}, balanced={self.balanced!r}. Leave them out."
            )
        advice = "Sizes are numbers of examples."
        whole_number("validation_size", self.validation_size, 0, advice)
        least = 1 if own else CLASSES[str(self.name)]
        for argument, minimum in (("train_size", least), ("test_size", 1)):
            if (size := getattr(self, argument)) is not None:
                whole_number(argument, size, minimum, f"{advice} None takes all.")
        if self.pool is not None:
            whole_number("pool", self.pool, 1, "Use None for no averaging.")
        super().__post_init__()

    def __str__(self) -> str:
        """What readers call it."""
        return str(
            getattr(self.name, "name", getattr(self.name, "__name__", self.name))
        )


@dataclass(frozen=True, eq=False)
class Training(Described):
    """How a network is trained: by default, gradient descent on cross-entropy.

    Attributes:
        epochs: Passes over the training examples.
        batch_size: Examples of one step; the last batch of an epoch may be smaller.
        learning_rate: Its value at the start.
        momentum: Momentum of the optimizer.
        weight_decay: Keras's decoupled decay, which equals an L2 penalty of the same
            weight on the gradient where there is no momentum.
        drop_epochs: Epochs, counted from 0, at which the learning rate is divided by
            ten. With `coupled_decay` that acts at once, as in PyTorch; without, Keras's
            velocity keeps what it gathered at the old rate.
        clip_norm: Bound on the norm of the whole gradient; `None` for no bound.
        optimizer: A Keras optimizer of your own, or what makes one when it is called
            without arguments, instead of stochastic gradient descent by the
            values here. Every run begins with a new one of the same configuration.
        loss: A `keras.losses.Loss` of labels and logits, or a function of them; `None`
            for cross-entropy.
        coupled_decay: L2 decay through the momentum, as the authors' optimizer has it
            (`studies.engine.optimisation.CoupledSGD`), instead of `weight_decay`.
        schedule: `"one cycle"` (see `studies.engine.optimisation.OneCycle`) or
            `"cosine"`, from step to step; `None` for a constant rate with drops.
        crop_and_flip: Whether images are augmented, see `studies.engine.augmentation`.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float | None = None
    drop_epochs: tuple[int, ...] = ()
    clip_norm: float | None = None
    optimizer: Any = None
    loss: Any = None
    coupled_decay: float | None = None
    schedule: str | None = None
    crop_and_flip: bool = False
    _LATER = ("crop_and_flip",)

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_protocol()
        if self.optimizer is not None:
            object.__setattr__(self, "optimizer", self._own_optimizer())
        if self.loss is not None and not callable(self.loss):
            raise TypeError(
                "loss must be a keras.losses.Loss or a function of labels and logits. "
                f"Received: loss={self.loss!r}. Pass e.g. "
                "keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
            )
        super().__post_init__()

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        start = self.learning_rate
        if self.optimizer is not None:
            start = self.optimizer.config["learning_rate"]
        return start * 0.1 ** sum(epoch >= e for e in self.drop_epochs)

    def _check_numbers(self) -> None:
        whole_number("epochs", self.epochs, 1, "One epoch is the least.")
        whole_number("batch_size", self.batch_size, 1, "One example is the least.")
        finite_number("learning_rate", self.learning_rate, "> 0", "Pass e.g. 0.1.")
        momentum = finite_number("momentum", self.momentum, ">= 0", "0 is for none.")
        if momentum >= 1:
            raise ValueError(
                "momentum must be below 1, or old gradients never fade. Received: "
                f"momentum={self.momentum!r}. Pass e.g. 0.9."
            )
        if self.weight_decay is not None:
            advice = "Use None for no decay."
            finite_number("weight_decay", self.weight_decay, ">= 0", advice)
        if self.clip_norm is not None:
            finite_number("clip_norm", self.clip_norm, "> 0", "Use None for no bound.")
        for epoch in self.drop_epochs:
            if whole_number("drop_epochs", epoch, 0, _DROPS) > self.epochs:
                raise ValueError(
                    f"drop_epochs must lie between 0 and epochs={self.epochs}. "
                    f"Received: drop_epochs={self.drop_epochs!r}. {_DROPS}"
                )

    def _check_protocol(self) -> None:
        if self.coupled_decay is not None:
            advice = "Use None for no decay."
            finite_number("coupled_decay", self.coupled_decay, ">= 0", advice)
            if self.weight_decay is not None:
                raise ValueError(
                    "One decay at a time: coupled_decay goes through the momentum, "
                    f"weight_decay beside it. Received: {self.coupled_decay!r} and "
                    f"{self.weight_decay!r}. Leave one of them out."
                )
        if self.schedule is not None:
            choice("schedule", self.schedule, SCHEDULES)
            if self.drop_epochs:
                raise ValueError(
                    f"drop_epochs are for a constant rate. Received: {self.schedule!r} "
                    f"and drop_epochs={self.drop_epochs!r}. Leave one of them out."
                )

    def _own_optimizer(self) -> Recipe:
        """The user's optimizer, as what makes it anew for every run."""
        made, given = self.optimizer, vars(self)
        if callable(made):
            made = made()
        if isinstance(made, keras.optimizers.Optimizer):
            made = Recipe.of(made)
        if not isinstance(made, Recipe):
            raise TypeError(
                "optimizer must be a keras.optimizers.Optimizer, or make one when it "
                f"is called without arguments. Received: optimizer={self.optimizer!r}."
            )
        told = [name for name in _OF_SGD if given[name] != _DEFAULTS[name]]
        if told:
            raise ValueError(
                f"{', '.join(told)} belong to the optimizer that a study makes "
                f"itself. Received: optimizer={self.optimizer!r} beside them. Give "
                "them to the optimizer."
            )
        rate = made.config.get("learning_rate")
        if self.drop_epochs and not isinstance(rate, float):
            raise ValueError(
                "drop_epochs divide a learning rate that is one number. Received: "
                f"an optimizer with learning_rate={rate!r}. Leave drop_epochs out; a "
                "schedule decides the rate."
            )
        return made

    def _said(self) -> dict[str, Any]:
        said = super()._said()
        if self.optimizer is not None:
            said |= dict.fromkeys(_OF_SGD) | {
                "optimizer": self.optimizer.description("optimizer")
            }
        return said


_OF_SGD = (
    *("learning_rate", "momentum", "weight_decay", "clip_norm"),
    *("coupled_decay", "schedule"),
)
_DEFAULTS = {name: getattr(Training, name) for name in _OF_SGD}
_DROPS = "The first epoch is 0."


@dataclass(frozen=True, eq=False)
class Run(Described):
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

    def __post_init__(self) -> None:
        whole_number("seed", self.seed, 0, "Seeds draw the examples and weights.")
        _check_states(self.keep_states)
        super().__post_init__()


def regularised(
    network: Network, training: Training, method: Method
) -> tuple[Network, Training]:
    """Network and training as a rival changes them; others change nothing."""
    if method.kind == WEIGHT_DECAY:
        training = dataclasses.replace(training, coupled_decay=method.strength)
    if method.kind == DROPOUT:
        network = dataclasses.replace(network, dropout=method.strength)
    if method.kind == SMOOTHING:
        loss = SmoothedCrossEntropy(float(method.strength or 0))
        training = dataclasses.replace(training, loss=loss)
    return network, training


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

    def __post_init__(self) -> None:
        _not_empty("methods", self.methods)
        for method in self.methods:
            # What a rival cannot change is refused now.
            regularised(self.network, self.training, method)


@dataclass(frozen=True)
class Study:
    """Settings, each with several methods, all trained with the same seeds.

    Attributes:
        name: Short name, part of the names of its files.
        title: One line for readers.
        settings: What is compared.
        seeds: Seeds of the runs.
        keep_states: See `Run`; only the runs of the first seed keep them.
        one_by_one: Whether all seeds of a setting are run before the next setting:
            for settings in the order of their worth.

    Examples:
        >>> from studies.engine import Data, Network, Setting, Study, Training
        >>> from studies.engine import least_action, plain
        >>> study = Study(
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
    one_by_one: bool = False

    def __post_init__(self) -> None:
        _not_empty("settings", self.settings)
        _not_empty("seeds", self.seeds)
        _check_states(self.keep_states)
        for seed in self.seeds:
            whole_number("seeds", seed, 0, "Pass e.g. range(10).")
        labels = [setting.label for setting in self.settings]
        if len(set(labels)) < len(labels) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                "The labels of a study's settings, and its seeds, must differ from one "
                f"another. Received: labels={labels}, seeds={self.seeds}."
            )

    def only(self, *labels: str) -> Study:
        """The study of some of its settings alone, in the order that is given.

        Args:
            labels: Of the settings.

        Raises:
            ValueError: If a label is that of none of them.
        """
        found = {setting.label: setting for setting in self.settings}
        chosen = [found[choice("label", label, tuple(found))] for label in labels]
        return dataclasses.replace(self, settings=tuple(chosen))

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
        """All runs, seed by seed: stopped early, whole pairs are left.

        A run that several settings share comes once.
        """
        groups = [self.settings]
        if self.one_by_one:
            groups = [(setting,) for setting in self.settings]
        found = (
            self.run(setting, method, seed)
            for settings in groups
            for seed in self.seeds
            for setting in settings
            for method in setting.methods
        )
        yield from dict.fromkeys(found)


def _not_empty(argument: str, values: tuple[Any, ...]) -> None:
    if len(values) == 0:
        raise ValueError(
            f"{argument} must not be empty: nothing would be trained. Received: "
            f"{argument}={values!r}. Pass one at least."
        )


def _check_states(keep_states: int | None) -> None:
    if keep_states is not None:
        whole_number("keep_states", keep_states, 1, "Use None for none.")
