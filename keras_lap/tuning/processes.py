"""A search in several processes: KerasTuner's chief and workers on one machine."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence

from keras_lap._checks import whole_number
from keras_lap.tuning.state import settle

_POLL = 0.2
# What a process is given to end when it is told to.
_GRACE = 5.0


def launch(
    command: Sequence[str | os.PathLike[str]],
    project_dir: str | os.PathLike[str],
    workers: int = 2,
) -> None:
    """Runs a script as KerasTuner's chief and its workers, until the search ends.

    Every process is started by the same command; the environment variables
    `KERASTUNER_TUNER_ID`, `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT` tell
    KerasTuner which one it is, on a free port of the loopback interface. The script
    constructs its tuner, with `overwrite=False`, and calls `search`, which returns
    when the search ends. A worker that is killed is started again and takes its trial
    up from the beginning: its chief would wait for that trial for ever.

    On several machines, set the three variables by hand: the same address and port
    everywhere, `chief` for one process and any other name, each once, for the workers.
    All need `directory` on a disk that they share. Whoever starts a worker starts it
    again if it dies, on any machine but under the same name::

        export KERASTUNER_TUNER_ID=worker7
        export KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000
        until python search.py; do sleep 1; done

    Args:
        command: Program and arguments, e.g. `[sys.executable, "search.py"]`.
        project_dir: The search's `<directory>/<project_name>`, which is passed to
            `keras_lap.tuning.settle` before and after.
        workers: Number of workers, at least 1; the chief comes on top and only
            answers. Defaults to 2.

    Raises:
        RuntimeError: If the chief dies, or a process ends with an error of its own.
            The command, called again, goes on with the trials that are left.

    Examples:
        >>> if "KERASTUNER_TUNER_ID" not in os.environ:
        ...     keras_lap.tuning.launch([sys.executable, __file__], "search/digits")
    """
    whole_number("workers", workers, 1, "Search without launch in one process.")
    settle(project_dir)
    address = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(_free_port()),
        # A proxy for the web has nothing to do with the loopback interface.
        "no_grpc_proxy": "127.0.0.1",
    }

    def start(name: str) -> subprocess.Popen:
        names = {"KERASTUNER_TUNER_ID": name}
        return subprocess.Popen(command, env={**os.environ, **address, **names})

    running: dict[str, subprocess.Popen] = {}
    try:
        for name in ("chief", *(f"worker{n}" for n in range(workers))):
            running[name] = start(name)
        while not _is_over(running):
            time.sleep(_POLL)
            for name, process in running.items():
                code = process.poll()
                if code is not None and code < 0 and name != "chief":
                    print(f"{name} was killed by signal {-code}: started again.")
                    running[name] = start(name)
                elif code:
                    raise RuntimeError(
                        f"The search stopped: {name} ended with exit code {code}; its "
                        "output says why. Run the same command again to go on with "
                        "the trials that are left."
                    )
    finally:
        _stop(running)
    settle(project_dir)


def _is_over(running: dict[str, subprocess.Popen]) -> bool:
    """Whether the chief, or every worker, has ended because no trial is left."""
    codes = {name: process.poll() for name, process in running.items()}
    return codes.pop("chief") == 0 or all(code == 0 for code in codes.values())


def _stop(running: dict[str, subprocess.Popen]) -> None:
    """Ends what still runs. A chief looks for its end every 20 seconds only."""
    for process in running.values():
        process.terminate()
    for process in running.values():
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
