"""`continue_from`: what a continuation keeps, by the outputs and by hand."""

from __future__ import annotations

from unittest import mock

import keras
import numpy as np
import pytest
from support.basics import as_numpy, build_dense_network
from support.ode_by_hand import ByHand
from support.priced import priced_path

import keras_lap
from keras_lap.networks import continuation, continue_from, neural_ode
from keras_lap.running_costs import ControlCost

POINTS = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")
LEAKY = keras.layers.LeakyReLU(negative_slope=0.1)
FLOWS = {"inside": "tanh", "outside": LEAKY, "bottleneck": "tanh"}
every_flow = pytest.mark.parametrize("dynamics", FLOWS)
# Float32 keeps 6e-8 of each of the weights that were scaled; there are some thirty.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def trained(dynamics="inside", activation=None, **options):
    """As after a training: no weight is as it was drawn, biases least of all."""
    net = neural_ode(
        *((2,), 2),
        **{"horizon": 4.0, "steps": 4, "augment": 1, **options},
        dynamics=dynamics,
        activation=activation or FLOWS[dynamics],
    )
    numbers = np.random.default_rng(2)
    net.set_weights([0.5 * numbers.normal(size=w.shape) for w in net.get_weights()])
    return net


def states(net):
    names = [layer.name for layer in net.layers if layer.name.endswith("_add")]
    tap = keras.Model(net.input, [net.get_layer(name).output for name in names])
    return [as_numpy(state) for state in tap(POINTS)]


def control(net, norm, horizon):
    path = priced_path(net, POINTS, horizon=horizon)
    return float(as_numpy(ControlCost(norm=norm)(path)))


@every_flow
@pytest.mark.parametrize("horizon", [1.0, 4.0, 17.0])
def test_rescaling_leaves_all_states_as_they_were(dynamics, horizon):
    net = trained(dynamics)
    other = continue_from(net, horizon=horizon, steps=4)
    for one, two in zip(states(net), states(other), strict=True):
        np.testing.assert_allclose(two, one, **CLOSE)
    assert other.get_layer("block1_scale").scale == horizon / 4
    np.testing.assert_allclose(as_numpy(other(POINTS)), as_numpy(net(POINTS)), **CLOSE)


@pytest.mark.parametrize("dynamics", ["inside", "outside"])
def test_rescaling_divides_the_price_by_the_horizon(dynamics):
    """Over twice the time, half the weights: ``½ ∫ |u|²`` is half."""
    net = trained(dynamics)
    other = continue_from(net, horizon=8.0, steps=4)
    expected = control(net, "l2", 4.0) / 2
    assert control(other, "l2", 8.0) == pytest.approx(expected, rel=1e-5)
    # The sum of weights over the time stays.
    expected = control(net, "l1", 4.0)
    assert control(other, "l1", 8.0) == pytest.approx(expected, rel=1e-5)


def test_of_a_bottleneck_the_second_layer_is_rescaled():
    net = trained("bottleneck")
    other = continue_from(net, horizon=8.0, steps=4)
    for name, factor in (("dense1", 1.0), ("dense2", 0.5)):
        before = net.get_layer(f"block3_{name}").get_weights()
        after = other.get_layer(f"block3_{name}").get_weights()
        for one, two in zip(before, after, strict=True):
            np.testing.assert_allclose(two, factor * one, rtol=1e-6)


@every_flow
def test_idle_blocks_leave_outputs_and_price_as_they_were(dynamics):
    net = trained(dynamics)
    other = continue_from(net, horizon=7.0, steps=7)
    np.testing.assert_array_equal(as_numpy(other(POINTS)), as_numpy(net(POINTS)))
    assert len(keras_lap.find_residual_blocks(other)) == 7
    for norm in ("l2", "l1"):
        expected = control(net, norm, 4.0)
        assert control(other, norm, 7.0) == pytest.approx(expected, rel=1e-6)


@every_flow
def test_a_cut_keeps_the_first_blocks(dynamics):
    net = trained(dynamics)
    other = continue_from(net, horizon=2.0, steps=2)
    for one, two in zip(states(net), states(other), strict=False):
        np.testing.assert_array_equal(two, one)
    end = as_numpy(net.get_layer("readout")(states(net)[1]))
    np.testing.assert_allclose(as_numpy(other(POINTS)), end, **CLOSE)


@every_flow
def test_refining_repeats_each_block(dynamics):
    """The finer scheme of the same controls, which cost the same."""
    net = trained(dynamics)
    other = continue_from(net, horizon=4.0, steps=12)
    for norm in ("l2", "l1", "group"):
        expected = control(net, norm, 4.0)
        assert control(other, norm, 4.0) == pytest.approx(expected, rel=1e-5)
    layers = ["dense1", "dense2"] if dynamics == "bottleneck" else ["dense"]
    for k in range(12):
        for name in layers:
            old = net.get_layer(f"block{k // 3 + 1}_{name}").get_weights()
            new = other.get_layer(f"block{k + 1}_{name}").get_weights()
            for one, two in zip(old, new, strict=True):
                np.testing.assert_array_equal(one, two)
    if dynamics != "outside":  # ByHand knows tanh alone
        hand = ByHand(other, dynamics, [1 / 3] * 12)
        np.testing.assert_allclose(
            as_numpy(other(POINTS)), hand.outputs(POINTS), **CLOSE
        )


