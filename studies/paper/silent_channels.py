"""Short transport on training images, long for some test points: which, and why.

Table 1 in the authors' protocol, 300 epochs on 100 or 200 images of MNIST, and the good
start with a schedule on 1000 images of CIFAR-10, at several widths. In inference batch
normalisation divides by the variance that it has seen. Of a channel that is silent on
the training images that is next to nothing, and a test image that wakes it is carried
far. Measured: how far single test images go, whether those go far that are large once
normalised, and how far they go if no channel's variance is below a hundredth of the
median of its layer.

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
from studies.engine import Study, published, records
from studies.engine.building import load_data
from studies.engine.environment import describe
from studies.engine.methods import PLAIN
from studies.engine.statistics import scipy_stats
from studies.engine.tables import Table, paired_text, seeds_text
from studies.engine.training import fit, recorder_of
from studies.paper import good_starts, table1_mnist

NAME = "silent_channels.jsonl"
# Of the median of the variances of a layer: what is below is called silent.
FLOOR = 0.01
_BATCH = 100
_NOTE = (
    "The cost of a test image is `Σ_k mean |v_k|²` over the blocks, in inference, of "
    "1000 images: the median, that which one in ten exceeds, and the mean; then the "
    "mean, and the test accuracy in percent, after every variance of every "
    "normalisation was raised to a hundredth of the median of its layer; a channel "
    "below that is called silent, once for each layer. Variances are those "
    "of the state, by which the second block divides: the first has no normalisation "
    "before its first convolution. The correlation is Spearman's, of the cost of an "
    "image with the greatest entry of what the second block has normalised."
)
_NOTE_OF_CHANGES = (
    "Networks in which a test image goes further on average than after plain training; "
    "the median over the networks of the mean cost, as they are and with variances "
    "raised; test accuracy after the last epoch in points, as it changes by raising "
    "them, and of least action less plain training, before and after. Paired, with "
    "95 % Student-t intervals over the seeds and p-values without a correction."
)


def at_widths(study: Study, label: str, widths: Sequence[int]) -> Study:
    """One setting of a study, at several widths."""
    (found,) = [each for each in study.settings if each.label == label]
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


def measure(network: keras.Model, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """How far test images go, and why; the network's variances are raised by it."""

    def accuracy() -> float:
        logits = network.predict(x, batch_size=_BATCH, verbose=0)
        return 100 * float(np.mean(logits.argmax(axis=1) == y))

    layers = normalisations(network)
    inner = keras.Model(network.input, layers[1].output)
    normalised = np.abs(inner.predict(x, batch_size=_BATCH, verbose=0))
    greatest = normalised.reshape(len(x), -1).max(axis=1)
    costs, of_state = point_costs(network, x), variance_of(layers[1])
    accuracy_as_it_is = accuracy()
    raised = keras_lap.trajectory.raise_variances(network, FLOOR)
    found = {
        "median": np.median(costs),
        "one_in_ten": np.quantile(costs, 0.9),
        "mean": np.mean(costs),
        "mean_raised": np.mean(point_costs(network, x)),
        "accuracy": accuracy_as_it_is,
        "accuracy_raised": accuracy(),
        "silent": sum(raised.values()),
        "silent_of_state": (of_state < FLOOR * np.median(of_state)).sum(),
        "least_variance": of_state.min(),
        "median_variance": np.median(of_state),
        "correlation": scipy_stats().spearmanr(costs, greatest).statistic,
    }
    return {name: float(value) for name, value in found.items()}


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
            line |= {**measure(network, *data.test), **describe()}
            records.append(path, line)


def table(lines: Sequence[records.Record]) -> Table:
    """A row for each network."""
    header = (
        *("setting", "filters", "method", "seed", "cost, median image", "one in ten"),
        *("mean", "mean, variances raised", "accuracy", "accuracy, raised"),
        *("silent channels", "of the state"),
        *("least variance", "median variance", "correlation"),
    )
    rows = [
        (
            *(line["setting"], str(line["filters"]), line["method"], str(line["seed"])),
            *(f"{line[name]:.3g}" for name in ("median", "one_in_ten", "mean")),
            f"{line['mean_raised']:.3g}",
            *(f"{line[name]:.1f}" for name in ("accuracy", "accuracy_raised")),
            *(f"{line[name]:.0f}" for name in ("silent", "silent_of_state")),
            *(f"{line[name]:.3g}" for name in ("least_variance", "median_variance")),
            f"{line['correlation']:+.2f}",
        )
        for _, part in _parts(lines)
        for line in sorted(part, key=lambda each: each["seed"])
    ]
    return Table("Every network", header, tuple(rows), _NOTE)


def changes(lines: Sequence[records.Record]) -> Table:
    """A row for each setting and width: what raising does to least action."""
    header = (
        *("setting", "filters", "seeds", "further than plain", "cost", "cost, raised"),
        *("change by raising", "least action − plain", "the same, raised"),
        "change of plain by raising",
    )
    rows = [
        (setting, str(filters), *_change_of(part))
        for (setting, filters), part in _parts(lines)
    ]
    title = "Channels silent in training, and variances raised after it"
    return Table(title, header, tuple(rows), _NOTE_OF_CHANGES)


def _parts(
    lines: Sequence[records.Record],
) -> Iterator[tuple[tuple[str, int], list[records.Record]]]:
    """The lines of each setting and width that there is, in order."""
    for setting in STARTS:
        here = [line for line in lines if line["setting"] == setting]
        for filters in sorted({line["filters"] for line in here}):
            part = [line for line in here if line["filters"] == filters]
            yield (setting, filters), part


def _change_of(lines: Sequence[records.Record]) -> tuple[str, ...]:
    """Of one setting and width, over the seeds that both methods have."""
    plain = {line["seed"]: line for line in lines if line["method"] == PLAIN}
    ours = {line["seed"]: line for line in lines if line["method"] != PLAIN}
    seeds = sorted(set(plain) & set(ours))

    def values(of: dict[int, records.Record], name: str) -> list[float]:
        return [of[seed][name] for seed in seeds]

    further = np.greater(values(ours, "mean"), values(plain, "mean"))
    before, after = values(ours, "accuracy"), values(ours, "accuracy_raised")
    alone, raised = values(plain, "accuracy"), values(plain, "accuracy_raised")
    return (
        seeds_text(len(seeds), len(_TABLE_1.seeds)),
        f"{further.sum()} of {len(seeds)}",
        f"{np.median(values(ours, 'mean')):.3g}",
        f"{np.median(values(ours, 'mean_raised')):.3g}",
        paired_text(before, after),
        paired_text(alone, before),
        paired_text(raised, after),
        paired_text(alone, raised),
    )


def write(path: Path) -> list[Path]:
    """Writes the table beside the result file, and returns where it is."""
    lines = published.lines_of(path)
    text = "\n".join(made(lines).markdown() for made in (changes, table))
    return published.write_beside(path, {f"{path.stem}.md": text})


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study, or makes its report."""
    published.main(__doc__ or "", NAME, run_all, write, tuple(STARTS), arguments)


if __name__ == "__main__":
    main()
