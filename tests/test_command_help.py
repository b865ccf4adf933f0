"""`--help` of every command: plain text, and of each option what it does."""

from __future__ import annotations

import argparse
import re
import runpy
import sys
from pathlib import Path

import keras
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="no backend takes part, once is enough"
)

ROOT = Path(__file__).parents[1]
FOLDERS = ("keras_lap", "studies", "benchmarks", "examples", "docs")
FILES = [
    file
    for folder in FOLDERS
    for file in sorted((ROOT / folder).rglob("*.py"))
    if re.search(r'^if __name__ == "__main__":', text := file.read_text("utf-8"), re.M)
    and "sys.stdin" not in text  # what a benchmark starts and talks to
]
# Marks of reST and of Markdown.
MARKS = re.compile(r"`|::|\*\*|:\w+:\S|^\.\. |\]\(", re.M)


class Reached(Exception):
    """Where a command would begin."""


@pytest.fixture
def parser_of(monkeypatch):
    """The parser that a script makes, which then goes no further."""

    def stop(parser, *args, **kwargs):
        raise Reached(parser)

    def find(file):
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
        monkeypatch.setattr(sys, "argv", [file.name])
        # As Python does for the scripts that are started by their path.
        monkeypatch.syspath_prepend(str(file.parent))
        known = set(sys.modules)
        try:
            with pytest.raises(Reached) as reached:
                runpy.run_path(str(file), run_name="__main__")
        finally:
            for name in set(sys.modules) - known:
                path = getattr(sys.modules[name], "__file__", None) or ""
                if path.startswith(str(file.parent)):
                    del sys.modules[name]  # benchmarks and others have equal names
        return reached.value.args[0]

    return find


def test_all_folders_have_commands():
    assert {file.relative_to(ROOT).parts[0] for file in FILES} == set(FOLDERS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_help_is_plain_and_tells_each_option(file, parser_of):
    parser = parser_of(file)
    text = parser.format_help()
    assert not MARKS.search(text), MARKS.search(text)
    assert parser.description
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
            continue
        name = action.option_strings or action.dest
        assert action.help, f"{name} has no help"
        if action.option_strings and not action.required:
            # As it is printed, by whatever formatter the parser has.
            alone = parser._get_formatter()
            alone.add_argument(action)
            printed = " ".join(alone.format_help().split())
            assert "(default: " in printed, printed
