"""Searches with KerasTuner's own tuners, on networks of a few weights."""

from __future__ import annotations

import contextlib
import csv
import json
import warnings

import keras
import numpy as np
import pytest
from support.basics import ON_ONE, build_dense_network, crossentropy

import keras_lap
from keras_lap import tuning

keras_tuner = pytest.importorskip("keras_tuner")
# KerasTuner's own, in every call of its oracle.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*currentThread|getName:DeprecationWarning"
)

BATCH = 16
# Of compiled trials one pair is enough where compiling takes the time.
EXPONENTS = [1.5, 3.0] if keras.backend.backend() == "torch" else [3.0]
EVENTS = []


class Recorder(keras.callbacks.Callback):
    """Notes λ when a training begins and after each epoch; deep-copied by KerasTuner.

    Into a list of the module, as a copy's own attributes are lost.
    """

    def on_train_begin(self, logs=None):
        EVENTS.append([float(self.model.multiplier)])

    def on_epoch_end(self, epoch, logs=None):
        EVENTS[-1].append(float(self.model.multiplier))


@pytest.fixture(autouse=True)
def _no_events():
    EVENTS.clear()


@pytest.fixture
def data(digits):
    x, y = digits
    return {"x": x, "y": y, "validation_data": (x, y), "batch_size": BATCH}


def build(hp, run_eagerly=True):
    """The same network each time, whatever was trained before.

    By default not compiled, which would take longer than these trainings.
    """
    keras.utils.set_random_seed(0)
    network = build_dense_network(blocks=1, width=4)
    network.compile(
        keras.optimizers.SGD(0.1),
        crossentropy(),
        metrics=["accuracy"],
        run_eagerly=run_eagerly,
    )
    return network


def make(
    tmp_path, kind="RandomSearch", hypermodel=None, objective="val_loss", **options
):
    hypermodel = hypermodel or tuning.LeastActionHyperModel(build)
    place = {"directory": tmp_path, "project_name": "search"}
    return getattr(keras_tuner, kind)(hypermodel, objective, **place, **options)


def search(tuner, data, epochs=1, callbacks=(), **options):
    callbacks = [Recorder(), *callbacks]
    tuner.search(**data, epochs=epochs, verbose=0, callbacks=callbacks, **options)
    return tuner


