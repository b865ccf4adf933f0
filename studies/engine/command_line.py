"""The command line that the scripts of all studies share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from studies.engine import report, tables
from studies.engine.environment import pin_threads
from studies.engine.running import run_study
from studies.engine.study import Study

FRESH = Path("out/results")
COMMITTED = Path(__file__).resolve().parents[1] / "results"
# What a preset of such a name is in every study.
_MEANT = {
    "small": "for two processor cores",
    "protocol": "the same with the authors' decay, schedule, networks and order of λ",
    "paper": "all of the authors' protocol, at full size",
    "full": "all data and full width, in a protocol that is not the authors'",
    "gpu": "what takes minutes of a GPU",
    "fresh": "one setting of small on other seeds",
}


def main(
    presets: Mapping[str, Study],
    make_tables: Sequence[report.MakeTable] = (tables.comparison,),
    make_figures: Sequence[report.MakeFigure] = (),
    arguments: Sequence[str] | None = None,
    reference: report.Reference | None = None,
) -> None:
    """Runs a study, or makes its report, as the command line says.

    Args:
        presets: The study by the name of its preset.
        make_tables: The tables of its report.
        make_figures: The figures of its report.
        arguments: The command line; `None` for that of this process.
        reference: What the report compares the study's attributes with, where it has
            no preset `paper`.
    """
    title = next(iter(presets.values())).title
    options = _parser(title, sorted(presets)).parse_args(arguments)
    study = presets[options.preset]
    folder = getattr(options, "results", COMMITTED if options.report else FRESH)
    path = report.result_file(folder, study, options.preset)
    if not options.report:
        if options.threads:
            pin_threads(options.threads)
        run_study(study, path, options.jobs)
    other = reference or report.reference_of(presets, options.preset)
    made = report.write_report(study, path, make_tables, make_figures, other)
    for written in made:
        print(written)


def _parser(title: str, presets: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=title, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--preset",
        choices=presets,
        default="small",
        help="; ".join(f"{name}: {_MEANT[name]}" for name in presets),
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="only rebuild tables and figures from the results; train nothing",
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="folder of the results; a study goes on where its results end (default: "
        f"{FRESH} in the current folder; with --report the committed results, "
        + str(COMMITTED).replace("%", "%%")
        + ")",
        default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs side by side, one thread each"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of a single job; 0 for all"
    )
    return parser
