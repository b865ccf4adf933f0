"""`neural_ode` against Euler's scheme by hand, and its refusals."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from support.basics import as_numpy
from support.ode_by_hand import ByHand

import keras_lap
from keras_lap.networks import neural_ode

DYNAMICS = ["inside", "outside", "bottleneck"]
POINTS = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")
# Float32 keeps 6e-8; the longest way here is a sum of some thirty products.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("steps", [None, (0.5, 0.25, 2.0)])
def test_outputs_are_those_of_eulers_scheme(dynamics, steps):
    how = {"time_steps": steps} if steps else {"horizon": 3.0, "steps": 4}
    hidden = 7 if dynamics == "bottleneck" else None
    net = neural_ode(
        *((2,), 3), dynamics=dynamics, hidden_units=hidden, augment=2, **how
    )
    numbers = np.random.default_rng(2)
    net.set_weights([numbers.normal(size=w.shape) for w in net.get_weights()])
    hand = ByHand(net, dynamics, steps or [0.75] * 4)
    outputs = as_numpy(net(POINTS))
    np.testing.assert_allclose(outputs, hand.outputs(POINTS), **CLOSE)
    if dynamics == "bottleneck":
        assert net.get_layer("block1_dense1").units == 7


def test_the_last_coordinates_of_the_state():
    net = neural_ode((2,), 2, horizon=1.0, steps=2, augment=1, readout="last")
    state = keras.Model(net.input, net.get_layer("block2_add").output)(POINTS)
    np.testing.assert_array_equal(as_numpy(net(POINTS)), as_numpy(state)[:, 1:])
    assert not net.get_layer("readout").weights


@pytest.mark.parametrize(
    ("dynamics", "branch"),
    [
        ("inside", ["activation", "dense"]),
        ("outside", ["dense", "activation"]),
        ("bottleneck", ["dense1", "activation", "dense2"]),
    ],
)
def test_layers_and_blocks(dynamics, branch):
    net = neural_ode(
        (2, 3), 1, horizon=1.0, steps=2, dynamics=dynamics, augment=1, name="ode"
    )
    blocks = [f"block{k}_{n}" for k in (1, 2) for n in [*branch, "scale", "add"]]
    expected = ["input", "flatten", "pad", *blocks, "readout"]
    assert [layer.name for layer in net.layers] == expected
    assert (net.name, net.output_shape) == ("ode", (None, 1))
    report = keras_lap.find_residual_blocks(net)
    assert [block.name for block in report] == ["block1_add", "block2_add"]
    assert {(block.kind, block.shape) for block in report} == {("identity", (None, 7))}
    assert not report.skipped


def test_by_default_forty_steps_over_ten():
    net = neural_ode((2,), 1)
    scales = [net.get_layer(f"block{k}_scale").scale for k in range(1, 41)]
    assert scales == [0.25] * 40
    assert not [layer for layer in net.layers if layer.name in ("pad", "flatten")]


@pytest.mark.parametrize("horizon", [10.0, 40.0])
def test_the_default_start_is_small_for_the_horizon(horizon):
    """About 1.5 / T in two or three dimensions; a readout and an inner layer stay."""
    for dynamics, name in (("inside", "dense"), ("bottleneck", "dense2")):
        net = neural_ode((3,), 1, horizon=horizon, steps=50, dynamics=dynamics)
        kernels = [as_numpy(net.get_layer(f"block{k}_{name}").kernel) for k in (1, 2)]
        assert np.abs(kernels[0] - kernels[1]).min() > 0
        drawn = [
            net.get_layer(f"block{k}_{name}").get_weights()[0] for k in range(1, 51)
        ]
        # 450 draws: their deviation is known to 3.3 %.
        assert np.std(drawn) == pytest.approx(1.5 / horizon, rel=0.15)
    inner = [net.get_layer(f"block{k}_dense1").get_weights()[0] for k in range(1, 51)]
    assert np.std(inner) == pytest.approx(1 / np.sqrt(3), rel=0.1)


def test_an_initializer_of_ones_own_is_left_as_it_is():
    net = neural_ode((2,), 1, steps=2, kernel_initializer=keras.initializers.Ones())
    np.testing.assert_array_equal(net.get_layer("block2_dense").get_weights()[0], 1)
    seeded = neural_ode(
        (2,), 1, steps=2, kernel_initializer=keras.initializers.RandomNormal(seed=1)
    )
    one, other = (seeded.get_layer(f"block{k}_dense").get_weights()[0] for k in (1, 2))
    assert np.abs(one - other).min() > 0


def test_files_need_no_class_of_ours(tmp_path):
    net = neural_ode((2,), 1, steps=3, augment=1, readout="last")
    path = tmp_path / "net.keras"
    net.save(path)
    loaded = keras.saving.load_model(path)
    np.testing.assert_array_equal(as_numpy(loaded(POINTS)), as_numpy(net(POINTS)))
    for layer in net.layers:
        assert type(layer).__module__.startswith("keras."), layer
    assert keras.models.clone_model(net)(POINTS).shape == (6, 1)


def test_an_activation_of_a_layer_is_one_for_each_block():
    shared = keras.layers.PReLU(alpha_initializer="ones")
    net = neural_ode((2,), 1, steps=2, activation=shared)
    one, other = (net.get_layer(f"block{k}_activation") for k in (1, 2))
    assert type(one) is type(other) is keras.layers.PReLU
    assert len({id(layer) for layer in (one, other, shared)}) == 3


def test_what_can_only_rise_is_said():
    options = {"steps": 2, "dynamics": "outside", "readout": "last", "augment": 1}
    for activation in ("relu", keras.layers.ReLU(), "sigmoid"):
        with pytest.warns(UserWarning, match=r"can only rise.*readout='dense'"):
            neural_ode((2,), 1, activation=activation, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        leaky = keras.layers.LeakyReLU(negative_slope=0.1)
        neural_ode((2,), 1, activation=leaky, **options)
        neural_ode((2,), 1, activation="relu", **{**options, "dynamics": "inside"})
        neural_ode((2,), 1, activation="relu", **{**options, "readout": "dense"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (None, 2)}, "`input_shape` must be the shape of one sample"),
        ({"input_shape": 2}, r"Received: input_shape=2.*\(2,\) stands for two"),
        ({"num_outputs": 0}, "`num_outputs` must be a whole number of at least 1"),
        ({"horizon": 0.0}, "`horizon` must be a finite number > 0"),
        ({"horizon": float("inf")}, "`horizon` must be a finite number > 0"),
        ({"steps": 2.5}, "`steps` must be a whole number of at least 1"),
        ({"steps": True}, "`steps` must be a whole number of at least 1"),
        ({"time_steps": [1.0, 0.0]}, "`time_steps` must be a sequence of finite"),
        ({"time_steps": []}, "`time_steps` must be a sequence of finite"),
        ({"time_steps": 0.5}, "`time_steps` must be a sequence of finite"),
        ({"time_steps": [1, 2], "horizon": 4.0}, "in place of `horizon`.*Leave these"),
        ({"time_steps": [1, 2], "steps": 3}, "in place of `horizon`.*steps=3"),
        ({"dynamics": "between"}, "`dynamics` must be one of 'inside', 'outside', 'bo"),
        ({"hidden_units": 5}, "`hidden_units` must be None with dynamics='inside'"),
        ({"hidden_units": 0, "dynamics": "bottleneck"}, "`hidden_units` must be a who"),
        ({"augment": -1}, "`augment` must be a whole number of at least 0"),
        ({"readout": "first"}, "`readout` must be one of 'dense', 'last'"),
        ({"readout": "last", "num_outputs": 3}, "`num_outputs` must be at most 2"),
        ({"activation": "tan"}, "Could not interpret activation"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        neural_ode(**{"input_shape": (2,), "num_outputs": 1, **options})
