"""The tables of claims say what the published tables say, by rules that can fail."""

from __future__ import annotations

import keras
import pytest

import studies.claims
from studies.engine import claims

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
TABLE = """## Accuracy

| setting | method | seeds | highest | change of highest | transport cost |
| --- | --- | --- | --- | --- | --- |
| few | plain | 10 | 50.0 [45.0, 55.0] | – | 40 |
| few | ours | 10 | 60.0 [58.0, 62.0] | +10.0 [+8.0, +12.0], p < 0.001 | 4 |
| many | plain | 10 | 90.0 [89.0, 91.0] | – | 50 |
| many | ours | 10 | 91.0 [89.0, 93.0] | +1.0 [-1.0, +3.0], p = 0.3 | 60 |
| young | ours | 4: too few to conclude | 1.0 [0.0, 2.0] | +1.0 [+0.5, +1.5] | 1 |

## Correlation

| networks | rank correlation [95 % interval] |
| --- | --- |
| all | -0.60 [-0.80, -0.40] |
| kaiming | -0.20 [-0.70, +0.50] |

| criterion | found | passed |
| --- | --- | --- |
| E falls | 6, 5, 4, 3, 2, 1 | yes |
| E ends low | 7 | **no** |
| drift | 0.1 (2 seeds: too few) | yes |
"""


@pytest.mark.parametrize("name", studies.claims.PAGES)
def test_published_claims_are_those_of_the_tables(name):
    published = (studies.claims.RESULTS / name).read_text("utf-8")
    assert published == studies.claims.page(name), "run `python -m studies.claims`"


@pytest.mark.parametrize(
    ("judge", "measured", "verdict"),
    [
        (
            claims.change(("few", "ours")),
            "+10.0 [+8.0, +12.0] points",
            claims.REPRODUCED,
        ),
        (
            claims.change(("few", "ours"), sign=-1),
            "+10.0 [+8.0, +12.0] points",
            claims.NOT_REPRODUCED,
        ),
        (
            claims.change(("few", "ours"), ("many", "ours")),
            "few: +10.0 [+8.0, +12.0]; many: +1.0 [-1.0, +3.0] points",
            "in part: 1 of 2",
        ),
        (
            claims.change(("young", "ours")),
            "+1.0 [+0.5, +1.5] points",
            claims.TOO_FEW,
        ),
        (
            claims.fades("few", "many", "ours"),
            "+10.0 [+8.0, +12.0] → +1.0 [-1.0, +3.0] points",
            claims.REPRODUCED,
        ),
        (
            claims.narrows(["few", "many"], "ours"),
            "widths 10.0 → 4.0; 2.0 → 4.0 points",
            "in part: 1 of 2",
        ),
        (
            claims.cheaper("few", "ours"),
            "transport cost 40 → 4",
            claims.REPRODUCED,
        ),
        (
            claims.cheaper("many", "ours"),
            "transport cost 50 → 60",
            claims.NOT_REPRODUCED,
        ),
        (
            claims.correlates("all"),
            "-0.60 [-0.80, -0.40]",
            claims.REPRODUCED,
        ),
        (
            claims.correlates("kaiming"),
            "-0.20 [-0.70, +0.50]",
            claims.NOT_REPRODUCED,
        ),
        (
            claims.criteria("E"),
            "E falls: 6 … 1<br>E ends low: 7",
            "in part: 1 of 2",
        ),
        (
            claims.criteria("drift"),
            "drift: 0.1 (2 seeds: too few)",
            claims.TOO_FEW,
        ),
        (
            claims.column("highest", " %", setting="few", method="ours"),
            "60.0 [58.0, 62.0] %",
            claims.REPRODUCED,
        ),
    ],
)
def test_a_verdict_is_a_rule(tmp_path, judge, measured, verdict):
    (tmp_path / "table.md").write_text(TABLE, "utf-8")
    assert judge(claims.read(tmp_path / "table.md")) == (measured, verdict)


def test_a_table_of_claims(tmp_path):
    (tmp_path / "table.md").write_text(TABLE, "utf-8")
    judge = claims.cheaper("few", "ours")
    lines = claims.table(
        [
            claims.Claim("short", "Table 1", "table.md", judge),
            claims.Claim("short", claims.OURS, "table.md", judge),
            claims.Claim("later", "Table 2", "later.md", judge),
            claims.Claim("never", "Table 3"),
        ],
        tmp_path,
    ).splitlines()
    measured = "transport cost 40 → 4"
    assert lines[2:] == [
        f"| short | Table 1 | [reproduced](table.md) | {measured} |",
        f"| short | ours | [holds](table.md) | {measured} |",
        "| later | Table 2 | not run | – |",
        "| never | Table 3 | not run | – |",
    ]


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (claims.change(("none", "ours")), "0 rows have"),
        (claims.change(("few", "plain")), "No interval in '–'"),
        (claims.criteria("none"), "No criterion begins with"),
    ],
)
def test_a_claim_without_its_row(tmp_path, judge, message):
    (tmp_path / "table.md").write_text(TABLE, "utf-8")
    with pytest.raises(ValueError, match=message):
        judge(claims.read(tmp_path / "table.md"))


def test_robustness_knows_what_is_better(tmp_path):
    head = "| measure | better | least action |\n| --- | --- | --- |\n"
    rows = (
        "| accuracy | higher | +9.0 [+8.0, +10.0] |\n"  # by which none is robust
        "| noise | higher | +2.0 [+1.0, +3.0] |\n"
        "| loss | lower | -2.0 [-3.0, -1.0] |\n"
        "| error | lower | +2.0 [+1.0, +3.0] |\n"
        "| turned | higher | +1.0 [-1.0, +3.0] |\n"
    )
    (tmp_path / "table.md").write_text(head + rows, "utf-8")
    measured, verdict = studies.claims.robust(claims.read(tmp_path / "table.md"))
    assert measured == "of 4 measures surely better: 2, worse: 1"
    assert verdict == "in part: 2 of 4"


@pytest.mark.parametrize(
    ("obeyed", "other", "verdict"),
    [
        (8, 0, claims.REPRODUCED),
        (6, 0, claims.NOT_REPRODUCED),
        (10, 1, claims.NOT_REPRODUCED),
    ],
)
def test_the_exact_test_may_err_at_its_level(tmp_path, obeyed, other, verdict):
    # Of 20 right candidates three rejections are the 97.5 % quantile at level .05.
    cells = (
        f"**0.01–0.9, kept {obeyed}** | **0.2–0.9, kept 10** | 0.0–0.1, kept {other}"
    )
    head = "| digits | seeds | a | b | c |\n| --- | --- | --- | --- | --- |\n"
    (tmp_path / "table.md").write_text(f"{head}| turned | 10 | {cells} |\n", "utf-8")
    measured, found = studies.claims.keeps(claims.read(tmp_path / "table.md"))
    assert found == verdict
    assert f"rejected {10 - other} of 10" in measured
    assert f"and {10 - obeyed} of 20" in measured
