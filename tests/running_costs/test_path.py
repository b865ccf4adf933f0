"""The time steps, trapezoid weights and controls of a path."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy, build_dense_network
from support.priced import priced_path

import keras_lap
from keras_lap.networks import neural_ode
from keras_lap.running_costs import Path, RunningCost, controls, time_steps

POINTS = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")


def names(lists):
    return [[variable.path for variable in block] for block in lists]


def test_controls_are_the_weights_on_the_branches():
    """Biases too; not those of stem and head."""
    expected = [
        [f"b{k}_{layer}/{w}" for layer in ("in", "out") for w in ("kernel", "bias")]
        for k in range(3)
    ]
    assert names(controls(build_dense_network())) == expected
    assert names(controls(build_dense_network(), ["b1"])) == [expected[1]]


def test_frozen_weights_are_no_controls():
    net = build_dense_network()
    net.get_layer("b0_in").trainable = False
    net.get_layer("b1_in").bias.trainable = False
    assert names(controls(net)[:2]) == [
        ["b0_out/kernel", "b0_out/bias"],
        ["b1_in/kernel", "b1_out/kernel", "b1_out/bias"],
    ]
    net.trainable = False
    assert controls(net) == [[], [], []]


def test_shared_layers_are_controls_of_each_of_their_blocks():
    """And a layer that runs twice in a block is so once."""
    inputs = x = keras.Input((4,))
    dense = keras.layers.Dense(4, name="shared")
    for _ in range(3):
        x = keras.layers.Add()([x, dense(keras.ops.tanh(dense(x)))])
    net = keras.Model(inputs, keras.layers.Dense(2)(x))
    assert names(controls(net)) == [["shared/kernel", "shared/bias"]] * 3


def test_all_that_is_trained_on_a_branch_is_a_control():
    """Norms, nested models, activations; not the statistics, nor the projection."""
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, name="in")])
    r = keras.layers.BatchNormalization(name="bn")(inputs)
    r = keras.layers.PReLU(name="prelu")(inner(r))
    r = keras.layers.Dense(6, name="out", use_bias=False)(r)
    shortcut = keras.layers.Dense(6, name="projection")(inputs)
    net = keras.Model(inputs, keras.layers.Dense(2)(shortcut + r))
    report = keras_lap.find_residual_blocks(net, include_projections=True)
    (found,) = Path(None, net, report=report).controls
    ends = {"/".join(variable.path.split("/")[-2:]) for variable in found}
    expected = {"bn/gamma", "bn/beta", "in/kernel", "in/bias", "prelu/alpha"}
    assert ends == expected | {"out/kernel"}


class Own(keras.layers.Layer):
    def build(self, shape):
        self.own = self.add_weight(shape=(4, 4), name="own")

    def call(self, x):
        return x + keras.ops.tanh(keras.ops.matmul(x, self.own))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="net")
        self.own = self.add_weight(shape=(4, 4), name="own")
        self.layer, self.head = keras.layers.Dense(4), keras.layers.Dense(2)

    def call(self, x):
        x = x + keras.ops.tanh(x @ self.own)
        x = x + self.layer(x)
        return self.head(x)


def test_weights_that_a_call_itself_uses():
    net = keras.Sequential([keras.Input((4,)), Own(), Own(), keras.layers.Dense(2)])
    assert [len(block) for block in controls(net)] == [1, 1]
    net = Subclassed()
    net(np.zeros((1, 4), "float32"))
    first, second = controls(net)
    assert [v is net.own for v in first] == [True]
    assert second == net.layer.trainable_variables


def test_steps_of_a_horizon():
    assert time_steps(None, 3) == (1.0, 1.0, 1.0)
    assert time_steps(1.5, 3) == (0.5, 0.5, 0.5)
    assert time_steps(2.0, 0) == time_steps([1.0], 0) == ()
    assert time_steps(2, 4) == (0.5,) * 4
    for steps in ([1, 0.5], (1.0, 0.5), np.array([1.0, 0.5])):
        assert time_steps(steps, 2) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("horizon", "message"),
    [
        (0.0, "horizon must be a finite number > 0"),
        (True, "horizon must be a finite number > 0"),
        (float("nan"), "horizon must be a finite number > 0"),
        ("long", "horizon must be a"),
        ([1.0, -1.0, 1.0], "horizon must be a sequence of finite numbers > 0"),
        ([1.0, 2.0], "hold 3 time steps, one for each block, not 2.*Received: horizon"),
    ],
)
def test_horizons_that_are_none(horizon, message):
    with pytest.raises(ValueError, match=message):
        time_steps(horizon, 3)


def test_weights_are_those_of_the_trapezoidal_rule():
    """They integrate ``t`` exactly, and the first exit has a half step."""
    steps = (0.5, 0.25, 2.0)
    net = neural_ode((2,), 1, time_steps=steps)
    path = Path(None, net, horizon=steps)
    assert path.weights == (0.25, 0.375, 1.125, 1.0)
    times = np.concatenate([[0.0], np.cumsum(steps)])
    assert np.dot(path.weights, times) == pytest.approx(2.75**2 / 2)
    assert Path(None, net).weights == (0.5, 1.0, 1.0, 0.5)
    assert Path(None, net, horizon=[1.0] * 3).time_steps == (1.0,) * 3


def test_a_path_of_some_blocks_alone():
    path = priced_path(build_dense_network(), np.zeros((2, 64)), blocks=["b0", "b2"])
    assert [block.name for block in path.report] == ["b0", "b2"]
    assert len(path.controls) == len(path.states) == len(path.time_steps) == 2
    assert as_numpy(path.states[0][0]).shape == (2, 6)


def test_what_a_path_does_not_know_is_said():
    path = Path(None, build_dense_network(), x=1)
    for name in ("y", "sample_weight"):
        with pytest.raises(ValueError, match=rf"{name} of this.*needs_target = True"):
            getattr(path, name)
    with pytest.raises(ValueError, match=r"states of this path.*wanted = \('states',"):
        _ = path.states
    assert Path(None, path.network, 1, None, None).y is None
    assert not RunningCost.needs_target
