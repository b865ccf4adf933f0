"""What only a GPU can tell: its tests, the cost of a step, two studies at full width.

    make gpu
    python benchmarks/gpu.py [--parts tests cost studies] [--backend torch jax]

It runs in whatever environment has this project's clone, Keras and a backend that sees
a GPU. The studies train on the last of the backends, and also need MNIST and CIFAR-10
as in `keras_lap.datasets`. Each part ends within its minutes; a part that is run again
goes on where its results end (the studies, run by run), or takes the place of what was
found before. `benchmarks/results/gpu.json` has what is found, `studies/results/` the
runs of the studies.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness

PARTS = ("tests", "cost", "studies")
STUDIES = ("table1_mnist", "good_starts")  # the presets `gpu` of studies/paper
ROOT = harness.FOLDER.resolve().parent
COMMITTED = ROOT / "studies" / "results"
_ASK = "from studies.engine.environment import gpu; print(gpu())"
# Many processes share the card: none may take all of its memory. What JAX compiled for
# one serves the others.
_SHARED = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "JAX_COMPILATION_CACHE_DIR": str(Path(tempfile.gettempdir()) / "keras-lap-jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def main() -> None:
    """Reads the command line and runs the parts that it names."""
    options = _options()
    found = {each: device_of(each) for each in options.backend}
    backends = [each for each, device in found.items() if device]
    if not backends:
        sys.exit(
            f"No GPU that {' or '.join(options.backend)} can use. Nothing was run and "
            "nothing was written."
        )
    start = time.monotonic()
    rows = _known(options.out)
    for part in options.parts:
        chosen = backends[-1:] if part == "studies" else backends
        run = {"tests": tests, "cost": cost, "studies": studies}[part]
        fresh = [
            {"part": part, "backend": backend, "device": found[backend], **row}
            for backend in chosen
            for row in run(backend, 60 * options.minutes / len(chosen), options)
        ]
        again = {(part, backend) for backend in chosen}
        rows = [row for row in rows if (row["part"], row["backend"]) not in again]
        rows += fresh
        harness.write(_record(rows, start), options.out)  # a later part may fail
    print((options.out / "gpu.md").read_text("utf-8"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is run")
    order = ("tensorflow", "torch", "jax")
    add("--backend", nargs="+", choices=order, default=order, help="those to ask")
    add("--minutes", type=float, default=8.0, help="of each part, at most")
    jobs = max(1, (os.cpu_count() or 2) - 2)
    add("--jobs", type=int, default=jobs, help="runs of a study side by side")
    add("--studies", nargs="+", choices=STUDIES, default=STUDIES, help="in this order")
    add("--results", type=Path, default=COMMITTED, help="folder of the runs")
    out = harness.FOLDER / "results"
    add("--out", type=Path, default=out, help="folder of gpu.json")
    return parser.parse_args()


def device_of(backend: str) -> str:
    """The name of the GPU that a backend sees, or nothing."""
    asked = subprocess.run(
        [sys.executable, "-c", _ASK],
        cwd=ROOT,
        env=_environment(backend),
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() if asked.returncode == 0 else ""


def _environment(backend: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = {"KERAS_BACKEND": backend, "PYTHONPATH": path}
    return {**_SHARED, **os.environ, **own}


def _known(folder: Path) -> list[harness.Row]:
    path = folder / "gpu.json"
    return json.loads(path.read_text("utf-8"))["rows"] if path.exists() else []


def _record(rows: list[harness.Row], start: float) -> dict[str, Any]:
    return {
        "benchmark": "gpu",
        "labels": ("part", "backend"),
        "quick": False,
        "date": datetime.date.today().isoformat(),
        "machine": harness.machine(),
        "minutes": round((time.monotonic() - start) / 60, 1),
        "rows": rows,
    }


def _run(
    backend: str, command: Sequence[str], seconds: float
) -> tuple[int | None, str]:
    """The status of a command, None where its time was over, and what it printed."""
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=_environment(backend),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # with its workers it is stopped
        )
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers can outlive a failure
        process.wait()
        out.seek(0)
        text = out.read()
    print(text[-4000:], file=sys.stderr)
    return status, text


def tests(
    backend: str, seconds: float, options: argparse.Namespace
) -> list[harness.Row]:
    """The tests that are marked `gpu`."""
    # Without the project's options, which leave the last line out.
    quiet = ("-o", "addopts=", "-q", "-m", "gpu")
    command = ("-m", "pytest", "tests/training/test_gpu.py", *quiet)
    status, text = _run(backend, command, seconds)
    last = text.strip().splitlines()[-1:]
    return [{"result": "; ".join(last), "met": status == 0 and "passed" in text}]


def cost(
    backend: str, seconds: float, options: argparse.Namespace
) -> list[harness.Row]:
    """The time of a step over that of plain Keras, as on processors."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["benchmarks/gpu_step.py", "--backend", backend, "--out", folder]
        status, text = _run(backend, command, seconds)
        if status is None or not (Path(folder) / "gpu_step.json").exists():
            why = "not done in time" if status is None else text.strip()[-300:]
            return [{"failure": why}]
        text = (Path(folder) / "gpu_step.json").read_text("utf-8")
    return json.loads(text)["rows"]


def studies(
    backend: str, seconds: float, options: argparse.Namespace
) -> list[harness.Row]:
    """The presets `gpu` of the paper's studies, as far as time goes."""
    end = time.monotonic() + seconds
    rows = []
    for name in options.studies:
        module = f"studies.paper.{name}"
        told = ("--preset", "gpu", "--results", str(options.results))
        train = ("-m", module, *told, "--jobs", str(options.jobs))
        status, text = _run(backend, train, max(1.0, end - time.monotonic()))
        if status is None:
            _run(backend, ("-m", module, *told, "--report"), 120.0)
        done, planned = _count(backend, name, options.results)
        why = {} if status in (0, None) else {"result": text.strip()[-200:]}
        met = done == planned
        rows.append({"study": name, "runs": done, "of": planned, "met": met, **why})
    return rows


def _count(backend: str, name: str, folder: Path) -> tuple[int, int]:
    """How many runs of a study there are, and how many there will be."""
    import importlib

    os.environ["KERAS_BACKEND"] = backend  # TensorFlow is not everywhere

    from studies.engine import records, report, running

    study = importlib.import_module(f"studies.paper.{name}").PRESETS["gpu"]
    path = report.result_file(folder, study, "gpu")
    found = running.find(study, records.read(path)) if path.exists() else {}
    return len(found), len(list(study.runs()))


if __name__ == "__main__":
    main()
