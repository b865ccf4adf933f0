"""The command line that the scripts of all studies share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_lap.experiments import report, tables
from keras_lap.experiments.environment import pin_threads
from keras_lap.experiments.running import run_study
from keras_lap.experiments.study import Study

FRESH = Path("out/results")
COMMITTED = Path("docs/results")


def main(
    presets: Mapping[str, Study],
    make_tables: Sequence[report.MakeTable] = (tables.comparison,),
    make_figures: Sequence[report.MakeFigure] = (),
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs a study, or makes its report, as the command line says.

    Args:
        presets: The study by the name of its preset.
        make_tables: The tables of its report.
        make_figures: The figures of its report.
        arguments: The command line; `None` for that of this process.
    """
    title = next(iter(presets.values())).title
    options = _parser(title, sorted(presets)).parse_args(arguments)
    study = presets[options.preset]
    folder = options.results or (COMMITTED if options.report else FRESH)
    path = report.result_file(folder, study, options.preset)
    if not options.report:
        if options.threads:
            pin_threads(options.threads)
        run_study(study, path, options.jobs)
    for written in report.write_report(study, path, make_tables, make_figures):
        print(written)


def _parser(title: str, presets: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument(
        "--preset",
        choices=presets,
        default="small",
        help="small for two processor cores (the default), paper for a GPU",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="only rebuild tables and figures from the results; train nothing",
    )
    parser.add_argument(
        "--results",
        type=Path,
        help=f"folder of the results; by default {FRESH}, and with --report the "
        f"committed ones in {COMMITTED}. A study goes on where its results end",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs side by side, one thread each"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of a single job; 0 for all"
    )
    return parser
