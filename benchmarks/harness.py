"""What the benchmarks share: cases in processes of their own, JSON, tables.

A benchmark is a list of cases and a function that measures one of them. Each case runs
in a fresh process, so that no backend, cache or memory of another is in its way; what
is compared with each other is measured within one case. A case that fails becomes a row
that says so. The parent writes `<name>.json` and, for the reader, `<name>.md`.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Case = dict[str, Any]  # "backend", and the keyword arguments of `measure`
Row = dict[str, Any]  # columns of the table; {"low", "median", "high"} is a ratio

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER.resolve().parent))  # the clone, which has the studies
BACKENDS = ("tensorflow", "jax", "torch")
# The environment of a case that is timed by the processor time of its process: another
# thread that waits for work would count as work. XLA has no other way to ask for it.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
_MARK = "rows: "
_PACKAGES = ("keras", "tensorflow", "jax", "torch", "keras-hub", "numpy")


@dataclass(frozen=True)
class Benchmark:
    """One question, and how it is answered.

    Args:
        name: Of its files.
        cases: The cases, for a quick run or a full one.
        measure: Measures one case and returns rows. Called with what `cases` gave, but
            for `backend`, which is that of the process.
        labels: Columns that tell a row from the others.
        limit: Seconds after which a case counts as failed.
        side_by_side: How many cases may run at once; 1 where time is measured.
        summarise: Makes the rows of the table from those of all cases, where what is
            compared lies in several.
    """

    name: str
    cases: Callable[[bool], list[Case]]
    measure: Callable[..., list[Row]]
    labels: tuple[str, ...]
    limit: float = 600.0
    side_by_side: int = 1
    summarise: Callable[[list[Row]], list[Row]] = list


def main(benchmark: Benchmark) -> None:
    """The command line of a benchmark."""
    options = _options(benchmark)
    if options.case:
        case = json.loads(options.case)
        case.pop("backend", None)
        rows = benchmark.measure(**case)
        if os.environ.get("RANK", "0") == "0":  # of processes that measured together
            print(_MARK + json.dumps(rows), flush=True)
        return
    cases = benchmark.cases(options.quick)
    if options.backend:
        cases = [each for each in cases if each["backend"] in options.backend]
    start = time.monotonic()
    rows = benchmark.summarise(_run_all(benchmark, cases))
    minutes = round((time.monotonic() - start) / 60, 1)
    before = _rows_before(benchmark, options) if options.backend else []
    record = {
        "benchmark": benchmark.name,
        "labels": benchmark.labels,
        "quick": options.quick,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "minutes": None if before else minutes,
        "rows": beside(rows, before),
    }
    write(record, options.out)
    print((options.out / f"{benchmark.name}.md").read_text("utf-8"))
    if options.quick and any("failure" in row for row in rows):
        sys.exit(1)


def _rows_before(benchmark: Benchmark, options: argparse.Namespace) -> list[Row]:
    """What the folder has of a run of the same kind."""
    path = options.out / f"{benchmark.name}.json"
    record = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return record["rows"] if record.get("quick") == options.quick else []


def beside(rows: list[Row], before: list[Row]) -> list[Row]:
    """Rows of some backends, in the place of theirs among those of all.

    Args:
        rows: The new ones.
        before: Those of an earlier run, whose rows of other backends stay.
    """
    new: dict[str, list[Row]] = {}
    for row in rows:
        new.setdefault(row["backend"], []).append(row)
    merged = []
    for row in before:
        mine = new.get(row["backend"], [row])
        merged += [mine.pop(0)] if mine else []
    return [*merged, *(row for left in new.values() for row in left)]


def _options(benchmark: Benchmark) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=f"Benchmark: {benchmark.name}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few cases and rounds, to see that it works; a failure is an error",
    )
    add = parser.add_argument
    backends = "those to run; rows of others stay as the folder of results has them"
    add("--backend", nargs="+", choices=BACKENDS, help=backends)
    out = Path("out/benchmarks")
    add("--out", type=Path, default=out, help="folder of the results")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run_all(benchmark: Benchmark, cases: list[Case]) -> list[Row]:
    rows: list[Row] = []
    waiting, size = list(cases), benchmark.side_by_side
    while waiting:
        now, waiting = waiting[:size], waiting[size:]
        started = [_start(each) for each in now]
        for case, process in zip(now, started, strict=True):
            found = _rows(benchmark, case, process)
            rows += [{"backend": case["backend"], **row} for row in found]
            print(
                f"{benchmark.name}: {_told(case)}: {len(found)} rows", file=sys.stderr
            )
    return rows


def _start(case: Case) -> subprocess.Popen[str]:
    environment = {**os.environ, "KERAS_BACKEND": case["backend"]}
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    environment.update(case.get("environment", {}))
    return subprocess.Popen(
        [*case.get("python", [sys.executable]), sys.argv[0], "--case", _told(case)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _told(case: Case) -> str:
    """What the process of a case is told."""
    own = {"environment", "python"}
    return json.dumps({key: case[key] for key in case if key not in own})


def _rows(benchmark: Benchmark, case: Case, process: Any) -> list[Row]:
    try:
        out, errors = process.communicate(timeout=benchmark.limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return [_failure(case, f"not done after {benchmark.limit:.0f} s")]
    for line in out.splitlines():
        if line.startswith(_MARK):
            rows: list[Row] = json.loads(line.removeprefix(_MARK))
            return rows
    last = [line for line in errors.strip().splitlines() if line.strip()]
    print(errors, file=sys.stderr)
    return [_failure(case, last[-1] if last else f"ended with {process.returncode}")]


def _failure(case: Case, why: str) -> Row:
    own = {"environment", "python", "backend"}
    told = {key: str(case[key]) for key in case if key not in own}
    return {**told, "failure": why.replace(str(FOLDER.parent), "")[:300]}


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MiB.

    Of Linux, by what it says of the program alone: what `resource` returns begins with
    the memory of the process that started this one.
    """
    status = Path("/proc/self/status").read_text("utf-8")
    (line,) = (each for each in status.splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def compared(
    rows: list[Row], *labels: str
) -> tuple[list[Row], list[tuple[Row, list[Row], list[Row]]]]:
    """Puts the rows of plain training beside those of least action.

    Args:
        rows: Of all cases, with a column `least_action`.
        labels: Columns that both have in common.

    Returns:
        The rows of cases that failed, and for each of the labels' values these, the
        rows of plain training and those of least action, where there are both.
    """
    failed = [row for row in rows if "failure" in row]
    groups: dict[tuple[Any, ...], tuple[list[Row], list[Row]]] = {}
    for row in rows:
        if "failure" not in row:
            group = groups.setdefault(tuple(row[key] for key in labels), ([], []))
            group[row["least_action"]].append(row)
    found = [
        (dict(zip(labels, values, strict=True)), plain, ours)
        for values, (plain, ours) in groups.items()
        if plain and ours
    ]
    return failed, found


def machine() -> dict[str, Any]:
    """The processor and the versions that the numbers are of."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        ),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def write(record: dict[str, Any], folder: Path) -> None:
    """Writes the JSON of a benchmark, one row a line, and its table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in record["rows"])
    head = {key: record[key] for key in record if key != "rows"}
    text = json.dumps(head, indent=1, ensure_ascii=False)
    text = f'{text[:-2]},\n "rows": [\n  {rows}\n ]\n}}\n'
    name = record["benchmark"]
    (folder / f"{name}.json").write_text(text, "utf-8")
    (folder / f"{name}.md").write_text(table(record) + "\n", "utf-8")


def table(record: dict[str, Any]) -> str:
    """The rows as tables in Markdown, one for each part, and what failed below them."""
    rows = [row for row in record["rows"] if "failure" not in row]
    parts = dict.fromkeys(row.get("part") for row in rows)
    tables = [
        _table([row for row in rows if row.get("part") == part]) for part in parts
    ]
    for row in record["rows"]:
        if "failure" in row:
            told = ", ".join(str(row[key]) for key in row if key != "failure")
            tables.append(f"Failed: {told}: {row['failure']}")
    return "\n\n".join(tables)


def _table(rows: list[Row]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "part"))
    lines = [
        "| " + " | ".join(name.replace("_", " ") for name in columns) + " |",
        "| " + " | ".join("---" for _ in columns) + " |",
    ]
    for row in rows:
        lines.append("| " + " | ".join(_cell(row.get(key)) for key in columns) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return f"{value['median']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
