"""The result file: one line of JSON for every finished run.

A line is written at once and forced to disk, so that a killed study loses at most the
run in hand.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]
_DIGITS = 4


def append(path: Path, record: Record) -> None:
    """Adds a line to a result file and waits until it is on disk.

    Args:
        path: The file; it and its folder are made if need be.
        record: Plain data. Numbers keep four significant digits, and those that are
            not finite become `null`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(rounded(record), ensure_ascii=False, allow_nan=False)
    with path.open("ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Record]:
    """Reads a result file, which is left as it is.

    Args:
        path: The file; if there is none, there are no records.

    Returns:
        The records in the order in which they were written.

    Raises:
        ValueError: If a line is broken. `repair` mends the last one.
    """
    records = []
    for number, line in enumerate(_lines(path), start=1):
        record = _parse(line)
        if record is None:
            raise ValueError(
                f"Line {number} of {path} is not a whole record. Received: "
                f"{line[:60]!r}... Start the study again to set a last line aside that "
                "was cut short; remove any other broken line."
            )
        records.append(record)
    return records


def repair(path: Path) -> Path | None:
    """Sets the last line of a result file aside if it was cut short.

    Args:
        path: The file; there need be none.

    Returns:
        The file to which the line was added, named as `path` with `.broken` behind
        it; `None` if there was nothing to mend.
    """
    lines = _lines(path)
    if not lines or _parse(lines[-1]) is not None:
        return None
    aside = path.with_name(f"{path.name}.broken")
    with aside.open("ab") as file:
        file.write(lines[-1].rstrip(b"\n") + b"\n")
    with path.open("rb+") as file:
        file.truncate(sum(len(line) for line in lines[:-1]))
        os.fsync(file.fileno())
    return aside


def rounded(value: Any) -> Any:
    """`value` with numbers of four significant digits, `None` for NaN and infinity."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def _parse(line: bytes) -> Record | None:
    """The record of a line, or `None` if it is not a whole one."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
