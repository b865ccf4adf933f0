"""Why test images go far from a bad start: how it is measured."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lap
from keras_lap.datasets import Dataset, Split
from studies.engine import Data, Training, records
from studies.paper import good_starts, silent_channels

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="trained once, on one backend"
)


OURS = "least action, λ_0 = 5"


def network_with_a_silent_channel():
    """ResNet9 as the authors have it, whose second block divides channel 1 by 1e-3."""
    keras.utils.set_random_seed(0)
    network = keras_lap.networks.resnet9((8, 8, 1), 3, filters=4, like_the_paper=True)
    layer = silent_channels.normalisations(network)[1]
    layer.moving_variance.assign([1.0, 1e-6, 1.0, 1.0])
    return network


def test_costs_of_single_images_are_those_of_the_report():
    network = network_with_a_silent_channel()
    x = np.random.default_rng(0).normal(size=(7, 8, 8, 1)).astype("float32")
    costs = silent_channels.point_costs(network, x)
    report = keras_lap.transport.analyze(network, x, verbose=0)
    assert costs.mean() == pytest.approx(report.total_cost, rel=1e-4)
    one = silent_channels.point_costs(network, x[2:3])
    assert one == pytest.approx(costs[2:3], rel=1e-4)


def data(seed, count, classes=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 8, 8, 1)).astype("float32")
    return Split(x, rng.integers(classes, size=count))


def guessed(network, split):
    return network.predict(split.x, verbose=0).argmax(axis=1)


def test_the_silent_channel_is_found_and_raised():
    network = network_with_a_silent_channel()
    whole = Dataset("noise", 3, (8, 8, 1), data(0, 1), data(1, 40), data(2, 30))
    before = [
        np.mean(guessed(network, s) == s.y) for s in (whole.validation, whole.test)
    ]
    found = silent_channels.measure(network, whole)
    assert found["silent_of_state"] == 1
    assert found["least_variance"] == pytest.approx(1e-6)
    assert found["median_variance"] == 1
    assert found["accuracy"] == pytest.approx(100 * before[1])
    raised = found["raised"]
    assert [each["floor"] for each in raised] == list(silent_channels.FLOORS)
    assert [each["channels"] for each in raised] == [1, 1, 1]
    costs = [found["mean"], *(each["mean"] for each in raised)]
    assert costs == sorted(costs, reverse=True)
    # The network is left with its variances raised to the last of them.
    variances = silent_channels.variance_of(silent_channels.normalisations(network)[1])
    np.testing.assert_allclose(variances, [1, silent_channels.FLOORS[-1], 1, 1])
    after = [
        np.mean(guessed(network, s) == s.y) for s in (whole.validation, whole.test)
    ]
    assert raised[-1]["accuracy"] == pytest.approx(100 * after[1])
    change = 100 * (after[0] - before[0])
    assert raised[-1]["validation_change"] == pytest.approx(change)
    cost = silent_channels.point_costs(network, whole.test.x).mean()
    assert raised[-1]["mean"] == pytest.approx(cost)


def test_a_short_run_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    name, whole = "100 digits, bad start", silent_channels.STARTS
    (setting, *_) = whole[name].settings
    setting = dataclasses.replace(
        setting,
        network=dataclasses.replace(setting.network, filters=2),
        data=Data("digits", 30, validation_size=20, test_size=30),
        training=Training(2, 30, drop_epochs=(1,), coupled_decay=1e-4),
    )
    short = dataclasses.replace(whole[name], settings=(setting,), seeds=(0,))
    monkeypatch.setattr(silent_channels, "STARTS", {**whole, name: short})
    path = tmp_path / "silent_channels.jsonl"
    command = ["--results", str(path), "--settings", name]
    silent_channels.main(command)
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) == 2  # plain and least action
    path.write_text(lines[0] + "\n", "utf-8")
    silent_channels.main(command)
    again = path.read_text("utf-8").splitlines()
    assert [again[0], len(again)] == [lines[0], 2]
    table = path.with_suffix(".md").read_text("utf-8")
    assert table.count(f"| {name} | 2 | least action, λ_0 = 5, λ first | 0 |") == 1


def test_the_starts_are_those_of_the_published_studies():
    bad = silent_channels.STARTS["200 digits, bad start"]
    assert [setting.network.filters for setting in bad.settings] == [8, 24]
    setting = bad.settings[1]
    assert setting.label == "200 images, normal 1, 24 filters"
    assert (setting.network.like_the_paper, setting.training.epochs) == (True, 300)
    assert [method.kind for method in setting.methods] == ["plain", "least action"]
    (setting,) = silent_channels.STARTS["CIFAR-10, good start"].settings
    (found,) = good_starts.PRESETS["small"].only("1000 images").settings
    assert setting == dataclasses.replace(found, label="1000 images, 8 filters")
    for study in silent_channels.STARTS.values():
        for run in study.runs():  # what the tables name it by
            assert run.network.filters in (8, 24, 64)


def test_what_is_published_is_what_the_results_say(tmp_path):
    path = Path(__file__).parents[2] / "studies" / "results" / silent_channels.NAME
    copy = shutil.copy(path, tmp_path / path.name)
    (written,) = silent_channels.write(Path(copy))
    assert path.with_suffix(".md").read_text("utf-8") == written.read_text("utf-8")


def line(method, seed, mean, accuracy, raised, seen=0.0):
    """Of which the greatest floor alone raises anything."""
    least = {"channels": 0, "mean": mean, "accuracy": accuracy, "validation_change": 0}
    most = {"channels": 8, "mean": 0.01 + 0.01 * seed, "accuracy": raised}
    most["validation_change"] = seen
    lines = [dict(least), dict(least), most]
    return {
        "setting": "200 digits, bad start",
        **{"filters": 8, "method": method, "seed": seed},
        **{"mean": mean, "accuracy": accuracy, "raised": lines},
    }


def test_what_raising_changes_is_paired_by_seeds():
    lines = [line("plain", seed, 500, 50 + seed, 50 + seed) for seed in range(3)]
    lines += [
        line(OURS, seed, 10.0 ** (6 * seed), 60 + seed, 61 + 2 * seed)
        for seed in (2, 1, 0, 3)  # of the last there is no plain network
    ]
    table = silent_channels.changes(lines)
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["floor"] for row in rows] == ["0.0001", "0.001", "0.01"]
    assert [row["with such channels"] for row in rows] == ["0 of 3", "0 of 3", "3 of 3"]
    for row in rows:
        assert row["seeds"] == "3 of 10: too few to conclude"
        assert row["further than plain"] == "2 of 3"
        assert row["as they are"].startswith("+10.0 [+10.0, +10.0]")
    assert rows[0]["change by raising"].startswith("+0.0 [+0.0, +0.0]")
    row = rows[-1]
    assert (row["cost"], row["cost, raised"]) == ("1e+06", "0.02")
    # 1, 2 and 3 points: 4.303 is Student's quantile for two degrees of freedom.
    half = 4.303 / np.sqrt(3)
    assert row["change by raising"].startswith(
        f"+2.0 [{2 - half:+.1f}, {2 + half:+.1f}]"
    )
    after = row["least action − plain, raised"]
    assert after.startswith(f"+12.0 [{12 - half:+.1f}")


def test_floors_are_compared_over_networks_of_least_action_alone():
    lines = [line("plain", 0, 500, 50, 90, seen=40)]
    lines += [line(OURS, seed, 1e6, 60, 61 + seed, seen=seed) for seed in range(2)]
    table = silent_channels.floors(lines)
    zero = ("2", "+0.000", "+0.000")
    most = ("0.01", "2", "+0.500", "+1.500")
    assert list(table.rows) == [("0.0001", *zero), ("0.001", *zero), most]


def test_the_default_of_the_package_is_the_floor_that_validation_images_say():
    path = Path(__file__).parents[2] / "studies" / "results" / silent_channels.NAME
    rows = silent_channels.floors(records.read(path)).rows
    best = max(float(row[2]) for row in rows)
    chosen = next(float(row[0]) for row in rows if float(row[2]) == best)
    parameters = inspect.signature(keras_lap.trajectory.raise_variances).parameters
    assert parameters["fraction"].default == chosen
