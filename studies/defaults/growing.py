"""A result file that grows line by line, and goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from studies.engine import records
from studies.engine.environment import describe


class Growing:
    """The lines of a result file by their keys.

    Args:
        path: The file; a last line that was cut short is set aside.
        names: Of the fields that are the key of a line.

    Attributes:
        found: The lines so far.
    """

    def __init__(self, path: Path, names: tuple[str, ...]):
        self.path, self.names = path, names
        records.repair(path)
        self.found = by_key(records.read(path), names)

    def add(self, key: tuple, run: Callable[[], dict[str, Any]]) -> None:
        """Runs what the file lacks, and writes its line.

        Args:
            key: Of the line.
            run: Returns its other fields, of which `validation` and `seconds` are
                printed.
        """
        if key in self.found:
            return
        line = dict(zip(self.names, key, strict=True)) | run()
        line["environment"] = describe()
        records.append(self.path, line)
        self.found[key] = records.rounded(line)
        print(*key, f"{line['validation']:.3f} {line['seconds']:.1f} s", flush=True)


def by_key(
    lines: Sequence[records.Record], names: tuple[str, ...]
) -> dict[tuple, records.Record]:
    """The lines by the values of some fields."""
    return {tuple(line[name] for name in names): line for line in lines}
