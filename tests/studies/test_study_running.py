"""The result file survives what may happen to it, and runs go where joblib sends."""

from __future__ import annotations

import json
import math

import keras
import pytest
from support.basics import ON_ONE
from support.tiny_study import fake_result, tiny_study

from studies.engine import environment, records, run_study, running

pytestmark = ON_ONE


@pytest.fixture
def trained(monkeypatch):
    """Training replaced by notes of what would have been trained."""
    runs = []

    def train(run):
        runs.append((run.method.kind, run.seed))
        return fake_result([0.1, 0.2, 0.3])

    monkeypatch.setattr(running, "train", train)
    return runs


def test_a_record_holds_everything(tmp_path, trained):
    path = tmp_path / "new" / "r.jsonl"
    study = tiny_study()
    returned = run_study(study, path, progress=False)
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert written == returned
    assert [r["fingerprint"] for r in written] == [
        r.fingerprint() for r in study.runs()
    ]
    record = written[1]
    assert record["run"]["method"] == {
        "kind": "least action",
        "initial_multiplier": 0.5,
        "tau": 1.0,
        "every": 5,
        "p": 2.0,
    }
    assert record["run"]["data"]["train_size"] == 20
    assert record["seed"] == record["run"]["seed"] == 0
    assert record["backend"] == keras.backend.backend()
    assert record["versions"]["keras"] == keras.__version__
    assert record["revision"] is None or len(record["revision"]) >= 40


def test_a_finished_study_is_not_run_again(tmp_path, trained):
    path = tmp_path / "r.jsonl"
    first = run_study(tiny_study(), path, progress=False)
    before = path.read_bytes()
    assert run_study(tiny_study(), path, progress=False) == first
    assert path.read_bytes() == before
    assert len(trained) == 4
    run_study(tiny_study(seeds=(0, 1, 2)), path, progress=False)
    assert trained[4:] == [("plain", 2), ("least action", 2)]
    assert path.read_bytes().startswith(before)


def test_a_killed_study_loses_the_run_in_hand(tmp_path, trained, monkeypatch):
    path = tmp_path / "r.jsonl"
    train = running.train

    def killed(run):
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train(run)

    monkeypatch.setattr(running, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        run_study(tiny_study(), path, progress=False)
    assert len(records.read(path)) == 3
    monkeypatch.setattr(running, "train", train)
    assert len(run_study(tiny_study(), path, progress=False)) == 4
    assert len(trained) == 4


@pytest.mark.parametrize("cut", [1, 30])
def test_a_truncated_line_is_set_aside_and_run_again(tmp_path, trained, cut):
    path = tmp_path / "r.jsonl"
    run_study(tiny_study(), path, progress=False)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with pytest.raises(ValueError, match=r"Line 4 of .*is not a whole record"):
        records.read(path)
    with pytest.warns(UserWarning, match=r"cut short.*r\.jsonl\.broken"):
        run_study(tiny_study(), path, progress=False)
    assert path.read_bytes() == whole
    assert trained[4:] == [("least action", 1)]
    last = whole.splitlines()[-1] + b"\n"
    broken = (tmp_path / "r.jsonl.broken").read_bytes()
    assert broken == last[:-cut].rstrip(b"\n") + b"\n"
    assert records.repair(path) is None


def test_a_broken_line_in_the_middle_is_an_error(tmp_path, trained):
    path = tmp_path / "r.jsonl"
    run_study(tiny_study(), path, progress=False)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0][:50] + b"\n", *lines[1:]]))
    with pytest.raises(ValueError, match=r"Line 1 of .*remove any other broken line"):
        run_study(tiny_study(), path, progress=False)


def test_backends_are_not_mixed(tmp_path, trained):
    path = tmp_path / "r.jsonl"
    run_study(tiny_study(), path, progress=False)
    path.write_text(
        path.read_text().replace(
            f'"backend": "{keras.backend.backend()}"', '"backend": "abc"'
        )
    )
    with pytest.raises(ValueError, match=r"from Keras on abc.*KERAS_BACKEND=abc"):
        run_study(tiny_study(seeds=(0, 1, 2)), path, progress=False)
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=abc where the workers"):
        running.make_record(next(tiny_study().runs()), "abc")


def test_numbers_keep_four_digits(tmp_path):
    path = tmp_path / "r.jsonl"
    record = {"a": [1 / 3, 123456.0, 1.23456e-12, math.nan, math.inf], "b": {"c": 7}}
    records.append(path, record)
    assert records.read(path) == [
        {"a": [0.3333, 123500.0, 1.235e-12, None, None], "b": {"c": 7}}
    ]
    assert records.read(tmp_path / "none.jsonl") == []


def test_revision_is_that_of_a_checkout(monkeypatch, tmp_path):
    assert environment._revision() is None or len(environment._revision()) >= 40
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "module.py"))
    assert environment._revision() is None


def test_jobs_side_by_side(tmp_path):
    study = tiny_study()
    alone = run_study(study, tmp_path / "one.jsonl", progress=False)
    beside = run_study(study, tmp_path / "two.jsonl", jobs=2, progress=False)
    assert_same_results(alone, beside)
    assert len(records.read(tmp_path / "two.jsonl")) == 4


def test_a_dask_cluster(tmp_path):
    joblib = pytest.importorskip("joblib")
    distributed = pytest.importorskip("distributed")
    study = tiny_study()
    alone = run_study(study, tmp_path / "one.jsonl", progress=False)
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=None,
        local_directory=str(tmp_path),
    )
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        spread = run_study(study, tmp_path / "two.jsonl", jobs=None, progress=False)
    assert_same_results(alone, spread)


def assert_same_results(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a["fingerprint"] == b["fingerprint"]
        for name in ("test_accuracy", "task_loss", "block_costs"):
            assert a["result"][name] == pytest.approx(b["result"][name], rel=1e-3)
