"""The study of symmetries: its data, its table, and one run cut short."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from studies.engine import published, records
from studies.symmetry import data, efficiency

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
SETTINGS = efficiency.SETTINGS


def test_the_functions_obey_their_groups_and_the_wrong_one_does_not():
    (x, y), (more, _) = data.sets(20, 0)
    assert (x.shape, y.shape, more.shape) == ((20, 4), (20, 1), (2000, 4))
    for order in ([1, 0, 2, 3], [3, 2, 1, 0]):
        moved = x[:, order]
        again = moved.max(1, keepdims=True) + np.sin(moved).prod(1, keepdims=True)
        np.testing.assert_allclose(again, y, rtol=1e-5, atol=1e-6)
    (x, y), _ = data.field(20, 0)

    def force(a, b):
        return np.stack([-a + np.sin(2 * b), -b - 0.5 * a**3], 1)

    np.testing.assert_allclose(force(*x.T), y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(force(*-x.T), -y, rtol=1e-5, atol=1e-6)
    assert np.abs(force(*x[:, ::-1].T) - y[:, ::-1]).max() > 0.1


def test_digits_are_split_by_seed_and_turned_by_quarters():
    pytest.importorskip("sklearn")
    (x, y), (test, _) = data.digits(100, 3, turned=False)
    (turned, same), _ = data.digits(100, 3, turned=True)
    assert x.shape == turned.shape == (100, 8, 8, 1)
    assert len(test) == 797
    np.testing.assert_array_equal(y, same)
    ways = [
        next(k for k in range(4) if np.array_equal(np.rot90(a, k), b))
        for a, b in zip(x, turned, strict=True)
    ]
    assert set(ways) == {0, 1, 2, 3}
    assert not np.array_equal(data.digits(100, 4, turned=False)[0][1], y)


def test_the_table_by_hand():
    digits, numbers = SETTINGS[0], SETTINGS[3]
    found = []
    for seed, (plain, other) in enumerate([(60, 70), (62, 76), (64, 70)]):
        scores = {"plain": plain, **dict.fromkeys(efficiency.WAYS, other)}
        found.append(
            {"setting": f"{digits.label}, 100", "seed": seed, "scores": scores}
        )
        scores = {"plain": 2.0, **dict.fromkeys(efficiency.WAYS, 0.5)}
        found.append(
            {"setting": f"{numbers.label}, 30", "seed": seed, "scores": scores}
        )
    first, second = efficiency.table(found).rows
    assert first[2:4] == ("3: too few to conclude", "62.0 %")
    # Mean 10, deviation 4, t quantile 4.303 of two degrees of freedom.
    assert first[4] == f"+10.0 [{10 - 4.3027 * 4 / 3**0.5:+.1f}, +19.9]"
    assert second[3:5] == ("2", "0.25 [0.25, 0.25]")


def test_a_short_run_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(efficiency, "STEPS", 2)
    monkeypatch.setattr(efficiency, "SEEDS", range(1))
    path = tmp_path / efficiency.NAME
    options = ["--results", str(path), "--settings", SETTINGS[3].name]
    efficiency.main(options)
    (first,) = records.read(path)
    assert set(first["scores"]) == {"plain", *efficiency.WAYS}
    monkeypatch.setattr(efficiency, "SEEDS", range(2))
    efficiency.main(options)
    before, after = records.read(path)
    assert before == first
    assert after["seed"] == 1
    written = path.with_suffix(".md").read_text("utf-8")
    assert "2: too few to conclude" in written
    # What older records lack is run, and nothing else.
    del after["scores"][efficiency.FIXED]
    path.write_text(json.dumps(first) + "\n" + json.dumps(after) + "\n", "utf-8")
    efficiency.main(options)
    *_, added = records.read(path)
    assert (added["seed"], set(added["scores"])) == (1, {efficiency.FIXED})
    assert path.with_suffix(".md").read_text("utf-8") == written


def test_the_committed_table_is_that_of_the_committed_records():
    path = published.COMMITTED / efficiency.NAME
    made = efficiency.table(records.read(path)).markdown() + "\n"
    assert path.with_suffix(".md").read_text("utf-8") == made


def test_fixed_units_are_fixed_from_the_start_and_after_steps(monkeypatch):
    monkeypatch.setattr(efficiency, "STEPS", 3)
    digits, numbers, odd = SETTINGS[0], SETTINGS[2], SETTINGS[3]
    for setting in (digits, numbers, odd):
        (x, _), _ = setting.draw(20, 0)
        network = efficiency.build(setting, x.shape[1:], 10, fixed=True)
        first = next(layer for layer in network.layers if layer.weights)
        network.compile("sgd", "mse")
        network.fit(efficiency.Repeated(x, np.ones((20, 10))), verbose=0)
        kernel = np.array(first.kernel).T
        if setting.inputs == "images":
            images = kernel.reshape(-1, 8, 8)
            np.testing.assert_allclose(np.rot90(images, axes=(1, 2)), images, atol=1e-6)
            assert np.abs(kernel).max() > 0.01
        else:  # one number over a set; an odd field leaves 0 alone
            fixed = kernel.mean(1, keepdims=True) if setting is numbers else 0 * kernel
            np.testing.assert_allclose(kernel, fixed + 0 * kernel, atol=1e-6)
