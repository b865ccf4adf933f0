"""Claims of papers held against published tables, and a table of how they fare.

What was measured is read from the Markdown that studies write from their result files,
and a rule, not a person, turns it into a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.engine.tables import Table

REPRODUCED, IN_PART = "reproduced", "in part"
NOT_REPRODUCED, TOO_FEW = "**not reproduced**", "too few seeds"
NOT_RUN = "not run"
# The source of what no paper says.
OURS = "ours"
Row = dict[str, str]
# What was measured, and the verdict.
Judge = Callable[[Sequence[Row]], tuple[str, str]]
# Of more criteria than these only the first are listed.
_SHOWN = 4
_INTERVAL = re.compile(r"[-+]?[\d.]+ \[([-+\d.]+), ([-+\d.]+)\]")


@dataclass(frozen=True)
class Claim:
    """What a paper says, and what decides it here.

    Attributes:
        text: The claim.
        source: Where the paper says it.
        file: The Markdown file with what was measured, relative to the results.
        judge: Turns the rows of its tables into what was measured and a verdict. What
            has none, or no file yet, was not run.
    """

    text: str
    source: str
    file: str = ""
    judge: Judge | None = None


def read(path: Path) -> list[Row]:
    """The rows of all tables of a Markdown file, by the names of their columns.

    Args:
        path: The file; one that is missing has no rows.
    """
    rows: list[Row] = []
    header: list[str] = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not header:
            header = cells
        elif set(cells) != {"---"}:
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def table(claims: Sequence[Claim], folder: Path) -> str:
    """The claims with their verdicts, as a table in Markdown.

    Args:
        claims: The claims, in order.
        folder: Where the results are.
    """
    rows = []
    for claim in claims:
        found = read(folder / claim.file) if claim.judge else []
        measured, verdict = (
            claim.judge(found) if claim.judge and found else ("–", NOT_RUN)
        )
        if claim.source == OURS:  # nobody said so before
            verdict = verdict.replace("not reproduced", "does not hold")
            verdict = verdict.replace("reproduced", "holds")
        linked = f"[{verdict}]({claim.file})" if found else verdict
        rows.append((claim.text, claim.source, linked, measured))
    header = ("claim", "source", "verdict", "measured here")
    return Table("", header, tuple(rows)).markdown().partition("\n\n")[2]


def change(*cells: tuple[str, str], sign: int = 1) -> Judge:
    """Whether least action changes the highest test accuracy as it is said to.

    Args:
        *cells: Settings and methods. All have to show it, the whole 95 % interval on
            one side of zero; a part of them is a part of the claim.
        sign: Of the change that is claimed.
    """

    def judge(rows: Sequence[Row]) -> tuple[str, str]:
        found = [_row(rows, setting=s, method=m) for s, m in cells]
        texts = [row["change of highest"].partition(", p")[0] for row in found]
        shown = [sign * end > 0 for end in (ends(t)[sign < 0] for t in texts)]
        named = zip(cells, texts, strict=True)
        said = [f"{s}: {t}" if len(cells) > 1 else t for (s, _), t in named]
        few = any("too few" in row["seeds"] for row in found)
        return "; ".join(said) + " points", TOO_FEW if few else verdict_of(shown)

    return judge


def fades(few: str, many: str, method: str) -> Judge:
    """Whether a gain with few data is above that with many, interval above interval."""

    def judge(rows: Sequence[Row]) -> tuple[str, str]:
        column = "change of highest"
        first, last = (
            _row(rows, setting=s, method=method)[column].partition(", p")[0]
            for s in (few, many)
        )
        smaller = ends(first)[0] > ends(last)[1]
        return f"{first} → {last} points", verdict_of([smaller])

    return judge


def narrows(settings: Sequence[str], method: str) -> Judge:
    """Whether intervals are narrower than those of plain training, in each setting."""

    def judge(rows: Sequence[Row]) -> tuple[str, str]:
        said, shown = [], []
        for setting in settings:
            pair = [_row(rows, setting=setting, method=m) for m in ("plain", method)]
            intervals = [ends(row["highest"]) for row in pair]
            before, after = (upper - lower for lower, upper in intervals)
            shown.append(after < before)
            said.append(f"{before:.1f} → {after:.1f}")
        return f"widths {'; '.join(said)} points", verdict_of(shown)

    return judge


def cheaper(setting: str, method: str) -> Judge:
    """Whether the median transport cost is below that of plain training."""

    def judge(rows: Sequence[Row]) -> tuple[str, str]:
        before, after = (
            float(_row(rows, setting=setting, method=each)["transport cost"])
            for each in ("plain", method)
        )
        said = f"transport cost {before:.3g} → {after:.3g}"
        return said, verdict_of([after < before])

    return judge


def correlates(*networks: str) -> Judge:
    """Whether cheaper networks are the more accurate: the whole interval below zero."""

    def judge(rows: Sequence[Row]) -> tuple[str, str]:
        column = "rank correlation [95 % interval]"
        texts = [_row(rows, networks=name)[column] for name in networks]
        return "; ".join(texts), verdict_of([ends(text)[1] < 0 for text in texts])

    return judge


def criteria(*beginnings: str) -> Judge:
    """Whether those criteria of a study are met that begin so."""

    def judge(rows: Sequence[Row]) -> tuple[str, str]:
        chosen = [
            row for row in rows if row.get("criterion", "").startswith(beginnings)
        ]
        if not chosen:
            raise ValueError(f"No criterion begins with {beginnings}.")
        said = [f"{row['criterion']}: {_shortened(row['found'])}" for row in chosen]
        if len(said) > _SHOWN:
            met = sum(row["passed"] == "yes" for row in chosen)
            said = [f"{met} of {len(said)} criteria", *said[: _SHOWN - 1]]
        few = any("too few" in row["found"] for row in chosen)
        verdict = verdict_of([row["passed"] == "yes" for row in chosen])
        return "<br>".join(said), TOO_FEW if few else verdict

    return judge


def column(name: str, unit: str = "", **where: str) -> Judge:
    """Whether the interval of one cell lies above zero; in a table of ours.

    Args:
        name: The column.
        unit: Written behind it.
        **where: Other columns of the row, and what they say.
    """

    def judge(rows: Sequence[Row]) -> tuple[str, str]:
        text = _row(rows, **where)[name]
        return text + unit, verdict_of([ends(text)[0] > 0])

    return judge


def _row(rows: Sequence[Row], **where: str) -> Row:
    """The one row with these cells; an error if the tables have none or several."""
    found = [row for row in rows if where.items() <= row.items()]
    if len(found) != 1:
        raise ValueError(f"{len(found)} rows have {where}; one was expected.")
    return found[0]


def ends(text: str) -> tuple[float, float]:
    """The ends of the interval that a cell says.

    Args:
        text: As `+1.0 [-0.5, +2.5]`; what follows is not read.

    Raises:
        ValueError: If there is none.
    """
    match = _INTERVAL.match(text.replace("*", "").replace("−", "-"))
    if match is None:
        raise ValueError(f"No interval in {text!r}.")
    return float(match[1]), float(match[2])


def _shortened(found: str) -> str:
    """The first and the last of many figures."""
    figures = found.split(", ")
    return found if len(figures) <= 5 else f"{figures[0]} … {figures[-1]}"


def verdict_of(shown: Sequence[bool]) -> str:
    """The verdict on a claim by its parts.

    Args:
        shown: Whether each part was seen.
    """
    if all(shown):
        return REPRODUCED
    if not any(shown):
        return NOT_REPRODUCED
    return f"{IN_PART}: {sum(shown)} of {len(shown)}"
