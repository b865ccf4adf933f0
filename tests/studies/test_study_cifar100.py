"""Table 3 on mocked CIFAR-100: the whole study, at the smallest size."""

from __future__ import annotations

import dataclasses

import keras
import pytest

from studies.engine import Data, Network, Training, run_study, tables
from studies.engine.building import load_data
from studies.engine.running import find
from studies.paper import table3_cifar100


@pytest.fixture
def mocked_data():
    tfds = pytest.importorskip("tensorflow_datasets")
    load_data.cache_clear()
    with tfds.testing.mock_data(num_examples=300):
        yield
    load_data.cache_clear()


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the slowest of them, once is enough"
)
def test_table3_on_mocked_data(mocked_data, tmp_path):
    study = table3_cifar100.PRESETS["paper"]
    setting = study.settings[0]
    assert setting.network == Network("resnext50", like_the_paper=True)
    assert setting.data == Data("cifar100", 12500, 5000, balanced=False)
    tiny = dataclasses.replace(
        setting,
        network=Network("resnext50", 2, (2, 1, 1, 1), cardinality=2, group_width=2),
        data=Data("cifar100", 100, validation_size=20, test_size=40),
        training=Training(1, 50, drop_epochs=(1,)),
    )
    study = dataclasses.replace(study, settings=(tiny,), seeds=(0,))
    found = run_study(study, tmp_path / "r.jsonl", progress=False)
    assert [record["run"]["method"]["kind"] for record in found] == [
        "plain",
        "least action",
    ]
    # All count, the first block of every stage too, which changes the shape.
    assert [len(record["result"]["block_costs"]) for record in found] == [5, 5]
    rows = tables.comparison(study, find(study, found)).rows
    assert [row[2] for row in rows] == ["1: too few to conclude"] * 2
