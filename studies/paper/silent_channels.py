"""Short transport on training images, long for some test points: which, and why.

Table 1 in the authors' protocol, 300 epochs on 100 or 200 images of MNIST, and the good
start with a schedule on 1000 images of CIFAR-10, at several widths. In inference batch
normalisation divides by the variance that it has seen. Of a channel that is silent on
the training images that is next to nothing, and a test image that wakes it is carried
far. Measured: how far single test images go, whether those go far that are large once
normalised, and how far they go if no channel's variance is below a part of the median
of its layer: of three parts, validation images say which.

    python -m studies.paper.silent_channels
    python -m studies.paper.silent_channels --report
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_lap
from keras_lap.datasets import Dataset, Split
from studies.engine import Study, published, records
from studies.engine.building import load_data
from studies.engine.environment import describe
from studies.engine.methods import PLAIN
from studies.engine.statistics import scipy_stats
from studies.engine.tables import Table, paired_text, seeds_text
from studies.engine.training import fit, recorder_of
from studies.paper import good_starts, table1_mnist

NAME = "silent_channels.jsonl"
# Of the median of the variances of a layer: what is below is called silent. From the
# least on, as one network is raised to each in turn.
FLOORS = (1e-4, 1e-3, 1e-2)
_BATCH = 100
_NOTE = (
    "The cost of a test image is `Σ_k mean |v_k|²` over the blocks, in inference: the "
    "median of the images, that which one in ten exceeds, and the mean. A channel is "
    "silent where its variance is below a hundredth of the median of its layer; "
    "counted once for each layer. Least variance, median variance and silent channels "
    "of the state are those by which the second block divides: the first has no "
    "normalisation before its first convolution. The correlation is Spearman's, of "
    "the cost of an image with the greatest entry of what the second block has "
    "normalised. Then mean cost and accuracy with variances raised to a hundredth."
)
_NOTE_OF_CHANGES = (
    "After the training each variance below a part of the median of its layer, the "
    "floor, is raised to that. Networks that have such channels, and those in which a "
    "test image goes further on average than after plain training; the median over "
    "the networks of the mean cost, as they are and raised; test accuracy after the "
    "last epoch in points, as it changes by raising, and of least action less plain "
    "training, raised both, and as they are. Paired, with 95 % Student-t intervals "
    "over the seeds and p-values without a correction."
)
_NOTE_OF_FLOORS = (
    "Mean changes in points by raising variances to each floor, of all networks of "
    "least action alike. The default of `raise_variances` is the floor of the "
    "greatest change on validation images; of equal ones, the least floor."
)


def at_widths(study: Study, label: str, widths: Sequence[int]) -> Study:
    """One setting of a study, at several widths."""
    (found,) = study.only(label).settings
    settings = [
        dataclasses.replace(
            found,
            label=f"{label}, {filters} filters",
            network=dataclasses.replace(found.network, filters=filters),
        )
        for filters in widths
    ]
    return dataclasses.replace(study, settings=tuple(settings), one_by_one=True)


_TABLE_1, _GOOD = table1_mnist.PRESETS["gpu"], good_starts.PRESETS["small"]
STARTS = {
    "100 digits, bad start": at_widths(_TABLE_1, "100 images, normal 1", (8, 24, 64)),
    "200 digits, bad start": at_widths(_TABLE_1, "200 images, normal 1", (8, 24)),
    "100 digits, good start": at_widths(_TABLE_1, "100 images, normal 0.05", (8, 24)),
    "CIFAR-10, good start": at_widths(_GOOD, "1000 images", (8,)),
}


def normalisations(network: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Those of blocks and head, in order; the second is the first of a state."""
    kind = keras.layers.BatchNormalization
    return [layer for layer in network.layers if isinstance(layer, kind)]


def variance_of(layer: keras.layers.BatchNormalization) -> np.ndarray:
    """By which it divides in inference, `(channels,)`."""
    return np.array(keras.ops.convert_to_numpy(layer.moving_variance))


