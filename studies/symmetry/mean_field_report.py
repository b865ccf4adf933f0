"""Tables, criteria and picture of the study of mean fields, from its lines."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keras_lap import _drawing as drawing
from keras_lap.symmetry import plot_clouds
from studies.engine import published
from studies.engine.statistics import ENOUGH_SEEDS
from studies.engine.tables import Table
from studies.symmetry import students
from studies.symmetry.students import NODES, even
from studies.turnpike.records import Criterion, Findings

Lines = list[dict[str, Any]]
NOTE = (
    "A student of N units σ(z x) in the plane learns a teacher of such units; the "
    "group exchanges the coordinates. α = 50, τ = 1e-4, β = 1e-6, T = 20, N·T steps of "
    "B = 20 fresh samples, x of covariance 16, as read in the code of a reproduction "
    "of Maass Martínez and Fontbona (arXiv 2405.19995), whose own text and code were "
    "not to be had. All schemes of a seed share start, data and noise. *Free* is plain "
    "training, *augmented* is on whole orbits, *averaged* through the average over the "
    "group, *equivariant* with projected units. Numbers are squared relative "
    "distances: medians [least, greatest] over the seeds, since their law has a heavy "
    "tail.\n\n![Distances to the fixed units and between schemes against the number "
    "of units, and clouds of units beside the plane of fixed "
    "ones.](symmetry-mean-field.svg)"
)
_LABELS = ("part", "teacher", "plan", "units", "batch", "seed")
# Variance of the target of the counterexample.
_WEIGHTS, _EVEN = NODES[1], even(NODES[0])
VARIANCE = float(_WEIGHTS @ _EVEN**2 - (_WEIGHTS @ _EVEN) ** 2)


def labels(line: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a run from others."""
    return tuple(line.get(name) for name in _LABELS)


class Found:
    """What was found, by part.

    Args:
        lines: Of the result file.
    """

    def __init__(self, lines: Lines):
        self.lines = lines

    def of(self, part: str, **which: Any) -> Lines:
        """The lines of a part with these labels."""
        return [
            each
            for each in self.lines
            if each["part"] == part and all(each.get(k) == v for k, v in which.items())
        ]

    def sizes(self, part: str) -> list[int]:
        """The numbers of units that a part was run with."""
        return sorted({each["units"] for each in self.of(part)})

    def values(self, part: str, scheme: str, what: str, **which: Any) -> np.ndarray:
        """One number of a scheme, for each seed."""
        lines = self.of(part, **which)
        return np.array(
            [
                each["schemes"][scheme][what]
                for each in lines
                if scheme in each["schemes"]
            ]
        )

    def pairs(self, pair: str, **which: Any) -> np.ndarray:
        """Distances between two schemes, for each seed."""
        lines = self.of("schemes", **which)
        return np.array(
            [each["pairs"][pair] for each in lines if pair in each["pairs"]]
        )