def test_tau_and_p_reach_the_training(tmp_path, data):
    """Every trial is what a training without KerasTuner makes of its values."""
    hypermodel = tuning.LeastActionHyperModel(
        lambda hp: build(hp, run_eagerly=False),
        tau=[0.0, 2.0],
        p=EXPONENTS,
        initial_multiplier=0.1,
        every=2,
    )
    tuner = search(make(tmp_path, "GridSearch", hypermodel), data, epochs=2)
    found = {}
    for row in tuning.trial_table(tuner):
        values = (row["tau"], row["p"])
        model = keras_lap.LeastActionModel(build(None), row["p"], 0.1)
        model.compile(keras.optimizers.SGD(0.1), crossentropy())
        update = keras_lap.callbacks.MultiplierUpdate(row["tau"], every=2)
        logs = model.fit(**data, epochs=2, verbose=0, callbacks=[update]).history
        # The same operations, but XLA may order them anew from one run to the next.
        assert row["val_loss"] == pytest.approx(min(logs["val_loss"]), rel=1e-5)
        found[values] = row["val_loss"], logs["multiplier"][-1]
    trials = 2 * len(EXPONENTS)
    assert len(found) == len({loss for loss, _ in found.values()}) == trials
    assert [multiplier for (tau, _), (_, multiplier) in found.items() if tau == 0] == [
        pytest.approx(0.1)
    ] * len(EXPONENTS)
    assert all(multiplier > 1 for (tau, _), (_, multiplier) in found.items() if tau)
    table = tuning.trial_table(tuner)
    assert len(repr(table)) < 60
    assert all(name in str(table).splitlines()[0] for name in table[0])
    assert table._repr_html_().count("<tr>") == 1 + len(table)
    best = table[0]
    hp = tuner.get_best_hyperparameters()[0]
    assert (hp["tau"], hp["p"]) == (best["tau"], best["p"])
    model = tuner.get_best_models()[0]
    assert isinstance(model, keras_lap.LeastActionModel)
    assert float(model.multiplier) == pytest.approx(found[hp["tau"], hp["p"]][1])
    logs = model.evaluate(data["x"], data["y"], verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(best["val_loss"], rel=1e-5)


def test_hyperband_goes_on_with_the_multiplier(tmp_path, data):
    hypermodel = tuning.LeastActionHyperModel(
        build, tau=(0.1, 1.0), p=(1.5, 3.0), initial_multiplier=1.0
    )
    tuner = make(tmp_path, "Hyperband", hypermodel, max_epochs=2, factor=2, seed=1)
    search(tuner, data, epochs=99)
    trials = [tuner.oracle.get_trial(name) for name in tuner.oracle.start_order]
    lambdas = {t.trial_id: e for t, e in zip(trials, EVENTS, strict=True)}
    resumed = [t for t in trials if "tuner/trial_id" in t.hyperparameters.values]
    assert resumed
    for trial in trials:
        begin, *after = lambdas[trial.trial_id]
        hp = trial.hyperparameters
        assert len(after) == hp["tuner/epochs"] - hp["tuner/initial_epoch"]
        if trial not in resumed:
            assert begin == 1.0
            continue
        earlier = tuner.oracle.get_trial(hp["tuner/trial_id"])
        _, *before = lambdas[earlier.trial_id]
        assert begin == pytest.approx(before[earlier.best_step])
        assert begin > 1.0
        assert hp["tau"] == earlier.hyperparameters["tau"]


@ON_ONE
def test_bayesian_search_is_reproducible(tmp_path, data):
    tables = []
    for name in ("first", "second"):
        hypermodel = tuning.LeastActionHyperModel(build, tau=(0.1, 1.0), p=(1.5, 3.0))
        options = {"max_trials": 2, "num_initial_points": 1, "seed": 3}
        kind = "BayesianOptimization"
        tuner = make(tmp_path / name, kind, hypermodel, **options)
        tables.append(tuning.trial_table(search(tuner, data)))
    assert len(tables[0]) == 2
    for first, second in zip(*tables, strict=True):
        score = first.pop("val_loss")
        assert second.pop("val_loss") == pytest.approx(score, rel=1e-5)
        # The second depends on the score of the first by way of an optimisation.
        assert first.pop("tau") == pytest.approx(second.pop("tau"), rel=1e-2)
        assert first.pop("p") == pytest.approx(second.pop("p"), rel=1e-2)
        assert first == second


@ON_ONE
def test_objectives_callbacks_and_epochs_are_the_users(tmp_path, data):
    """Several objectives, one of them a metric of the user's own."""

    class Wrong(keras.metrics.Mean):
        def update_state(self, y, y_pred, sample_weight=None):
            super().update_state(keras.ops.not_equal(keras.ops.argmax(y_pred, -1), y))

    def measured(hp):
        network = build(hp)
        network.compile("sgd", crossentropy(), metrics=[Wrong(name="wrong")])
        return network

    stop = keras.callbacks.EarlyStopping("val_loss", patience=0, mode="max")
    hypermodel = tuning.LeastActionHyperModel(measured, callbacks=[stop])
    objective = ["val_loss", keras_tuner.Objective("val_wrong", "min")]
    tuner = make(tmp_path, "RandomSearch", hypermodel, objective, max_trials=2)
    search(tuner, data, epochs=5)
    # The loss sinks: as a maximum, it stops the training after the second epoch.
    assert [len(after) for _, *after in EVENTS] == [2, 2]
    for trial in tuner.oracle.trials.values():
        both = [trial.metrics.get_best_value(n) for n in ("val_loss", "val_wrong")]
        assert trial.score == pytest.approx(sum(both))


@ON_ONE
def test_a_hypermodel_fits_its_own_way(tmp_path, data):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            return model.fit(*args, **{**kwargs, "epochs": hp.Int("epochs", 2, 2)})

    hypermodel = tuning.LeastActionHyperModel(Own(), tau=1.0)
    tuner = search(make(tmp_path, hypermodel=hypermodel, max_trials=1), data, epochs=1)
    assert [len(after) for _, *after in EVENTS] == [2]
    assert EVENTS[0][-1] > 1.0
    assert tuning.trial_table(tuner)[0]["epochs"] == 2


@ON_ONE
def test_failed_trials_are_told_and_do_not_end_the_search(tmp_path, data):
    """p = 1 cannot be used, and p = 1e4 overflows; 2 is trained."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("p", [2.0, 1.0, 1e4])
    hypermodel = tuning.LeastActionHyperModel(
        build, tau=0.5, p=2.0, initial_multiplier=1e-3
    )
    tuner = make(tmp_path, "GridSearch", hypermodel, hyperparameters=hp)
    search(tuner, data)
    best, *failed = tuning.trial_table(tuner)
    assert (best["status"], best["p"], best["reason"]) == ("COMPLETED", 2.0, None)
    assert [row["status"] for row in failed] == ["FAILED", "FAILED"]
    reasons = {row["p"]: row["reason"] for row in failed}
    assert "p must be a finite number > 1. Received: p=1.0" in reasons[1.0]
    assert "after epoch 1 with tau = 0.5, p = 10000" in reasons[1e4]
    assert "transport_cost = inf" in reasons[1e4] or "nan" in reasons[1e4]
    assert len(EVENTS) == 2


@ON_ONE
def test_an_interrupted_search_goes_on(tmp_path, data):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if len(EVENTS) == 2:
                raise KeyboardInterrupt

    hypermodel = tuning.LeastActionHyperModel(build, tau=(0.1, 1.0))
    tuner = make(tmp_path, hypermodel=hypermodel, max_trials=3, seed=1)
    with pytest.raises(KeyboardInterrupt):
        search(tuner, data, callbacks=[Interrupt()])
    interrupted = tuner.oracle.trials["1"].hyperparameters.values
    tuning.settle(tmp_path / "search")
    again = make(tmp_path, hypermodel=hypermodel, max_trials=3, seed=1)
    assert again.oracle.trials["0"].status == "COMPLETED"
    search(again, data)
    assert len(EVENTS) == 2 + 2
    assert again.oracle.trials["1"].hyperparameters.values == interrupted
    assert {t.status for t in again.oracle.trials.values()} == {"COMPLETED"}
    assert len(again.oracle.trials) == 3


@ON_ONE
@pytest.mark.parametrize("settled", [False, True])
def test_a_finished_trial_is_not_repeated(tmp_path, data, settled):
    """Killed after the end of a trial was saved, but not that nobody is at it."""
    tuner = search(make(tmp_path, max_trials=1), data)
    folder = tmp_path / "search"
    state = json.loads((folder / "oracle.json").read_text())
    state["ongoing_trials"] = {"worker0": "0"}
    (folder / "oracle.json").write_text(json.dumps(state))
    if settled:
        tuning.settle(folder)
    tuner = make(tmp_path, max_trials=1)
    search(tuner, data)
    # Not settled, KerasTuner trains it again: should that change, settle can go.
    assert len(EVENTS) == (1 if settled else 2)


@ON_ONE
def test_settle_remembers_a_trial_that_had_begun(tmp_path):
    (tmp_path / "trial_0").mkdir()
    trial = {"trial_id": "0", "status": "RUNNING"}
    (tmp_path / "trial_0" / "trial.json").write_text(json.dumps(trial))
    tuning.settle(tmp_path)  # without a search there is nothing to do
    assert not (tmp_path / "oracle.json").exists()
    (tmp_path / "oracle.json").write_text('{"ongoing_trials": {}, "retry_queue": []}')
    tuning.settle(tmp_path)
    state = json.loads((tmp_path / "oracle.json").read_text())
    assert state == {"ongoing_trials": {}, "retry_queue": ["0"]}


@ON_ONE
@pytest.mark.parametrize(
    ("objective", "warned"),
    [("loss", True), (["val_accuracy", "loss"], True), ("val_loss", False)],
)
def test_the_training_loss_is_no_objective(tmp_path, objective, warned):
    class Untrained(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            return 0.0

    hypermodel = tuning.LeastActionHyperModel(Untrained())
    tuner = make(tmp_path, hypermodel=hypermodel, objective=objective, max_trials=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tuner.search(verbose=0)
    texts = [str(w.message) for w in caught if "The objective" in str(w.message)]
    assert len(texts) == int(warned)
    assert all("'val_loss'" in text and "'val_accuracy'" in text for text in texts)


@ON_ONE
def test_the_tuner_may_compile(tmp_path, data):
    def bare(hp):
        return build_dense_network(blocks=1, width=4)

    options = {"loss": crossentropy(), "optimizer": "sgd", "metrics": ["accuracy"]}
    hypermodel = tuning.LeastActionHyperModel(bare)
    tuner = make(tmp_path, "RandomSearch", hypermodel, max_trials=1, **options)
    search(tuner, data)
    assert tuner.oracle.trials["0"].metrics.exists("val_accuracy")


@ON_ONE
@pytest.mark.parametrize(
    ("compiled", "options", "message"),
    [
        (False, {}, "not compiled with a loss"),
        (True, {"optimizer": "adam"}, r"Pass metrics= to the tuner"),
    ],
)
def test_what_cannot_be_trained(tmp_path, data, compiled, options, message):
    def network(hp):
        return build(hp) if compiled else build_dense_network(blocks=1)

    hypermodel = tuning.LeastActionHyperModel(network)
    tuner = make(tmp_path, hypermodel=hypermodel, max_trials=1, **options)
    with pytest.raises(ValueError, match=message):
        search(tuner, data)


@ON_ONE
def test_report(tmp_path, data):
    hypermodel = tuning.LeastActionHyperModel(build, tau=[0.0, 0.1, 5.0], p=2.0)
    tuner = make(tmp_path, "GridSearch", hypermodel)
    with pytest.raises(ValueError, match="no trial to report"):
        tuning.write_report(tuner)
    search(tuner, data)
    table, picture = tuning.write_report(tuner)
    assert table == tmp_path / "search-trials.csv"
    assert picture == tmp_path / "search-trials.png"
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["tau"] for row in rows} == {"0.0", "0.1", "5.0"}
    losses = [float(row["val_loss"]) for row in rows]
    assert losses == sorted(losses)
    image = keras.utils.img_to_array(keras.utils.load_img(picture))
    assert image.min() < 50  # axes and text
    assert np.any(np.ptp(image, axis=-1) > 100)  # the best trial, in colour


@ON_ONE
def test_an_automatic_multiplier_is_trained_with(tmp_path, data):
    hypermodel = tuning.LeastActionHyperModel(build, 1.0, 2.0, "auto")
    tuner = search(make(tmp_path, hypermodel=hypermodel, max_trials=1), data)
    (row,) = tuning.trial_table(tuner)
    assert (row["status"], row["initial_multiplier"]) == ("COMPLETED", "auto")


def test_shares_are_trained_with(tmp_path, data):
    hypermodel = tuning.LeastActionHyperModel(build, 0.0, 2.0, share=[0.1, 0.5])
    tuner = search(make(tmp_path, "GridSearch", hypermodel), data)
    best = tuner.get_best_hyperparameters(2)
    found = {
        hp["share"]: float(model.multiplier)
        for hp, model in zip(best, tuner.get_best_models(2), strict=True)
    }
    # λ_0 is C·(1 − s)/(s·R), of one and the same first batch.
    assert found[0.1] / found[0.5] == pytest.approx(9.0, rel=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="strategies are TensorFlow's"
)
def test_the_reason_of_a_failed_trial_under_a_strategy(tmp_path, digits):
    import tensorflow as tf

    def diverging(hp):
        network = build_dense_network(blocks=1)
        network.compile(keras.optimizers.SGD(1e30), crossentropy())
        return network

    tuner = keras_tuner.RandomSearch(
        keras_lap.tuning.LeastActionHyperModel(diverging, tau=0.5, p=2.0),
        "val_loss",
        max_trials=1,
        directory=tmp_path,
        distribution_strategy=tf.distribute.MirroredStrategy(["CPU:0"]),
    )
    with contextlib.suppress(RuntimeError):  # of too many failed trials
        tuner.search(*digits, epochs=1, validation_data=digits, verbose=0)
    (row,) = keras_lap.tuning.trial_table(tuner)
    assert row["status"] == "FAILED"
    assert "after epoch 1 with tau = 0.5, p = 2 and λ = " in row["reason"]
