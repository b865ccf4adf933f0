"""One run: pairs share everything but the method, and measures are what they say."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from support.basics import ON_ONE
from support.tiny_study import TINY, tiny_study

import keras_lap
from studies.engine import (
    Data,
    Initializer,
    Network,
    Run,
    Study,
    Training,
    fixed_weight,
    least_action,
    plain,
    train,
)
from studies.engine.building import build_network, load_data
from studies.engine.training import Batches

DIGITS = Run(
    Network("one_representation_resnet", 2, 2, initializer=Initializer("normal", 0.1)),
    Data("digits", 40, validation_size=30, test_size=50),
    Training(epochs=2, batch_size=16),
    plain(),
    seed=3,
)


def test_methods_of_a_seed_share_data_weights_and_batches():
    # At such a λ the energy vanishes in the loss: what is left is plain training, but
    # only if examples, initial weights and the order of the batches are the same.
    results = [
        train(dataclasses.replace(DIGITS, method=method))
        for method in (plain(), fixed_weight(1e30), least_action(1e30))
    ]
    for other in results[1:]:
        np.testing.assert_allclose(
            other["task_loss"], results[0]["task_loss"], rtol=1e-4
        )
        np.testing.assert_allclose(
            other["block_costs"], results[0]["block_costs"], rtol=1e-2
        )
        for split in ("test_accuracy", "validation_accuracy"):
            np.testing.assert_allclose(other[split], results[0][split], atol=0.04)


def test_seeds_differ_in_data_weights_and_batches():
    run = next(tiny_study().runs())
    first, again, other = (
        train(dataclasses.replace(run, seed=seed)) for seed in (3, 3, 4)
    )
    assert first["task_loss"] == pytest.approx(again["task_loss"], rel=1e-5)
    assert first["task_loss"] != pytest.approx(other["task_loss"], rel=1e-3)


@pytest.mark.parametrize("kind", ["resnet9", "dense_resnet"])
def test_initial_weights_depend_on_the_seed_alone(kind):
    network = Network(kind, 4, initializer=Initializer("normal", 1.0))
    shape = (8, 8, 1) if kind == "resnet9" else (2,)
    if kind == "resnet9":
        network = dataclasses.replace(network, num_blocks=None)
    first, again, other = (build_network(network, shape, 3, seed) for seed in (1, 1, 2))
    keras.utils.set_random_seed(99)
    for a, b, c in zip(first.weights, again.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        if a.path.endswith("kernel"):
            assert np.abs(a.numpy() - c.numpy()).max() > 0.1
    kernels = [w.numpy() for w in first.weights if w.path.endswith("kernel")]
    same_shape = [k for k in kernels if k.shape == kernels[-3].shape]
    assert len(same_shape) > 1
    assert np.abs(same_shape[0] - same_shape[1]).max() > 0.1


@ON_ONE
def test_batches_are_each_epochs_own_permutation():
    x, y = np.arange(10.0)[:, None], np.arange(10)
    batches = Batches(x, y, 4, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        batches.epoch = epoch
        labels = [batches[i][1] for i in range(len(batches))]
        assert [len(part) for part in labels] == [4, 4, 2]
        orders.append(np.concatenate(labels))
        np.testing.assert_array_equal(np.sort(orders[-1]), y)
        np.testing.assert_array_equal(batches[1][0][:, 0], batches[1][1])
    np.testing.assert_array_equal(orders[0], orders[2])
    assert (orders[0] != orders[1]).any()


def test_every_backend_trains_on_these_batches(monkeypatch):
    seen = []
    take = Batches.__getitem__

    def note(self, index):
        seen.append((self.epoch, index))
        return take(self, index)

    monkeypatch.setattr(Batches, "__getitem__", note)
    train(tiny_study().run(TINY, plain(), seed=0))
    # Keras may look at the first batches before it trains.
    assert seen[-9:] == [(epoch, index) for epoch in range(3) for index in range(3)]


@ON_ONE
def test_multiplier_rises_by_tau_times_the_loss():
    training = Training(epochs=4, batch_size=20)  # one step an epoch
    method = least_action(0.7, tau=0.3, every=1)
    study = tiny_study(training=training, methods=(method,))
    result = train(next(study.runs()))
    expected = 0.7 + 0.3 * np.cumsum(result["task_loss"])
    np.testing.assert_allclose(result["multiplier"], expected, rtol=1e-5)


@ON_ONE
def test_fixed_weight_never_moves():
    study = tiny_study(methods=(fixed_weight(0.7),))
    result = train(next(study.runs()))
    np.testing.assert_allclose(result["multiplier"], [0.7] * 3, rtol=1e-6)
    assert len(result["transport_cost"]) == len(result["test_accuracy"]) == 3


@ON_ONE
def test_block_costs_and_states_agree():
    study = tiny_study(methods=(least_action(1.0),))
    run = dataclasses.replace(next(study.runs()), keep_states=30)
    result = train(run)
    positions = np.array(result["states"]["positions"])
    assert positions.shape == (3, 30, 2)  # before, between and after two blocks
    test = load_data(run.data, run.seed).test
    np.testing.assert_allclose(positions[0], test.x, rtol=1e-6)
    np.testing.assert_array_equal(result["states"]["labels"], test.y)
    moved = np.diff(positions, axis=0)
    np.testing.assert_allclose(
        result["block_costs"], (moved**2).mean(axis=(1, 2)), rtol=1e-4
    )


@ON_ONE
def test_learning_rate_drops():
    training = Training(10, 8, learning_rate=0.5, drop_epochs=(2, 4))
    rates = [training.rate(epoch) for epoch in range(6)]
    np.testing.assert_allclose(rates, [0.5, 0.5, 0.05, 0.05, 0.005, 0.005])
    # From epoch 1 on the rate is 5e-9, so that nothing moves any more.
    drops = Training(3, 20, 0.5, momentum=0.0, drop_epochs=(1,) * 8)
    result = train(next(tiny_study(training=drops, methods=(plain(),)).runs()))
    assert result["task_loss"][1] == pytest.approx(result["task_loss"][2], rel=1e-4)
    assert result["task_loss"][0] != pytest.approx(result["task_loss"][1], rel=1e-3)


@ON_ONE
def test_test_examples_are_the_same_for_every_seed():
    first, second = (load_data(TINY.data, seed) for seed in (0, 1))
    np.testing.assert_array_equal(first.test.x, second.test.x)
    assert len(first.test.y) == 30
    assert (first.train.x != second.train.x).any()
    everything = keras_lap.datasets.load("moons").test.x
    assert {tuple(row) for row in first.test.x} <= {tuple(row) for row in everything}
    with pytest.raises(ValueError, match=r"from 1 to 500.*test_size=501"):
        load_data(dataclasses.replace(TINY.data, test_size=501), 0)


def test_fingerprints_tell_runs_apart_and_nothing_else():
    study = Study("a", "A", (TINY, dataclasses.replace(TINY, label="b")), (0, 1))
    prints = [run.fingerprint() for run in study.runs()]
    assert len(prints) == len(set(prints)) == 4  # the label is for readers only
    changed = dataclasses.replace(DIGITS, training=Training(2, 16, clip_norm=1.0))
    assert changed.fingerprint() != DIGITS.fingerprint()
    # Results that are published depend on this value.
    assert DIGITS.fingerprint() == "d6088b484bc00fe6"


def test_runs_come_seed_by_seed():
    seeds = [run.seed for run in tiny_study(seeds=(5, 3, 4)).runs()]
    assert seeds == [5, 5, 3, 3, 4, 4]


def test_a_study_of_some_settings_has_them_alone_in_the_order_given():
    (one,) = tiny_study().settings
    settings = [dataclasses.replace(one, label=label) for label in "abc"]
    study = dataclasses.replace(tiny_study(), settings=tuple(settings))
    part = study.only("c", "a")
    assert part == dataclasses.replace(study, settings=(settings[2], settings[0]))
    with pytest.raises(ValueError, match=r"label must be .*'a'.*Received: label='d'"):
        study.only("a", "d")


def test_methods_say_what_they_are():
    assert str(plain()) == "plain"
    assert str(least_action(0.5)) == "least action, λ_0 = 0.5"
    assert str(fixed_weight(3, p=1.5)) == "fixed weight, λ = 3, p = 1.5"
    assert str(least_action("auto", 2, 1)) == "least action, λ_0 = auto, τ = 2, s = 1"


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"need a scale.*scale=None.*Pass e\.g\."):
        Initializer("normal")
    with pytest.raises(ValueError, match="kind='vgg'"):
        Network("vgg")
    with pytest.raises(ValueError, match=r"must differ.*seeds=\(0, 0\)"):
        tiny_study(seeds=(0, 0))
