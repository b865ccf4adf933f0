"""What the exact test of a law has found: text, table, page, picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_lap._drawing import (
    GREY,
    color,
    counted,
    html_figure,
    html_page,
    html_paragraphs,
    html_table,
    label,
    save_page,
    single,
    text_table,
)
from keras_lap.symmetry.groups import FiniteGroup

HELD_OUT = "p-values mean something only if the model was not trained on these samples."
NO_POWER = (
    "The loss is the same along each orbit, as for a constant model or one that is "
    "equivariant by construction: it cannot tell whether the data obey the group."
)


@dataclass(frozen=True, eq=False)
class LawReport:
    """Which groups the law of data obeys, as far as a model can tell.

    `str(report)` is a readable table, a line for each candidate.

    Attributes:
        names: Of the candidates.
        groups: The candidates.
        samples: How many samples there were.
        p_values: The exact p-value of each, `(k,)`; NaN for one that the model cannot
            judge, 1 for the trivial group.
        adjusted: The same, corrected for the number of candidates by Holm, `(k,)`.
        level: At which of these or below a candidate is rejected.
        least: The least corrected p-value that any candidate could have. Above the
            level nothing can be rejected, whatever the data: pass more `samples`, or
            more data.
    """

    names: tuple[str, ...]
    groups: tuple[FiniteGroup, ...]
    samples: int
    p_values: np.ndarray
    adjusted: np.ndarray
    level: float
    least: float = 0.0

    @property
    def rejected(self) -> np.ndarray:
        """Which candidates the data do not obey, `(k,)`."""
        return self.adjusted <= self.level

    @property
    def largest(self) -> FiniteGroup | None:
        """The largest group that was not rejected, the surer of two.

        None if all were, or none could be.
        """
        place = self._largest
        return None if place is None else self.groups[place]

    @property
    def _largest(self) -> int | None:
        """Which candidate that is: one group may be several, by other actions."""
        if self.least > self.level:
            return None
        kept = [
            (group.order, p, -number)
            for number, (group, p) in enumerate(
                zip(self.groups, self.adjusted, strict=True)
            )
            if p > self.level
        ]
        return -max(kept)[2] if kept else None

    @property
    def summary(self) -> str:
        """One line: how many candidates were rejected, and the largest that was not."""
        samples, count = counted(self.samples, "sample"), len(self.names)
        found = f"{np.count_nonzero(self.rejected)} of {counted(count, 'group')}"
        kept = self._largest
        name = "none" if kept is None else self.names[kept]
        return f"Law of {samples}: {found} rejected; the largest not rejected: {name}"

    def save_html(self, path: str | Path) -> None:
        """Writes a page with a sentence, the picture and all numbers.

        It needs no other file.

        Args:
            path: Where to, in a folder that is there.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If `path` is a folder, or lies in none.
        """
        drawn = html_figure(plot_law(self), "p-value of each group, and the level.")
        sections = {
            "Which groups do the data obey?": [drawn, html_table(self._rows())],
            "What do the numbers mean?": html_paragraphs(self._notes()),
        }
        title = "Which symmetry the data obey"
        save_page(path, html_page(title, f"{self.summary}.", sections))

    def __repr__(self) -> str:
        return f"<{self.summary}>"

    def __str__(self) -> str:
        head, *rows = self._rows()
        table = text_table(head, rows)
        return "\n".join([self.summary, "", *table, "", *self._notes()])

    def _repr_html_(self) -> str:
        first, *notes = html_paragraphs([self.summary, *self._notes()])
        return "".join([first, html_table(self._rows()), *notes])

    def _rows(self) -> list[tuple[str, ...]]:
        """The candidates as rows of text, the first of them the head."""
        head = ("group", "order", "p", "p (Holm)", f"at {self.level:g}")
        columns = self.names, self.groups, self.p_values, self.adjusted
        return [head] + [
            (name, str(len(group)), *texts([p, holm], "{:.3g}"), self._verdict(holm))
            for name, group, p, holm in zip(*columns, strict=True)
        ]

    def _notes(self) -> list[str]:
        """What has to be known to read the numbers."""
        notes = [HELD_OUT]
        if self.least > self.level:
            notes.append(
                f"Nothing can be rejected: no corrected p-value can be below "
                f"{self.least:.3g}. Pass samples= of more than the number of groups "
                "divided by the level, fewer groups, or more data."
            )
        return notes + [NO_POWER] * bool(np.isnan(self.p_values).any())

    def _verdict(self, p: float) -> str:
        if math.isnan(p):
            return "not known"
        return "rejected" if p <= self.level else "kept"


def plot_law(report: LawReport, ax: Any = None) -> Any:
    """Draws the corrected p-value of each candidate beside the level.

    Args:
        report: Of `law_test`.
        ax: Axes to draw in; by default those of a new figure.

    Returns:
        The `matplotlib.axes.Axes`: the scale is logarithmic, a bar that ends left of
        the line is a group that was rejected.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    axis = single(ax)
    place = np.arange(len(report.names))
    shades = [color(int(not bad)) for bad in report.rejected]
    axis.barh(place, np.nan_to_num(report.adjusted, nan=1.0), color=shades)
    axis.axvline(report.level, color=GREY, linewidth=0.8)
    axis.set(xscale="log", xlabel="p-value, corrected by Holm", yticks=place)
    axis.set_yticklabels([label(name) for name in report.names], fontsize=8)
    axis.invert_yaxis()
    return axis


def texts(values: Any, form: str) -> list[str]:
    """Numbers as the cells of a table, none of None."""
    return [] if values is None else [form.format(value) for value in values]
