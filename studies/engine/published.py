"""What the reports share that are written from one result file, beside it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.engine import records
from studies.engine.command_line import COMMITTED, FRESH
from studies.engine.environment import pin_threads
from studies.engine.tables import Table


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


def main(
    description: str,
    name: str,
    run: Callable[[Path, Sequence[str]], None],
    write: Callable[[Path], Iterable[Path]],
    settings: Sequence[str] = (),
    arguments: Sequence[str] | None = None,
) -> None:
    """The command of such a study: runs it, and makes its report.

    Args:
        description: The text of its module, of which the first line is its help.
        name: Of the result file.
        run: Adds to a result file what it lacks, of the settings named.
        write: Makes the report of a result file; returns what was written.
        settings: Those that can be named, if any.
        arguments: The command line; None for that of this process.
    """
    parser = argparse.ArgumentParser(
        description=description.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_options(parser, name)
    if settings:
        text = "what is trained, as the tables name it"
        parser.add_argument(
            "--settings", nargs="+", choices=settings, default=settings, help=text
        )
    options = parser.parse_args(arguments)
    path = path_of(options, name)
    if not options.report:
        pin_threads(1)
        run(path, getattr(options, "settings", ()))
    for written in write(path):
        print(written)


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


def page(
    path: Path, lines: Sequence[records.Record], tables: Iterable[Table]
) -> dict[str, str]:
    """The page of a report, by its file name: tables, and what they were made of.

    Args:
        path: The result file.
        lines: All that it has.
        tables: Its tables, in order.
    """
    shown = [table.markdown() for table in tables]
    return {f"{path.stem}.md": "\n".join([*shown, made_by(path, lines)])}


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
