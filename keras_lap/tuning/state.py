"""The state of a search on disk, put right after a kill."""

from __future__ import annotations

import json
import os
from pathlib import Path

_FINISHED = ("COMPLETED", "FAILED")
# A tuner in a process of its own, and the chief of several.
_TUNERS = ("tuner0", "chief")


def settle(project_dir: str | os.PathLike[str]) -> None:
    """Makes a search that was killed go on where it was, and repeat nothing.

    KerasTuner notes that a trial ended only after it has saved the oracle, and a chief
    saves again no sooner than at the next trial. Killed in between, a search would
    repeat a finished trial, or forget one that had begun. This compares the oracle's
    file with those of the trials. It also lets a search that began in one process go
    on in several, or the other way round. Call it before the tuner is constructed with
    `overwrite=False`, while no process is searching; `launch` does so.

    Args:
        project_dir: Directory of the search, `<directory>/<project_name>`. If there is
            no search in it yet, nothing is done.

    Examples:
        >>> keras_lap.tuning.settle("search/digits")
        >>> tuner = keras_tuner.RandomSearch(
        ...     hypermodel, "val_loss", directory="search", project_name="digits"
        ... )
    """
    path = Path(project_dir) / "oracle.json"
    if not path.exists():
        return
    state = json.loads(path.read_text(encoding="utf-8"))
    statuses = {}
    for file in sorted(path.parent.glob("trial_*/trial.json")):
        trial = json.loads(file.read_text(encoding="utf-8"))
        statuses[trial["trial_id"]] = trial["status"]
    ongoing = state["ongoing_trials"]
    known = [*state["retry_queue"], *ongoing.values()]
    forgotten = [t for t, status in statuses.items() if status == "RUNNING"]
    waiting = dict.fromkeys([*known, *forgotten])
    state["ongoing_trials"] = {}
    state["retry_queue"] = [t for t in waiting if statuses.get(t) not in _FINISHED]
    whole = path.with_suffix(".tmp")
    whole.write_text(json.dumps(state), encoding="utf-8")
    whole.replace(path)
    for name in _TUNERS:  # a tuner without a file of its own would begin anew
        file = path.with_name(f"{name}.json")
        if not file.exists():
            file.write_text("{}", encoding="utf-8")
