"""How far a model follows a symmetry, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_lap._checks import whole_number
from keras_lap._drawing import (
    GREY,
    color,
    counted,
    html_figure,
    html_page,
    html_paragraphs,
    html_table,
    save_page,
    single,
    text_table,
)
from keras_lap._extras import require
from keras_lap.symmetry.actions import action_of
from keras_lap.symmetry.groups import FiniteGroup
from keras_lap.symmetry.law import exact_p_value
from keras_lap.symmetry.law_report import HELD_OUT, NO_POWER, texts
from keras_lap.symmetry.passes import Element, Pass, run


@dataclass(frozen=True, eq=False)
class EquivarianceReport:
    """How far a model is from ``f(ρ_g x) = ρ̂_g f(x)`` on a sample.

    `str(report)` is a readable table, a line for each element.

    Attributes:
        model_name: Name of the model.
        group: The group.
        samples: How many samples there were.
        errors: Of each element ``rms_i |ρ̂_g⁻¹ f(ρ_g x_i) − f(x_i)|``, `(n,)`.
        relative_error: ``rms_g errors / rms_i |f(x_i) − mean f|``: 0 for an equivariant
            model, ``√(2(n−1)/n)`` where f(ρ_g x) has nothing to do with f(x).
        agreement: Of each element the share of samples whose greatest output is the
            same, `(n,)`; None for a single output, or an array of them.
        loss_change: How much the mean loss is greater on transformed data, `(n,)`;
            None without targets, as what follows.
        p_values: Of each element that of the paired t-test of no change, `(n,)`.
        p_value: The exact one of the hypothesis that (ρ_g x, ρ̂_g y) has the law of
            (x, y) for all g; see `law_test`. NaN where the loss is the same along each
            orbit.
    """

    model_name: str
    group: FiniteGroup
    samples: int
    errors: np.ndarray
    relative_error: float
    agreement: np.ndarray | None = None
    loss_change: np.ndarray | None = None
    p_values: np.ndarray | None = None
    p_value: float | None = None

    def save_html(self, path: str | Path) -> None:
        """Writes a page with a sentence, the picture and all numbers.

        It needs no other file.

        Args:
            path: Where to, in a folder that is there.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If `path` is a folder, or lies in none.
        """
        drawn = html_figure(plot_equivariance(self), "Error of each element.")
        first = (
            f"Under {self.group.name} the outputs change by "
            f"{100 * self.relative_error:.3g} % of what they vary over the data."
        )
        sections = {"How far do the outputs move?": [drawn]}
        sections["What does each element change?"] = [html_table(self._rows())]
        if self.p_value is not None:
            sections["Do the data obey the group?"] = html_paragraphs([self._law()])
        title = f"{self.model_name} under {self.group.name}"
        save_page(path, html_page(title, first, sections))

    def _rows(self) -> list[tuple[str, ...]]:
        """The elements as rows of text, the first of them the head."""
        columns = {
            "element": [str(g) for g in range(self.group.order)],
            "error": texts(self.errors, "{:.3g}"),
            "agreement": texts(self.agreement, "{:.1%}"),
            "loss change": texts(self.loss_change, "{:+.3g}"),
            "p": texts(self.p_values, "{:.3g}"),
        }
        columns = {name: cells for name, cells in columns.items() if cells}
        return [tuple(columns), *zip(*columns.values(), strict=True)]

    def _law(self) -> str:
        """What the exact p-value says."""
        if self.p_value is None or math.isnan(self.p_value):
            return NO_POWER
        return f"That the data obey the group has p = {self.p_value:.3g}. {HELD_OUT}"

    @property
    def summary(self) -> str:
        """One line: model, group, samples and relative error."""
        samples = counted(self.samples, "sample")
        error = f"relative error {self.relative_error:.3g}"
        alone = "; one sample has no spread" * (self.samples == 1)
        return f"{self.model_name}, {self.group.name}, {samples}: {error}{alone}"

    def __repr__(self) -> str:
        return f"<{self.summary}>"

    def __str__(self) -> str:
        head, *rows = self._rows()
        lines = [self.summary, "", *text_table(head, rows, ">")]
        if self.p_value is not None:
            lines += ["", self._law()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        law = [] if self.p_value is None else [self._law()]
        first, *said = html_paragraphs([self.summary, *law])
        return "".join([first, html_table(self._rows()), *said])


def equivariance_report(
    model: Any,
    x: Any,
    group: FiniteGroup,
    inputs: Any = "vectors",
    outputs: Any = "trivial",
    y: Any = None,
    loss: Any = None,
    samples: int = 1999,
    batch_size: int = 128,
    seed: int = 0,
    verbose: int = 0,
) -> EquivarianceReport:
    """Measures how far a model follows a symmetry, and what that costs.

    The model runs once for each element on all of x, in inference, batch by batch: the
    memory does not grow with the sample, but for one loss a sample and element.

    Args:
        model: A `keras.Model`, or a function of a batch, with one output.
        x: Samples that the model was not trained on, `(samples, ...)`, or a structure
            of such arrays.
        group: A `FiniteGroup`.
        inputs: How it acts on the inputs; see `keras_lap.symmetry.FeatureAveraging`.
            Defaults to `"vectors"`.
        outputs: How it acts on outputs and targets. Defaults to `"trivial"`.
        y: Targets, `(samples, ...)`, for the change of the loss and p-values, which
            need SciPy. Defaults to None, none.
        loss: A loss of Keras, its name, or a function of targets and outputs that
            returns `(batch, ...)`; one that returns a mean is called for each sample by
            itself. Defaults to None, the compiled loss of the model.
        samples: How many random choices of elements the exact p-value compares with;
            1 / (samples + 1) is the least that it can be. Defaults to 1999.
        batch_size: Samples of one run. Defaults to 128.
        seed: Of these choices. Defaults to 0.
        verbose: 1 for a progress bar, 0 for silence. Defaults to 0.

    Returns:
        An `EquivarianceReport`.

    Raises:
        ValueError: If an argument is outside the values above, or shapes do not fit.
        TypeError: If `group` is no group.
        ImportError: If `y` is given and SciPy is not installed.

    Examples:
        >>> group = keras_lap.symmetry.sign(64)
        >>> print(keras_lap.symmetry.equivariance_report(network, x, group))
    """
    acts = action_of("inputs", inputs, group), action_of("outputs", outputs, group)
    whole_number("samples", samples, 1)
    stats = None
    if y is not None:
        stats = require("scipy.stats", "SciPy", "plots", "The test of a symmetry")
    elements = [Element(*acts, g) for g in range(group.order)]
    seen = run(model, x, y, loss, elements, batch_size, verbose)
    return EquivarianceReport(
        model_name=getattr(model, "name", None) or "function",
        group=group,
        samples=seen.count,
        errors=seen.errors,
        relative_error=_relative(seen),
        agreement=seen.agreement,
        **({} if seen.losses is None else _tests(stats, seen.losses, samples, seed)),
    )


def plot_equivariance(report: EquivarianceReport, ax: Any = None) -> Any:
    """Draws the error of each element, and how much the loss is greater.

    Args:
        report: Of `equivariance_report`.
        ax: Axes to draw in; by default those of a new figure.

    Returns:
        The `matplotlib.axes.Axes`.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    axis = single(ax)
    place = np.arange(report.group.order)
    axis.bar(place, report.errors, color=color(0), label="error")
    if report.loss_change is not None:
        axis.plot(place, report.loss_change, "o", color=color(1), label="loss change")
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.legend(fontsize=8)
    axis.set(xlabel="element", ylabel="error of the outputs", xticks=place)
    return axis


def _tests(stats: Any, losses: np.ndarray, samples: int, seed: int) -> dict[str, Any]:
    """The fields of a report that need targets."""
    differences = losses - losses[:, :1]
    change = differences.mean(0)
    deviation = differences.std(0, ddof=1) if len(losses) > 1 else change * np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        t = change / (deviation / math.sqrt(len(losses)))
    p_values = 2 * stats.t.sf(np.abs(t), len(losses) - 1)
    p_values[(differences == 0).all(0)] = 1.0
    exact = exact_p_value(losses, samples, seed)
    return {"loss_change": change, "p_values": p_values, "p_value": exact}


def _relative(seen: Pass) -> float:
    error = float(np.sqrt(np.mean(seen.errors**2)))
    if seen.spread != 0:  # NaN, too
        return error / seen.spread
    return 0.0 if error == 0 else math.inf
