"""The claims of the papers, and the tables of them on the pages of results.

Every figure and every verdict is taken from published tables, which are those of the
result files. Run it when one of them has changed; a test says so.

    python -m studies.claims
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from studies.engine import claims
from studies.engine.claims import Claim, Judge, Row, change, criteria
from studies.engine.statistics import scipy_stats

RESULTS = Path(__file__).parent / "results"
HALF, FIVE = "least action, λ_0 = 0.5", "least action, λ_0 = 5"
FIRST = f"{HALF}, λ first"
FIVE_FIRST = f"{FIVE}, λ first"
LIGHT = "least action, λ_0 = 500, λ first"
SIZES = (100, 200, 300, 500)
TABLE_1, DEPTH = "table1_mnist-small.md", "depth-small.md"
PROTOCOL, FULL_SIZE = "table1_mnist-protocol.md", "table1_mnist-gpu.md"
COSTS, CIRCLES = "cost_accuracy-small.md", "two_circles-small.md"
WIDE = (50, 100, 500)  # units
KEPT = ("augmented", "averaged")
INITIALISATIONS = ("kaiming", "orthogonal 1", "normal 0.05", "normal 0.2", "normal 1")


def overhead(rows: Sequence[Row]) -> tuple[str, str]:
    """Steps by least action over plain ones, at p = 2, against the benchmark's goal."""
    chosen = [row for row in rows if row["energy"] == "p = 2"]
    ratios = sorted(float(row["overhead"].split()[0]) for row in chosen)
    met = sum(row["met"] == "yes" for row in chosen)
    said = f"{ratios[0]:.2f} to {ratios[-1]:.2f} plain steps; goal 1.02, or 1.10"
    return said, f"{claims.IN_PART}: {met} of {len(chosen)}"


def gains(column: str, name: Callable[[Row], str], seeds: str = "seeds") -> Judge:
    """Whether every change in a column is surely a gain.

    Args:
        column: Of the tables; a row that lacks it, or has none, says nothing.
        name: What a row is called.
        seeds: The column that says whether a row has enough seeds.
    """

    def judge(rows: Sequence[Row]) -> tuple[str, str]:
        chosen = [row for row in rows if row.get(column, "–") != "–"]
        texts = [row[column].partition(", p")[0] for row in chosen]
        pairs = zip(chosen, texts, strict=True)
        said = "; ".join(f"{name(row)}: {text}" for row, text in pairs)
        few = any("too few" in row[seeds] for row in chosen)
        verdict = claims.verdict_of([claims.ends(text)[0] > 0 for text in texts])
        return said + " points", claims.TOO_FEW if few else verdict

    return judge


def silent(column: str, setting: str, name: Callable[[Row], str]) -> Judge:
    """Gains in the tables of silent channels, raised to a hundredth of the median."""
    judge = gains(column, name)

    def judge_part(rows: Sequence[Row]) -> tuple[str, str]:
        part = [row for row in rows if setting in row.get("setting", "")]
        return judge([row for row in part if row.get("floor") == "0.01"])

    return judge_part


def with_few(start: str, method: str) -> Judge:
    """Whether least action gains with 100 and with 200 images."""
    return change(*((f"{size} images, {start}", method) for size in (100, 200)))


def unequal(rows: Sequence[Row]) -> tuple[str, str]:
    """Four blocks with the best steps against forty equal ones."""
    excess = {row["blocks"]: row for row in rows if "uniform" in row}
    few, many = excess["4"]["optimal"], excess["40"]["uniform"]
    better = float(few.rstrip(" %")) < float(many.rstrip(" %"))
    said = f"excess {few} with 4 unequal, {many} with 40 equal steps"
    return said, claims.REPRODUCED if better else claims.NOT_REPRODUCED


