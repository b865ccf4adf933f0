"""The monitor in real trainings, and what the model counts for it."""

from __future__ import annotations

import csv
import math
import sys

import keras
import numpy as np
import pytest
from support.transports import affine_network, points, random_blocks

import keras_lap
from keras_lap import transport
from keras_lap.callbacks import TransportMonitor

NUMBERS = (
    *("total_cost", "path_ratio", "line_shape_score", "optimality"),
    *("own_partner_share", "optimal_transport_score"),
)
KEYS = [f"transport_{number}" for number in NUMBERS]
BLOCKS = [f"transport_cost_block{k}" for k in range(3)]


def trained(callbacks, least_action=True, epochs=3, rate=0.01, **options):
    """A small training on 40 points; the model and its history."""
    network = affine_network(*random_blocks())
    model = keras_lap.LeastActionModel(network) if least_action else network
    model.compile(keras.optimizers.SGD(rate), loss="mse", **options)
    x = points()
    history = model.fit(
        x, x, batch_size=16, epochs=epochs, verbose=0, callbacks=callbacks
    )
    return model, history.history


def test_numbers_of_the_report_in_history_and_csv(tmp_path):
    monitor = TransportMonitor(
        points(seed=5), every_n_epochs=2, max_samples=30, logs="all"
    )
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    model, history = trained([monitor, logger])
    report = transport.analyze(model, points(seed=5), max_samples=30, verbose=0)
    assert history["transport_total_cost"][2] == pytest.approx(report.total_cost)
    for number in NUMBERS[1:]:
        last = history[f"transport_{number}"][2]
        assert last == pytest.approx(getattr(report.stages[0], number), rel=1e-5)
    for key in KEYS:
        assert [math.isnan(value) for value in history[key]] == [False, True, False]
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for key in KEYS + BLOCKS:
        written = [float(row[key]) for row in rows]
        np.testing.assert_allclose(written, history[key])
    assert [record["epoch"] for record in monitor.records] == [0, 2]
    assert monitor.records[1]["total_cost"] == monitor.report.total_cost


@pytest.mark.parametrize("validated", [False, True])
def test_costs_of_the_blocks_add_up_to_the_transport_cost(validated):
    network = affine_network(*random_blocks())
    model = keras_lap.LeastActionModel(network)
    model.compile("sgd", loss="mse")
    x = points()
    data = {"validation_data": (x, x)} if validated else {}
    fit = {"x": x, "y": x, "batch_size": 16, "epochs": 2, "verbose": 0, **data}
    plain = model.fit(**fit).history
    assert not set(plain) & {*KEYS, *BLOCKS, "block_costs"}
    # A model that was trained without the monitor knows the costs all the same.
    history = model.fit(**fit, callbacks=[TransportMonitor(x, logs="all")]).history
    sums = np.sum([history[key] for key in BLOCKS], axis=0)
    np.testing.assert_allclose(sums, history["transport_cost"], rtol=1e-5)
    assert not any(key.startswith("val_transport") for key in history)


def test_costs_of_single_blocks_without_learning():
    x = points()
    monitor = TransportMonitor(x, logs="all")
    _, history = trained([monitor], epochs=1, rate=0.0)
    # Batches of 16, 16 and 8 points: a mean that forgot their sizes would differ.
    costs = [history[key][0] for key in BLOCKS]
    expected = [block.cost for block in monitor.report.blocks]
    np.testing.assert_allclose(costs, expected, rtol=1e-5)


def test_a_plain_network_has_no_costs_of_training_batches():
    _, history = trained([TransportMonitor(points(), logs="all")], least_action=False)
    assert set(KEYS) <= set(history)
    assert not set(BLOCKS) & set(history)


class Counted(keras.layers.Layer):
    """Counts its calls outside of compiled code."""

    calls = 0

    def call(self, x):
        Counted.calls += 1
        return x + 0.0


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="counts eager calls, once is enough"
)
def test_training_batches_are_run_once():
    inputs = keras.Input((4,))
    x = Counted()(inputs)
    x = keras.layers.Add()([x, keras.layers.Dense(4)(x)])
    model = keras_lap.LeastActionModel(keras.Model(inputs, x))
    model.compile("sgd", loss="mse", run_eagerly=True)
    monitor = TransportMonitor(points(64), every_n_epochs=10, batch_size=32)
    monitor_batches, steps, epochs = 2, 3, 4
    data = points()
    Counted.calls = 0
    model.fit(data, data, batch_size=16, epochs=epochs, verbose=0, callbacks=[monitor])
    # One more: Keras looks into a network once to build a model around it.
    assert Counted.calls - steps * epochs - monitor_batches in (0, 1)


def test_the_progress_line_has_the_total_alone():
    monitor = TransportMonitor(points())
    _, history = trained([monitor], epochs=2)
    own = {"loss", "task_loss", "transport_cost", "multiplier"}
    assert set(history) - own == {"transport_total_cost"}
    records = monitor.records
    assert [r["total_cost"] for r in records] == history["transport_total_cost"]
    sums = [sum(record["training_block_costs"]) for record in records]
    np.testing.assert_allclose(sums, history["transport_cost"], rtol=1e-5)


def test_tensorboard(tmp_path):
    trained([TransportMonitor(points(), log_dir=tmp_path / "log")], epochs=2)
    (written,) = (tmp_path / "log").iterdir()
    for key in KEYS + BLOCKS:
        # An event of each epoch names what it holds.
        name = key.replace("transport_", "transport/", 1).encode()
        assert written.read_bytes().count(name) >= 2


def test_states_that_are_not_finite_warn_once_and_leave_nan():
    bad = points()
    bad[0, 0] = np.inf
    with pytest.warns(UserWarning, match="No transport to measure") as caught:
        _, history = trained([TransportMonitor(bad, logs="all")])
    assert sum("No transport" in str(w.message) for w in caught) == 1
    assert np.all(np.isnan(history["transport_total_cost"]))
    assert np.all(np.isfinite(history[BLOCKS[0]]))


def test_a_second_fit_starts_anew():
    monitor = TransportMonitor(points(), every_n_epochs=2, logs="all")
    model, _ = trained([monitor], epochs=1)
    x = points()
    more = model.fit(
        x, x, initial_epoch=1, epochs=4, verbose=0, callbacks=[monitor]
    ).history
    measured = [not math.isnan(v) for v in more["transport_optimality"]]
    assert measured == [True, False, True]
    model.evaluate(x, x, verbose=0, callbacks=[monitor])  # measures nothing
    assert len(monitor.records) == 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"every_n_epochs": 0}, "every_n_epochs must be"),
        ({"max_samples": 1}, "max_samples must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"logs": "some"}, "logs must be"),
        ({"statistics": "own"}, "statistics must be"),
    ],
)
def test_wrong_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        TransportMonitor(points(), **options)


@pytest.mark.parametrize(
    ("module", "extra"), [("ot", "transport"), ("tensorboardX", "tensorboard")]
)
def test_missing_packages(monkeypatch, tmp_path, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"\.\[{extra}\]"):
        trained([TransportMonitor(points(), log_dir=tmp_path)])
