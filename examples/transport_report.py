"""One page on how saved networks transport a data set: numbers and pictures.

Writes a self-contained HTML page, which needs no other file and no connection, with the
transport report of each network, and pictures of them side by side.

    python examples/quickstart.py --save out/networks
    python examples/transport_report.py out/networks/kaiming-*.keras --dataset digits
    python examples/transport_report.py network.keras --data points.npz  # arrays x, y

Next to a network `name.keras`, the log `name.csv` of `keras.callbacks.CSVLogger` adds
the pictures of its training: λ, task loss and transport cost, and with a
`TransportMonitor` before the logger the cost of each block.
"""

from __future__ import annotations

import argparse
import csv
import html
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_lap
from keras_lap import transport
from keras_lap._drawing import html_figure as picture
from keras_lap._drawing import html_image, html_page

NOTE = """<p>A block moves its state from x<sub>k</sub> to x<sub>k+1</sub>; v is the
difference. A stage is a run of blocks that move one state through a space of fixed
dimension. Its network cost is the mean of ‖x<sub>K</sub> − x<sub>0</sub>‖<sup>p</sup>
between its first and last states, its optimal cost the least that any matching of the
same two clouds could cost. A ratio (optimality) of 1 is optimal, and so is a path ratio
(length of the path over straight distance) of 1.</p>"""


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
    out = Path("out/transport.html")
    parser.add_argument("--out", type=Path, default=out, help="the page to write")
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


def table(rows: list[dict[str, Any]]) -> str:
    """Dictionaries of the same keys as an HTML table."""
    head = "".join(f"<th>{html.escape(key.replace('_', ' '))}</th>" for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{cell(value)}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def cell(value: Any) -> str:
    """A value of the report as text."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def numbers(name: str, report: transport.TransportReport) -> str:
    """The numbers of one report, all from its `to_dict`."""
    plain = report.to_dict()
    blocks = [
        {
            **{k: v for k, v in block.items() if k != "displacement_quantiles"},
            **{f"‖v‖ at {q}": v for q, v in block["displacement_quantiles"].items()},
        }
        for block in plain["blocks"]
    ]
    stages = [
        {"stage": number, **stage, "blocks": len(stage["blocks"])}
        for number, stage in enumerate(plain["stages"])
    ]
    regular = [
        {
            "stage": number,
            "Lipschitz, median": stage.regularity.forward.median,
            "95 %": stage.regularity.forward.high,
            "largest": stage.regularity.forward.maximum,
            "inverse, median": stage.regularity.inverse.median,
            "inverse, 95 %": stage.regularity.inverse.high,
            "inverse, largest": stage.regularity.inverse.maximum,
        }
        for number, stage in enumerate(report.stages)
    ]
    return (
        f"<h3>{html.escape(name)}</h3><p>{plain['num_samples']} samples, "
        f"{report.sample_size} of them compared with optimal transport; p = "
        f"{plain['p']:g}; total cost {plain['total_cost']:.4g}.</p>"
        f"{table(stages)}{table(regular)}{table(blocks)}"
        f'<script type="application/json" data-network="{html.escape(name)}">'
        f"{report.to_json().replace('<', chr(92) + 'u003c')}</script>"
    )


def animation(report: transport.TransportReport, stage: int, caption: str) -> str:
    """An animation inside the page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "transport.gif"
        transport.animate(report, path, stage)
        return html_image(path.read_bytes(), "gif", caption)


def pictures(reports: dict[str, transport.TransportReport], stage: int) -> str:
    """All pictures of where the points go."""
    parts = [
        picture(
            transport.plot_displacements(reports),
            "How far each block moves its samples: median, 25 to 75 % (thick), 5 to "
            "95 % (thin).",
        ),
        picture(
            transport.plot_trajectories(reports, stage),
            "Paths of single points through the blocks, from a ring to a filled shape.",
        ),
    ]
    for name, report in reports.items():
        parts += [
            f"<h3>{html.escape(name)}</h3>",
            picture(
                transport.plot_points(report, stage, same_scale=False),
                "The points before the first block and after each, every panel with a "
                "scale of its own.",
            ),
            picture(
                transport.plot_matching(report, stage),
                "Each point and its image (left), and its partner in the optimal "
                "matching (right; orange where that is not its own image).",
            ),
            animation(report, stage, "The points on their way through the blocks."),
        ]
    return "".join(parts)


def training(histories: dict[str, dict[str, list[float]]]) -> str:
    """The pictures of the trainings that left a log, of which there is one."""
    parts = [
        picture(
            transport.plot_training(histories),
            "Multiplier, task loss and transport cost over the epochs. The cost is "
            "that of the training batches; of plain training, which does not know it, "
            "that of the monitor's data.",
        ),
    ]
    for name, history in histories.items():
        if "transport_cost_block0" in history:
            parts.append(
                picture(
                    transport.plot_block_costs(history),
                    f"{name}: cost of each block on the training batches.",
                )
            )
    return "".join(parts)


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
    source = options.data.name if options.data else options.dataset
    stage = options.stage % len(report_stages(reports))
    listed = [numbers(name, report) for name, report in reports.items()]
    sections = {
        f"Where do the points go? Stage {stage}": [pictures(reports, options.stage)],
        "What does each block do?": [NOTE, *listed],
    }
    if histories:
        sections["How did training go?"] = [training(histories)]
    title = f"Transport of {source} by {', '.join(reports)}"
    page = html_page(title, first(reports, accuracies), sections)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page, encoding="utf-8")
    print(f"Report: {options.out}")


def first(
    reports: dict[str, transport.TransportReport], accuracies: dict[str, float]
) -> str:
    """How much less the laziest network moves the data, in one plain sentence."""
    least = min(reports, key=lambda name: reports[name].total_cost)
    most = max(reports, key=lambda name: reports[name].total_cost)
    cost = reports[least].total_cost
    if least == most or not cost:
        return f"{least} moves the data at a transport cost of {cost:.3g}."
    times = reports[most].total_cost / cost
    said = f"{least} moves the data {times:,.{0 if times >= 10 else 1}f} times less "
    said += f"than {most}, by transport cost"
    if not {least, most} <= set(accuracies):
        return f"{said}."
    change = round(100 * (accuracies[least] - accuracies[most]), 1)
    if not change:
        return f"{said}, at equal accuracy."
    more = "more" if change > 0 else "less"
    return f"{said}, and is {abs(change)} percentage points {more} accurate."


def accuracy(network: keras.Model, x: np.ndarray, y: np.ndarray | None) -> float | None:
    """Share of samples classified rightly; None if the labels are no classes."""
    answers = network.predict(x, verbose=0)
    classes = y is not None and y.ndim == 1 and np.issubdtype(y.dtype, np.integer)
    if not classes or answers.ndim != 2 or answers.shape[1] < 2:
        return None
    return float(np.mean(np.argmax(answers, -1) == y))


def report_stages(reports: dict[str, transport.TransportReport]) -> tuple[Any, ...]:
    """The stages of the network that has fewest."""
    return min((report.stages for report in reports.values()), key=len)


if __name__ == "__main__":
    main()
