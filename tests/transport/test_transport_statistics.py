"""Reports under the moving statistics of batch normalisation, and under others."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from support.basics import as_numpy

import keras_lap
from keras_lap import transport

L = keras.layers


@pytest.fixture
def x():
    return (7 * np.random.default_rng(0).normal(size=(64, 4)) + 30).astype("float32")


@pytest.fixture
def model():
    """A network whose moving statistics are those that Keras begins with."""
    x = inputs = keras.Input((4,))
    for number in range(2):
        branch = L.Dense(4, name=f"branch{number}")(x)
        x = L.Add()([x, L.BatchNormalization(name=f"norm{number}")(branch)])
    network = keras.Model(inputs, L.Dense(2)(x))
    model = keras_lap.LeastActionModel(network)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def analyze(model, x, **options):
    return transport.analyze(model, x, verbose=0, **options)


def logged_cost(model, x):
    logs = model.train_on_batch(x, np.zeros((len(x), 2)), return_dict=True)
    return float(logs["transport_cost"])


def moving(model):
    norms = [model.network.get_layer(f"norm{k}") for k in range(2)]
    return [as_numpy(v) for n in norms for v in (n.moving_mean, n.moving_variance)]


def test_log_and_report_differ_and_a_warning_says_so(model, x):
    cost = logged_cost(model, x)
    with pytest.warns(UserWarning, match="have not settled") as caught:
        report = analyze(model, x)
    assert max(report.total_cost / cost, cost / report.total_cost) > 10
    (message,) = [str(w.message) for w in caught if "settled" in str(w.message)]
    assert f"{analyze(model, x[:32]).total_cost:.3g} under the moving" in message
    assert "silent" not in message


def test_the_warning_names_silent_channels_where_there_are_some(model, x):
    keras_lap.trajectory.recalibrate(model.network, [x])
    norm = model.network.get_layer("norm0")
    norm.moving_variance.assign(as_numpy(norm.moving_variance) * [1, 1, 1, 1e-4])
    remedy = r"1 channel with next to no .*raise_variances\(network\) bounds"
    with pytest.warns(UserWarning, match=remedy):
        far = analyze(model, x)
    keras_lap.trajectory.raise_variances(model)
    assert analyze(model, x).total_cost < far.total_cost / 10


def test_new_statistics_bring_the_two_together(model, x):
    """And they are gone afterwards."""
    cost, before = logged_cost(model, x), moving(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*have not settled")
        report = analyze(model, x, recalibrate=True, batch_size=64)
        other = analyze(model, x[:32], recalibrate=iter([x[:32], x[32:]]))
    assert report.total_cost == pytest.approx(cost, rel=1e-3)
    assert other.total_cost == pytest.approx(cost, rel=0.3)
    for one, same in zip(moving(model), before, strict=True):
        np.testing.assert_array_equal(one, same)


def test_log_monitor_and_report_agree_when_asked_to(model, x):
    cost = logged_cost(model, x)
    monitor = keras_lap.callbacks.TransportMonitor(x, batch_size=64, statistics="batch")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*have not settled")
        report = analyze(model, x, batch_size=64, statistics="batch")
        model.fit(x, np.zeros((len(x), 2)), verbose=0, callbacks=[monitor])
    # The same network in one batch; sums in float32 against float64.
    assert report.total_cost == pytest.approx(cost, rel=1e-4)
    assert monitor.report.total_cost == pytest.approx(cost, rel=1e-4)


def test_a_report_says_which_statistics_it_is_under(model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {
            "moving": analyze(model, x),
            "batch": analyze(model, x, statistics="batch"),
            "re-estimated": analyze(model, x, recalibrate=True),
        }
    for statistics, report in found.items():
        assert report.statistics == statistics
        words = statistics.replace("re-", "").split()[0]
        assert words in str(report).splitlines()[1]


def test_settled_and_frozen_statistics_are_no_reason_to_warn(model, x):
    model.network.trainable = False
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*have not settled")
        analyze(model, x)
    model.network.trainable = True
    keras_lap.trajectory.recalibrate(model.network, [x])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*have not settled")
        analyze(model, x)


def test_the_monitor_warns_once_and_disturbs_no_training(model, x):
    monitor = keras_lap.callbacks.TransportMonitor(x)
    targets = np.zeros((len(x), 2))
    with pytest.warns(UserWarning, match="have not settled") as caught:
        model.fit(x, targets, epochs=3, callbacks=[monitor], verbose=0, shuffle=False)
    assert sum("settled" in str(w.message) for w in caught) == 1
    watched = moving(model)
    for norm in (model.network.get_layer(f"norm{k}") for k in range(2)):
        norm.moving_mean.assign(np.zeros(4))
        norm.moving_variance.assign(np.ones(4))
    model.fit(x, targets, epochs=3, verbose=0, shuffle=False)
    for one, other in zip(moving(model), watched, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