def point_costs(network: keras.Model, x: np.ndarray) -> np.ndarray:
    """The transport cost of each image, `(n,)`, in inference."""
    recorder = recorder_of(network)
    costs = np.zeros(len(x))
    for first in range(0, len(x), _BATCH):
        _, moved = recorder(x[first : first + _BATCH], training=False)
        for displacement in moved:
            values = keras.ops.convert_to_numpy(displacement).astype("float64")
            squares = np.square(values).reshape(len(values), -1)
            costs[first : first + len(values)] += squares.mean(axis=1)
    return costs


def accuracy(network: keras.Model, split: Split) -> float:
    """In percent."""
    logits = network.predict(split.x, batch_size=_BATCH, verbose=0)
    return 100 * float(np.mean(logits.argmax(axis=1) == split.y))


def measure(network: keras.Model, data: Dataset) -> dict[str, Any]:
    """How far test images go, and why; the network's variances are raised by it."""
    x, silent = data.test.x, normalisations(network)[1]
    inner = keras.Model(network.input, silent.output)
    normalised = np.abs(inner.predict(x, batch_size=_BATCH, verbose=0))
    greatest = normalised.reshape(len(x), -1).max(axis=1)
    costs, of_state = point_costs(network, x), variance_of(silent)
    found = {
        "median": np.median(costs),
        "one_in_ten": np.quantile(costs, 0.9),
        "mean": np.mean(costs),
        "accuracy": accuracy(network, data.test),
        "silent_of_state": (of_state < FLOORS[-1] * np.median(of_state)).sum(),
        "least_variance": of_state.min(),
        "median_variance": np.median(of_state),
        "correlation": scipy_stats().spearmanr(costs, greatest).statistic,
    }
    plain = {name: float(value) for name, value in found.items()}
    return {**plain, "raised": raised(network, data)}


def raised(network: keras.Model, data: Dataset) -> list[dict[str, float]]:
    """What raising to each floor brings; the network is left with the greatest."""
    if data.validation is None:
        raise ValueError("A floor is chosen on validation images. Received: none.")
    before, lines = accuracy(network, data.validation), []
    for floor in FLOORS:
        channels = sum(keras_lap.trajectory.raise_variances(network, floor).values())
        change = accuracy(network, data.validation) - before
        lines.append(
            {
                "floor": floor,
                "channels": channels,
                "mean": float(np.mean(point_costs(network, data.test.x))),
                "accuracy": accuracy(network, data.test),
                "validation_change": change,
            }
        )
    return lines


def run_all(path: Path, chosen: Sequence[str] = ()) -> None:
    """Adds to a result file what it lacks, of these starts or of all."""
    records.repair(path)
    keys = ("setting", "filters", "seed", "method")
    done = {tuple(line[key] for key in keys) for line in records.read(path)}
    for name in chosen or STARTS:
        for run in STARTS[name].runs():
            key = (name, run.network.filters, run.seed, str(run.method))
            if key in done:
                continue
            data = load_data(run.data, run.seed)
            network = fit(run, data)
            line = dict(zip(keys, key, strict=True))
            line |= {**measure(network, data), **describe()}
            records.append(path, line)


def table(lines: Sequence[records.Record]) -> Table:
    """A row for each network."""
    header = (
        *("setting", "filters", "method", "seed", "cost, median image", "one in ten"),
        *("mean", "accuracy", "silent channels", "of the state"),
        *("least variance", "median variance", "correlation"),
        *("mean, raised", "accuracy, raised"),
    )
    rows = []
    for _, part in _parts(lines):
        for line in sorted(part, key=lambda each: each["seed"]):
            most = line["raised"][-1]
            row = (
                *(line["setting"], str(line["filters"])),
                *(line["method"], str(line["seed"])),
                *(f"{line[name]:.3g}" for name in ("median", "one_in_ten", "mean")),
                f"{line['accuracy']:.1f}",
                *(f"{most['channels']:.0f}", f"{line['silent_of_state']:.0f}"),
                f"{line['least_variance']:.3g}",
                f"{line['median_variance']:.3g}",
                f"{line['correlation']:+.2f}",
                *(f"{most['mean']:.3g}", f"{most['accuracy']:.1f}"),
            )
            rows.append(row)
    return Table("Every network", header, tuple(rows), _NOTE)


