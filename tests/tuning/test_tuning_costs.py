"""Searches for weights of running costs and the horizon, with and without energy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_lap
from keras_lap import networks, running_costs, tuning

keras_tuner = pytest.importorskip("keras_tuner")
pytestmark = [
    # KerasTuner's own, in every call of its oracle.
    pytest.mark.filterwarnings("ignore:.*currentThread|getName:DeprecationWarning"),
    pytest.mark.skipif(
        keras.backend.backend() != "torch", reason="asks nothing of the backend"
    ),
]

COSTS = [running_costs.PathLoss(), running_costs.ControlCost(0.01)]
HORIZONS, BETAS = [1.0, 4.0], [0.0, 2.0]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 2)).astype("float32")
    y = np.sign(x[:, :1])
    return {"x": x, "y": y, "validation_data": (x, y), "batch_size": 16}


def network(horizon):
    """The same weights each time; eager, as compiling takes longer than training."""
    keras.utils.set_random_seed(0)
    built = networks.neural_ode((2,), 1, horizon=horizon, steps=2)
    built.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    return built


def build(hp):
    return network(hp.get("horizon"))


def hypermodel(**arguments):
    usual = {"tau": None, "p": None, "running_costs": COSTS, "horizon": HORIZONS}
    return tuning.LeastActionHyperModel(build, **usual | arguments)


def make(tmp_path, built, kind="GridSearch", **options):
    place = {"directory": tmp_path, "project_name": "search"}
    return getattr(keras_tuner, kind)(built, "val_loss", **place, **options)


def alone(data, horizon, beta, energy=None):
    """The best validation loss of the same training without KerasTuner."""
    model = keras_lap.LeastActionModel(
        network(horizon),
        energy,
        running_costs=[
            running_costs.PathLoss(beta),
            running_costs.ControlCost(0.01),
        ],
        horizon=horizon,
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    return min(model.fit(**data, epochs=2, verbose=0).history["val_loss"])


def check_alone(tuner, data, **arguments):
    """Every trial is what a training without KerasTuner makes of its values."""
    rows = tuning.trial_table(tuner)
    assert {(row["horizon"], row["path_loss"]) for row in rows} == {
        (horizon, beta) for horizon in HORIZONS for beta in BETAS
    }
    for row in rows:
        expected = alone(data, row["horizon"], row["path_loss"], **arguments)
        # The same operations in the same order: rounding alone may differ.
        assert row["val_loss"] == pytest.approx(expected, rel=1e-5)
    assert len({round(row["val_loss"], 5) for row in rows}) == 4


def test_weights_and_horizon_reach_the_training(tmp_path, data):
    tuner = make(tmp_path, hypermodel(weights={"path_loss": BETAS}))
    tuner.search(**data, epochs=2, verbose=0)
    check_alone(tuner, data)
    best = tuner.get_best_hyperparameters()[0]
    model = tuner.get_best_models()[0]
    assert (model.energy, model.horizon) == (None, best["horizon"])
    assert model.running_costs[0].weight == best["path_loss"]
    assert model.running_costs[1].weight == 0.01
    assert COSTS[0].weight == 1.0  # what was passed is as it was


def test_a_hypermodel_of_the_users_own(tmp_path, data):
    """Without ours: a build function that returns a `LeastActionModel`."""

    def own(hp):
        horizon = hp.Choice("horizon", HORIZONS)
        beta = hp.Choice("path_loss", BETAS)
        costs = [running_costs.PathLoss(beta), running_costs.ControlCost(0.01)]
        model = keras_lap.LeastActionModel(
            network(horizon), running_costs=costs, horizon=horizon
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
        return model

    tuner = make(tmp_path, own)
    tuner.search(**data, epochs=2, verbose=0)
    check_alone(tuner, data, energy=2.0)


def test_an_interrupted_search_goes_on(tmp_path, data):
    trainings = []

    class Interrupt(keras.callbacks.Callback):
        def __init__(self, last):
            super().__init__()
            self.last = last

        def __deepcopy__(self, memo):  # KerasTuner copies its callbacks for each trial
            return self

        def on_epoch_end(self, epoch, logs=None):
            trainings.append(logs["path_loss"])
            if len(trainings) == self.last:
                raise KeyboardInterrupt

    def tuner():
        searched = hypermodel(weights={"path_loss": (0.1, 1.0)}, horizon=(1, 9.0))
        return make(tmp_path, searched, "RandomSearch", max_trials=2, seed=1)

    with pytest.raises(KeyboardInterrupt):
        tuner().search(**data, verbose=0, callbacks=[Interrupt(2)])
    tuning.settle(tmp_path / "search")
    again = tuner()
    again.search(**data, verbose=0, callbacks=[Interrupt(99)])
    assert len(trainings) == 3  # the first was not repeated, the second was
    assert trainings[1] == pytest.approx(trainings[2], rel=1e-5)
    assert {t.status for t in again.oracle.trials.values()} == {"COMPLETED"}


def test_a_training_that_is_not_finite_fails_its_trial(tmp_path, data):
    tuner = make(tmp_path, hypermodel(weights={"path_loss": 1.0}, horizon=[1.0, 1e30]))
    tuner.search(**data, verbose=0)
    done, failed = tuning.trial_table(tuner)
    assert (done["status"], failed["status"]) == ("COMPLETED", "FAILED")
    assert "after epoch 1 with horizon = 1e+30, path_loss = 1." in failed["reason"]


def test_the_search_space():
    hp = keras_tuner.HyperParameters()
    hypermodel(weights={"path_loss": (0.01, 1), "control_cost": 0.5}).build(hp)
    first, second, third = hp.space
    assert (first.name, list(first.values)) == ("horizon", HORIZONS)
    assert (second.name, second.min_value, second.max_value) == ("path_loss", 0.01, 1.0)
    assert second.sampling == "log"
    assert (third.name, third.value) == ("control_cost", 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": 1.0}, r"no λ to raise\. Received: p=None with tau\. Pass tau=None"),
        ({"every": 2}, "p=None with every"),
        ({"weights": {"path": 1.0}}, "running costs are: path_loss, control_cost"),
        ({"weights": {"path_loss": -1}}, "path_loss must be a finite number >= 0"),
        ({"weights": {"path_loss": (0, 1)}}, "a range starts above 0"),
        ({"horizon": 0}, "horizon must be a finite number > 0"),
        ({"horizon": (2, 1)}, "range of horizon is empty"),
    ],
)
def test_what_cannot_be_searched(arguments, message):
    with pytest.raises(ValueError, match=message):
        hypermodel(**arguments)


def test_neither_energy_nor_costs():
    with pytest.raises(ValueError, match="running_costs"):
        hypermodel(running_costs=[]).build(keras_tuner.HyperParameters())
