"""Compares ratios just measured with the committed ones; never times.

    python benchmarks/step_overhead.py        # writes out/benchmarks/
    python benchmarks/guard.py [--margin 0.1]

Ends with an error where a median ratio exceeds the committed upper quartile by more
than the margin. The margin is wide, for the machine may be another one: it finds a
second forward pass, not a slower addition.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import run


def main() -> None:
    """Reads the command line and compares what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    measured, committed = Path("out/benchmarks"), run.COMMITTED
    add("--measured", type=Path, default=measured, help="folder of what is new")
    add("--committed", type=Path, default=committed, help="folder of what was before")
    add("--margin", type=float, default=0.10, help="how much worse a ratio may be")
    options = parser.parse_args()
    before, now = run.read(options.committed), run.read(options.measured)
    worse, compared = [], 0
    for name in before.keys() & now.keys():
        found, count = exceeding(before[name], now[name], options.margin)
        worse += found
        compared += count
    if not compared:
        sys.exit(f"Nothing to compare: run a benchmark first, into {options.measured}.")
    for line in worse:
        print(line)
    print(f"{compared} ratios compared, {len(worse)} worse by over {options.margin:g}.")
    sys.exit(bool(worse))


def exceeding(
    committed: dict[str, Any], measured: dict[str, Any], margin: float
) -> tuple[list[str], int]:
    """The ratios of one benchmark that have become worse, and how many there are.

    Args:
        committed: Record of the benchmark from before.
        measured: Record of the same benchmark now.
        margin: By how much a median may exceed the upper quartile from before.

    Returns:
        A line for each that exceeds it, and the number of ratios compared.
    """
    labels = committed["labels"]
    before = {_key(row, labels): row for row in committed["rows"]}
    worse, compared = [], 0
    for row in measured["rows"]:
        for column, ratio in row.items():
            old = before.get(_key(row, labels), {}).get(column)
            if not _is_ratio(ratio) or not _is_ratio(old):
                continue
            compared += 1
            if ratio["median"] > old["high"] + margin:
                label = ", ".join(str(row[key]) for key in labels if key in row)
                worse.append(
                    f"{committed['benchmark']}: {label}: {column} "
                    f"{ratio['median']:.3f}, was {old['median']:.3f}"
                )
    return worse, compared


def _is_ratio(value: Any) -> bool:
    """Whether a value came from `timing.ratio`, where more is worse."""
    return isinstance(value, dict) and "rounds" in value


def _key(row: dict[str, Any], labels: list[str]) -> str:
    return json.dumps([row.get(label) for label in labels])


if __name__ == "__main__":
    main()