def criteria(found: Found) -> list[Criterion]:
    """What the study has to show; what was not run is left out."""
    made: list[Criterion] = []

    def add(
        claim: str, values: np.ndarray, holds: Callable[[Any], bool], least: int = 10
    ) -> None:
        if len(values):
            median = float(np.median(values))
            few = "" if len(values) >= least else f" ({len(values)} seeds: too few)"
            made.append(Criterion(claim, f"{median:.2g}{few}", holds(median)))

    weak = {"teacher": "weakly invariant"}
    medians = {}
    for units, holds, claim in (
        (5, lambda v: v >= 5e-3, "≥ 5e-3"),
        (50, lambda v: v <= 1e-3, "≤ 1e-3"),
        (100, lambda v: v <= 2e-4, "≤ 2e-4"),
        (500, lambda v: v <= 1e-5, "≤ 1e-5"),
    ):
        values = found.values("drift", "free", "fixed", units=units, **weak)
        add(f"drift, WI teacher, free, N = {units}: median {claim}", values, holds)
        if len(values):
            medians[units] = float(np.median(values))
    if {100, 500} <= set(medians):
        slope = np.log(medians[500] / medians[100]) / np.log(5)
        claim = "drift: log–log slope from N = 100 to 500 between −2 and −1"
        made.append(Criterion(claim, f"{slope:.2f}", bool(-2 <= slope <= -1)))
    for units in [n for n in found.sizes("drift") if n >= 50]:
        which = {"units": units}
        values = found.values("drift", "free", "fixed", teacher="arbitrary", **which)
        claim = f"drift, arbitrary teacher, free, N = {units}: median in [.08, .11]"
        add(claim, values, lambda v: 0.08 <= v <= 0.11)
        for scheme in ("augmented", "averaged"):
            values = found.values("drift", scheme, "fixed", **which)
            claim = f"drift, {scheme}, N = {units}, all teachers: median < 1e-9"
            add(claim, values, lambda v: v < 1e-9)
    equivariant = found.values("drift", "equivariant", "fixed")
    if len(equivariant):
        claim = "drift, equivariant: < 1e-12 in every run"
        worst = float(equivariant.max())
        made.append(Criterion(claim, f"{worst:.2g}", worst < 1e-12))
    for units, most in ((50, 1e-3), (500, 2e-5)):
        values = found.pairs("free, augmented", units=units)
        claim = f"schemes, free–augmented, N = {units}: median ≤ {most:g}"
        add(claim, values, functools.partial(operator.ge, most))
    few, many = (found.pairs("free, averaged", units=n) for n in (5, 50))
    if len(few) and len(many):
        ratio = np.median(few) / np.median(many)
        claim = "schemes, free–averaged: falls by ≥ 10 from N = 5 to 50"
        made.append(Criterion(claim, f"{ratio:.3g} times", bool(ratio >= 10)))
    sizes = [n for n in found.sizes("schemes") if n <= 500]
    own = [np.median(found.values("schemes", "free", "own", units=n)) for n in sizes]
    if len(own) > 1:
        claim = "schemes, free to its own symmetrisation: falls with N"
        texts = ", ".join(f"{value:.2g}" for value in own)
        made.append(Criterion(claim, texts, bool((np.diff(own) < 0).all())))
    made += _noise(found) + _counterexample(found) + _discovery(found)
    return made + _residual(found)


def _noise(found: Found) -> list[Criterion]:
    by_batch = [
        np.median(values)
        for batch in (20, 80, 320)
        if len(values := found.values("noise", "free", "fixed", batch=batch))
    ]
    ratios = [a / b for a, b in itertools.pairwise(by_batch)]
    claim = "noise, N = 50: falls by ≥ 2.5 from B = 20 to 80 and from 80 to 320"
    text = ", ".join(f"{ratio:.2f} times" for ratio in ratios)
    return [Criterion(claim, text, min(ratios) >= 2.5)] if len(ratios) == 2 else []


def _counterexample(found: Found) -> list[Criterion]:
    free = found.values("counterexample", "free", "risk")
    fixed = found.values("counterexample", "equivariant", "risk")
    if not len(free):
        return []
    ends = float(fixed.min() / VARIANCE), float(fixed.max() / VARIANCE)
    claim = f"counterexample, equivariant: risk in [1, 1.05] Var(Y) = {VARIANCE:.4f}"
    text = f"[{ends[0]:.4f}, {ends[1]:.4f}] Var(Y)"
    # Records keep four digits.
    first = Criterion(claim, text, ends[0] >= 1 - 5e-4 and ends[1] <= 1.05)
    worst = float(free.max())
    claim = "counterexample, free: risk ≤ 1e-3 in every run"
    return [first, Criterion(claim, f"{worst:.2g}", worst <= 1e-3)]


def _discovery(found: Found) -> list[Criterion]:
    made = []
    for name in ("C2", "Z3", "S3", "none"):
        lines = found.of("discovery", teacher=name)
        right = [each for each in lines if each["found"] == each["true"]]
        if lines:
            claim = f"discovery, {name}: dimension right in ≥ 4 of 5, sine ≤ .1"
            sine = max((each["sine"] for each in right), default=1.0)
            text = f"{len(right)} of {len(lines)}, sine ≤ {sine:.3f}"
            passed = len(right) >= 0.8 * len(lines) and sine <= 0.1
            made.append(Criterion(claim, text, passed))
    return made


