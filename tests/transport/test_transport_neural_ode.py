"""Report, monitor, pictures and the command on networks over a time horizon."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from support.ode_by_hand import ByHand

import keras_lap
from keras_lap import transport
from keras_lap.blocks.command import main
from keras_lap.networks import neural_ode
from keras_lap.running_costs import ControlCost, PathLoss

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="asks nothing of the backend"
)
STEPS = [0.5, 0.25, 0.75]
DYNAMICS = ["inside", "outside", "bottleneck"]


def points():
    return np.random.default_rng(1).normal(size=(32, 2)).astype("float32")


def build(dynamics, energy):
    net = neural_ode((2,), 1, time_steps=STEPS, dynamics=dynamics, augment=1)
    costs = [PathLoss(0.5), ControlCost(0.1)]
    model = keras_lap.LeastActionModel(net, energy, running_costs=costs, horizon=STEPS)
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("dynamics", "energy"), [*((each, None) for each in DYNAMICS), ("inside", 2.0)]
)
def test_report_and_monitor(tmp_path, dynamics, energy):
    model = build(dynamics, energy)
    x = points()
    monitor = keras_lap.callbacks.TransportMonitor(x, logs="all")
    y = x[:, :1]
    logs = model.fit(x, y, batch_size=32, verbose=0, callbacks=[monitor]).history
    report = transport.analyze(model, x, (y[:, 0] > 0).astype("int64"), verbose=0)
    states = ByHand(model.network, dynamics, STEPS).states(x)
    moves = np.diff(states, axis=0)
    # float32 states of size 1, of which displacements are the differences.
    assert [block.cost for block in report.blocks] == pytest.approx(
        (moves**2).mean(axis=(1, 2)).tolist(), rel=1e-4
    )
    assert logs["transport_total_cost"][0] == pytest.approx(report.total_cost)
    own = [name for name in logs if name.startswith("transport_cost_block")]
    assert len(own) == (0 if energy is None else len(STEPS))
    assert not math.isnan(logs["transport_optimality"][0])
    for plot in (transport.plot_trajectories, transport.plot_displacements):
        figure = plot(report)
        figure = getattr(figure, "figure", figure)
        assert any(axis.lines or axis.patches for axis in figure.axes)
        figure.savefig(tmp_path / "picture.svg")


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_the_command_reads_files(tmp_path, capsys, dynamics):
    network = build(dynamics, None).network
    network.save(tmp_path / "net.keras")
    main([str(tmp_path / "net.keras")])
    printed = capsys.readouterr().out
    for number in range(1, len(STEPS) + 1):
        assert f"block{number}_add" in printed


def test_the_command_builds_one(capsys):
    arguments = ["input_shape=(2,)", "num_outputs=1", "steps=2", "horizon=1.0"]
    main(["keras_lap.networks.neural_ode", *arguments])
    printed = capsys.readouterr().out
    assert "block2_add" in printed
    assert "block3_add" not in printed
