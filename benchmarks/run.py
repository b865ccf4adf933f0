"""Runs all benchmarks one after the other and writes their tables into the README.

    python benchmarks/run.py             # an hour: results/ and README.md
    python benchmarks/run.py --quick     # some minutes: that everything works

A full run writes `benchmarks/results/`. A quick one writes `out/benchmarks/`, is no
measurement, and ends with an error if any case fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
COMMITTED = FOLDER / "results"
README = FOLDER / "README.md"
NAMES = (
    "step_overhead",
    "memory",
    "digits",
    "compile_time",
    "by_hand",
    "rivals",
    "growth",
    "evaluation",
    "devices",
    "path_cost",
    "cut_latency",
    "counts",
    "reductions",
    "scale",
    "recipe",
    "mean_field",
    "averaging",
)
GPU = "gpu"  # run by itself, on a machine that has one
_PLACE = r"(?<=<!-- {} -->\n).*?(?=<!-- end -->)"


def main() -> None:
    """Reads the command line and runs what it names."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    quick = "few cases and rounds, to see that they work"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument(
        "--report", action="store_true", help="only write the tables into the README"
    )
    options = parser.parse_args()
    out = Path("out/benchmarks") if options.quick else COMMITTED
    more = ["--quick"] if options.quick else []
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    names = [] if options.report else options.names or NAMES
    failed = [name for name in names if not ran(name, ["--out", str(out), *more])]
    if not options.quick:
        text = README.read_text("utf-8")
        README.write_text(filled(text, read(COMMITTED)), "utf-8")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


def ran(name: str, options: list[str]) -> bool:
    """Whether a benchmark ended well; here, as it only starts processes that measure.

    Args:
        name: The name of its script.
        options: What its command line is given.
    """
    script = str(FOLDER / f"{name}.py")
    sys.argv = [script, *options]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        return not end.code
    except Exception:  # the others run all the same
        traceback.print_exc()
        return False
    return True


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of all benchmarks that have been run, by name."""
    paths = (folder / f"{name}.json" for name in (*NAMES, GPU))
    records = [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]
    return {record["benchmark"]: record for record in records}


def filled(text: str, records: dict[str, dict[str, Any]]) -> str:
    """A page with the tables of records between its marks, and the machine."""
    import harness

    parts = {
        name: f"{harness.table(record)}\n\n*{_told(record)}*"
        for name, record in records.items()
    }
    parts["machine"] = _machine(records)
    for name, part in parts.items():
        place = re.compile(_PLACE.format(name), re.DOTALL)
        if not place.search(text):
            raise ValueError(
                f"{README.name} has no place for {name!r}. Write '<!-- {name} -->' and "
                "'<!-- end -->' into it, each on a line of its own."
            )
        text = place.sub(part.replace("\\", r"\\") + "\n", text, count=1)
    return text


def _told(record: dict[str, Any]) -> str:
    rounds = "; a quick run, no measurement" if record["quick"] else ""
    # Cases that were run one by one have no time of the whole.
    took = record["minutes"]
    took = "case by case" if took is None else f"{took:g} minutes"
    command = f"`python benchmarks/{record['benchmark']}.py`"
    return f"{command}, {record['date']}, {took}{rounds}"


def _machine(records: dict[str, dict[str, Any]]) -> str:
    lines = []
    for record in records.values():
        machine = record["machine"]
        versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
        line = (
            f"{machine['processor']}, {machine['cores']} cores, "
            f"{machine['memory_gib']} GiB, {machine['system']}; {versions}"
        )
        if line not in lines:
            lines.append(line)
    total = sum(record["minutes"] or 0 for record in records.values())
    return "\n".join(lines) + f"\n\nAll benchmarks together: {total:.0f} minutes."


if __name__ == "__main__":
    main()
