"""Prints the residual blocks of any network: ``python -m keras_lap ResNet50``.

The network is the name of one in `keras.applications`, which is built without weights;
the path of a function or class that returns one, such as
``keras_hub.models.ViTBackbone``; or a ``.keras`` file. Arguments follow as
``name=value``, values in Python's notation::

    python -m keras_lap EfficientNetB0 input_shape=(64,64,3)
    python -m keras_lap keras_hub.models.BertBackbone vocabulary_size=100 num_layers=2 \
        num_heads=2 hidden_dim=8 intermediate_dim=16 --json
    python -m keras_lap model.keras --blocks "stage1/" --picture blocks.svg
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_lap import _command
from keras_lap.blocks.find import find_residual_blocks
from keras_lap.blocks.picture import plot_blocks


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; ends with a message on `stderr` if the input is wrong."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        model = load(options.network, dict(map(_argument, options.arguments)))
        report = find_residual_blocks(
            model,
            re.compile(options.blocks) if options.blocks else "auto",
            options.include_projections,
        )
        print(json.dumps(report.to_dict(), indent=2) if options.json else report)
        if options.picture:  # last, for what draws it may be missing
            plot_blocks(model, options.picture, report)
    except (ValueError, TypeError, ImportError, OSError, re.error) as error:
        _command.fail(parser, error)


def _parser() -> argparse.ArgumentParser:
    parser = _command.parser("python -m keras_lap", __doc__)
    add = parser.add_argument
    add("network", help="a name, the path of a builder, or a file")
    add("arguments", nargs="*", metavar="name=value", help="of the builder")
    blocks = "a regular expression; count only blocks in whose names it is found"
    add("--blocks", metavar="PATTERN", help=blocks)
    projections = "count blocks whose shortcut changes the shape, too"
    add("--include-projections", action="store_true", help=projections)
    add("--json", action="store_true", help="print the report as JSON")
    add("--picture", type=Path, metavar="FILE", help="draw the network into it")
    return parser


def load(name: str, arguments: dict[str, Any]) -> keras.Model:
    """Builds or loads a network by its name.

    Args:
        name: A name in `keras.applications`, the path of a function or class, or that
            of a file that `keras.saving.load_model` reads.
        arguments: What to call the function or class with.

    Returns:
        The network.

    Raises:
        ValueError: If there is no such network.
        TypeError: If it cannot be built from these arguments, or is no Keras model.
    """
    if name.endswith((".keras", ".h5")):
        return _command.load(name, compile=False)
    if "." in name:
        builder = _imported(name)
    else:
        builder = getattr(keras.applications, name, None)
        arguments = {"weights": None, **arguments}
    if not callable(builder):
        names = [n for n in dir(keras.applications) if n[0].isupper()]
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.3)
        raise ValueError(
            f"There is no network {name!r}. Close names in keras.applications: "
            f"{', '.join(close or names[:3])}; others by their path, such as "
            "keras_hub.models.ViTBackbone, or as a .keras file."
        )
    try:
        # Names and shapes are all that is asked for: the weights stay unmade.
        with keras.StatelessScope(initialize_variables=False):
            model = builder(**arguments)
    except Exception:  # the builder computes with its weights
        model = builder(**arguments)
    if not isinstance(model, keras.Model):
        raise TypeError(f"{name} returned {model!r}, which is no keras.Model.")
    return model


def _imported(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    sys.path.insert(0, str(Path.cwd()))  # as for `python -m`, whoever calls
    try:
        return getattr(importlib.import_module(module), attribute, None)
    finally:
        sys.path.pop(0)


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"Arguments are name=value. Received: {text!r}.")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value  # a bare word is a string


if __name__ == "__main__":
    main()