def cuts(rows: Sequence[Row]) -> tuple[str, str]:
    """Settings in which a cut to a quarter after path loss costs 1.5 points at most."""
    chosen = [
        row
        for row in rows
        if row.get("method") == "path loss"
        and row.get("target", "").startswith("cut to ¼ costs")
    ]
    met = sum(row["holds"] == "pass" for row in chosen)
    said = "; ".join(f"{row['setting']}: {row['measured']}" for row in chosen)
    whole = claims.REPRODUCED if met == len(chosen) else claims.IN_PART
    return said + " points", f"{whole}: {met} of {len(chosen)}"


def robust(rows: Sequence[Row]) -> tuple[str, str]:
    """What least action surely changes for the better, and for the worse."""
    chosen = [row for row in rows if row.get("measure", "accuracy") != "accuracy"]
    signs = [1 if row["better"] == "higher" else -1 for row in chosen]
    found = [
        sorted(sign * end for end in claims.ends(row["least action"]))
        for sign, row in zip(signs, chosen, strict=True)
    ]
    better, worse = [low > 0 for low, _ in found], sum(high < 0 for _, high in found)
    said = f"of {len(chosen)} measures surely better: {sum(better)}, worse: {worse}"
    return said, claims.verdict_of(better)


def keeps(rows: Sequence[Row]) -> tuple[str, str]:
    """Whether the exact test rejects what data do not obey, and errs at its level."""
    seeds = int(rows[0]["seeds"])
    cells = [cell for row in rows for cell in row.values() if ", kept " in cell]
    kept = [(int(c.strip("*").split()[-1]), c.startswith("**")) for c in cells]
    right = [count for count, obeyed in kept if obeyed]
    wrong = [seeds - count for count, obeyed in kept if not obeyed]
    errors = sum(seeds - count for count in right)
    said = (
        f"rejected {sum(wrong)} of {seeds * len(wrong)} candidates that data do not "
        f"obey, and {errors} of {seeds * len(right)} that they do, at level .05"
    )
    # More errors than these would be rare, were the level .05.
    is_level = errors <= scipy_stats().binom.ppf(0.975, seeds * len(right), 0.05)
    holds = is_level and sum(wrong) == seeds * len(wrong)
    return said, claims.REPRODUCED if holds else claims.NOT_REPRODUCED


def saying(describe: Callable[[Sequence[Row]], str], *beginnings: str) -> Judge:
    """The verdict of criteria, beside what a table of the same study says."""

    def judge(rows: Sequence[Row]) -> tuple[str, str]:
        return describe(rows), criteria(*beginnings)(rows)[1]

    return judge


def span(rows: Sequence[Row], column: str, **where: str) -> str:
    """From the least to the greatest of whole numbers."""
    chosen = [row for row in rows if column in row and where.items() <= row.items()]
    found = [int(row[column]) for row in chosen]
    least, most = min(found), max(found)
    return f"{least}" if least == most else f"{least} to {most}"


def arrivals(path_loss: str) -> Callable[[Sequence[Row]], str]:
    """In which layer of forty the error is gone, by dynamics."""
    kinds = ("bottleneck", "inside", "outside")
    key = {"path loss": path_loss}
    return lambda rows: (
        "arrives in layer "
        + ", ".join(
            f"{span(rows, 'arrival', dynamics=kind, **key)} ({kind})" for kind in kinds
        )
    )


def extended(rows: Sequence[Row]) -> str:
    """The objective from scratch and from a short network, by seeds."""
    pairs = [row for row in rows if "from scratch" in row]
    return "J from scratch → extended: " + "; ".join(
        f"{float(row['from scratch']):.2f} → {float(row['extended']):.2f}"
        for row in pairs
    )


def idle(norm: str) -> Callable[[Sequence[Row]], str]:
    """How many layers of twenty one norm leaves idle, at the end."""
    return lambda rows: f"{span(rows, 'idle tail', norm=norm)} of 20 layers"


