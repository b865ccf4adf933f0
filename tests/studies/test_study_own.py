"""Studies of the user's own parts: trained as they say, and described completely."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from support import own_parts
from support.basics import ON_ONE
from support.tiny_study import TINY, tiny_study

import keras_lap
from studies.engine import (
    Data,
    Initializer,
    Network,
    Training,
    fixed_weight,
    least_action,
    plain,
    run_study,
    train,
)
from studies.engine.building import build_initializer, build_network, load_data

pytestmark = ON_ONE

ROOT = Path(__file__).parents[2]
HALF = keras.initializers.RandomNormal(stddev=0.5)
SETTING = dataclasses.replace(
    TINY,
    network=Network(own_parts.build, initializer=Initializer(HALF)),
    data=Data(own_parts.load),
    training=Training(
        3, 4, optimizer=keras.optimizers.Adam(0.25), loss=own_parts.hinge
    ),
    methods=(plain(), least_action(0.5, p=own_parts.LogEnergy(2.0))),
)


def own_study(**changes):
    setting = dataclasses.replace(SETTING, **changes)
    return dataclasses.replace(tiny_study(), settings=(setting,))


def test_own_parts_are_described_completely():
    run = list(own_study().runs())[1]
    described = run.configuration()
    assert json.loads(json.dumps(described)) == described
    assert described["network"]["kind"] == "support.own_parts.build"
    assert described["network"]["initializer"]["kind"] == {
        "class": "keras.initializers.RandomNormal",
        "config": {"mean": 0.0, "stddev": 0.5},
    }
    assert described["data"]["name"] == "support.own_parts.load"
    assert described["method"]["p"] == {
        "class": "support.own_parts.LogEnergy",
        "config": {"scale": 2.0},
    }
    training = described["training"]
    assert training["loss"] == "support.own_parts.hinge"
    assert training["optimizer"]["class"] == "keras.optimizers.Adam"
    assert training["optimizer"]["config"]["learning_rate"] == 0.25
    # They are values of an optimizer that is not used.
    assert not {"learning_rate", "momentum"} & training.keys()


def test_a_run_is_the_same_after_a_journey():
    for run in own_study().runs():
        arrived = pickle.loads(pickle.dumps(run))
        assert arrived == run
        assert arrived.fingerprint() == run.fingerprint()


def test_fingerprints_follow_what_is_run():
    def fingerprint(**changes):
        return next(own_study(**changes).runs()).fingerprint()

    def trained(optimizer):
        return fingerprint(training=Training(3, 4, optimizer=optimizer))

    # Keras counts the names of optimizers up.
    adam = trained(keras.optimizers.Adam(0.25))
    assert trained(keras.optimizers.Adam(0.25)) == adam
    assert trained(own_parts.make_adam) == adam
    assert trained(keras.optimizers.Adam(0.5)) != adam
    assert trained(keras.optimizers.Nadam(0.25)) != adam

    def loss(value):
        return fingerprint(training=Training(3, 4, loss=value))

    sparse = keras.losses.SparseCategoricalCrossentropy
    assert loss(sparse(from_logits=True)) == loss(sparse(from_logits=True))
    assert loss(sparse(from_logits=True)) != loss(sparse())

    def started(kind):
        return fingerprint(network=Network(initializer=Initializer(kind)))

    normal = keras.initializers.RandomNormal
    # The seed of the run takes the place of theirs.
    assert started(normal(seed=1)) == started(normal(seed=2))
    assert started(normal(stddev=0.1)) != started(normal(stddev=0.2))

    three = functools.partial(own_parts.build, blocks=3)
    four = functools.partial(own_parts.build, blocks=4)
    prints = [
        fingerprint(network=Network(each)) for each in (own_parts.build, three, four)
    ]
    assert len(set(prints)) == 3

    data = own_parts.load(0)
    moved = dataclasses.replace(data, test=data.test._replace(x=data.test.x + 1))
    prints = [fingerprint(data=Data(each)) for each in (data, own_parts.load(0), moved)]
    assert prints[0] == prints[1] != prints[2]


def test_equal_methods_are_one():
    first, second = (least_action(p=own_parts.LogEnergy(2.0)) for _ in range(2))
    assert first == second
    assert len({first, second, least_action(p=own_parts.LogEnergy(3.0))}) == 2
    assert str(first) == "least action, λ_0 = 5, LogEnergy(scale=2.0)"
    assert str(Initializer(HALF)) == "RandomNormal(mean=0.0, stddev=0.5)"
    assert str(Data(own_parts.load)) == "load"
    assert str(Data(own_parts.load(0))) == "clouds"


def test_what_keras_and_the_user_would_train():
    """The same steps by Keras alone."""
    run = next(own_study(methods=(plain(),)).runs())
    result = train(run)
    data = own_parts.load(0)
    keras.utils.set_random_seed(0)  # the last layer draws from it
    network = build_network(run.network, (3,), 2, seed=0)
    network.compile(keras.optimizers.Adam(0.25), own_parts.hinge)
    losses = []
    for epoch in range(3):
        order = np.random.default_rng((0, epoch)).permutation(10)
        parts = [order[:4], order[4:8], order[8:]]
        means = [network.train_on_batch(*(s[p] for s in data.train)) for p in parts]
        losses.append(np.dot(means, [4, 4, 2]) / 10)
    np.testing.assert_allclose(result["task_loss"], losses, rtol=1e-4)
    predicted = network.predict(data.test.x, verbose=0).argmax(-1)
    assert result["test_accuracy"][-1] == np.mean(predicted == data.test.y)


def test_an_own_energy_is_the_one_that_is_paid():
    squares = keras_lap.energies.DisplacementEnergy(2.0)
    by_number, by_energy, other = (
        train(next(own_study(methods=(fixed_weight(0.5, p),)).runs()))
        for p in (2.0, squares, own_parts.LogEnergy())
    )
    assert by_energy["transport_cost"] == by_number["transport_cost"]
    assert other["transport_cost"] != by_number["transport_cost"]


def test_every_run_has_an_optimizer_of_its_own():
    run = next(own_study().runs())
    first, second = train(run), train(run)
    np.testing.assert_allclose(first["task_loss"], second["task_loss"], rtol=1e-5)


def test_an_own_optimizers_rate_drops_too():
    adam = keras.optimizers.Adam(0.25)
    training = Training(3, 4, drop_epochs=(1,) * 8, optimizer=adam)
    np.testing.assert_allclose(training.rate(0), 0.25)
    assert training.rate(1) < 1e-8
    result = train(next(own_study(training=training).runs()))
    losses = result["task_loss"]
    assert losses[1] == pytest.approx(losses[2], rel=1e-4)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_initial_weights_follow_the_seed_of_the_run():
    first, again, other = (build_initializer(Initializer(HALF), s) for s in (1, 1, 2))
    a, b, c = (keras.ops.convert_to_numpy(each((4,))) for each in (first, again, other))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.01
    ones = build_initializer(Initializer(keras.initializers.Ones()), 1)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(ones((2,))), 1)


def test_own_data_are_those_of_the_seed():
    drawn = Data(own_parts.load, test_size=4)
    first, second = (load_data(drawn, seed) for seed in (0, 1))
    np.testing.assert_array_equal(first.train.x, own_parts.load(0).train.x)
    assert (first.train.x != second.train.x).any()
    assert len(first.test.y) == 4
    assert load_data(Data(first), 0).train.x is load_data(Data(first), 1).train.x


def test_own_parts_reach_processes_and_the_file(tmp_path):
    alone = run_study(own_study(), tmp_path / "one.jsonl", progress=False)
    beside = run_study(own_study(), tmp_path / "two.jsonl", jobs=2, progress=False)
    for a, b in zip(alone, beside, strict=True):
        assert a["fingerprint"] == b["fingerprint"]
        assert a["run"] == b["run"]
        assert a["result"]["task_loss"] == pytest.approx(b["result"]["task_loss"])


SCRIPT = """
from studies.engine import Network

