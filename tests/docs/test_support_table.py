"""The table of support says what the tests found, and nothing of a run that failed."""

from __future__ import annotations

import json

import keras
import pytest
from support import support_table

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="no backend takes part"
)
TEST = "tests/training/test_ways_of_training.py::test"
OWN = "tests/conformance/test_trainer.py::TestTrainer::test"


def result(outcome, text="", way="a way", everywhere=False):
    return {"ways": [way], "everywhere": everywhere, "outcome": outcome, "text": text}


@pytest.fixture
def page(tmp_path):
    """Makes a page from the results of one test, by runs."""

    def make(test=TEST, **runs):
        for name in support_table.RUNS:
            backend = "torch" if name == "distributed" else name
            tests = {test: runs[name]} if name in runs else {}
            found = {"backend": backend, "tests": tests}
            (tmp_path / f"{name}.json").write_text(json.dumps(found))
        return support_table.build(support_table.read(tmp_path))

    return make


def test_what_a_cell_says(page):
    text = page(
        tensorflow=result("works", "slowly"),
        jax=result("fails", "an error"),
        torch=result("skipped", "not here"),
    )
    assert "| a way | works [1](#notes) | fails [2](#notes) | – [3](#notes) |" in text
    assert "1. Slowly.\n2. An error.\n3. Not here.\n" in text


@pytest.mark.parametrize("other", ["torch", "distributed"])
def test_a_test_that_one_lane_skips_counts_by_the_other(page, other):
    lanes = {"torch": result("skipped"), "distributed": result("skipped")}
    assert "| a way | – | – | works |" in page(**lanes | {other: result("works")})


def test_a_test_of_all_backends_runs_on_one(page):
    skipped = result("skipped", everywhere=True)
    text = page(tensorflow=skipped, jax=skipped, torch=result("works", everywhere=True))
    assert "| a way | works | works | works |" in text


def test_tests_of_keras_are_counted_and_named(page):
    reason = support_table.left_out_reasons()[0]
    text = page(
        OWN,
        tensorflow=result("works"),
        jax=result("fails", reason),
        torch=result("skipped", "Keras says so."),
    )
    assert "| pass | 1 | 0 | 0 |" in text
    assert "| left out | 0 | 1 | 0 |" in text
    summary = support_table.marked(reason[1:])
    folded = f"{summary} (1)</summary>\n\n- `TestTrainer.test` (JAX)\n\n</details>\n"
    assert folded in text
    assert "- Keras says so (1 on PyTorch).\n" in text


def test_the_page_begins_with_its_one_table(page):
    text = page(torch=result("works"))
    before, table = text.split("| | TensorFlow | JAX | PyTorch |\n", 1)
    assert before.count("\n") < 8
    assert table.startswith(
        "| --- | --- | --- | --- |\n| **Compiling and training** | | "
    )
    assert "\n## Notes\n" in table


def test_code_in_what_is_folded_is_html():
    text = support_table.marked("Names a layer to `TensorBoard`, not to `fit`")
    assert text == (
        "Names a layer to <code>TensorBoard</code>, not to <code>fit</code>"
    )


def test_no_table_of_a_test_that_failed(page):
    with pytest.raises(SystemExit, match="failed on jax"):
        page(jax=result("failed"))
