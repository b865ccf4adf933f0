"""Makes docs/support.md from what the tests of all backends found.

    export PYTHONPATH=tests
    python -m support.support_table build/support           # writes the page
    python -m support.support_table build/support --check   # compares it

The folder holds what `pytest --results=FILE.json` wrote: one file of each backend, and
that of PyTorch in several processes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "support.md"
RUNS = ("tensorflow", "jax", "torch", "distributed")
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
CONFORMANCE = "tests/conformance/"
SECTIONS = {
    "tests/training/test_ways_of_feeding.py": "Data",
    "tests/training/test_keras_hub.py": "KerasHub",
    "tests/training/test_ways_of_training.py": "Compiling and training",
    "tests/training/test_what_counts.py": "What the energy counts",
    "tests/training/test_ways_of_looping.py": "Loops and models of one's own",
    "tests/training/test_ways_of_watching.py": "Callbacks",
    "tests/training/test_multiplier_stress.py": "λ under stress",
    "tests/training/test_files.py": "Files",
    "tests/training/test_resume.py": "Resuming",
    "tests/distributed/test_distributed.py": "Several devices",
}
HEAD = """# Support

*Works*: the tests of this way pass, which compare with plain Keras, with one device, or
with an uninterrupted run. *Fails*: a test shows how. "–": none runs there. A number
leads to a note below the table; [limits](limits.md) say what to do instead.

"""
OWN = """
## Keras's own tests

Keras's wheel ships the tests of its trainer and of its callbacks. They run here, on
each backend, with a `LeastActionModel` in the place of their models: the same layers,
and a block that does not move its state, so that whatever Keras expects must hold
(`tests/conformance`). Keras skips some itself, where a backend lacks what they test.
"""
FOOT = """
## Where this page comes from

`make support` makes it from the results of the tests; `make test` compares the two.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the results are")
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    arguments = parser.parse_args()
    missing = [
        name for name in RUNS if not (arguments.folder / f"{name}.json").exists()
    ]
    if missing:
        sys.exit(f"No results of {', '.join(missing)}: run all of `make test`.")
    page = build(read(arguments.folder))
    if not arguments.check:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        sys.exit(
            "docs/support.md is not what the tests say. If it should change, run "
            "`make support` after `make test`, and commit it."
        )


def read(folder):
    """The tests of all runs: `{test: {backend: (ways, outcome, text)}}`, in order."""
    tests = {}
    for name in RUNS:
        found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for test, result in found["tests"].items():
            if result["outcome"] == "failed":
                sys.exit(f"{test} failed on {found['backend']}: no table of that.")
            of_test = tests.setdefault(test, {})
            ran = result["outcome"] != "skipped"
            # One test of files starts processes of every backend itself, and one of
            # several processes runs in a lane of its own; others skip the two.
            for backend in BACKENDS if result["everywhere"] else [found["backend"]]:
                if ran or backend not in of_test:
                    of_test[backend] = result
    return tests


def build(tests):
    """The page, as Markdown."""
    unknown = {file_of(test) for test in tests} - set(SECTIONS)
    unknown = [file for file in unknown if not file.startswith(CONFORMANCE)]
    if unknown:
        sys.exit(f"No section of the page for {', '.join(sorted(unknown))}.")
    notes = []
    lines = ["| | " + " | ".join(BACKENDS.values()) + " |", "| --- " * 4 + "|"]
    for file, title in SECTIONS.items():
        own = {test: tests[test] for test in tests if file_of(test) == file}
        if own:
            lines += [f"| **{title}** | | | |", *rows(own, notes)]
    lines += ["", "## Notes", ""]
    lines += [f"{number}. {sentence(note)}." for number, note in enumerate(notes, 1)]
    return HEAD + "\n".join(lines) + "\n" + OWN + conformance(tests) + FOOT


def file_of(test):
    return test.partition("::")[0]


def rows(tests, notes):
    """Ways by backends, a line each; adds to the notes."""
    ways = {}
    for by_backend in tests.values():
        for backend, result in by_backend.items():
            for way in result["ways"]:
                ways.setdefault(way, {}).setdefault(backend, []).append(result)
    for way, by_backend in ways.items():
        cells = [cell(by_backend.get(each, []), notes) for each in BACKENDS]
        yield f"| {way} | {' | '.join(cells)} |"


def cell(results, notes):
    """What the tests of one way say on one backend."""
    ran = [each for each in results if each["outcome"] != "skipped"]
    texts = list(dict.fromkeys(each["text"] for each in ran or results if each["text"]))
    if not ran and len(texts) > 1:
        texts = []  # of other backends' own ways to do the same
    notes.extend(text for text in texts if text not in notes)
    marks = ", ".join(f"[{notes.index(text) + 1}](#notes)" for text in texts)
    fails = any(each["outcome"] == "fails" for each in ran)
    word = "–" if not ran else "fails" if fails else "works"
    return f"{word} {marks}".strip()


def conformance(tests):
    """How many of Keras's own tests pass, and which do not and why."""
    own = {test: tests[test] for test in tests if test.startswith(CONFORMANCE)}
    counts = {backend: Counter() for backend in BACKENDS}
    reasons = {}
    for test, by_backend in own.items():
        for backend, result in by_backend.items():
            kind = kind_of(result)
            counts[backend][kind] += 1
            if kind != "pass":
                named = reasons.setdefault((kind, result["text"]), {})
                named.setdefault(test.split("::", 1)[1], []).append(backend)
    lines = ["", "| | " + " | ".join(BACKENDS.values()) + " |", "| --- " * 4 + "|"]
    for kind in ("pass", "left out", "skipped by Keras"):
        numbers = [str(counts[backend][kind]) for backend in BACKENDS]
        lines.append(f"| {kind} | {' | '.join(numbers)} |")
    lines += ["", "### Left out, and why", "", "In brackets: how many tests."]
    for (kind, reason), named in reasons.items():
        if kind == "left out":
            summary = f"{marked(sentence(reason))} ({len(named)})"
            lines += ["", f'<details markdown="1"><summary>{summary}</summary>', ""]
            for test, on in named.items():
                where = ", ".join(BACKENDS[backend] for backend in on)
                lines.append(f"- `{test.replace('::', '.')}` ({where})")
            lines += ["", "</details>"]
    lines += ["", "### Skipped by Keras, and why", ""]
    for (kind, reason), named in reasons.items():
        if kind == "skipped by Keras":
            on = Counter(backend for each in named.values() for backend in each)
            numbers = [
                f"{on[each]} on {BACKENDS[each]}" for each in BACKENDS if on[each]
            ]
            lines.append(f"- {sentence(reason)} ({', '.join(numbers)}).")
    return "\n".join(lines) + "\n"


def marked(text):
    """Code within HTML, where no Markdown is read."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", text)


def sentence(text):
    text = text.rstrip(".")
    return text[0].upper() + text[1:]


def kind_of(result):
    if result["outcome"] == "works":
        return "pass"
    return "left out" if result["text"] in left_out_reasons() else "skipped by Keras"


def left_out_reasons():
    from conformance.left_out import LEFT_OUT

    return [each.reason for each in LEFT_OUT]


if __name__ == "__main__":
    main()