def changes(lines: Sequence[records.Record]) -> Table:
    """Rows for each setting and width: what raising does to least action."""
    header = (
        *("setting", "filters", "seeds", "floor", "with such channels"),
        *("further than plain", "cost", "cost, raised", "change by raising"),
        *("least action − plain, raised", "as they are"),
    )
    rows = [
        (setting, str(filters), *row)
        for (setting, filters), part in _parts(lines)
        for row in _changes_of(part)
    ]
    title = "Channels silent in training, and variances raised after it"
    return Table(title, header, tuple(rows), _NOTE_OF_CHANGES)


def floors(lines: Sequence[records.Record]) -> Table:
    """A row for each floor: what it changes on validation and test images."""
    ours = [line for line in lines if line["method"] != PLAIN]
    rows = []
    for number, floor in enumerate(FLOORS):
        found = [(line, line["raised"][number]) for line in ours]
        seen = np.mean([each["validation_change"] for _, each in found])
        unseen = np.mean([each["accuracy"] - line["accuracy"] for line, each in found])
        row = (f"{floor:g}", str(len(found)), f"{seen:+.3f}", f"{unseen:+.3f}")
        rows.append(row)
    header = ("floor", "networks", "validation images", "test images")
    title = "Which part of the median"
    return Table(title, header, tuple(rows), _NOTE_OF_FLOORS)


def _parts(
    lines: Sequence[records.Record],
) -> Iterator[tuple[tuple[str, int], list[records.Record]]]:
    """The lines of each setting and width that there is, in order."""
    for setting in STARTS:
        here = [line for line in lines if line["setting"] == setting]
        for filters in sorted({line["filters"] for line in here}):
            part = [line for line in here if line["filters"] == filters]
            yield (setting, filters), part


def _changes_of(lines: Sequence[records.Record]) -> Iterator[tuple[str, ...]]:
    """A row for each floor, over the seeds that both methods have."""
    plain = {line["seed"]: line for line in lines if line["method"] == PLAIN}
    ours = {line["seed"]: line for line in lines if line["method"] != PLAIN}
    seeds = sorted(set(plain) & set(ours))

    def values(of: dict[int, records.Record], name: str) -> list[float]:
        return [of[seed][name] for seed in seeds]

    further = np.greater(values(ours, "mean"), values(plain, "mean"))
    before, alone = values(ours, "accuracy"), values(plain, "accuracy")
    for number, floor in enumerate(FLOORS):
        ours_raised = {seed: ours[seed]["raised"][number] for seed in seeds}
        plain_raised = {seed: plain[seed]["raised"][number] for seed in seeds}
        after = values(ours_raised, "accuracy")
        having = np.greater(values(ours_raised, "channels"), 0)
        yield (
            seeds_text(len(seeds), len(_TABLE_1.seeds)),
            f"{floor:g}",
            f"{having.sum()} of {len(seeds)}",
            f"{further.sum()} of {len(seeds)}",
            f"{np.median(values(ours, 'mean')):.3g}",
            f"{np.median(values(ours_raised, 'mean')):.3g}",
            paired_text(before, after),
            paired_text(values(plain_raised, "accuracy"), after),
            paired_text(alone, before),
        )


def write(path: Path) -> list[Path]:
    """Writes the table beside the result file, and returns where it is."""
    lines = published.lines_of(path)
    text = "\n".join(made(lines).markdown() for made in (changes, floors, table))
    return published.write_beside(path, {f"{path.stem}.md": text})


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study, or makes its report."""
    published.main(__doc__ or "", NAME, run_all, write, tuple(STARTS), arguments)


if __name__ == "__main__":
    main()