UNEQUAL = [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("horizon", "steps", "expected"),
    [
        (7.0, 3, [1.0, 2.0, 4.0]),
        (3.5, 6, [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]),
        (7.5, 5, [0.5, 1.0, 2.0, 2.0, 2.0]),
        (1.5, 2, [0.5, 1.0]),
    ],
)
def test_unequal_steps_stay_in_proportion(horizon, steps, expected):
    net = trained(horizon=3.5, steps=3, time_steps=UNEQUAL)
    other = continue_from(net, horizon=horizon, steps=steps)
    found = [other.get_layer(f"block{k + 1}_scale").scale for k in range(steps)]
    assert found == pytest.approx(expected)
    if steps in (3, 5):
        np.testing.assert_allclose(
            as_numpy(other(POINTS)), as_numpy(net(POINTS)), **CLOSE
        )


@keras.saving.register_keras_serializable("continuation")
def odd_power(x):
    return keras.ops.sign(x) * keras.ops.sqrt(keras.ops.abs(x))


@pytest.mark.parametrize(
    ("dynamics", "activation"),
    [("inside", odd_power), ("outside", LEAKY), ("bottleneck", odd_power)],
)
@pytest.mark.parametrize("readout", ["dense", "last"])
def test_loaded_files_are_continued(dynamics, activation, readout, tmp_path):
    """Dynamics, steps and activation are read from the graph."""
    net = trained(dynamics, activation, readout=readout)
    net.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    for horizon, steps in ((9.0, 4), (6.0, 6), (2.0, 2), (4.0, 8)):
        other = continue_from(loaded, horizon=horizon, steps=steps)
        expected = continue_from(net, horizon=horizon, steps=steps)
        np.testing.assert_array_equal(
            as_numpy(other(POINTS)), as_numpy(expected(POINTS))
        )
        if steps in (4, 6):
            np.testing.assert_allclose(
                as_numpy(other(POINTS)), as_numpy(net(POINTS)), **CLOSE
            )


def test_the_old_network_stays_and_the_new_one_is_its_own():
    net = trained(activation=keras.layers.PReLU())
    net.get_layer("block2_dense").trainable = False
    before = net.get_weights()
    other = continue_from(net, horizon=2.0, steps=4)
    assert not other.get_layer("block2_dense").trainable
    assert other.get_layer("block1_dense").trainable
    np.testing.assert_array_equal(  # weights of an activation go with it
        other.get_layer("block3_activation").get_weights()[0],
        net.get_layer("block3_activation").get_weights()[0],
    )
    other.set_weights([0 * w for w in other.get_weights()])
    for one, two in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (other.name, other.input_shape) == (net.name, net.input_shape)


def test_a_wrapped_network_is_continued_after_training():
    """Recording makes further nodes in the graph of its layers."""
    model = keras_lap.LeastActionModel(trained())
    model.compile("sgd", "mse")
    model.fit(POINTS, POINTS, verbose=0)
    other = continue_from(model.network, horizon=8.0, steps=8)
    np.testing.assert_array_equal(as_numpy(other(POINTS)), as_numpy(model(POINTS)))


@pytest.mark.parametrize("scaled", ["dense1", mock.ANY], ids=["first", "both"])
def test_faults_of_a_continuation_are_found(scaled, monkeypatch):
    monkeypatch.setitem(continuation.SCALED, "bottleneck", scaled)
    with pytest.raises(AssertionError):
        test_rescaling_leaves_all_states_as_they_were("bottleneck", 1.0)
    with pytest.raises(AssertionError):
        test_of_a_bottleneck_the_second_layer_is_rescaled()


def test_a_cut_from_the_wrong_end_is_found(monkeypatch):
    def last_ones(old, horizon, steps):
        dropped = len(old) - steps
        return [continuation._Block(dropped + k, old[dropped + k]) for k in range(2)]

    monkeypatch.setattr(continuation, "_plan", last_ones)
    with pytest.raises(AssertionError):
        test_a_cut_keeps_the_first_blocks("inside")


@pytest.mark.parametrize(("horizon", "steps"), [(5.0, 7), (4.0, 6), (3.0, 2), (8, 6)])
def test_other_numbers_name_the_three_ways(horizon, steps):
    message = r"horizon 4 and 4 steps.*Rescale.*append idle.*cut.*refine"
    with pytest.raises(ValueError, match=message):
        continue_from(trained(), horizon=horizon, steps=steps)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu6"])
def test_what_is_not_homogeneous_is_not_rescaled(activation):
    net = trained("outside", activation)
    with pytest.raises(ValueError, match=rf"{activation}' is not homogeneous"):
        continue_from(net, horizon=8.0, steps=4)
    assert continue_from(net, horizon=4.0, steps=4).count_params() > 0
    assert continue_from(net, horizon=8.0, steps=8).count_params() > 0


def test_what_is_not_zero_at_zero_is_not_idle():
    net = trained("outside", "sigmoid")
    with pytest.raises(ValueError, match="'sigmoid' is not 0 at 0"):
        continue_from(net, horizon=8.0, steps=8)
    assert continue_from(net, horizon=2.0, steps=2).count_params() > 0
    assert continue_from(trained("inside", "sigmoid"), horizon=8.0, steps=8)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"horizon": -1.0, "steps": 4}, "`horizon` must be a finite number > 0"),
        ({"horizon": 4.0, "steps": 0}, "`steps` must be a whole number of at least 1"),
    ],
)
def test_numbers_out_of_range(numbers, message):
    with pytest.raises(ValueError, match=message):
        continue_from(trained(), **numbers)


def test_other_networks_are_refused():
    with pytest.raises(TypeError, match="Received: 'net' "):
        continue_from("net", horizon=1.0, steps=1)
    for net in (build_dense_network(), keras_lap.LeastActionModel(trained())):
        with pytest.raises(ValueError, match=r"takes a network of.*model\.network"):
            continue_from(net, horizon=1.0, steps=1)
    net = trained()
    longer = keras.Model(net.input, keras.layers.Softmax()(net.output))
    with pytest.raises(ValueError, match="takes a network of"):
        continue_from(longer, horizon=1.0, steps=4)