LEAST_ACTION = (
    Claim(
        "More accurate with few data: 100 images, from a bad start (normal 1), "
        "λ_0 = 0.5",
        "Table 1",
        TABLE_1,
        change(("100 images, normal 1", HALF)),
    ),
    Claim(
        "The same from a good start (normal 0.05), λ_0 = 0.5",
        "Table 1",
        TABLE_1,
        change(("100 images, normal 0.05", HALF)),
    ),
    Claim(
        "The gain fades as data grow: 100 → 500 images, bad start, λ_0 = 0.5",
        "Table 1",
        TABLE_1,
        claims.fades("100 images, normal 1", "500 images, normal 1", HALF),
    ),
    Claim(
        "The same with the authors' networks, decay, schedule and order of λ: 100 and "
        "200 images, bad start, λ_0 = 0.5",
        "protocol",
        PROTOCOL,
        with_few("normal 1", FIRST),
    ),
    Claim(
        "… and at λ_0 = 5",
        "protocol",
        PROTOCOL,
        with_few("normal 1", FIVE_FIRST),
    ),
    Claim(
        "… and from a good start, λ_0 = 0.5",
        "protocol",
        PROTOCOL,
        with_few("normal 0.05", FIRST),
    ),
    Claim(
        "The same at the authors' size (64 filters, 300 epochs), on a GPU: bad start, "
        "λ_0 = 5",
        "protocol",
        FULL_SIZE,
        with_few("normal 1", FIVE_FIRST),
    ),
    Claim(
        "… and from a good start",
        "protocol",
        FULL_SIZE,
        with_few("normal 0.05", FIVE_FIRST),
    ),
    Claim(
        "… and with short transport on test images: 100 images, bad start",
        "protocol",
        FULL_SIZE,
        claims.cheaper("100 images, normal 1", FIVE_FIRST),
    ),
    Claim(
        "… and more accurate, once variances of channels that were silent in training "
        "are raised: 100 and 200 images, bad start",
        claims.OURS,
        "silent_channels.md",
        silent(
            "change by raising",
            "bad start",
            lambda row: f"{row['setting'][:3]}, {row['filters']} filters",
        ),
    ),
    Claim(
        "Narrower confidence intervals: 100, 200, 300, 500 images, bad start, "
        "λ_0 = 0.5",
        "Table 1",
        TABLE_1,
        claims.narrows([f"{size} images, normal 1" for size in SIZES], HALF),
    ),
    Claim(
        "It helps with bad initialisations: normal 1, another rate, fresh seeds, "
        "λ_0 = 0.5",
        "text",
        "sensitivity_confirm-small.md",
        change(("best: normal 1, learning rate 0.03", HALF)),
    ),
    Claim(
        "Short transport where plain training goes far: two circles",
        "Figures 1 to 4",
        CIRCLES,
        claims.cheaper("normal 5, batch norm", "least action, λ_0 = 1"),
    ),
    Claim(
        "… and more accurate there",
        "Figures 1 to 4",
        CIRCLES,
        change(("normal 5, batch norm", "least action, λ_0 = 1")),
    ),
    Claim(
        "It lets deep networks without batch normalisation train",
        "Figure 5",
        DEPTH,
        change(("kaiming, 9 blocks", FIVE), ("orthogonal 1, 30 blocks", FIVE)),
    ),
    Claim(
        "The same with the authors' blocks, decay, schedule and order of λ: 15 and 30 "
        "blocks, the lightest energy of three",
        "protocol",
        "depth-protocol.md",
        change(
            ("kaiming, 15 blocks", LIGHT),
            ("orthogonal 1, 15 blocks", LIGHT),
            ("orthogonal 1, 30 blocks", LIGHT),
        ),
    ),
    Claim(
        "Networks that move their data less are more accurate: over initialisations, "
        "MNIST and CIFAR-10",
        "text",
        COSTS,
        claims.correlates("all of 100 mnist examples", "all of 1000 cifar10 examples"),
    ),
    Claim(
        "… and within one initialisation, each of five, MNIST",
        "text",
        COSTS,
        claims.correlates(*(f"mnist, {each}" for each in INITIALISATIONS)),
    ),
    Claim(
        "More accurate on CIFAR-10",
        "Table 2",
        "table2_cifar10-small.md",
        change(("4000 images", FIVE), ("5000 images", FIVE)),
    ),
    Claim(
        "The same with the authors' network, augmentation, decay, schedule and order "
        "of λ",
        "protocol",
        "table2_cifar10-protocol.md",
        change(("4000 images", FIVE_FIRST), ("5000 images", FIVE_FIRST)),
    ),
    Claim(
        "More accurate on CIFAR-10 from a good start with a schedule, in a protocol of "
        "ours: 1000 images",
        claims.OURS,
        "good_starts-small.md",
        change(("1000 images", FIVE)),
    ),
    Claim(
        "… on ten seeds more",
        claims.OURS,
        "good_starts-fresh.md",
        change(("1000 images", FIVE)),
    ),
    Claim(
        "… and the first ten trained again, at the last epoch",
        claims.OURS,
        "silent_channels.md",
        silent("as they are", "CIFAR-10", lambda row: "1000 images"),
    ),
    Claim(
        "… and 4000 images",
        claims.OURS,
        "good_starts-small.md",
        change(("4000 images", FIVE)),
    ),
    Claim(
        "… and 10 000 images",
        claims.OURS,
        "good_starts-small.md",
        change(("10000 images", FIVE)),
    ),
    Claim(
        "… and 1000 images of 32x32 pixels for 16x16",
        claims.OURS,
        "good_starts-small.md",
        change(("1000 images, 32x32 pixels", FIVE)),
    ),
    Claim(
        "… and with one ingredient less, 1000 images: no schedule, no bound on the "
        "gradient, no decay",
        claims.OURS,
        "good_starts-small.md",
        change(
            ("1000 images, constant rate", FIVE),
            ("1000 images, gradient not bounded", FIVE),
            ("1000 images, no decay", FIVE),
        ),
    ),
    Claim(
        "… and it gains more than weight decay, dropout or label smoothing, each tuned "
        "by validation: 1000 images",
        claims.OURS,
        "good_starts-small.md",
        gains("least action − it, last", lambda row: row["kind"], "trained"),
    ),
    Claim(
        "… and it gains beside the weight decay that suits plain training: 1000 images",
        claims.OURS,
        "good_starts-small.md",
        change(("1000 images, decay 5e-3", FIVE)),
    ),
    Claim(
        "More accurate and steadier on CIFAR-100, ResNeXt50",
        "Table 3, Figure 6",
    ),
    Claim(
        "It makes networks robust to noise, attacks and wrong labels, calibrated, and "
        "wary of other data",
        claims.OURS,
        "defaults-robustness.md",
        robust,
    ),
    Claim(
        "No training time: a step by least action over a plain one",
        "text",
        "../../benchmarks/results/step_overhead.md",
        overhead,
    ),
)