def _residual(found: Found) -> list[Criterion]:
    closed = "whole orbits, C/λ + L"
    made = []
    for units in found.sizes("residual"):
        lines = found.of("residual", plan=closed, units=units)
        if lines:
            worst = float(np.median([max(each["fixed"]) for each in lines]))
            claim = f"residual, C/λ + L on whole orbits, N = {units}: median < 1e-9"
            made.append(Criterion(claim, f"{worst:.2g}", worst < 1e-9))
    return made


def _residual_table(found: Found) -> Table:
    rows = []
    for units in found.sizes("residual"):
        for plan in sorted({each["plan"] for each in found.of("residual")}):
            lines = found.of("residual", plan=plan, units=units)
            numbers = [
                np.array([max(each["fixed"]) for each in lines]),
                *(
                    np.array([each[k] for each in lines])
                    for k in ("cost", "risk", "path")
                ),
            ]
            if lines:
                texts = [_text(numbers[0]), *(_text(each, 3) for each in numbers[1:])]
                rows.append((str(units), plan, _count(len(lines)), *texts))
    head = ("N", "training", "seeds", "to the fixed units", "C", "risk", "path ratio")
    note = (
        "Two residual blocks x + Φ(x) of N units each learn x + 2 teacher(x), from "
        "fixed units, α = 15, no noise, p = 2 and λ = 1 held. The distance is that of "
        "the block which is further off; the path ratio says how long the way of the "
        "first block's units was, over 10 pieces, against the straight one."
    )
    return Table("Residual blocks trained by least action", head, tuple(rows), note)


def tables(found: Found) -> list[Table]:
    """All numbers, as text."""
    drift, schemes = [], []
    for teacher in students.TEACHERS:
        for units in found.sizes("drift"):
            which = {"teacher": teacher, "units": units}
            rows = [
                found.values("drift", scheme, "fixed", **which)
                for scheme in students.SCHEMES
            ]
            if any(map(len, rows)):
                count = max(map(len, rows))
                drift.append((teacher, str(units), _count(count), *map(_text, rows)))
    pairs = ("free, augmented", "free, averaged", "free, equivariant")
    for units in found.sizes("schemes"):
        rows = [found.pairs(pair, units=units) for pair in pairs]
        rows += [
            found.values("schemes", "free", n, units=units) for n in ("own", "fresh")
        ]
        risks = [
            found.values("schemes", scheme, "risk", units=units)
            for scheme in students.SCHEMES
        ]
        count = len(rows[-1])
        schemes.append((str(units), _count(count), *map(_text, rows + risks)))
    head: tuple[str, ...] = ("teacher", "N", "seeds", *students.SCHEMES)
    made = [Table("To the fixed units, from a start among them", head, tuple(drift))]
    names = (*pairs, "free to its symmetrisation", "a lawful cloud to its own")
    head = ("N", "seeds", *names, *(f"risk, {scheme}" for scheme in students.SCHEMES))
    title = "Between schemes, from a symmetric law, weakly invariant teacher"
    made.append(Table(title, head, tuple(schemes)))
    noise = []
    for batch in sorted({each["batch"] for each in found.of("noise")}):
        values = found.values("noise", "free", "fixed", batch=batch)
        noise.append((str(batch), _count(len(values)), _text(values)))
    head = ("B", "seeds", "free")
    title = "To the fixed units, N = 50, by the size of batches"
    made.append(Table(title, head, tuple(noise)))
    steps = [
        (
            each["teacher"],
            str(each["seed"]),
            f"{each['found']} / {each['true']}",
            f"{each['sine']:.3f}",
            ", ".join(
                f"{step['drift']:.2g} ± {step['error']:.1g}" for step in each["steps"]
            ),
        )
        for each in sorted(
            found.of("discovery"), key=lambda e: (e["teacher"], e["seed"])
        )
    ]
    head = ("problem", "seed", "found / true", "sine", "drift from each space tried")
    made.append(Table("Fixed units found from data alone", head, tuple(steps)))
    made.append(_residual_table(found))
    return [table for table in made if table.rows]


