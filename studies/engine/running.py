"""Runs a study: what its result file does not have yet, with jobs side by side."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras

from keras_lap._extras import require
from studies.engine import records
from studies.engine.environment import describe, pin_threads
from studies.engine.study import Run, Study
from studies.engine.training import train


def run_study(
    study: Study,
    path: str | os.PathLike[str],
    jobs: int | None = 1,
    progress: bool = True,
) -> list[records.Record]:
    """Trains every run of a study that its result file does not have yet.

    Only this process writes the file, one line as soon as a run is finished. With
    more than one job, joblib's processes train with one thread each. Under
    ``joblib.parallel_config(backend="dask")``, or any other of joblib's backends, and
    `jobs=None`, runs go where that backend sends them; workers need `studies` on their
    `PYTHONPATH`.

    Args:
        study: What to train.
        path: The result file, JSON lines; made if there is none.
        jobs: Runs side by side; `None` for what joblib is configured to.
        progress: Whether to show a bar with the time left.

    Returns:
        The records of all runs of the study, in the study's order.

    Raises:
        ValueError: If the file has results of the study from another Keras backend:
            the runs of a pair would not be comparable.
        ImportError: If joblib or tqdm is missing: the message says how to get them.
    """
    tqdm = require("tqdm", "tqdm", "studies", "A study").tqdm
    path = Path(path)
    aside = records.repair(path)
    if aside is not None:
        warnings.warn(
            f"The last line of {path} was cut short. It is now in {aside}, and its run "
            "is made again.",
            stacklevel=2,
        )
    done = find(study, records.read(path))
    _check_backend(done.values(), path)
    missing = {run.fingerprint(): run for run in study.runs()}
    missing = {key: run for key, run in missing.items() if key not in done}
    with tqdm(
        total=len(done) + len(missing),
        initial=len(done),
        desc=study.name,
        unit="run",
        smoothing=0.05,  # runs differ in length: the time left is that of the mean
        disable=not progress,
    ) as bar:
        for record in _train_all(list(missing.values()), jobs):
            records.append(path, {"study": study.name, **record})
            bar.update()
    done = find(study, records.read(path))
    return [done[run.fingerprint()] for run in study.runs()]


def find(study: Study, found: Iterable[records.Record]) -> dict[str, records.Record]:
    """The records of a study's runs by their fingerprints; of several, the first."""
    wanted = {run.fingerprint() for run in study.runs()}
    chosen: dict[str, records.Record] = {}
    for record in found:
        if record["fingerprint"] in wanted:
            chosen.setdefault(record["fingerprint"], record)
    return chosen


def make_record(run: Run, backend: str) -> records.Record:
    """Trains one run and describes it completely.

    Args:
        run: What to train.
        backend: The Keras backend that is expected.

    Returns:
        `fingerprint`, `run` (the whole configuration), `seed`, `backend`, `versions`,
        `revision` and `result` (see `studies.engine.train`).

    Raises:
        RuntimeError: If this process has another backend.
    """
    if keras.backend.backend() != backend:
        raise RuntimeError(
            f"This worker runs Keras on {keras.backend.backend()!r}, the study on "
            f"{backend!r}. Set KERAS_BACKEND={backend} where the workers are started."
        )
    return {
        "fingerprint": run.fingerprint(),
        "run": run.configuration(),
        "seed": run.seed,
        **describe(),
        "result": train(run),
    }


def _train_all(runs: list[Run], jobs: int | None) -> Iterator[records.Record]:
    """Yields records as they are finished."""
    backend = keras.backend.backend()
    if jobs == 1:
        yield from (make_record(run, backend) for run in runs)
        return
    joblib = require("joblib", "joblib", "studies", "A study of several jobs")
    parallel = joblib.Parallel(
        n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="all"
    )
    yield from parallel(joblib.delayed(_work)(run, backend) for run in runs)


def _work(run: Run, backend: str) -> records.Record:
    pin_threads(1)
    return make_record(run, backend)


def _check_backend(found: Iterable[dict[str, Any]], path: Path) -> None:
    backend = keras.backend.backend()
    others = {record["backend"] for record in found} - {backend}
    if others:
        raise ValueError(
            f"{path} has results of this study from Keras on {', '.join(others)}. "
            f"Received: a process on {backend}. Set KERAS_BACKEND={others.pop()} to go "
            "on with them, or write to another file."
        )
