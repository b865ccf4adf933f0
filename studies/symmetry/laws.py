"""Does the exact test keep every group that data obey, and reject every other?

Scikit-learn's digits in four forms: as they are, each turned by a random quarter, by a
random half, or mirrored at random. A dense network is trained on 900, and the test sees
the 897 others: seven candidates for each form, those that it obeys among them.

Run from the root of the clone, ``python -m studies.symmetry.laws``; it goes on where it
was stopped. ``--report`` rebuilds the table from the committed results.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_lap.symmetry import (
    Action,
    FiniteGroup,
    Images,
    Linear,
    cyclic,
    from_generators,
    law_test,
    mirror,
    rotations,
)
from studies.engine import published, records
from studies.engine.environment import describe
from studies.engine.tables import Table
from studies.symmetry.data import all_digits, turned_by

NAME = "symmetry-laws.jsonl"
SEEDS = range(10)
TRAINED_ON = 900
EPOCHS = 40
# The forms of the data, and the candidates that each obeys.
FORMS = {
    "as they are": (),
    "turned by random quarters": ("half turn", "quarter turns"),
    "turned by random halves": ("half turn",),
    "mirrored at random": ("left-right",),
}
_NOTE = (
    "Least and greatest p-value over the seeds, before any correction, and in how many "
    "seeds the test with Holm's correction at level .05 kept the group. **Bold**: "
    f"data obey it. Each seed draws the form and the split, and trains on {TRAINED_ON} "
    "images; 1999 random elements, so that p is at least .0005. Where data obey a "
    "group a test at level .05 errs in one seed of twenty at most, by construction."
)


def candidates() -> dict[str, FiniteGroup | Action]:
    """Groups that act on images of 8x8 pixels."""
    flip, swapped = np.diag([1.0, -1.0]), [[0.0, 1.0], [1.0, 0.0]]
    second = [0, 2, 1, *range(3, 8)]
    return {
        "left-right": Images(mirror()),
        "up-down": Images(from_generators([flip])),
        "half turn": Images(rotations(2)),
        "quarter turns": Images(rotations(4)),
        "diagonal mirror": Images(from_generators([swapped])),
        "shifts of columns": Linear(cyclic(8), axis=2),
        "two rows swapped": Linear(from_generators([np.eye(8)[second]]), axis=1),
    }


def draw(form: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All digits in one of `FORMS`, in an order of the seed."""
    images, labels = all_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    images, labels = images[order], labels[order]
    if form == "mirrored at random":
        mirrored = rng.integers(0, 2, len(images)).astype(bool)
        images[mirrored] = images[mirrored][:, :, ::-1]
    elif form != "as they are":
        step = 1 if form == "turned by random quarters" else 2
        images = turned_by(images, rng.integers(0, 4 // step, len(images)) * step)
    return images, labels


def run(form: str, seed: int) -> dict:
    """Trains with one seed and tests all candidates.

    Returns:
        `accuracy` in percent on what was held out; `p_values` and `kept` by candidate.
    """
    x, y = draw(form, seed)
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    train, held_out = (x[:TRAINED_ON], y[:TRAINED_ON]), (x[TRAINED_ON:], y[TRAINED_ON:])
    network.fit(*train, batch_size=64, epochs=EPOCHS, verbose=0)
    accuracy = network.evaluate(*held_out, verbose=0)[1]
    report = law_test(network, *held_out, candidates(), loss, batch_size=897, seed=seed)
    return {
        "accuracy": float(100 * accuracy),
        "p_values": dict(zip(report.names, map(float, report.p_values), strict=True)),
        "kept": [
            name
            for name, value in zip(report.names, report.adjusted, strict=True)
            if value >= report.level
        ],
    }


def table(lines: Sequence[records.Record]) -> Table:
    """The table of the results."""
    rows = []
    for form, obeyed in FORMS.items():
        found = [line for line in lines if line["form"] == form]
        if not found:
            continue
        accuracy = np.mean([line["accuracy"] for line in found])
        cells = []
        for name in candidates():
            values = [line["p_values"][name] for line in found]
            kept = sum(name in line["kept"] for line in found)
            cell = f"{min(values):.4f}–{max(values):.4f}, kept {kept}"
            cells.append(f"**{cell}**" if name in obeyed else cell)
        rows.append((form, str(len(found)), f"{accuracy:.1f} %", *cells))
    header = ("digits", "seeds", "accuracy", *candidates())
    return Table("Which groups the test keeps", header, tuple(rows), _NOTE)


def run_all(path: Path) -> None:
    """Adds to a result file what it lacks."""
    records.repair(path)
    done = {(line["form"], line["seed"]) for line in records.read(path)}
    for seed, form in itertools.product(SEEDS, FORMS):
        if (form, seed) not in done:
            line = {"form": form, "seed": seed, **run(form, seed), **describe()}
            records.append(path, line)


def write(path: Path) -> list[Path]:
    """Writes the table beside the result file, and returns where it is."""
    text = table(published.lines_of(path)).markdown() + "\n"
    return published.write_beside(path, {f"{path.stem}.md": text})


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study, or makes its report."""
    published.main(
        __doc__ or "",
        NAME,
        lambda path, _: run_all(path),
        write,
        arguments=arguments,
    )


if __name__ == "__main__":
    main()