def build(input_shape, num_classes, **options):
    ...

print(Network(build).configuration()["kind"])
"""


def test_a_script_is_known_by_its_name(tmp_path):
    """Run as `python mine.py`, as `python -m mine` and typed in, by one process."""
    (tmp_path / "mine.py").write_text(SCRIPT)
    code = (
        "import runpy\n"
        "runpy.run_path('mine.py', run_name='__main__')\n"
        "runpy.run_module('mine', run_name='__main__', alter_sys=True)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code + SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == 2 * "mine.build\n"
    assert "typed into a session" in result.stderr


def local(*args, **options):
    def inside(*args, **options): ...

    class Inside(keras_lap.energies.Energy):
        def __call__(self, displacement): ...

    return inside, Inside()


@pytest.mark.parametrize(
    "define",
    [
        lambda: Network(lambda shape, classes, **options: None),
        lambda: Network(local()[0]),
        lambda: Network(functools.partial(local()[0], 1)),
        lambda: Data(lambda seed: None),
        lambda: least_action(p=local()[1]),
        lambda: Training(1, 1, loss=lambda labels, logits: 0.0),
    ],
)
def test_what_no_file_could_name_is_refused(define):
    with pytest.raises(ValueError, match=r"could not say what was run.*at the top of"):
        define()


def test_a_lambda_within_a_config_is_refused():
    metric = keras.losses.MeanSquaredError()
    metric.get_config = lambda: {"fn": lambda x: x}
    with pytest.raises(ValueError, match="could not say what was run"):
        Training(1, 1, loss=metric)


@pytest.mark.parametrize(
    ("define", "error", "message"),
    [
        (lambda: Network(own_parts.build_without_options), ValueError, "batch_norm"),
        (lambda: Data(own_parts.load, 10), ValueError, "decides the sizes"),
        (lambda: Data(own_parts.load, None, 5), ValueError, "validation_size=5"),
        (lambda: Training(1, 1, optimizer="adam"), TypeError, "optimizer='adam'"),
        (lambda: Training(1, 1, optimizer=int), TypeError, "make one when"),
        (lambda: Training(1, 1, loss="mse"), TypeError, "loss='mse'"),
        (
            lambda: Training(1, 1, 0.5, optimizer=keras.optimizers.SGD()),
            ValueError,
            "learning_rate belong",
        ),
        (
            lambda: Training(
                1,
                1,
                drop_epochs=(1,),
                optimizer=keras.optimizers.SGD(
                    keras.optimizers.schedules.CosineDecay(0.1, 10)
                ),
            ),
            ValueError,
            "a schedule decides",
        ),
        (
            lambda: build_network(Network(own_parts.build_nothing), (3,), 2, 0),
            TypeError,
            r"must return a keras\.Model\. Received: None",
        ),
        (
            lambda: load_data(Data(own_parts.load_nothing), 0),
            TypeError,
            "must return a keras_lap.datasets.Dataset",
        ),
    ],
)
def test_own_parts_that_do_not_fit(define, error, message):
    with pytest.raises(error, match=message):
        define()
