"""Nonsense is refused when a study is defined, not when it runs."""

from __future__ import annotations

import dataclasses
import re

import pytest
from support.basics import ON_ONE
from support.tiny_study import TINY, tiny_study

from keras_lap import datasets, networks
from studies.engine import (
    Data,
    Initializer,
    Network,
    Setting,
    Study,
    Training,
    fixed_weight,
    least_action,
)
from studies.engine.methods import Method
from studies.engine.networks import NETWORKS
from studies.engine.study import CLASSES

pytestmark = ON_ONE


@pytest.mark.parametrize(
    ("define", "received"),
    [
        (lambda: least_action(p=0.5), "p=0.5"),
        (lambda: least_action(p=1), "p=1"),
        (lambda: least_action(-1), "initial_multiplier=-1"),
        (lambda: least_action("automatic"), "initial_multiplier='automatic'"),
        (lambda: fixed_weight(0.0), "initial_multiplier=0.0"),
        (lambda: least_action(tau=-0.1), "tau=-0.1"),
        (lambda: least_action(every=0), "every=0"),
        (lambda: least_action(every=2.5), "every=2.5"),
        (lambda: Method("plain", 1.0), "initial_multiplier=1.0"),
        (lambda: Method("fixed weight", 1.0, tau=1.0, p=2.0), "tau=1.0"),
        (lambda: Data("iris"), "name='iris'"),
        (lambda: Data("mnist", -1), "train_size=-1"),
        (lambda: Data("mnist", 9), "train_size=9"),
        (lambda: Data("cifar100", 99), "train_size=99"),
        (lambda: Data("moons", 1), "train_size=1"),
        (lambda: Data("moons", 2.5), "train_size=2.5"),
        (lambda: Data("moons", validation_size=-1), "validation_size=-1"),
        (lambda: Data("moons", test_size=0), "test_size=0"),
        (lambda: Training(0, 8), "epochs=0"),
        (lambda: Training(2, -1), "batch_size=-1"),
        (lambda: Training(2, 8, 0.0), "learning_rate=0.0"),
        (lambda: Training(2, 8, float("nan")), "learning_rate=nan"),
        (lambda: Training(2, 8, momentum=1.0), "momentum=1.0"),
        (lambda: Training(2, 8, momentum=-0.1), "momentum=-0.1"),
        (lambda: Training(2, 8, weight_decay=-1e-4), "weight_decay=-0.0001"),
        (lambda: Training(2, 8, drop_epochs=(3,)), r"drop_epochs=\(3,\)"),
        (lambda: Training(2, 8, drop_epochs=(-1,)), "drop_epochs=-1"),
        (lambda: Training(2, 8, clip_norm=0.0), "clip_norm=0.0"),
        (lambda: Network(filters=0), "filters=0"),
        (lambda: Network("resnet", num_blocks=0), "num_blocks=0"),
        (lambda: Network("resnet", num_blocks=(2, 0, 2)), "num_blocks=0"),
        (lambda: Network("resnet", num_blocks=()), r"num_blocks=\(\)"),
        (lambda: Network("resnext50", cardinality=-2), "cardinality=-2"),
        (lambda: Network("resnext50", group_width=0), "group_width=0"),
        (lambda: Network("resnet", batch_norm="yes"), "batch_norm='yes'"),
        (lambda: Network("resnet", cardinality=2), "kind='resnet'"),
        (lambda: Network("resnet9", cardinality=2), "kind='resnet9'"),
        (lambda: Network("resnet9", num_blocks=5), "kind='resnet9'"),
        (lambda: Initializer("normal", -1.0), "scale=-1.0"),
        (lambda: Initializer("kaiming", 1.0), "scale=1.0"),
        (lambda: tiny_study(seeds=(0, -1)), "seeds=-1"),
        (lambda: tiny_study(seeds=(0.5,)), "seeds=0.5"),
        (lambda: tiny_study(seeds=(1, 1)), r"seeds=\(1, 1\)"),
        (lambda: tiny_study(seeds=()), r"seeds=\(\)"),
        (lambda: tiny_study(methods=()), r"methods=\(\)"),
        (lambda: Study("a", "A", (), (0,)), r"settings=\(\)"),
        (lambda: Study("a", "A", (TINY,), (0,), keep_states=0), "keep_states=0"),
        (
            lambda: tiny_study().run(TINY, TINY.methods[0], -1),
            "seed=-1",
        ),
    ],
)
def test_nonsense_is_refused(define, received):
    with pytest.raises(ValueError, match=f"Received:.*{received}"):
        define()


def test_what_is_at_the_edge_is_accepted():
    Data("mnist", 10, validation_size=0, test_size=1)
    Data("moons", 2)
    Training(1, 1, momentum=0.0, weight_decay=0.0, drop_epochs=(0, 1))
    least_action("auto", tau=0.0, every=1, p=1.01)
    Network("resnet", 1, (1, 1, 1))
    assert isinstance(dataclasses.replace(TINY, label="b"), Setting)


def test_every_kind_can_be_named():
    for kind in NETWORKS:
        Network(kind)
    # No network of classes, and none at all.
    others = {"neural_ode", "continue_from"}
    assert (
        set(NETWORKS)
        == {*networks.__all__, "dense_resnet", "small_image_resnet"} - others
    )


def test_classes_are_those_of_the_data():
    with pytest.raises(ValueError, match="iris") as info:
        datasets.load("iris")
    known = re.findall(r"\w+", str(info.value))
    assert [name for name in CLASSES if name not in known] == []
    for name in ("digits", "circles", "moons"):
        data = pytest.importorskip("sklearn") and datasets.load(name)
        assert data.num_classes == CLASSES[name]
