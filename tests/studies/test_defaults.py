"""The study of one default: its rule, its training, its report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

from studies.defaults import judging, methods, settings
from studies.layers.data import load
from studies.layers.networks import mlp

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="the study compiles its steps on JAX"
)
RESULTS = Path(__file__).parents[2] / "studies" / "results"
TINY = settings.Trained(
    *("tiny", ("spirals", 40, 30, 50), (2,), 2, partial(mlp, width=3, step=0.5)),
    *(2, 20, 0.01, ()),
    batch=8,
)


def lines(**of):
    """Validation accuracies and costs of two settings, by method, of seed 0."""
    return {
        (setting, method, 0): {"validation": accuracy, "validation_cost": cost}
        for method, pairs in of.items()
        for setting, (accuracy, cost) in zip("ab", pairs, strict=True)
    }


def test_the_shortest_path_that_costs_nothing_is_chosen():
    found = lines(
        plain=[(0.90, 10.0), (0.80, 1.0)],
        long=[(0.90, 9.0), (0.80, 0.9)],
        short=[(0.90, 1.0), (0.795, 0.1)],  # half of half a point
        costly=[(0.95, 0.1), (0.77, 0.1)],  # three points in one setting
        harmful=[(0.89, 0.1), (0.79, 0.1)],  # one point on the mean
    )
    names = ["long", "short", "costly", "harmful"]
    assert judging.choose(found, "ab", names, "plain", [0]) == "short"
    # Of those that all cost too much somewhere, the one that is best on the mean.
    assert judging.choose(found, "ab", names[2:], "plain", [0]) == "costly"
    assert judging.most_accurate(found, "ab", names, "plain", [0]) == "costly"
    ratio = judging.cost_ratio(found, "a", "short", "plain", [0])
    assert ratio == pytest.approx(0.1)


@pytest.fixture(scope="module")
def trainers():
    from studies.defaults.training import Trainer

    data = load(*TINY.data)
    return Trainer(TINY, data, False), Trainer(TINY, data, True)


def test_the_parts_of_a_share_are_variables(trainers):
    """λ_0 is C·(1 − s)/(s·R) of one first batch, by one compiled step."""
    _, trainer = trainers
    found = [trainer.train(method, 3) for method in methods.CONSTANT]
    products = [
        each["start"] * m.share / (1 - m.share)
        for each, m in zip(found, methods.CONSTANT, strict=True)
    ]
    np.testing.assert_allclose(products, products[0], rtol=1e-5)
    assert all(each["end"] == each["start"] for each in found)
    rising = trainer.train(methods.RISING[0], 3)
    assert rising["start"] == found[0]["start"]
    assert rising["end"] > rising["start"]


def test_an_energy_that_weighs_nothing_is_plain_training(trainers):
    plain, least = trainers
    one = plain.train(methods.PLAIN, 1)
    other = least.train(methods.Method("off", multiplier=1e25, tau=0.0), 1)
    assert other["cost"] == pytest.approx(one["cost"], rel=1e-4)
    decayed = plain.train(methods.DECAYS[-1], 1)
    assert decayed["cost"] < one["cost"]
    assert plain.train(methods.PLAIN, 1)["cost"] == one["cost"]


def test_the_probe_measures_the_blocks():
    from studies.defaults.training import probe

    keras.utils.set_random_seed(0)
    net = TINY.network(2)
    x = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    logits, costs, relative = probe(net).predict(x, verbose=0)
    np.testing.assert_allclose(logits, net(x), atol=1e-6)
    weights = [np.array(w) for w in net.get_weights()]
    state = x @ weights[0] + weights[1]
    for k in range(2):
        a, b, c, d = weights[2 + 4 * k : 6 + 4 * k]
        moved = 0.5 * (np.maximum(state @ a + b, 0) @ c + d)
        np.testing.assert_allclose(costs[:, k], np.mean(moved**2, axis=1), rtol=1e-4)
        ratio = np.linalg.norm(moved, axis=1) / np.linalg.norm(state, axis=1)
        np.testing.assert_allclose(relative[:, k], ratio, rtol=1e-4)
        state = state + moved


def test_it_goes_on_where_it_stopped_and_reports(tmp_path, monkeypatch):
    from studies.defaults import one_default, report

    monkeypatch.setattr(one_default, "SETTINGS", (TINY,))
    monkeypatch.setattr(report, "SETTINGS", (TINY,))
    few = (methods.PLAIN, methods.CONSTANT[0], methods.RISING[0], methods.DECAYS[0])
    for module in (one_default, report):
        monkeypatch.setattr(module, "CANDIDATES", few)
        monkeypatch.setattr(module, "SEEDS", (0, 1))
        monkeypatch.setattr(module, "TRIALS", (100,))
    for name in ("ENERGIES", "RISING", "DECAYS"):
        kept = tuple(m for m in getattr(methods, name) if m in few)
        monkeypatch.setattr(one_default, name, kept)
    monkeypatch.setattr(one_default, "load", lambda setting: load(*setting.data))
    path = tmp_path / "tiny.jsonl"
    one_default.Study(path).run()
    whole = path.read_text().splitlines()
    assert "test" not in whole[0]  # a trial
    path.write_text("\n".join(whole[:5]) + "\n")
    one_default.Study(path).run()
    again = path.read_text().splitlines()
    assert len(again) == len(whole)
    (text,) = report.texts(path).values()
    assert "## Trials" in text
    assert "## Confirmation" in text
    assert all(written.exists() for written in report.write(path))


def test_what_is_published_is_what_the_results_say():
    from studies.defaults import report

    path = RESULTS / "defaults.jsonl"
    for name, text in report.texts(path).items():
        assert path.with_name(name).read_text("utf-8") == text, name
