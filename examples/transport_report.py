"""Pages on how saved networks transport a data set: numbers and pictures.

Writes into a folder, for each network, the page of its transport report, beside the
network that moves the data most, and an animation of the points in all of them. Each
page needs no other file and no connection.

    python examples/quickstart.py --save out/networks
    python examples/transport_report.py out/networks/kaiming-*.keras --dataset digits
    python examples/transport_report.py network.keras --data points.npz  # arrays x, y

Next to a network `name.keras`, the log `name.csv` of `keras.callbacks.CSVLogger` adds
pictures of its training: λ, task loss and transport cost, and with a
`TransportMonitor` before the logger the cost of each block.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import keras
import numpy as np

import keras_lap
from keras_lap import transport


def parse_arguments() -> argparse.Namespace:
    """Reads the options from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("networks", nargs="+", type=Path, help=".keras files")
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        "--dataset", default="digits", help="a name that keras_lap.datasets.load knows"
    )
    data.add_argument("--data", type=Path, help="an .npz file with arrays x and y")
    parser.add_argument("--samples", type=int, default=500, help="test samples to run")
    parser.add_argument("--p", type=float, default=2.0, help="exponent of the costs")
    parser.add_argument("--stage", type=int, default=-1, help="stage in the pictures")
    out = Path("out/transport")
    parser.add_argument("--out", type=Path, default=out, help="the folder to write to")
    return parser.parse_args()


def load_data(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs and labels, as many as asked for."""
    if options.data is None:
        test = keras_lap.datasets.load(options.dataset).test
        return test.x[: options.samples], test.y[: options.samples]
    with np.load(options.data) as arrays:
        x = arrays["x"][: options.samples]
        return x, arrays["y"][: options.samples] if "y" in arrays else None


def read_log(path: Path) -> dict[str, list[float]]:
    """A training log of `keras.callbacks.CSVLogger` as a history; empty if absent."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = rows[0] if rows else ()
    # The logger writes NA for what was not measured.
    return {k: [float(row[k].replace("NA", "nan")) for row in rows] for k in keys}


def accuracy(network: keras.Model, x: np.ndarray, y: np.ndarray | None) -> float | None:
    """Share of samples classified rightly; None if the labels are no classes."""
    answers = network.predict(x, verbose=0)
    classes = y is not None and y.ndim == 1 and np.issubdtype(y.dtype, np.integer)
    if not classes or answers.ndim != 2 or answers.shape[1] < 2:
        return None
    return float(np.mean(np.argmax(answers, -1) == y))


def compared(name: str, reference: str, accuracies: dict[str, float]) -> str:
    """Which network stands beside this one, and how many samples both get right."""
    others = [] if reference == name else [reference]
    known = [
        f"{n} {100 * accuracies[n]:.1f} %" for n in [name, *others] if n in accuracies
    ]
    parts = [f"Beside it as the reference: {each}." for each in others]
    return " ".join([*parts, *([f"Accuracy: {', '.join(known)}."] if known else [])])


def draw_training(histories: dict[str, dict[str, list[float]]], folder: Path) -> None:
    """Draws the trainings that left a log, of which there is one."""
    transport.plot_training(histories).savefig(folder / "training.png", dpi=120)
    for name, history in histories.items():
        if "transport_cost_block0" in history:
            axes = transport.plot_block_costs(history)
            axes.figure.savefig(folder / f"{name}-training.png", dpi=120)


def main() -> None:
    """Runs everything."""
    options = parse_arguments()
    x, y = load_data(options)
    reports, histories, accuracies = {}, {}, {}
    for path in options.networks:
        print(path)
        network = keras.saving.load_model(path, compile=False)
        reports[path.stem] = transport.analyze(network, x, y, p=options.p)
        print(reports[path.stem])
        if (share := accuracy(network, x, y)) is not None:
            accuracies[path.stem] = share
        if history := read_log(path.with_suffix(".csv")):
            histories[path.stem] = history
    options.out.mkdir(parents=True, exist_ok=True)
    most = max(reports, key=lambda name: reports[name].total_cost)
    for name, report in reports.items():
        report.save_html(
            options.out / f"{name}.html",
            reference=None if name == most else reports[most],
            stage=options.stage,
            note=compared(name, most, accuracies),
        )
    transport.animate(reports, options.out / "points.gif", options.stage)
    if histories:
        draw_training(histories, options.out)
    print("Written:", *sorted(options.out.iterdir()), sep="\n  ")


if __name__ == "__main__":
    main()
