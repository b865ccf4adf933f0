"""The command line that the scripts of all studies share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from keras_lap.experiments.environment import pin_threads
from keras_lap.experiments.running import run_study
from keras_lap.experiments.study import Study


def main(presets: Mapping[str, Study], arguments: list[str] | None = None) -> None:
    """Runs a study, or makes its report, as the command line says.

    Args:
        presets: The study by the name of its preset.
        arguments: The command line; `None` for that of this process.
    """
    options = _parser(presets).parse_args(arguments)
    study = presets[options.preset]
    path = options.results / f"{study.name}-{options.preset}.jsonl"
    if options.threads:
        pin_threads(options.threads)
    run_study(study, path, options.jobs)


def _parser(presets: Mapping[str, Study]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=next(iter(presets.values())).title,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--preset", choices=sorted(presets), default="small")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of this process; 0 for all"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("out/results"), help="folder of results"
    )
    return parser