HORIZONS = (
    Claim(
        "Terminal loss alone: cost and error fall as the horizon grows, T·J rises and "
        "stays bounded",
        "abstract; laws 1, 3",
        "turnpike-horizon.md",
        criteria("J within", "slope", "E falls", "T·J rises", "T·J ≤"),
    ),
    Claim(
        "… at most like 1/T, so like 1/λ",
        "abstract; law 3",
        "turnpike-horizon.md",
        criteria("E ≤"),
    ),
    Claim(
        "With a path loss, error and controls fall early",
        "abstract; law 6",
        "turnpike-circles.md",
        saying(arrivals("1"), "bottleneck, with:", "inside, with:"),
    ),
    Claim(
        "… and without, the work goes on to the end",
        "law 4",
        "turnpike-circles.md",
        saying(arrivals("0"), "bottleneck, without:", "inside, without:"),
    ),
    Claim(
        "A longer horizon changes nothing at the front",
        "note, 2021",
        "turnpike-depth-independence.md",
        criteria("median"),
    ),
    Claim(
        "A long horizon from scratch ends in a worse optimum than one extended",
        claims.OURS,
        "turnpike-depth-independence.md",
        saying(extended, "J at T = 20", "extended and trained"),
    ),
    Claim(
        "L¹ and bounded controls: exactly zero after a time T*",
        "abstract of 2102.13566",
        "turnpike-sparsity.md",
        criteria("scalar problem"),
    ),
    Claim(
        "In trained networks `l1` leaves the last quarter of the layers idle",
        claims.OURS,
        "turnpike-sparsity.md",
        saying(idle("l1"), "l1:"),
    ),
    Claim(
        "… and `group` does",
        claims.OURS,
        "turnpike-sparsity.md",
        saying(idle("group"), "group:"),
    ),
    Claim(
        "Few unequal steps do for many equal ones",
        claims.OURS,
        "turnpike-unequal_steps.md",
        unequal,
    ),
    Claim(
        "After path loss layers can be left out: a quarter of the blocks, on data",
        "abstract of 2506.21453",
        "how_many_layers.md",
        cuts,
    ),
    Claim(
        "Networks of variable width, continuous in space",
        "abstract",
    ),
)

