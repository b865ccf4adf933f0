"""Every figure with an interval that a page quotes is in the table that it leads to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.basics import ON_ONE

pytestmark = ON_ONE

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "studies" / "results"
# `+1.5 [+0.4, +2.5]`, and `+1.0 ± 0.9`.
INTERVAL = re.compile(r"([-+]?\d+(?:\.\d+)?) \[([-+\d.]+), ([-+\d.]+)\]")
HALF_WIDTH = re.compile(r"([-+]?\d+(?:\.\d+)?) ± (\d+(?:\.\d+)?)")
TABLE = re.compile(r"\]\((?:\S*/)?([\w.-]+\.md)(?:#[\w-]+)?\)")
# What `make quickstart` prints, which no table of a study has.
QUICKSTART = {
    *("74.3 [68.8, 79.8]", "80.0 [77.8, 82.3]"),
    *("86.9 [85.0, 88.8]", "86.7 [84.4, 89.0]"),
    *("+5.7 ± 4.9", "-0.2 ± 1.6"),
}
# A reading that came before the package's own studies.
BEFORE = {"+0.74 ± 0.58", "+1.18 ± 0.54"}


def plain(text):
    """A text on one line without its table of claims, with one sign for minus."""
    text = re.sub(r"<!-- claims -->.*?<!-- end -->", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", text.replace("−", "-").replace("*", ""))


def read(path):
    return plain(path.read_text(encoding="utf-8"))


def sections(page):
    """The parts of a page under its headings, each with the tables it leads to."""
    parts = re.split(r"^(?=##+ )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for part in parts:
        text = plain(part)
        found = dict.fromkeys(TABLE.findall(text))
        tables = [RESULTS / name for name in found if (RESULTS / name).exists()]
        yield text, tables


def missing(text, published):
    """The quoted figures that the tables do not have; a loss may lose its sign."""
    found = [m.groups() for m in INTERVAL.finditer(published)]
    turned = [[n.removeprefix("-") for n in (m, high, low)] for m, low, high in found]
    intervals = {"{} [{}, {}]".format(*each) for each in [*found, *turned]}
    said = {m.group() for m in HALF_WIDTH.finditer(published)}
    said |= {each.removeprefix("-") for each in said}
    numbers = [tuple(map(float, each)) for each in found]
    lost = {m.group() for m in INTERVAL.finditer(text)} - intervals
    for match in HALF_WIDTH.finditer(text):
        mean, half = map(float, match.groups())
        # Ends of an interval are rounded to a tenth: their distance is known to 0.1.
        fits = any(
            abs(middle - mean) < 0.051 and abs((high - low) / 2 - half) < 0.11
            for middle, low, high in numbers
        )
        if not fits and match.group() not in said:
            lost.add(match.group())
    return lost


def test_each_section_quotes_the_tables_it_leads_to():
    counted = 0
    for text, tables in sections(RESULTS / "README.md"):
        lost = missing(text, "".join(map(read, tables))) - BEFORE
        assert not lost, text[:80]
        counted += len(INTERVAL.findall(text))
    assert counted > 200


def test_every_table_is_read_from_a_page_of_the_menu():
    menu = set(re.findall(r"results/([\w-]+\.md)", (ROOT / "mkdocs.yml").read_text()))
    assert "README.md" in menu
    linked = {
        name
        for page in menu
        for name in TABLE.findall((RESULTS / page).read_text(encoding="utf-8"))
    }
    tables = {path.name for path in RESULTS.glob("*.md")}
    assert menu <= tables
    assert tables - menu <= linked


@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_first_pages_quote_what_is_published(name):
    pages = [path for path in RESULTS.glob("*.md") if path.name != "README.md"]
    text = read(ROOT / name)
    assert missing(text, "".join(map(read, pages))) - QUICKSTART == set()
    assert len(INTERVAL.findall(text)) + len(HALF_WIDTH.findall(text)) > 5


def test_a_figure_that_is_in_no_table_is_missed():
    table = "| +1.5 [+0.4, +2.5], p = 0.013 | 42.0 [41.0, 42.9] |"
    assert missing("gains +1.5 [+0.4, +2.5], or +1.5 ± 1.1", table) == set()
    assert missing("gains +1.5 [+0.4, +2.6]", table) == {"+1.5 [+0.4, +2.6]"}
    assert missing("loses 1.5 [0.4, 2.5]", "-1.5 [-2.5, -0.4]") == set()
    assert missing("gains +1.5 [+0.4, +2.5]", "-1.5 [-2.5, -0.4]") != set()
    assert missing("gains +1.7 ± 1.0", table) == {"+1.7 ± 1.0"}
    assert missing("gains +1.5 ± 1.4", table) == {"+1.5 ± 1.4"}
