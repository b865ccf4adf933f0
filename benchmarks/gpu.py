"""What only a GPU can tell: its tests, the cost of a step, table 1 of the paper.

    make gpu
    python benchmarks/gpu.py [--parts tests cost table1] [--backend torch jax]

It runs in whatever environment has this project's clone, Keras and a backend that sees
a GPU; the table also needs MNIST, as in `keras_lap.datasets`. Each part ends within its
minutes; a part that is run again goes on where its results end (table 1, run by run),
or takes the place of what was found before. `benchmarks/results/gpu.json` has what is
found, the lines of table 1 lie in `studies/results/`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness

PARTS = ("tests", "cost", "table1")
SIZES, SEEDS = ("100 images", "200 images"), range(10)
ROOT = harness.FOLDER.resolve().parent
COMMITTED = ROOT / "studies" / "results"
_ASK = {
    "torch": "import torch; print(torch.cuda.get_device_name(0))",
    "jax": "import jax; d = jax.devices()[0]; print(d.device_kind if "
    "d.platform == 'gpu' else '')",
    "tensorflow": "import tensorflow as tf; c = tf.config; "
    "found = c.list_physical_devices('GPU')[0]; "
    "print(c.experimental.get_device_details(found)['device_name'])",
}


def main() -> None:
    """Reads the command line and runs the parts that it names."""
    options = _options()
    if options.train_until:
        _train(options.out, options.train_until)
        return
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
        run = {"tests": tests, "cost": cost, "table1": table1}[part]
        fresh = [
            {"part": part, "backend": backend, "device": found[backend], **row}
            for backend in backends
            for row in run(backend, 60 * options.minutes / len(backends))
        ]
        again = {(part, backend) for backend in backends}
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
    every = harness.BACKENDS
    add("--backend", nargs="+", choices=every, default=every, help="those to ask")
    add("--minutes", type=float, default=8.0, help="of each part, at most")
    out = harness.FOLDER / "results"
    add("--out", type=Path, default=out, help="folder of gpu.json")
    add("--train-until", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def device_of(backend: str) -> str:
    """The name of the GPU that a backend sees, or nothing."""
    command = [sys.executable, "-c", _ASK[backend]]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else ""


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


def _run(backend: str, command: list[str], seconds: float) -> tuple[int | None, str]:
    """The status of a command, None where its time was over, and what it printed."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    with tempfile.TemporaryFile("w+") as out:
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = subprocess.run(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            ).returncode
        out.seek(0)
        text = out.read()
    print(text[-4000:], file=sys.stderr)
    return status, text


def tests(backend: str, seconds: float) -> list[harness.Row]:
    """The tests that are marked `gpu`."""
    command = ["-m", "pytest", "tests/training/test_gpu.py", "-m", "gpu", "-q"]
    status, text = _run(backend, command, seconds)
    last = text.strip().splitlines()[-1:]
    return [{"result": "; ".join(last), "met": status == 0 and "passed" in text}]


def cost(backend: str, seconds: float) -> list[harness.Row]:
    """The time of a step over that of plain Keras, as on processors."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["benchmarks/step_overhead.py", "--backend", backend, "--out", folder]
        status, text = _run(backend, command, seconds)
        if status is None or not (Path(folder) / "step_overhead.json").exists():
            why = "not done in time" if status is None else text.strip()[-300:]
            return [{"failure": why}]
        text = (Path(folder) / "step_overhead.json").read_text("utf-8")
    wanted = ("network", "energy", "plain_ms", "plain again", "overhead", "failure")
    return [
        {key: row[key] for key in wanted if key in row}
        for row in json.loads(text)["rows"]
    ]


def table1(backend: str, seconds: float) -> list[harness.Row]:
    """Table 1 of the paper at 100 and 200 images, as far as time goes."""
    out = COMMITTED / f"gpu-{backend}"
    command = ["benchmarks/gpu.py", "--out", str(out), "--train-until", str(seconds)]
    status, text = _run(backend, command, seconds + 60)
    study, path = _study(out)
    from studies.engine import records
    from studies.engine.running import find

    done = len(find(study, records.read(path)))
    planned = len(list(study.runs()))
    told = {} if status in (0, None) else {"result": text.strip()[-200:]}
    return [{"runs": done, "of": planned, "met": done == planned, **told}]


def _study(folder: Path) -> tuple[Any, Path]:
    """What is trained for table 1, and where its lines are."""
    from studies.engine.report import result_file
    from studies.paper.table1_mnist import PRESETS

    study = PRESETS["paper"]
    settings = tuple(s for s in study.settings if s.label.startswith(SIZES))
    study = dataclasses.replace(study, settings=settings, seeds=tuple(SEEDS))
    return study, result_file(folder, study, "paper")


def _train(folder: Path, seconds: float) -> None:
    """Trains runs until the time is over; a run that has begun is ended."""
    from studies.engine.report import write_report
    from studies.engine.running import run_study

    end = time.monotonic() + seconds
    study, path = _study(folder)
    for seed in SEEDS:
        for setting in study.settings:
            if time.monotonic() > end:
                sys.exit(f"The time is over at seed {seed}. Run it again to go on.")
            one = dataclasses.replace(study, settings=(setting,), seeds=(seed,))
            run_study(one, path, progress=False)
    for written in write_report(study, path):
        print(written)


if __name__ == "__main__":
    main()