SYMMETRY = (
    Claim(
        "Free training, augmentation and averaging agree in the limit of wide networks",
        "abstract",
        "symmetry-mean-field.md",
        criteria("schemes"),
    ),
    Claim(
        "In the limit free training keeps strongly invariant laws, if data obey",
        "abstract",
        "symmetry-mean-field.md",
        criteria("drift, WI teacher, free", "drift: log–log"),
    ),
    Claim(
        "… and data that obey nothing drive it out, at N = 50, 100 and 500",
        "abstract",
        "symmetry-mean-field.md",
        criteria(*(f"drift, arbitrary teacher, free, N = {n}:" for n in WIDE)),
    ),
    Claim(
        "Augmentation and averaging keep them at N = 50, 100 and 500",
        claims.OURS,
        "symmetry-mean-field.md",
        criteria(*(f"drift, {how}, N = {size}," for size in WIDE for how in KEPT)),
    ),
    Claim(
        "So do residual blocks trained by C/λ + L on whole orbits",
        claims.OURS,
        "symmetry-mean-field.md",
        criteria("residual, C/λ + L on whole orbits,"),
    ),
    Claim(
        "An optimal strongly invariant law need not exist",
        "abstract",
        "symmetry-mean-field.md",
        criteria("counterexample"),
    ),
    Claim(
        "The fixed units can be found from data",
        "abstract",
        "symmetry-mean-field.md",
        criteria("discovery"),
    ),
    Claim(
        "With batches four times as large free training drifts 2.5 times less",
        claims.OURS,
        "symmetry-mean-field.md",
        criteria("noise"),
    ),
    Claim(
        "The exact test keeps the groups that data obey, and rejects the others",
        claims.OURS,
        "symmetry-laws.md",
        keeps,
    ),
    Claim(
        "Training with the group that data obey helps: 100 digits, augmented",
        claims.OURS,
        "symmetry-efficiency.md",
        claims.column(
            "augmented",
            " points",
            **{"data, training samples": "digits turned by random quarters, 100"},
        ),
    ),
)
PAGES = {
    "README.md": LEAST_ACTION,
    "horizons.md": HORIZONS,
    "symmetry.md": SYMMETRY,
}
_PLACE = re.compile(r"(?<=<!-- claims -->\n).*?(?=<!-- end -->)", re.DOTALL)


def page(name: str, folder: Path = RESULTS) -> str:
    """A page of results with its table of claims as the tables say now.

    Args:
        name: Of the page; it has the lines `<!-- claims -->` and `<!-- end -->`.
        folder: Where the results are.
    """
    table = claims.table(PAGES[name], folder)
    text, places = _PLACE.subn(lambda _: table, (folder / name).read_text("utf-8"))
    if places != 1:
        raise ValueError(f"{name} has {places} places for its claims; it needs one.")
    return text


def main() -> None:
    """Writes the tables of claims into the pages of results."""
    argparse.ArgumentParser(
        description="Writes the tables of claims into the pages of results, from the "
        "published tables.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    ).parse_args()
    for name in PAGES:
        (RESULTS / name).write_text(page(name), "utf-8")
        print(RESULTS / name)


if __name__ == "__main__":
    main()
