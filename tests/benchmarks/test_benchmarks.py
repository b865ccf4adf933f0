"""The published tables of the benchmarks, and what compares them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


@pytest.fixture(scope="module")
def scripts():
    """The modules of the folder, which are scripts and no package."""
    sys.path.insert(0, str(FOLDER))
    import guard
    import harness
    import run
    import timing

    yield {"guard": guard, "harness": harness, "run": run, "timing": timing}
    sys.path.remove(str(FOLDER))


def test_the_tables_are_those_of_the_results(scripts):
    run = scripts["run"]
    records = run.read(run.COMMITTED)
    text = run.README.read_text("utf-8")
    for name in set(run.NAMES) - set(records):
        assert f"<!-- {name} -->\nNot run in full yet.\n<!-- end -->" in text
    assert not any(record["quick"] for record in records.values())
    assert run.filled(text, records) == text
    for name, record in records.items():
        table = (run.COMMITTED / f"{name}.md").read_text("utf-8")
        assert table == scripts["harness"].table(record) + "\n"


def test_a_page_without_a_place_for_a_table_is_refused(scripts):
    run = scripts["run"]
    with pytest.raises(ValueError, match="no place for 'memory'"):
        run.filled("", {"memory": run.read(run.COMMITTED)["memory"]})


def test_ratios_are_taken_round_by_round(scripts):
    over = scripts["timing"].ratio([2.0, 30.0, 9.0], [1.0, 10.0, 9.0])
    assert over == {"low": 1.5, "median": 2.0, "high": 2.5, "rounds": 3}


def test_all_things_run_once_a_round_and_once_before(scripts):
    ran = []
    things = {name: (lambda name=name: ran.append(name)) for name in "abc"}
    seconds = scripts["timing"].alternate(things, rounds=4)
    assert ran[:3] == ["a", "b", "c"]
    rounds = [ran[i : i + 3] for i in range(3, len(ran), 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert {each[0] for each in rounds} >= {"a", "b", "c"}  # none is always the first
    assert all(times.shape == (4,) and (times > 0).all() for times in seconds.values())


def test_rounds_go_on_while_there_is_time(scripts):
    ran = []
    things = {"a": lambda: ran.append(time.sleep(0.01))}
    few = scripts["timing"].alternate(things, rounds=2, budget=0.0)
    many = scripts["timing"].alternate(things, rounds=2, budget=0.1)
    assert len(few["a"]) == 2
    # Each takes a hundredth of a second at least, so some ten at the most.
    assert 2 < len(many["a"]) <= 11
    assert len(ran) == 2 + len(few["a"]) + len(many["a"])


@pytest.mark.parametrize(("median", "worse"), [(1.14, 0), (1.16, 1)])
def test_what_the_guard_finds(scripts, median, worse):
    old = {"low": 1.0, "median": 1.02, "high": 1.05, "rounds": 9}

    def record(ratio):
        rows = [{"backend": "jax", "network": "ViT", "ratio": ratio, "plain_ms": 7.0}]
        rows.append({"backend": "jax", "network": "ResNet9", "failure": "..."})
        return {"benchmark": "b", "labels": ["backend", "network"], "rows": rows}

    new = {**old, "median": median}
    found, compared = scripts["guard"].exceeding(record(old), record(new), 0.1)
    assert (len(found), compared) == (worse, 1)


def test_the_memory_of_a_process_is_not_that_of_its_parent(scripts):
    code = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import harness; "
    code += "print(harness.peak_memory())"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    # Python alone, in MiB, started by one that has loaded Keras and PyTorch.
    assert 5 < float(told.stdout) < 100 < scripts["harness"].peak_memory()


def test_one_backend_runs_again_beside_the_others(scripts):
    def rows(pairs):
        return [{"backend": backend, "count": count} for backend, count in pairs]

    beside = scripts["harness"].beside
    before = rows([("jax", 1), ("torch", 2), ("jax", 3), ("torch", 4)])
    again = rows([("jax", 5), ("jax", 6)])
    in_place = rows([("jax", 5), ("torch", 2), ("jax", 6), ("torch", 4)])
    assert beside(again, before) == in_place
    fewer, more = again[:1], [*again, *again[:1]]
    assert beside(fewer, before) == rows([("jax", 5), ("torch", 2), ("torch", 4)])
    assert beside(more, before) == [*in_place, *fewer]
    assert beside(again, []) == again


def test_a_case_that_fails_is_kept_and_told(scripts, tmp_path):
    harness = scripts["harness"]
    ratio = {"low": 0.5, "median": 1.0, "high": 2.0, "rounds": 3}
    rows = [
        {"backend": "jax", "network": "ViT", "ratio": ratio, "met": False},
        {"backend": "torch", "network": "ViT", "failure": "out of memory"},
    ]
    record = {"benchmark": "b", "labels": ["backend"], "rows": rows}
    harness.write(record, tmp_path)
    assert json.loads((tmp_path / "b.json").read_text("utf-8")) == record
    table = (tmp_path / "b.md").read_text("utf-8")
    assert "| jax | ViT | 1.000 [0.500, 2.000] | **no** |" in table
    assert "Failed: torch, ViT: out of memory" in table
