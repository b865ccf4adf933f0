"""`compare`: trained networks side by side on the same data, with their differences."""

from __future__ import annotations

import contextlib
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np

from keras_lap._checks import finite_number, whole_number
from keras_lap._drawing import (
    colors_of,
    counted,
    few,
    grid,
    html_table,
    label,
    marker,
    short,
    text_table,
)
from keras_lap._extras import require
from keras_lap.blocks import BlockReport, find_residual_blocks
from keras_lap.depth import Scores, analyze
from keras_lap.training import LeastActionModel
from keras_lap.transport import each_sample

_COST, _RELATIVE = "transport_cost", "relative_displacement"
_NEEDED, _TOLERANCE = "layers_needed", 0.01


@dataclass(frozen=True)
class Difference:
    """The paired difference of a number from that of the first name.

    Attributes:
        name: Whose number it is.
        number: Which one.
        mean: The mean difference.
        low: Lower end of its 95 % t-interval; None where there is none.
        high: Upper end; likewise.
    """

    name: str
    number: str
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Networks side by side; made by `compare`.

    `str(comparison)` is a readable table.

    Attributes:
        runs: For each name the numbers of each of its models, in order.
        differences: Of each name but the first, from the first.
        paired_over: `"seeds"` if each name has several models, whose spread the
            intervals are of; else `"samples"`: they are of the data alone, and say
            nothing about another training.
        p: Exponent of the transport cost.
        num_samples: Samples of the data.
        blocks: Of each name's first model, which blocks count: their places among those
            that a search finds, from 1, or the name of one that it does not.
    """

    runs: dict[str, list[dict[str, float]]]
    differences: list[Difference] = field(repr=False)
    paired_over: str
    p: float
    num_samples: int
    blocks: dict[str, list[int | str]] = field(repr=False)

    @property
    def numbers(self) -> list[str]:
        """Names of what is compared."""
        return list(next(iter(self.runs.values()))[0])

    def mean(self, name: str, number: str) -> float:
        """The mean of a number over the models of a name.

        Args:
            name: A name of `runs`.
            number: One of `numbers`.
        """
        return float(np.mean([run[number] for run in self.runs[name]]))

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain data.

        Returns:
            `{"p", "num_samples", "paired_over", "blocks": {name: [place]}, "runs":
            {name: [{number: value}]}, "differences": [{"name", "number", "mean",
            "low", "high"}]}`.
        """
        return {
            "p": self.p,
            "num_samples": self.num_samples,
            "paired_over": self.paired_over,
            "blocks": self.blocks,
            "runs": {name: [dict(run) for run in of] for name, of in self.runs.items()},
            "differences": [asdict(difference) for difference in self.differences],
        }

    def plot(self) -> Any:
        """Draws every number of every model.

        Returns:
            A `matplotlib.figure.Figure` with a panel for each number: a point for each
            model, joined where they are paired.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        figure, axes = grid(len(self.numbers), size=(2.6, 2.8))
        names = list(self.runs)
        for axis, number in zip(axes, self.numbers, strict=True):
            rows = [[run[number] for run in self.runs[name]] for name in names]
            axis.plot(range(len(names)), rows, color="0.8", lw=0.8, zorder=1)
            for at, (row, own) in enumerate(zip(rows, colors_of(names), strict=True)):
                style = {"color": own, "marker": marker(at), "zorder": 2}
                axis.scatter([at] * len(row), row, **style)
            axis.set_xticks(range(len(names)), map(label, names))
            axis.set_xlim(-0.5, len(names) - 0.5)
            axis.set_title(label(number.replace("_", " ")), fontsize=9)
            values = np.array(rows)
            if number == _COST and values.min() > 0:
                axis.set_yscale("log")
        return figure

    @property
    def summary(self) -> str:
        """One line: what is compared, on what."""
        models = counted(len(next(iter(self.runs.values()))), "model")
        return (
            f"{', '.join(self.runs)}: {models} each, "
            f"{counted(self.num_samples, 'sample')}"
        )

    def __repr__(self) -> str:
        return f"<{self.summary}>"

    def __str__(self) -> str:
        head, *rows = self._table()
        table = text_table(head, rows, align=">")
        return "\n".join([self.summary, "", *table, "", self._caption])

    def _repr_html_(self) -> str:
        first, last = (html.escape(text) for text in (self.summary, self._caption))
        return f"<p>{first}</p>{html_table(self._table())}<p>{last}</p>"

    @property
    def _caption(self) -> str:
        alone = "; they say nothing about another training"
        lines = [
            "  differences: paired, with 95 % t-intervals over the "
            f"{self.paired_over}{alone if self.paired_over == 'samples' else ''}",
            f"  {_COST}: sum over the blocks of mean |v|^{self.p:g} per element, as in "
            f"inference; {_RELATIVE}: mean ‖v‖/‖x‖",
        ]
        if _NEEDED in self.numbers:
            lines.append(
                f"  {_NEEDED}: the fewest blocks from which on every cut is within "
                f"{100 * _TOLERANCE:g} %, by depth.analyze"
            )
        if len(set(map(str, self.blocks.values()))) > 1:
            which = (f"{name}: {_spelled(of)}" for name, of in self.blocks.items())
            lines.append(f"  costs are not of the same blocks; {'; '.join(which)}")
        return "\n".join(lines)

    def _table(self) -> list[list[str]]:
        first, *others = self.runs
        head = ["", *self.runs, *(f"{name} − {first}" for name in others)]
        rows = [head]
        for number in self.numbers:
            found = [each for each in self.differences if each.number == number]
            means = [short(self.mean(name, number)) for name in self.runs]
            rows.append([number, *means, *map(_words, found)])
        return rows


def compare(
    models: Mapping[str, keras.Model | Sequence[keras.Model]],
    data: tuple[Any, Any],
    *,
    p: float | None = None,
    batch_size: int = 32,
) -> Comparison:
    """Puts trained networks side by side on the same data, in one call.

    Args:
        models: Compiled and trained models by their names, the one to compare with
            first; or lists of them, one for each seed, in the same order for every
            name.
        data: ``(x, y)``, arrays of shape `(n, ...)`, or structures of them, as the
            models take them.
        p: Exponent of the transport cost, the same for all. Defaults to that of the
            first `LeastActionModel` with such an energy, or 2.
        batch_size: Samples of a batch. Defaults to 32.

    Returns:
        A `Comparison` of loss, metrics, transport cost and relative displacement, and
        of how many layers each model needs if `keras_lap.depth.analyze` can read them
        all. It says so if other blocks count in one than in another, as by `blocks=`
        of a `LeastActionModel`. The differences are paired: with several models for
        each name over the seeds, else over the samples of the data; a number that has
        no value for each sample then has no interval.

    Raises:
        ImportError: If SciPy is not installed.
        TypeError: If an argument has the wrong type.
        ValueError: If a name has no model or another number of models than the first,
            a model is not compiled or has no residual block, two of them have other
            metrics, or an argument is outside the values above.

    Examples:
        >>> plain = keras.models.clone_model(network)
        >>> plain.compile("sgd", loss=model.loss)
        >>> found = keras_lap.compare({"plain": plain, "least action": model}, (x, y))
        >>> print(found)
    """
    groups = _checked(models)
    if not isinstance(data, list | tuple) or len(data) != 2:
        raise TypeError(
            "data must be a pair (x, y) of arrays. Received: a "
            f"{type(data).__name__}. Pass e.g. (x_test, y_test)."
        )
    p = _exponent(groups) if p is None else finite_number("p", p, "> 1", "Use 2.")
    batch_size = whole_number("batch_size", batch_size, 1, "Use e.g. 32.")
    require("scipy.stats", "SciPy", "plots", "compare()")
    read = {
        name: [_read(model, data, p, batch_size) for model in group]
        for name, group in groups.items()
    }
    runs = {name: [numbers for numbers, _ in each] for name, each in read.items()}
    _leave_out_what_some_lack(runs)
    _check_alike(runs)
    over = "seeds" if len(next(iter(runs.values()))) > 1 else "samples"
    first, *others = read
    differences = [
        _difference(name, number, read[first], read[name])
        for name in others
        for number in runs[first][0]
    ]
    count = len(read[first][0][1][_COST])
    blocks = {name: _places(group[0]) for name, group in groups.items()}
    return Comparison(runs, differences, over, p, count, blocks)


_Read = tuple[dict[str, float], dict[str, np.ndarray]]


def _read(
    model: keras.Model, data: tuple[Any, Any], p: float, batch_size: int
) -> _Read:
    """The numbers of a model, and those that every sample has."""
    x, y = data
    numbers = model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)
    numbers = {name: float(value) for name, value in numbers.items()}
    numbers.pop("task_loss", None)
    costs, relative = each_sample(model, x, p=p, batch_size=batch_size)
    known = ~np.isnan(relative)
    numbers[_COST] = float(np.mean(costs))
    numbers[_RELATIVE] = float(np.mean(relative[known])) if known.any() else math.nan
    samples = {_COST: costs, _RELATIVE: relative}
    # Blocks that cannot be left out, or targets without a loss of each sample.
    with contextlib.suppress(TypeError, ValueError):
        options: dict[str, Any] = {"batch_size": batch_size, "verbose": 0}
        found = analyze(model, x, y, tolerance=_TOLERANCE, **options)
        numbers[_NEEDED] = float(found.layers_needed)
    # Several losses, or targets of an unknown kind, are not taken apart.
    with contextlib.suppress(TypeError, ValueError):
        scores = Scores(model)
        outputs = [model.predict(x, batch_size=batch_size, verbose=0)]
        targets = np.asarray(y)
        losses = scores.losses(targets, outputs)[0]
        samples["loss"] = losses.reshape(len(losses), -1).mean(axis=1)
        hits = scores.hits(targets, outputs)
        if hits is not None:
            right = hits[0].reshape(len(losses), -1).mean(axis=1)
            # Under whatever name: the metric with the same value.
            for name, value in numbers.items():
                if name.endswith(("acc", "accuracy")) and _same(value, right.mean()):
                    samples[name] = right
    return numbers, samples


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-6)  # float32 and float64


def _difference(
    name: str, number: str, first: Sequence[_Read], other: Sequence[_Read]
) -> Difference:
    pairs = list(zip(first, other, strict=True))
    values = np.array([b[0][number] - a[0][number] for a, b in pairs])
    mean = float(np.mean(values))
    if len(pairs) == 1:
        ((_, a), (_, b)) = pairs[0]
        if number not in a or number not in b:
            return Difference(name, number, mean, None, None)
        values = b[number] - a[number]
        values = values[~np.isnan(values)]
    if len(values) < 2:
        return Difference(name, number, mean, None, None)
    stats = require("scipy.stats", "SciPy", "plots", "compare()")
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Difference(name, number, mean, mean - half, mean + half)


def _words(difference: Difference) -> str:
    mean = f"{difference.mean:+.3g}"
    if difference.low is None or difference.high is None:
        return mean
    return f"{mean} ± {(difference.high - difference.low) / 2:.2g}"


def _checked(models: Any) -> dict[str, list[keras.Model]]:
    if not isinstance(models, Mapping) or len(models) < 2:
        raise TypeError(
            "models must be a dictionary of two names or more. Received: "
            f"{models!r}. Pass e.g. {{'plain': model_a, 'least action': model_b}}."
        )
    groups = {
        name: list(given) if isinstance(given, list | tuple) else [given]
        for name, given in models.items()
    }
    for name, group in groups.items():
        for model in group:
            if not isinstance(model, keras.Model):
                raise TypeError(
                    "models must hold Keras models, or lists of them. Received: a "
                    f"{type(model).__name__} as {name!r}."
                )
            if not model.compiled or model.loss is None:
                raise ValueError(
                    "Only compiled models can be evaluated. Received: "
                    f"{model.name!r} as {name!r}, not compiled with a loss. Call "
                    "model.compile(loss=..., metrics=[...])."
                )
    lengths = {name: len(group) for name, group in groups.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(
            "Models are paired by their place in the lists, so that every name needs "
            f"as many, one or more. Received: {lengths}."
        )
    return groups


def _exponent(groups: Mapping[str, Sequence[keras.Model]]) -> float:
    for model in (each for group in groups.values() for each in group):
        if isinstance(model, LeastActionModel):
            p = getattr(model.energy, "p", None)
            if p is not None:
                return float(p)
    return 2.0


def _places(model: keras.Model) -> list[int | str]:
    """Which blocks count, by their place among those that a search finds, from 1."""
    report = getattr(model, "block_report", None)
    if not isinstance(report, BlockReport):
        return list(range(1, len(find_residual_blocks(model)) + 1))
    known: list[str] = []
    with contextlib.suppress(TypeError, ValueError):  # a network that has to be told
        known = [block.name for block in find_residual_blocks(model.network)]
    return [
        known.index(block.name) + 1 if block.name in known else block.name
        for block in report
    ]


def _spelled(places: Sequence[int | str]) -> str:
    """All places if they are the first ones, or a few."""
    if list(places) == list(range(1, len(places) + 1)):
        return f"1–{len(places)}"
    return few([str(each) for each in places], at_most=8)


def _leave_out_what_some_lack(runs: Mapping[str, Sequence[dict[str, float]]]) -> None:
    every = [run for each in runs.values() for run in each]
    if not all(_NEEDED in run for run in every):
        for run in every:
            run.pop(_NEEDED, None)


def _check_alike(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    known = {name: list(run) for name, each in runs.items() for run in each}
    if len({tuple(sorted(names)) for names in known.values()}) > 1:
        raise ValueError(
            "Models can be compared by the same numbers alone. Received: "
            f"{known}. Compile all of them with the same metrics=[...]."
        )
