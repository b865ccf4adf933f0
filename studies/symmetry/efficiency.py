"""What does the use of a symmetry give, and what does a wrong one cost?

Run from the root of the clone, ``python -m studies.symmetry.efficiency``; it goes on
where it was stopped. ``--settings`` names what is run, where not all;
``--report`` rebuilds the table from the committed results.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_lap.symmetry import (
    DataAugmentation,
    FeatureAveraging,
    FiniteGroup,
    FixedKernel,
    Images,
    Linear,
    cyclic,
    rotations,
    sign,
    symmetric,
)
from studies.engine import published, records
from studies.engine.environment import describe
from studies.engine.statistics import ENOUGH_SEEDS, mean_interval
from studies.engine.tables import Table
from studies.symmetry.data import Split, digits, field, mnist, sets

NAME = "symmetry-efficiency.jsonl"
SEEDS = range(10)
FIXED = "fixed units"
WAYS = (
    "averaged at test",
    "augmented",
    "augmented, averaged at test",
    "averaged",
    FIXED,
)
# What each training gives: its own score, and that of its average at test.
TRAININGS = {
    "plain": ("plain", "averaged at test"),
    "augmented": ("augmented", "augmented, averaged at test"),
    "averaged": ("averaged",),
    FIXED: (FIXED,),
}
STEPS = 400
_NOTE = (
    "Averaged at test: the plain network inside of FeatureAveraging. Augmented: "
    "trained on whole orbits by DataAugmentation. Averaged: trained through "
    "FeatureAveraging. Fixed units: weights of the first layer, or kernels of all "
    "convolutions, that the group leaves as they are; an odd field has none but 0. "
    f"Full batches, {STEPS} steps, the same data, initial weights "
    "and steps for all ways of one seed. Of digits, accuracy and its change in points; "
    "of functions, the mean squared error and the ratio to it, geometric means. 95 % "
    "Student-t intervals over paired seeds, not corrected for their number."
)


@dataclass(frozen=True)
class Setting:
    """Data, a group, how it acts, and the network.

    Attributes:
        label: What readers call it.
        size: Training samples.
        draw: From a size and seed to training and test data.
        group: The group that is used.
        inputs: How it acts on them.
        outputs: How it acts on targets.
        classes: Whether targets are labels.
        convolutions: Whether the network has them.
    """

    label: str
    size: int
    draw: Callable[[int, int], tuple[Split, Split]]
    group: FiniteGroup
    inputs: str = "vectors"
    outputs: str = "trivial"
    classes: bool = False
    convolutions: bool = False

    @property
    def name(self) -> str:
        """What its records say."""
        return f"{self.label}, {self.size}"

    @property
    def constraint(self) -> keras.constraints.Constraint:
        """Keeps units fixed by the group."""
        if self.convolutions:
            return FixedKernel(self.group)
        act = Images if self.inputs == "images" else Linear
        return FixedRows(act(self.group))


def _settings() -> tuple[Setting, ...]:
    """The few samples of each kind of data, images, and four times as many samples."""
    quarters = (rotations(4), "images", "trivial", True)
    odd, wrong = (sign(2), "vectors", "vectors"), (cyclic(2), "vectors", "vectors")
    turned, upright = (partial(digits, turned=each) for each in (True, False))
    few, many = (
        (
            Setting("digits turned by random quarters", digit_size, turned, *quarters),
            Setting("digits as they are, wrong group", digit_size, upright, *quarters),
            Setting("set of 4 numbers", set_size, sets, symmetric(4)),
            Setting("odd field", field_size, field, *odd),
            Setting("odd field, wrong group", field_size, field, *wrong),
        )
        for digit_size, set_size, field_size in ((100, 50, 30), (400, 200, 100))
    )
    turned, upright = (partial(mnist, turned=each) for each in (True, False))
    name = "MNIST {}, convolutions"
    images = (
        Setting(name.format("turned by random quarters"), 100, turned, *quarters, True),
        Setting(name.format("as it is, wrong group"), 100, upright, *quarters, True),
    )
    return (*few, *images, *many)


SETTINGS = _settings()


class FixedRows(keras.constraints.Constraint):
    """Projects the weights of a dense layer on those that a group leaves as they are.

    Args:
        action: How the group acts on inputs of the network, which the layer sees in one
            row each.
    """

    def __init__(self, action: Images | Linear):
        self.action = action

    def __call__(self, w: Any) -> Any:
        """The projected weights, `(inputs, units)` as they were."""
        inputs, units = w.shape
        shape: tuple[int, ...] = (inputs,)
        if isinstance(self.action, Images):
            side = math.isqrt(inputs)
            shape = (side, side, 1)
        each = ops.reshape(ops.transpose(ops.convert_to_tensor(w)), (units, *shape))
        fixed = ops.mean(self.action.orbit(each), axis=0)
        return ops.transpose(ops.reshape(fixed, (units, inputs)))


class Repeated(keras.utils.PyDataset):
    """The same batch, step for step."""

    def __init__(self, *batch: Any):
        super().__init__()
        self.batch = batch

    def __len__(self) -> int:
        """How many steps."""
        return STEPS

    def __getitem__(self, index: int) -> Any:
        """The batch."""
        return self.batch


def build(
    setting: Setting, shape: tuple[int, ...], outputs: int, fixed: bool = False
) -> keras.Model:
    """The network of a setting.

    Args:
        setting: Which.
        shape: Of one input.
        outputs: How many numbers it returns.
        fixed: Whether the group leaves its units as they are, from the start.
    """
    if setting.convolutions:
        held = [layers.Conv2D(n, 3, padding="same", activation="relu") for n in (8, 16)]
        first, second = held
        every = [first, layers.MaxPooling2D(2), second, layers.GlobalAveragePooling2D()]
    else:
        sizes, activation = ((64, 64), "relu") if setting.classes else ((64,), "tanh")
        hidden = [layers.Dense(size, activation) for size in sizes]
        held, every = hidden[:1], [layers.Flatten(), *hidden]
    network = keras.Sequential([keras.Input(shape), *every, layers.Dense(outputs)])
    for layer in held if fixed else ():
        layer.kernel.constraint = setting.constraint
        layer.kernel.assign(setting.constraint(layer.kernel))
    return network


def run(
    setting: Setting, seed: int, trainings: Iterable[str] = TRAININGS
) -> dict[str, float]:
    """Trains and tests with one seed.

    Args:
        setting: What.
        seed: Of data, initial weights and test data.
        trainings: Which of `TRAININGS`.

    Returns:
        The accuracy in percent, or the mean squared error, by way.
    """
    train, test = setting.draw(setting.size, seed)
    outputs = 10 if setting.classes else train[1].shape[1]
    how = (setting.group, setting.inputs, setting.outputs)
    wraps: dict[str, Any] = {
        "augmented": DataAugmentation,
        "averaged": FeatureAveraging,
    }
    found = {}
    for name in trainings:
        keras.utils.set_random_seed(seed)
        network = build(setting, train[0].shape[1:], outputs, name == FIXED)
        model = wraps[name](network, *how) if name in wraps else network
        optimizer: Any = keras.optimizers.Adam(1e-2)
        loss: Any = "mse"
        if setting.classes:
            optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss=loss)
        model.fit(Repeated(*train), verbose=0)
        own, *averaged = TRAININGS[name]
        found[own] = score(setting, model, test)
        for way in averaged:
            found[way] = score(setting, FeatureAveraging(network, *how), test)
    return found


def score(setting: Setting, model: keras.Model, test: Split) -> float:
    """Accuracy in percent, or mean squared error."""
    returned = model.predict(test[0], batch_size=2000, verbose=0)
    if setting.classes:
        return float(100 * np.mean(returned.argmax(1) == test[1]))
    return float(np.mean((returned - test[1]) ** 2))


def scores_of(
    setting: Setting, found: Iterable[records.Record]
) -> dict[int, dict[str, float]]:
    """By seed, all that records say of a setting."""
    scores: dict[int, dict[str, float]] = {}
    for each in found:
        if each["setting"] == setting.name:
            scores.setdefault(each["seed"], {}).update(each["scores"])
    return scores


def table(found: Sequence[records.Record]) -> Table:
    """The table of the results."""
    rows = []
    for setting in SETTINGS:
        scores = list(scores_of(setting, found).values())
        if not scores:
            continue
        plain = np.array([each["plain"] for each in scores])
        cells = [f"{plain.mean():.1f} %" if setting.classes else f"{_mean(plain):.2g}"]
        for way in WAYS:
            known = [each for each in scores if way in each]
            before, after = (
                np.array([each[k] for each in known]) for k in ("plain", way)
            )
            cells.append(
                _change(before, after, setting.classes) if known else "not run"
            )
        count = str(len(scores))
        if len(scores) < ENOUGH_SEEDS:
            count += ": too few to conclude"
        rows.append((setting.name, setting.group.name, count, *cells))
    header = ("data, training samples", "group", "seeds", "plain", *WAYS)
    return Table("What the use of a symmetry gives", header, tuple(rows), _NOTE)


def _mean(values: np.ndarray) -> float:
    return float(np.exp(np.log(values).mean()))


def _change(plain: np.ndarray, values: np.ndarray, points: bool) -> str:
    differences = values - plain if points else np.log(values / plain)
    found = mean_interval([float(each) for each in differences])
    numbers = [found.mean, found.low, found.high]
    if points:
        mean, low, high = (f"{each:+.1f}" for each in numbers)
    else:
        mean, low, high = (f"{math.exp(each):.2f}" for each in numbers)
    return mean if len(plain) < 2 else f"{mean} [{low}, {high}]"


def run_all(path: Path, names: Sequence[str]) -> None:
    """Adds to a result file what it lacks of the settings named."""
    records.repair(path)
    settings = [each for each in SETTINGS if each.name in names]
    for setting, seed in itertools.product(settings, SEEDS):
        known = scores_of(setting, records.read(path)).get(seed, {})
        missing = [name for name, ways in TRAININGS.items() if ways[0] not in known]
        if missing:
            start = time.perf_counter()
            scores = run(setting, seed, missing)
            record = {"setting": setting.name, "seed": seed, "scores": scores}
            seconds = time.perf_counter() - start
            records.append(path, {**record, "seconds": seconds, **describe()})


def write(path: Path) -> list[Path]:
    """Writes the table beside the result file, and returns where it is."""
    text = table(published.lines_of(path)).markdown() + "\n"
    return published.write_beside(path, {f"{path.stem}.md": text})


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study, or makes its report."""
    names = [setting.name for setting in SETTINGS]
    published.main(__doc__ or "", NAME, run_all, write, names, arguments)


if __name__ == "__main__":
    main()
