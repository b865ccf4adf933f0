"""The kit for a GPU, on a machine that has none: what it keeps, refuses and resumes."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import keras
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
OLD = {"part": "tests", "backend": "torch", "device": "some card", "result": "old"}
OTHER = {"part": "cost", "backend": "jax", "device": "some card", "overhead": 1.0}

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


@pytest.fixture
def kit(monkeypatch):
    """The module of the kit; on its path it finds the folder's others."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    return gpu


def call(kit, monkeypatch, tmp_path, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), *arguments])
    kit.main()
    return json.loads((tmp_path / "gpu.json").read_text("utf-8"))["rows"]


def test_without_a_gpu_nothing_is_written(kit, monkeypatch, tmp_path):
    monkeypatch.setattr(kit, "device_of", lambda backend: "")
    with pytest.raises(SystemExit, match="No GPU that torch or jax can use"):
        call(kit, monkeypatch, tmp_path, "--backend", "torch", "jax")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("status", "text", "met"),
    [(0, "...\n3 passed in 2 s", True), (0, "3 skipped", False), (1, "boom", False)],
)
def test_new_results_take_the_place_of_old_ones(
    kit, monkeypatch, tmp_path, status, text, met
):
    kit.harness.write(kit._record([OLD, OTHER], 0.0), tmp_path)
    monkeypatch.setattr(kit, "device_of", lambda backend: "new card")
    monkeypatch.setattr(kit, "_run", lambda *_: (status, text))
    options = "--backend", "torch", "--parts", "tests"
    rows = call(kit, monkeypatch, tmp_path, *options)
    fresh = {**OLD, "device": "new card", "result": text.split("\n")[-1], "met": met}
    assert rows == [OTHER, fresh]
    assert "new card" in (tmp_path / "gpu.md").read_text("utf-8")


def test_a_part_whose_time_is_over_is_stopped(kit):
    status, text = kit._run(
        "torch", ["-uc", "print('begun'); import time; time.sleep(60)"], 3.0
    )
    assert status is None
    assert text == "begun\n"


def test_the_table_is_the_papers_at_two_sizes(kit, tmp_path):
    study, path = kit._study(tmp_path)
    sizes = {setting.data.train_size for setting in study.settings}
    assert (sizes, len(study.settings), len(study.seeds)) == ({100, 200}, 4, 10)
    assert {setting.network.filters for setting in study.settings} == {64}
    assert {setting.training.epochs for setting in study.settings} == {300}
    assert path == tmp_path / "table1_mnist-paper.jsonl"


def test_it_goes_on_where_its_time_was_over(kit, monkeypatch, tmp_path):
    study = kit._study(tmp_path)[0]
    trained = []
    monkeypatch.setattr(
        "studies.engine.running.run_study",
        lambda one, *_, **__: trained.append((one.seeds, one.settings)),
    )
    monkeypatch.setattr("studies.engine.report.write_report", lambda *_: [])
    with pytest.raises(SystemExit, match="time is over at seed 0"):
        kit._train(tmp_path, -1.0)
    assert trained == []
    kit._train(tmp_path, 100.0)
    assert trained == [
        ((seed,), (setting,)) for seed in study.seeds for setting in study.settings
    ]
    one = dataclasses.replace(study, settings=study.settings[:1], seeds=(0,))
    assert {r.fingerprint() for r in one.runs()} <= {
        r.fingerprint() for r in study.runs()
    }