def _count(seeds: int) -> str:
    return f"{seeds}" if seeds >= ENOUGH_SEEDS else f"{seeds}: too few to conclude"


def _text(values: np.ndarray, digits: int = 1) -> str:
    if not len(values):
        return "–"
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f"{middle:.{max(digits, 2)}g} [{low:.{digits}g}, {high:.{digits}g}]"


def picture(found: Found) -> Any:
    """Distances against N, and clouds in three dimensions."""
    figure = drawing.matplotlib().Figure(figsize=(12, 8), layout="constrained")
    upper, lower = figure.subfigures(2, 1)
    axes = upper.subplots(1, 3)
    titles = (
        "free training to the fixed units",
        "weakly invariant teacher, by scheme",
        "between schemes",
    )
    weak = {"teacher": "weakly invariant"}
    fixed = functools.partial(found.values, "drift", what="fixed")
    curves: list[dict[str, Callable[..., np.ndarray]]] = [
        {
            f"{teacher} teacher": functools.partial(fixed, "free", teacher=teacher)
            for teacher in students.TEACHERS
        },
        {
            scheme: functools.partial(fixed, scheme, **weak)
            for scheme in students.SCHEMES[:3]
        },
        {
            pair: functools.partial(found.pairs, pair)
            for pair in ("free, augmented", "free, averaged", "augmented, averaged")
        },
    ]
    sizes = [found.sizes("drift")] * 2 + [found.sizes("schemes")]
    for axis, title, lines, ns in zip(axes, titles, curves, sizes, strict=True):
        for number, (name, values) in enumerate(lines.items()):
            _curve(axis, number, name, [(n, values(units=n)) for n in ns])
        axis.set(xscale="log", yscale="log", xlabel="units N", title=title)
        axis.legend(fontsize=7)
    axes[0].set_ylabel("squared relative distance")
    _clouds(lower, found.of("schemes", seed=0), found)
    return figure


def _curve(axis: Any, number: int, name: str, data: Iterable[Any]) -> None:
    seen = [(n, values) for n, values in data if len(values)]
    look = {"color": drawing.color(number)}
    for n, values in seen:
        axis.scatter([n] * len(values), values, s=5, alpha=0.4, **look)
    middle = [np.median(values) for _, values in seen]
    mark = drawing.marker(number)
    axis.plot([n for n, _ in seen], middle, marker=mark, ms=4, label=name, **look)


def _clouds(figure: Any, lines: Lines, found: Found) -> None:
    clouds = {each["units"]: each["cloud"] for each in lines if each.get("cloud")}
    strong = {
        each["units"]: each["cloud"]
        for each in found.of("drift", seed=0)
        if each.get("cloud")
    }
    for place, units in enumerate(n for n in (5, 100, 1000) if n in clouds):
        axis = figure.add_subplot(1, 3, place + 1, projection="3d")
        shown = {"from a symmetric law": clouds[units]}
        if units in strong:
            shown["from fixed units"] = strong[units]
        shown["teacher"] = students.TEACHERS["weakly invariant"]
        plot_clouds(shown, students.ACTION, axis)
        axis.set_title(f"N = {units}, free training", fontsize=9)


def write(path: Path) -> list[Path]:
    """Writes the page and the picture beside a result file.

    Args:
        path: The result file.

    Returns:
        The files.
    """
    lines = published.lines_of(path)
    found = Found(lines)
    findings = Findings(
        title="Symmetries in wide networks",
        criteria=criteria(found),
        tables=tables(found),
        figure=picture(found),
        note=NOTE,
        runs=lines,
    )
    page = {f"{path.stem}.md": findings.markdown()}
    return published.write_beside(path, page, findings.figure)
