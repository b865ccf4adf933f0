"""Prints how many of its blocks a saved network needs: ``python -m keras_lap.depth``.

The network is a ``.keras`` file of a compiled model, for its loss and metrics. The data
are the name of a set that `keras_lap.datasets.load` knows, or an ``.npz`` file with
arrays x and y. Of a set by name the test split counts, which the choice of a depth
spoils for a final figure; ``--validation`` takes so many samples off the training split
instead, which the network must not have been trained on::

    python -m keras_lap.depth network.keras --data digits --validation 300
    python -m keras_lap.depth network.keras --data held_out.npz --html depth.html
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_lap import _command, datasets, depth


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; ends with a message on `stderr` if the input is wrong."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        model = _command.load(options.network)
        x, y = _data(options.data, options.validation, _shape(model))
        report = depth.analyze(
            model,
            x,
            y,
            loss=options.loss,
            horizon=options.horizon,
            tolerance=options.tolerance,
            batch_size=options.batch_size,
            recalibrate=options.recalibrate,
            verbose=0,
        )
        print(report.to_json(indent=2) if options.json else report)
        if options.html:  # last, for what draws it may be missing
            report.save_html(options.html)
    except Exception as error:  # a network may fail on data in any way
        _command.fail(parser, error)


def _parser() -> argparse.ArgumentParser:
    parser = _command.parser("python -m keras_lap.depth", __doc__)
    add = parser.add_argument
    add("network", help="a .keras file")
    add("--data", required=True, help="a name or an .npz file; has to be given")
    validation = "how many to take off the training data; 0 for the test data"
    add("--validation", type=int, default=0, metavar="SAMPLES", help=validation)
    add("--tolerance", type=float, default=0.01, help="what a cut may cost")
    add("--loss", help="name of a loss, where the file has none")
    add("--horizon", type=float, help="the time of all blocks, where not 1 for each")
    add("--batch-size", type=int, default=128, help="samples of one run")
    add("--recalibrate", action="store_true", help="new statistics of batch norm")
    add("--json", action="store_true", help="print the numbers as JSON")
    add("--html", type=Path, metavar="FILE", help="write a page with pictures")
    return parser


def _shape(model: keras.Model) -> tuple[int | None, ...]:
    """Of the input of a network, or of the one that a model trains."""
    shape = getattr(getattr(model, "network", model), "input_shape", ())
    return shape if isinstance(shape, tuple) else ()


def _data(
    name: str, validation: int, input_shape: tuple[int | None, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, as flat as the network takes them, and targets."""
    if name.endswith(".npz"):
        try:
            with np.load(name) as arrays:
                return arrays["x"], arrays["y"]
        except Exception as error:  # a foreign file fails in any way
            said = f"{name} has no arrays x and y: {_command.said(error)}"
            raise ValueError(said) from error
    data = datasets.load(name, validation_size=validation)
    split = data.validation if data.validation is not None else data.test
    flat = len(input_shape) == 2
    return (split.x.reshape(len(split.x), -1) if flat else split.x), split.y


if __name__ == "__main__":
    main()
