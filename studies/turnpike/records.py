"""What the studies of this folder write: tables, a picture, and what was to be shown.

    python -m studies.turnpike.<study> --results studies/results

`turnpike-<study>.md` holds the criteria and all tables, `turnpike-<study>.csv` the
first table, `turnpike-<study>-2.csv` the second, and so on, `turnpike-<study>.svg` the
picture. Without `--results` they go to `out/results/`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.engine import published
from studies.engine.environment import describe
from studies.engine.tables import Table

FRESH = Path("out/results")


@dataclass(frozen=True)
class Criterion:
    """Something that a study has to show.

    Attributes:
        claim: What has to hold, with its bound.
        found: What was measured.
        passed: Whether it holds.
    """

    claim: str
    found: str
    passed: bool


@dataclass(frozen=True)
class Findings:
    """What a study has found.

    Attributes:
        title: A heading.
        criteria: What it had to show.
        tables: All numbers, as text.
        figure: A Matplotlib figure.
        note: What was done, and what was cut, in Markdown.
        runs: Records of the runs, with what `describe` said of each; empty if this
            process made them.
    """

    title: str
    criteria: Sequence[Criterion]
    tables: Sequence[Table]
    figure: Any
    note: str = ""
    runs: Sequence[Mapping[str, Any]] = ()

    def markdown(self) -> str:
        """The page: note, criteria, tables, and by what it was made."""
        head = ("criterion", "found", "passed")
        rows = [
            (c.claim, c.found, "yes" if c.passed else "**no**") for c in self.criteria
        ]
        parts = [f"# {self.title}\n", f"{self.note}\n" if self.note else ""]
        parts.append(Table("Criteria", head, tuple(rows)).markdown())
        parts += [table.markdown() for table in self.tables]
        parts.append(_made_by(self.runs or [describe()]))
        return "\n".join(part for part in parts if part)


def _made_by(runs: Sequence[Mapping[str, Any]]) -> str:
    by = {f"Keras {each['versions']['keras']} on {each['backend']}" for each in runs}
    code = dict.fromkeys(str(each["revision"])[:12] for each in runs)
    return f"Made with {', '.join(sorted(by))}, code at {', '.join(code)}.\n"


def write(name: str, findings: Findings, folder: Path) -> list[Path]:
    """Writes tables (Markdown, CSV) and the picture (SVG) of a study.

    Args:
        name: Of the study; the files are named `turnpike-<name>`.
        findings: What it has found.
        folder: Made if need be.

    Returns:
        The files.
    """
    stem = f"turnpike-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{stem}.md": findings.markdown()}
    for number, table in enumerate(findings.tables, start=1):
        texts[f"{stem}.csv" if number == 1 else f"{stem}-{number}.csv"] = table.csv()
    return published.write_beside(folder / stem, texts, findings.figure)


def main(
    name: str, study: Callable[[], Findings], arguments: Sequence[str] | None = None
) -> None:
    """Runs a study as the command line says, and prints what it wrote and found.

    Args:
        name: As in `write`.
        study: The study.
        arguments: The command line; None for that of this process.
    """
    parser = argparse.ArgumentParser(
        description=f"The study turnpike-{name}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--results", type=Path, default=FRESH, metavar="FOLDER", help="of the files"
    )
    folder = parser.parse_args(arguments).results
    findings = study()
    for path in write(name, findings, folder):
        print(path)
    for each in findings.criteria:
        print("pass" if each.passed else "NOT ", each.claim, "|", each.found)
