"""The study of how many layers: what it trains, what it takes from it, what it says."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lap
from studies.layers import judging, methods, networks
from studies.layers.data import load, spirals

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="the study compiles its loops on JAX"
)
RESULTS = Path(__file__).parents[2] / "studies" / "results"
X = np.random.default_rng(0).normal(size=(16, 2)).astype("float32")
Y = np.arange(16) % 2
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(blocks=2):
    keras.utils.set_random_seed(0)
    return networks.mlp((2,), 2, blocks, width=3, step=0.5)


@pytest.fixture
def tiny(monkeypatch):
    """A setting of two blocks and five steps, in the place of all others."""
    from studies.layers import how_many_layers, report, settings

    one = settings.Setting(
        *("tiny", ("spirals", 40, 30, 50), (2,), 2),
        partial(networks.mlp, width=3, step=0.5),
        *(2, 5, 0.01, (0, 2)),
        step=0.5,
        batch=8,
    )
    few = tuple(m for m in methods.METHODS if m.name in ("plain", "path loss"))
    few = few[0], dataclasses.replace(few[1], strengths=(0.1,), further=(0.4,))
    for module, name, value in (
        (how_many_layers, "SETTINGS", (one,)),
        (how_many_layers, "METHODS", few),
        (how_many_layers, "SMALL", {"tiny": (2, 1, 1)}),
        (report, "SETTINGS", (one,)),
    ):
        monkeypatch.setattr(module, name, value)
    return one


def test_advice_is_where_every_later_cut_holds():
    assert judging.advise([0.2, 0.99, 0.5, 0.97, 0.98]) == 3
    assert judging.advise([0.975, 0.99, 0.98]) == 0
    assert judging.advise([0.1, 0.2, 0.9]) == 2
    assert judging.advise([0.5, 0.8, 0.9], tolerance=0.1) == 1


def test_need_is_the_first_depth_near_the_best_one():
    assert judging.needed({0: 0.5, 1: 0.97, 2: 0.975, 4: 0.98, 8: 0.93}) == 1
    assert judging.needed({0: 50.0, 2: 96.0, 4: 98.0}, tolerance=1.0) == 4


def test_no_strength_is_chosen_that_costs_the_full_network():
    lines = {
        0.1: [{"validation": [0.1, 0.2, 0.98]}, {"validation": [0.1, 0.4, 0.98]}],
        0.2: [{"validation": [0.1, 0.6, 0.972]}, {"validation": [0.1, 0.4, 0.98]}],
        0.5: [{"validation": [0.9, 0.9, 0.90]}, {"validation": [0.9, 0.9, 0.90]}],
    }
    assert judging.choose(lines, (0, 1)) == 0.2


def test_spirals_are_two_and_wind_round_each_other():
    x, y = spirals(400, noise=0.0)
    radius = np.hypot(*x.T)
    angle = np.pi * 3 * radius / 2 + np.pi * y  # 1.5 turns while the radius grows to 2
    expected = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(x, expected, atol=1e-5)  # float32
    parts = load("spirals", 30, 20, 10)
    together = np.concatenate([parts.train[0], parts.validation[0], parts.test[0]])
    assert len(np.unique(together, axis=0)) == 60


def test_a_change_reaches_every_branch_and_nothing_else():
    net = network()
    copy = networks.with_branches(net, lambda k, v: keras.layers.Rescaling(0.0)(v))
    copy.set_weights(net.get_weights())
    weights = [np.array(w) for w in net.get_weights()]
    expected = (X @ weights[0] + weights[1]) @ weights[-2] + weights[-1]
    np.testing.assert_allclose(copy(X), expected, atol=1e-5)


def test_random_depth_drops_later_blocks_more_often():
    subject = methods.stochastic_depth(network(), 1.0)
    subject.set_strength(0.6)
    layer = subject.network.get_layer("block1_drop")
    value = np.ones((4000, 3), "float32")
    drawn = np.asarray(layer(value, training=True))
    # Half of 0.6; a sample keeps its branch as a whole, by 1 / 0.7 as large.
    assert set(np.unique(drawn.round(4))) == {0.0, np.float32(1 / 0.7).round(4)}
    assert (drawn.max(axis=1) == drawn.min(axis=1)).all()
    # Four standard deviations of the mean of 4000 draws.
    assert abs((drawn[:, 0] == 0).mean() - 0.3) < 4 * np.sqrt(0.21 / 4000)
    np.testing.assert_array_equal(layer(value, training=False), value)


def test_gates_begin_as_the_plain_network_and_cost_their_amount():
    net = network()
    subject = methods.gates(net, 1.0)
    subject.set_strength(0.25)
    for layer in filter(lambda layer: layer.weights, net.layers):
        subject.network.get_layer(layer.name).set_weights(layer.get_weights())
    np.testing.assert_allclose(subject.network(X), net(X), atol=1e-6)
    assert float(sum(subject.network.losses)) == pytest.approx(2 * 0.25)


def test_a_multiplier_that_is_held(tiny):
    from studies.layers.training import Trainer

    method = next(m for m in methods.METHODS if m.name == "λ held")
    trainer = Trainer(tiny, method, load(*tiny.data), 2)
    trainer.run(0, 0.25)
    assert float(trainer.model.multiplier) == 4.0
    plain = Trainer(tiny, methods.METHODS[0], load(*tiny.data), 2)
    cost = {}
    for name, each in (("held", trainer), ("plain", plain)):
        each.run(0, 10.0)
        found = keras_lap.depth.analyze(each.network, X, Y, loss=LOSS, verbose=0)
        cost[name] = sum(block.cost for block in found.blocks)
    assert cost["held"] < cost["plain"]


def test_a_group_norm_is_a_root_mean_square_of_each_block():
    import jax

    energy = methods.RootMeanSquare()
    v = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    assert float(energy(v)) == pytest.approx(np.sqrt(np.mean(v**2)), rel=1e-6)
    idle = jax.grad(lambda v: energy(v))(np.zeros((7, 3), "float32"))
    np.testing.assert_array_equal(idle, 0)


def test_deep_supervision_has_a_head_for_each_exit():
    net = network()
    subject = methods.deep_supervision(net, 1.0)
    subject.set_strength(0.5)
    outputs = [np.asarray(each, "float64") for each in subject.model(X)]
    entropies = [
        np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(16), Y]) for z in outputs
    ]
    expected = entropies[-1] + 0.5 * np.mean(entropies[:-1])
    loss = float(subject.model.compute_loss(X, Y, subject.model(X)))
    assert loss == pytest.approx(expected, rel=1e-5)
    # The strength, and two heads of their own beside that of the network.
    assert len(subject.model.weights) == 1 + len(net.weights) + 2 * 2


@pytest.mark.parametrize("in_one_loop", [True, False])
def test_training_is_that_of_fit(tiny, in_one_loop):
    from studies.layers.training import Trainer

    data = load(*tiny.data)
    trainer = Trainer(
        dataclasses.replace(tiny, in_one_loop=in_one_loop), methods.METHODS[0], data, 2
    )
    trainer.run(seed=3, strength=0.0)
    first = trainer.run(seed=0, strength=0.0)

    keras.utils.set_random_seed(0)
    net = tiny.network(2)
    rate = keras.optimizers.schedules.CosineDecay(tiny.rate, tiny.steps)
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.Adam(rate), entropy)
    order = np.random.default_rng(0).permutation(40)
    x, y = data.train
    net.fit(x[order], y[order], batch_size=8, shuffle=False, verbose=0)
    for one, other in zip(trainer.network.weights, net.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)  # float32, other sums
    predicted = net.predict(data.test[0], verbose=0).argmax(-1)
    assert first["test"][-1] == pytest.approx(np.mean(predicted == data.test[1]))


def test_methods_start_alike_and_without_strength_are_plain(tiny):
    from studies.layers.training import Trainer

    data = load(*tiny.data)
    plain = Trainer(tiny, methods.METHODS[0], data, 2).run(1, 0.0)
    path = next(m for m in methods.METHODS if m.name == "path loss")
    trainer = Trainer(tiny, path, data, 2)
    assert trainer.run(1, 0.0)["test"] == plain["test"]
    assert trainer.run(1, 50.0)["test"] != plain["test"]


def test_a_study_goes_on_where_it_stopped_and_looks_at_no_test_data_of_trials(
    tiny, tmp_path
):
    from studies.layers import how_many_layers, report

    path = tmp_path / "out.jsonl"
    how_many_layers.Study(path, "small").run()
    lines = path.read_text().splitlines()
    # Two trials, two seeds by two methods, one seed at another depth.
    assert len(lines) == 2 + 4 + 1
    path.write_text("\n".join(lines[:6]) + '\n{"cut sh')
    how_many_layers.Study(path, "small").run()
    again = path.read_text().splitlines()
    assert again[:6] == lines[:6]
    found = [judging.key(each) for each in report.records.read(path)]
    assert len(set(found)) == len(found) == 7
    for line in report.records.read(path):
        assert ("test" in line) == (line["seed"] < 100)
    texts = report.texts(path)
    assert "## How many layers" in texts["out.md"]
    assert texts["out.csv"].count("\n") == 3  # the header, and two methods
    # What was trained at a strength that the trials did not choose is not reported.
    last = report.records.read(path)[-1]
    other = {**last, "method": "path loss", "strength": 7.0, "blocks": 2, "seed": 0}
    report.records.append(path, other)
    assert report.texts(path)["out.csv"] == texts["out.csv"]


def test_a_report_needs_results(tmp_path):
    from studies.layers import report

    with pytest.raises(FileNotFoundError, match="Run the study first"):
        report.texts(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("how_many_layers*.jsonl")), ids=lambda p: p.stem
)
def test_what_is_published_is_what_the_results_say(path):
    from studies.layers import report

    for name, text in report.texts(path).items():
        assert path.with_name(name).read_text("utf-8") == text, name
