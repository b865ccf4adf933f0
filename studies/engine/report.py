"""Writes the tables and figures of a study from its result file, training nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from studies.engine import records, tables
from studies.engine.measures import Results
from studies.engine.running import find
from studies.engine.study import Study

MakeTable = Callable[[Study, Results], tables.Table]
MakeFigure = Callable[[Study, Results], Any]
_SUFFIX = ".jsonl"


class Reference(NamedTuple):
    """What a report says how its study differs from.

    Attributes:
        name: What the tables call it.
        study: The study.
    """

    name: str
    study: Study


def reference_of(presets: Mapping[str, Study], preset: str) -> Reference | None:
    """The preset in the authors' protocol, if it is another and there is one."""
    if preset == "paper" or "paper" not in presets:
        return None
    return Reference("preset paper", presets["paper"])


def result_file(folder: Path, study: Study, preset: str) -> Path:
    """Where the results of a preset of a study are."""
    return folder / f"{study.name}-{preset}{_SUFFIX}"


def build_texts(
    study: Study,
    path: Path,
    make_tables: Sequence[MakeTable] = (tables.comparison,),
    reference: Reference | None = None,
) -> dict[str, str]:
    """The text of the report's tables.

    Args:
        study: The study.
        path: Its result file.
        make_tables: Functions from the study and its records to a `Table`.
        reference: Such as the preset in the authors' protocol: the report then says in
            what the study differs from it.

    Returns:
        Text by file name: one Markdown file with all tables, one CSV file for each.

    Raises:
        FileNotFoundError: If there is no result file.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"There are no results to report at {path}. Run the study first, without "
            "--report, or pass --results with the folder of its results."
        )
    results = find(study, records.read(path))
    # A preset of one setting has no rivals, and nothing to compare it with.
    made = [found for make in make_tables if (found := make(study, results)).rows]
    stem = path.name.removesuffix(_SUFFIX)
    shown = [*made]
    if reference is not None:
        shown.append(tables.differences(study, reference.study, reference.name))
    texts = {f"{stem}.md": _markdown(shown, list(results.values()), path.name)}
    for number, table in enumerate(made, start=1):
        name = stem if number == 1 else f"{stem}-{number}"
        texts[f"{name}.csv"] = table.csv()
    return texts


def write_report(
    study: Study,
    path: Path,
    make_tables: Sequence[MakeTable] = (tables.comparison,),
    make_figures: Sequence[MakeFigure] = (),
    reference: Reference | None = None,
) -> list[Path]:
    """Writes tables (Markdown, CSV) and figures (PNG, SVG) beside the result file.

    Args:
        study: The study.
        path: Its result file.
        make_tables: As for `build_texts`.
        make_figures: Functions from the study and its records to a Matplotlib figure,
            named after what they show.
        reference: As for `build_texts`.

    Returns:
        The files that were written.

    Raises:
        FileNotFoundError: If there is no result file.
    """
    written = []
    for name, text in build_texts(study, path, make_tables, reference).items():
        path.with_name(name).write_text(text, encoding="utf-8")
        written.append(path.with_name(name))
    results = find(study, records.read(path))
    for make in make_figures:
        written.extend(_save(make(study, results), path, make.__name__))
    return written


def _save(figure: Any, path: Path, name: str) -> list[Path]:
    import matplotlib

    stem = path.name.removesuffix(_SUFFIX)
    written = []
    # Without a salt and with a date, the same figure would differ from run to run.
    with matplotlib.rc_context({"svg.hashsalt": stem}):
        for kind, metadata in (("png", None), ("svg", {"Date": None})):
            target = path.with_name(f"{stem}-{name}.{kind}")
            figure.savefig(target, dpi=100, metadata=metadata)
            written.append(target)
    return written


def _markdown(
    made: Sequence[tables.Table], found: Sequence[records.Record], source: str
) -> str:
    backends = sorted({record["backend"] for record in found})
    kerases = sorted({record["versions"]["keras"] for record in found})
    revisions = sorted({str(record["revision"])[:12] for record in found})
    made_by = (
        f"From the {len(found)} runs in `{source}`: Keras {', '.join(kerases)} on "
        f"{', '.join(backends)}, code at {', '.join(revisions)}.\n"
    )
    return "\n".join([*(table.markdown() for table in made), made_by])
