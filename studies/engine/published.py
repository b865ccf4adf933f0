"""What the reports share that are written from one result file, beside it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.engine import records
from studies.engine.command_line import COMMITTED, FRESH


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds what the commands of such studies share, which `path_of` reads.

    Args:
        parser: Of the command.
        name: Of the result file.
    """
    parser.add_argument("--report", action="store_true", help="train nothing")
    text = f"a .jsonl file, where not {FRESH / name}, or of a report the published one"
    parser.add_argument("--results", type=Path, metavar="FILE", help=text)


def path_of(options: argparse.Namespace, name: str) -> Path:
    """The result file that a command is about."""
    folder = COMMITTED if options.report else FRESH
    given: Path | None = options.results
    return folder / name if given is None else given


def lines_of(path: Path) -> list[records.Record]:
    """The lines of a result file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"There are no results at {path}. Run the study first, without --report."
        )
    return records.read(path)


def made_by(path: Path, lines: Sequence[records.Record]) -> str:
    """What a report says of its lines, which are of JAX."""
    versions = sorted({line["environment"]["versions"]["keras"] for line in lines})
    return f"From the {len(lines)} runs in `{path.name}`: Keras {versions[0]}, JAX.\n"


def write_beside(
    path: Path, texts: Mapping[str, str], figure: Any = None
) -> list[Path]:
    """Writes texts, and a figure as SVG, beside a result file.

    Args:
        path: The result file.
        texts: By their file names.
        figure: A `matplotlib.figure.Figure`. Defaults to None, for no figure.

    Returns:
        What was written.
    """
    written = []
    for name, text in texts.items():
        path.with_name(name).write_text(text, encoding="utf-8")
        written.append(path.with_name(name))
    if figure is None:
        return written
    import matplotlib

    # Without a salt and with a date, the same figure would differ from run to run.
    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        target = path.with_suffix(".svg")
        figure.savefig(target, metadata={"Date": None})
    return [*written, target]
