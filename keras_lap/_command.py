"""What the commands of the package, ``python -m keras_lap...``, say of themselves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

import keras


class _Formatter(
    argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter
):
    """Lines as they are written, and the default of each option."""


def parser(prog: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser whose `--help` is the docstring of the command's module, as plain text.

    Args:
        prog: How the command is called.
        doc: The docstring: a first line that ends before a colon, and the rest.
    """
    plain = (doc or "").replace("`", "").replace("::\n", ":\n")
    summary, _, rest = plain.partition("\n\n")
    return argparse.ArgumentParser(
        prog=prog,
        description=summary.partition(":")[0] + ".",
        epilog=rest,
        formatter_class=_Formatter,
    )


def load(path: str | Path, **options: Any) -> Any:
    """A saved network.

    Args:
        path: Of a file that `keras.saving.load_model` reads.
        **options: Of that function.

    Raises:
        ValueError: If it cannot be read, whatever the reason.
    """
    try:
        return keras.saving.load_model(path, **options)
    except Exception as error:  # a foreign file fails in any way
        raise ValueError(
            f"{path} cannot be read as a network: {said(error)}"
        ) from error


def said(error: Exception) -> str:
    """What an error says, in one line."""
    text = " ".join(str(error).split())
    ordinary = isinstance(error, ValueError | TypeError | ImportError | OSError)
    return text if text and ordinary else f"{type(error).__name__}: {text}"


def fail(parser: argparse.ArgumentParser, error: Exception) -> NoReturn:
    """Ends the command with one line on `stderr`, and exit status 2."""
    parser.exit(2, f"{parser.prog}: error: {said(error)}\n")
