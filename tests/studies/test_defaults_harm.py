"""The studies of clipping, of a capped rule and of robustness."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from studies.defaults import methods, settings
from studies.layers.data import Parts

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="the studies compile their steps on JAX"
)
RESULTS = Path(__file__).parents[2] / "studies" / "results"
TINY = settings.Trained(
    *("tiny", (), (4, 4, 1), 3, settings.partial(settings.mlp, width=3, step=0.5)),
    *(2, 6, 0.02, ()),
    batch=8,
    optimizer="sgd",
)


def images(count, seed):
    """Images of three classes: in which row they are bright."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 3, count)
    x = generator.normal(size=(count, 4, 4, 1)).astype("float32")
    x[np.arange(count), y] += 2
    return 4 * x, y


DATA = Parts(images(40, 0), images(30, 1), images(50, 2), classes=3)


@pytest.fixture(scope="module")
def switched():
    from studies.defaults.capped import Capped
    from studies.defaults.switched import SwitchedTrainer

    rule = Capped("rule", share=0.1, loss=0.5)
    plain = SwitchedTrainer(TINY, DATA, methods.PLAIN)
    return plain, SwitchedTrainer(TINY, DATA, rule), rule


def test_the_switches_are_those_of_keras(switched):
    """Against a step at a time, with Keras's own constant rate and clipping."""
    trainer, *_ = switched
    trainer.train_in(methods.PLAIN, 0, is_constant=True, is_clipped=True)
    bound = trainer.model.optimizer.bound
    found = [np.array(w) for w in trainer.network.get_weights()]
    keras.utils.set_random_seed(0)
    own = TINY.network(2)
    own.compile(
        keras.optimizers.SGD(TINY.rate, momentum=0.9, global_clipnorm=float(bound)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x, y = DATA.train
    for chosen in trainer._order(0):
        own.train_on_batch(x[chosen], y[chosen])
    for one, other in zip(found, own.get_weights(), strict=True):
        # Six steps in another order of float32 sums.
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    free = trainer.train_in(methods.PLAIN, 0, is_constant=True, is_clipped=False)
    assert free["steep"] > 0  # so that the bound did something above
    falls = trainer.train_in(methods.PLAIN, 0, is_constant=False, is_clipped=False)
    assert falls["cost"] != free["cost"]


def test_the_capped_rule_is_what_it_says():
    from studies.defaults.capped import CappedModel

    keras.utils.set_random_seed(0)
    net = TINY.network(2)
    model = CappedModel(net)
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # At a rate of 0 every step sees the same loss and energy.
    model.compile(keras.optimizers.SGD(0.0), entropy)
    x, y = DATA.train
    loss = float(ops.mean(entropy(y, net(x))))
    states = [
        np.array(keras.Model(net.input, net.get_layer(name).output)(x))
        for name in ("stem", "block1_add", "block2_add")
    ]
    energy = sum(
        np.mean(np.sum((b - a) ** 2, axis=1) / np.sum(a**2, axis=1))
        for a, b in itertools.pairwise(states)
    )
    model.part.assign(0.2)
    for bound, factors in (
        (loss * math.exp(0.5), [math.exp(-0.05 * k) for k in range(3)]),
        (loss * math.exp(9.0), [math.exp(-0.1 * k) for k in range(3)]),
        (loss / 2, [1, 1, 1]),  # never above where it began
    ):
        model.multiplier.assign(0.0)
        model.loss_bound.assign(bound)
        for factor in factors:
            now = energy * 0.8 / (0.2 * loss) * factor
            found = model.train_on_batch(x, y)
            assert float(found) == pytest.approx(loss + energy / now, rel=1e-4)


def test_a_bound_above_the_loss_moves_less(switched):
    plain, capped, rule = switched
    switches = {"is_constant": False, "is_clipped": False}
    one = plain.train_in(methods.PLAIN, 0, **switches)
    other = capped.train_in(rule, 0, **switches)
    assert other["cost"] < one["cost"]
    assert 0 < other["end"] <= other["start"]


def test_dropout_of_nothing_is_no_dropout():
    from studies.defaults.harmed import Dropped, HarmedTrainer
    from studies.defaults.training import Trainer

    own = Trainer(TINY, DATA, False).train(methods.PLAIN, 1)
    trainer = HarmedTrainer(TINY, DATA, False)
    same = trainer.train_from(methods.PLAIN, 1, 0.0, is_trial=False)
    assert same["cost"] == pytest.approx(own["cost"], rel=1e-4)
    dropped = trainer.train_from(Dropped("some", dropout=0.3), 1, 0.0, is_trial=False)
    assert dropped["cost"] != pytest.approx(own["cost"], rel=1e-2)
    wrong = trainer.train_from(methods.PLAIN, 1, 0.4, is_trial=True)
    assert set(wrong) == {"validation", "seconds"}
    assert (
        trainer.train_from(methods.PLAIN, 1, 0.0, is_trial=False)["nll"] == same["nll"]
    )


def test_as_much_is_dropped_as_is_said():
    from studies.defaults.harmed import Drop
    from studies.defaults.training import scalar

    x = np.ones((100, 100), "float32")
    dropped = np.array(Drop(scalar("rate", 0.3))(x, training=True))
    # Four standard deviations of 10 000 draws.
    assert np.mean(dropped == 0) == pytest.approx(0.3, abs=0.02)
    np.testing.assert_allclose(dropped[dropped > 0], 1 / 0.7, rtol=1e-6)


def test_so_many_labels_are_wrong():
    from studies.defaults.harm import wrong_labels

    y = np.repeat(np.arange(10), 30)
    wrong = wrong_labels(y, 10, 0.4, seed=3)
    assert np.sum(wrong != y) == 120
    assert set(wrong) <= set(range(10))
    np.testing.assert_array_equal(wrong, wrong_labels(y, 10, 0.4, seed=3))
    np.testing.assert_array_equal(wrong_labels(y, 10, 0.0, seed=3), y)


def test_the_measures_are_those_of_a_linear_network():
    """Of ``logits = (w·x, −w·x)``, FGSM moves every pixel against the class."""
    from studies.defaults.harm import Harm, probabilities

    inputs = keras.Input((2, 2, 1))
    flat = keras.layers.Flatten()(inputs)
    net = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(flat))
    w = np.array([1.0, -2.0, 0.5, 1.0], "float32")
    net.set_weights([np.stack([w, -w], axis=1)])
    x = np.random.default_rng(0).uniform(0.3, 0.7, (200, 2, 2, 1)).astype("float32")
    y = (x.reshape(200, 4) @ w < 0).astype(int)
    found = Harm(net, (x, y), (0.0, 1.0)).measure(0)
    margin = np.abs(x.reshape(200, 4) @ w)
    for size in (0.05, 0.1):
        expected = np.mean(margin > size * np.abs(w).sum())
        # A sum of four float32 products may fall on either side of its border.
        assert found[f"fgsm_{size:g}"] == pytest.approx(expected, abs=0.005)
    own = probabilities(net(x))
    entropy = keras.losses.sparse_categorical_crossentropy(y, net(x), from_logits=True)
    assert found["nll"] == pytest.approx(float(ops.mean(entropy)), rel=1e-4)
    strange = probabilities(net(1 - x)).max(axis=1)
    above = own.max(axis=1)[:, None] - strange[None]
    auroc = np.mean((above > 0) + 0.5 * (above == 0))
    assert found["inverted"] == pytest.approx(auroc, abs=1e-3)


def test_the_calibration_error_of_two_bins():
    from studies.defaults.harm import calibration_error

    sure = np.array([[0.99, 0.01]] * 4 + [[0.45, 0.55]] * 4)
    y = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    # Three of four at 0.99, and two of four at 0.55.
    expected = 0.5 * (0.99 - 0.75) + 0.5 * (0.55 - 0.5)
    assert calibration_error(sure, y) == pytest.approx(expected)


def test_clipping_goes_on_where_it_stopped_and_reports(tmp_path, monkeypatch):
    from studies.defaults import clipping, clipping_report

    few = clipping.CAPPED[:1]
    for module in (clipping, clipping_report):
        monkeypatch.setattr(module, "NAMES", (TINY.name,))
        monkeypatch.setattr(module, "CAPPED", few)
        monkeypatch.setattr(module, "SEEDS", (0, 1))
    check_study(clipping, clipping_report, tmp_path, monkeypatch)


def test_robustness_goes_on_where_it_stopped_and_reports(tmp_path, monkeypatch):
    from studies.defaults import robustness, robustness_report

    few = {name: each[:1] for name, each in robustness.FAMILIES.items()}
    for module in (robustness, robustness_report):
        monkeypatch.setattr(module, "NAMES", (TINY.name,))
        monkeypatch.setattr(module, "FAMILIES", few)
        monkeypatch.setattr(module, "SEEDS", (0, 1))
    check_study(robustness, robustness_report, tmp_path, monkeypatch)


def check_study(module, report, folder, monkeypatch):
    """Runs it, cuts its file short, runs it again, and writes its tables."""
    monkeypatch.setattr(module, "SETTINGS", (TINY,))
    monkeypatch.setattr(module, "load", lambda setting: DATA)
    path = folder / "tiny.jsonl"
    module.Study(path).run([TINY.name])
    whole = path.read_text().splitlines()
    assert "test" not in whole[0].partition("environment")[0]  # a trial
    path.write_text("\n".join(whole[:-3]) + "\n")
    module.Study(path).run([TINY.name])
    assert len(path.read_text().splitlines()) == len(whole)
    (written,) = report.write(path)
    text = written.read_text("utf-8")
    assert "| tiny |" in text
    assert "[" in text  # intervals


@pytest.mark.parametrize("name", ["clipping", "robustness"])
def test_what_is_published_is_what_the_results_say(name):
    import importlib

    path = RESULTS / f"defaults-{name}.jsonl"
    report = importlib.import_module(f"studies.defaults.{name}_report")
    for file, text in report.texts(path).items():
        assert path.with_name(file).read_text("utf-8") == text, file
