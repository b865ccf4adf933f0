"""What does the use of a symmetry give, and what does a wrong one cost?

Run from the root of the clone, ``python -m studies.symmetry.efficiency``; it goes on
where it was stopped. ``--report`` rebuilds the table from the committed results.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_lap.symmetry import (
    DataAugmentation,
    FeatureAveraging,
    FiniteGroup,
    cyclic,
    rotations,
    sign,
    symmetric,
)
from studies.engine import records
from studies.engine.command_line import FRESH
from studies.engine.environment import describe
from studies.engine.statistics import ENOUGH_SEEDS, mean_interval
from studies.engine.tables import Table

COMMITTED = Path(__file__).parents[1] / "results"
WAYS = ("averaged at test", "augmented", "augmented, averaged at test", "averaged")
STEPS = 400
_NOTE = (
    "Averaged at test: the plain network inside of FeatureAveraging. Augmented: "
    "trained on whole orbits by DataAugmentation. Averaged: trained through "
    f"FeatureAveraging. Full batches, {STEPS} steps, the same data, initial weights "
    "and steps for all ways of one seed. Of digits, accuracy and its change in points; "
    "of functions, the mean squared error and the ratio to it, geometric means. 95 % "
    "Student-t intervals over paired seeds, not corrected for their number."
)
Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """Data, a group, and how it acts.

    Attributes:
        label: What readers call it.
        size: Training samples.
        draw: From a size and seed to training and test data.
        group: The group that is used.
        inputs: How it acts on them.
        outputs: How it acts on targets.
        classes: Whether targets are labels.
    """

    label: str
    size: int
    draw: Callable[[int, int], tuple[Split, Split]]
    group: FiniteGroup
    inputs: str = "vectors"
    outputs: str = "trivial"
    classes: bool = False


def digits(size: int, seed: int, turned: bool) -> tuple[Split, Split]:
    """Scikit-learn's digits as they are, or each turned by a random quarter."""
    from sklearn.datasets import load_digits

    data = load_digits()
    rng = np.random.default_rng(seed)
    images = (data.images / 16).astype("float32")[..., None]
    order, turns = rng.permutation(len(images)), rng.integers(0, 4, len(images))
    if turned:
        pairs = zip(images, turns, strict=True)
        images = np.stack([np.rot90(image, k) for image, k in pairs])
    train, test = order[:size], order[1000:]
    return (images[train], data.target[train]), (images[test], data.target[test])


def upright(size: int, seed: int) -> tuple[Split, Split]:
    """Digits as they are."""
    return digits(size, seed, turned=False)


def turned(size: int, seed: int) -> tuple[Split, Split]:
    """Digits turned by random quarters."""
    return digits(size, seed, turned=True)


def sets(size: int, seed: int) -> tuple[Split, Split]:
    """A function of four numbers that does not know their order."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size + 2000, 4)).astype("float32")
    y = np.max(x, 1, keepdims=True) + np.sin(x).prod(1, keepdims=True)
    return (x[:size], y[:size]), (x[size:], y[size:])


def field(size: int, seed: int) -> tuple[Split, Split]:
    """An odd field of forces in the plane; only in part does it know no order."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size + 2000, 2)).astype("float32")
    first, second = x.T
    y = np.stack([-first + np.sin(2 * second), -second - 0.5 * first**3], 1)
    return (x[:size], y[:size]), (x[size:], y[size:])


def _presets() -> dict[str, tuple[Setting, ...]]:
    """The few samples of each kind of data, and four times as many."""
    quarters = rotations(4), "images", "trivial", True
    odd, wrong = (sign(2), "vectors", "vectors"), (cyclic(2), "vectors", "vectors")
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
    return {"small": few, "full": few + many}


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


def build(setting: Setting, shape: tuple[int, ...], outputs: int) -> keras.Model:
    """The network of a setting."""
    sizes, activation = ((64, 64), "relu") if setting.classes else ((64,), "tanh")
    hidden = [layers.Dense(size, activation) for size in sizes]
    every = [keras.Input(shape), layers.Flatten(), *hidden, layers.Dense(outputs)]
    return keras.Sequential(every)


def run(setting: Setting, seed: int) -> dict[str, float]:
    """Trains and tests every way with one seed.

    Returns:
        The accuracy in percent, or the mean squared error, by way.
    """
    train, test = setting.draw(setting.size, seed)
    outputs = 10 if setting.classes else train[1].shape[1]
    how = (setting.group, setting.inputs, setting.outputs)
    found = {}
    for name, wrap in {
        "plain": None,
        "augmented": DataAugmentation,
        "averaged": FeatureAveraging,
    }.items():
        keras.utils.set_random_seed(seed)
        network = build(setting, train[0].shape[1:], outputs)
        model = network if wrap is None else wrap(network, *how)
        optimizer: Any = keras.optimizers.Adam(1e-2)
        loss: Any = "mse"
        if setting.classes:
            optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss=loss)
        model.fit(Repeated(*train), verbose=0)
        found[name] = score(setting, model, test)
        if name != "averaged":
            after = {"plain": "", "augmented": "augmented, "}[name]
            averaged = FeatureAveraging(network, *how)
            found[f"{after}averaged at test"] = score(setting, averaged, test)
    return found


def score(setting: Setting, model: keras.Model, test: Split) -> float:
    """Accuracy in percent, or mean squared error."""
    returned = model.predict(test[0], batch_size=2000, verbose=0)
    if setting.classes:
        return float(100 * np.mean(returned.argmax(1) == test[1]))
    return float(np.mean((returned - test[1]) ** 2))


def table(settings: tuple[Setting, ...], found: list[records.Record]) -> Table:
    """The table of the results."""
    rows = []
    for setting in settings:
        label = f"{setting.label}, {setting.size}"
        scores = [each["scores"] for each in found if each["setting"] == label]
        if not scores:
            continue
        plain = np.array([each["plain"] for each in scores])
        cells = [f"{plain.mean():.1f} %" if setting.classes else f"{_mean(plain):.2g}"]
        for way in WAYS:
            values = np.array([each[way] for each in scores])
            cells.append(_change(plain, values, setting.classes))
        count = str(len(scores))
        if len(scores) < ENOUGH_SEEDS:
            count += ": too few to conclude"
        rows.append((label, setting.group.name, count, *cells))
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


def main(arguments: list[str] | None = None) -> None:
    """Runs the study, or makes its report."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--report", action="store_true", help="only make the table")
    where = f"of the results, where not {FRESH}, or of a report {COMMITTED.name}"
    add("--results", type=Path, metavar="FOLDER", help=where)
    presets = sorted(_presets())
    add("--preset", choices=presets, default="small", help="how much is run")
    add("--seeds", type=int, default=10, help="trainings of each kind")
    options = parser.parse_args(arguments)
    folder = options.results or (COMMITTED if options.report else FRESH)
    settings = _presets()[options.preset]
    path = folder / f"symmetry-{options.preset}.jsonl"
    if not options.report:
        records.repair(path)
        done = {(each["setting"], each["seed"]) for each in records.read(path)}
        for setting, seed in itertools.product(settings, range(options.seeds)):
            label = f"{setting.label}, {setting.size}"
            if (label, seed) not in done:
                start = time.perf_counter()
                record = {"setting": label, "seed": seed, "scores": run(setting, seed)}
                seconds = time.perf_counter() - start
                records.append(path, {**record, "seconds": seconds, **describe()})
    made = table(settings, records.read(path))
    path.with_suffix(".md").write_text(made.markdown() + "\n", encoding="utf-8")
    print(path.with_suffix(".md"))


if __name__ == "__main__":
    main()
