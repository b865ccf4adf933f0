"""The paper presets are the authors' protocol, as far as it is known."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import keras
import numpy as np
import pytest
from support.basics import ON_ONE
from support.tiny_study import tiny_study

from keras_lap import datasets
from keras_lap.datasets import Split
from studies.engine import (
    Data,
    Network,
    Setting,
    Training,
    fixed_weight,
    least_action,
    plain,
    tables,
    train,
    training,
)
from studies.engine.building import load_data
from studies.engine.protocol import like_the_authors

SCRIPTS = (Path(__file__).parents[2] / "studies" / "paper").glob("[!_]*.py")
# Every preset of this name, so that none claims more than it does.
OF_THE_PAPER = sorted(
    path.stem for path in SCRIPTS if '"paper": ' in path.read_text(encoding="utf-8")
)


def presets(name):
    """The presets of a study of the paper."""
    return importlib.import_module(f"studies.paper.{name}").PRESETS


@ON_ONE
def test_there_are_paper_presets():
    assert len(OF_THE_PAPER) == 9


@ON_ONE
@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_paper_presets_are_the_authors_protocol(name):
    for setting in presets(name)["paper"].settings:
        found = setting.training
        assert (found.epochs, found.batch_size, found.momentum) == (300, 128, 0.9)
        rates = [found.rate(epoch) for epoch in (0, 149, 150, 225, 250, 299)]
        relative = np.array(rates) / found.learning_rate
        np.testing.assert_allclose(relative, [1, 1, 0.1, 0.01, 1e-3, 1e-3])
        assert (found.coupled_decay, found.weight_decay) == (1e-4, None)
        assert found.crop_and_flip == str(setting.data.name).startswith("cifar")
        assert not setting.data.balanced
        assert setting.network.like_the_paper
        for method in setting.methods:
            assert method.before_step == (method.kind == "least action")


def test_what_the_tables_take():
    for name in ("table1_mnist", "table2_cifar10", "table3_cifar100"):
        for setting in presets(name)["paper"].settings:
            assert setting.training.learning_rate == 0.1
            assert setting.network.filters in (64, None)  # 64 by default
            for method in setting.methods:
                if method.kind == "least action":
                    assert method.p == 2
                    # Of a ResNeXt all blocks count.
                    assert method.include_projections == (name == "table3_cifar100")


@ON_ONE
@pytest.mark.parametrize("kind", ["resnext29", "resnet9"])
def test_of_a_resnext_all_blocks_count(kind):
    """Whoever asks for the protocol need not know it."""
    methods = (plain(), least_action(5.0), fixed_weight(5.0))
    study = tiny_study(network=Network(kind), methods=methods)
    (setting,) = like_the_authors(study).settings
    counted = [method.include_projections for method in setting.methods]
    assert counted == [False, kind == "resnext29", kind == "resnext29"]


def test_methods_that_differ_are_told_apart():
    """Their names are the labels of tables and figures."""
    methods = [
        least_action(5.0, before_step=first, include_projections=all_blocks)
        for first in (False, True)
        for all_blocks in (False, True)
    ]
    methods += [fixed_weight(5.0), fixed_weight(5.0, include_projections=True)]
    assert len(set(map(str, methods))) == len(methods)


def test_both_orders_and_shorter_schedules():
    first = presets("table1_mnist")["protocol"].settings[0]
    orders = [method.before_step for method in first.methods]
    assert orders == [False, False, True, False, True]
    assert len(set(map(str, first.methods))) == len(first.methods)
    assert first.training.drop_epochs == (15, 22, 25)  # of 30


@ON_ONE
def test_the_order_of_the_multiplier():
    short = Training(epochs=2, batch_size=20)  # one step an epoch

    def losses(method):
        return train(next(tiny_study(training=short, methods=(method,)).runs()))

    first = losses(least_action(0.7, tau=0.3, every=1, before_step=True))
    raised = 0.7 + 0.3 * first["task_loss"][0]
    assert first["multiplier"][0] == pytest.approx(raised, rel=1e-5)
    # The first step was made with the λ that its own loss had raised.
    same = losses(fixed_weight(raised))
    assert first["task_loss"] == pytest.approx(same["task_loss"], rel=1e-5)
    after = losses(least_action(0.7, tau=0.3, every=1))
    start = losses(fixed_weight(0.7))
    assert after["task_loss"] == pytest.approx(start["task_loss"], rel=1e-5)
    assert after["task_loss"][1] != pytest.approx(first["task_loss"][1], rel=1e-4)


@pytest.fixture
def noise(monkeypatch):
    """Images that nobody has to download, in the place of CIFAR."""

    def read(name, data_dir):
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (160, 32, 32, 3), dtype="uint8")
        labels = generator.integers(0, 10, 160)
        return Split(images[:120], labels[:120]), Split(images[120:], labels[120:]), 10

    load_data.cache_clear()
    monkeypatch.setattr(datasets, "_read_tfds", read)
    yield
    load_data.cache_clear()


@ON_ONE
def test_a_paper_run_on_mocked_data(noise, monkeypatch):
    paper = presets("table2_cifar10")["paper"].settings[0]
    setting = dataclasses.replace(
        paper,
        network=dataclasses.replace(paper.network, filters=2),
        data=dataclasses.replace(paper.data, train_size=60, validation_size=0),
        training=dataclasses.replace(paper.training, epochs=3, drop_epochs=(1, 2)),
    )
    made, cropped = [], []
    make, crop = training._optimizer, training.crop_and_flip
    monkeypatch.setattr(
        training, "_optimizer", lambda *args: made.append(make(*args)) or made[-1]
    )
    monkeypatch.setattr(
        training,
        "crop_and_flip",
        lambda *args: cropped.append(args[2:]) or crop(*args),
    )
    study = dataclasses.replace(tiny_study(), settings=(setting,))
    result = train(study.run(setting, setting.methods[1], 3))
    assert float(made[0].learning_rate) == pytest.approx(1e-3)
    assert (made[0].decay, made[0].momentum) == (1e-4, 0.9)
    assert set(cropped) == {(3, 0), (3, 1), (3, 2)}
    assert len(result["half_accuracy"]) == len(result["multiplier"]) == 3
    whole = datasets.load("cifar10").train.y
    drawn = np.sort(np.random.default_rng(3).permutation(120)[:60])
    np.testing.assert_array_equal(load_data(setting.data, 3).train.y, whole[drawn])


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="text alone")
def test_the_table_of_differences():
    setting = Setting(
        "one", Network(filters=4), Data("digits", 100), Training(30, 50), (plain(),)
    )
    study = dataclasses.replace(tiny_study(seeds=(0, 1)), settings=(setting,))
    other = like_the_authors(dataclasses.replace(study, seeds=(0, 1, 2)))
    found = {row[0]: row[1:] for row in tables.differences(study, other).rows}
    assert found == {
        "seeds": ("3", "2"),
        "network like the paper": ("true", "–"),
        "data balanced": ("false", "–"),
        "training drop epochs": ("[15, 22, 25]", "[]"),
        "training coupled decay": ("0.0001", "–"),
    }
    assert tables.differences(study, study).rows == ()
