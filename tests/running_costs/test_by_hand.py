"""Objective and gradients of running costs, against NumPy by hand and closed forms."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy
from support.ode_by_hand import ByHand
from support.priced import loss_and_gradients, priced_path

from keras_lap.networks import neural_ode
from keras_lap.running_costs import ControlCost, TrackingCost, control_cost
from keras_lap.running_costs import path as path_module

STEPS = [0.5, 0.25, 0.75, 0.3]
NORMS = ["l2", "h1", "l1", "group"]
DYNAMICS = ["inside", "outside", "bottleneck"]
# Weights and activations are near 1 and float32 keeps 6e-8 of each; a gradient is the
# difference of two weights, and a sum of some hundred such products.
CLOSE = {"rtol": 2e-5, "atol": 3e-6}


def network(dynamics):
    """With biases that are not zero, so that none is left out unseen."""
    hidden = 5 if dynamics == "bottleneck" else None
    options = {"dynamics": dynamics, "hidden_units": hidden, "augment": 1}
    net = neural_ode((2,), 2, time_steps=STEPS, **options)
    numbers = np.random.default_rng(3)
    net.set_weights([0.7 * numbers.normal(size=w.shape) for w in net.get_weights()])
    return net


def batch():
    numbers = np.random.default_rng(5)
    x, y = (numbers.normal(size=(9, 2)).astype("float32") for _ in range(2))
    return x, y, np.linspace(0.2, 1.9, 9).astype("float32")


TARGET = np.array([0.4, -0.6, 1.1])


def check(net, dynamics, costs, norm, alpha=0.3, beta=0.7):
    x, y, samples = batch()
    hand = ByHand(net, dynamics, STEPS)
    target = np.broadcast_to(TARGET, (len(x), 3))
    loss, gradients = loss_and_gradients(net, costs, STEPS, x, y, samples)
    expected = hand.task(x, y, samples) + alpha * hand.control(norm)
    expected += beta * hand.tracking(x, target, samples)
    assert loss == pytest.approx(expected, rel=2e-6)  # thirty roundings of float32
    by_hand = hand.gradients(x, y, samples, alpha, norm, beta, target)
    assert gradients.keys() == by_hand.keys()
    for name, slopes in by_hand.items():
        for ours, theirs in zip(gradients[name], slopes, strict=True):
            np.testing.assert_allclose(ours, theirs, **CLOSE, err_msg=name)


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("norm", NORMS)
def test_objective_and_gradients_by_hand(dynamics, norm):
    costs = [ControlCost(0.3, norm), TrackingCost(0.7, TARGET)]
    check(network(dynamics), dynamics, costs, norm)


class WithoutHalf(ControlCost):
    def __call__(self, path):
        return 2.0 * super().__call__(path)


class LeftRule(TrackingCost):
    """Gives the first state a whole step, and the last one none."""

    def __call__(self, path):
        point = keras.ops.convert_to_tensor(self.target, "float32")
        starts = [before for before, _ in path.states]
        gaps = [keras.ops.sum((x - point) ** 2, axis=1) for x in starts]
        samples = keras.ops.convert_to_tensor(path.sample_weight)
        pairs = zip(path.time_steps, gaps, strict=True)
        return sum(dt * keras.ops.mean(gap * samples) for dt, gap in pairs) / 2


@pytest.mark.parametrize(
    "costs",
    [
        [WithoutHalf(0.3), TrackingCost(0.7, TARGET)],
        [ControlCost(0.3), LeftRule(0.7, TARGET)],
        [ControlCost(0.3, "h1"), TrackingCost(0.7, TARGET)],
        [ControlCost(0.3), TrackingCost(0.7, TARGET[::-1])],
    ],
    ids=["no half", "left rule", "other norm", "other target"],
)
def test_the_comparison_by_hand_finds_faults(costs):
    with pytest.raises(AssertionError):
        check(network("inside"), "inside", costs, "l2")


def no_half(patch):
    patch.setitem(
        control_cost._NORMS, "l2", lambda *each: 2.0 * control_cost._l2(*each)
    )


def no_root(patch):
    patch.setitem(
        control_cost._NORMS, "group", lambda *each: 2.0 * control_cost._l2(*each)
    )


def head_is_priced(patch):
    def with_head(report):
        *others, last = of_report(report)
        head = report.root.operation.get_layer("readout")
        return [*others, [*last, *head.trainable_variables]]

    of_report = path_module.of_report
    patch.setattr(path_module, "of_report", with_head)


def time_twice(patch):
    steps = path_module.time_steps
    twice = lambda *each: tuple(dt**2 for dt in steps(*each))  # noqa: E731
    patch.setattr(path_module, "time_steps", twice)


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
@pytest.mark.parametrize("fault", [no_half, no_root, head_is_priced, time_twice])
def test_faults_of_the_package_are_found(fault, monkeypatch):
    fault(monkeypatch)
    norm = "group" if fault is no_root else "l2"
    with pytest.raises(AssertionError):
        test_objective_and_gradients_by_hand("inside", norm)


def test_the_slope_of_a_group_at_zero_is_zero():
    net = network("inside")
    dense = net.get_layer("block2_dense")
    dense.set_weights([np.zeros_like(w) for w in dense.get_weights()])
    x, y, _ = batch()
    _, with_cost = loss_and_gradients(net, [ControlCost(5.0, "group")], STEPS, x, y)
    _, without = loss_and_gradients(net, [], STEPS, x, y)
    pair = (gradients["block2_dense"] for gradients in (with_cost, without))
    for ours, theirs in zip(*pair, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def scalar(horizon, steps, controls):
    """``x' = b(t)`` from −1.3, whose kernels are zero and frozen."""
    net = neural_ode(
        *((1,), 1),
        **{"horizon": horizon, "steps": steps, "readout": "last"},
        kernel_initializer="zeros",
    )
    for k, control in enumerate(controls, start=1):
        dense = net.get_layer(f"block{k}_dense")
        dense.kernel.trainable = False
        dense.bias.assign([control])
    return net


START = np.full((1, 1), -1.3, "float32")
ZERO = np.zeros((1, 1), "float32")


@pytest.mark.parametrize("horizon", [5.0, 10.0])
def test_the_tracked_scalar_problem_is_solved_by_its_closed_form(horizon):
    """Its optimum has the cost of the table, and no gradient."""
    dt, alpha = 0.25, 0.25
    rate = np.arccosh(1 + dt**2 / (2 * alpha)) / dt
    assert rate == pytest.approx(1.979732, abs=1e-6)
    times = np.arange(0, horizon + dt / 2, dt)
    states = -1.3 * np.cosh(rate * (horizon - times)) / np.cosh(rate * horizon)
    net = scalar(horizon, len(times) - 1, np.diff(states) / dt)
    costs = [ControlCost(alpha), TrackingCost(1.0, [0.0])]
    loss, gradients = loss_and_gradients(net, costs, horizon, START, ZERO, task=0.0)
    assert loss == pytest.approx(0.435503, abs=1e-6)
    slopes = [gradients[f"block{k + 1}_dense"][1] for k in range(len(times) - 1)]
    # Each slope is a sum of up to forty terms of at most 1, in float32.
    np.testing.assert_allclose(slopes, 0.0, atol=2e-6)


TERMINAL = {2: (0.144444, 0.093889), 4: (0.076471, 0.049706), 8: (0.039394, 0.025606)}
TERMINAL |= {16: (0.02, 0.013), 64: (0.005058, 0.003288)}


@pytest.mark.parametrize("horizon", TERMINAL)
def test_the_terminal_problem_is_solved_by_a_constant_control(horizon):
    end, cost = TERMINAL[horizon]
    alpha = 0.25
    exact = 1.3 / (1 + horizon / alpha)
    assert exact == pytest.approx(end, abs=1e-6)
    net = scalar(horizon, 16, [(1.3 - exact) / horizon] * 16)
    loss, gradients = loss_and_gradients(
        net, [ControlCost(alpha)], float(horizon), START, ZERO, task=0.5
    )
    assert loss == pytest.approx(cost, abs=1e-6)
    slopes = [gradients[f"block{k}_dense"][1] for k in range(1, 17)]
    np.testing.assert_allclose(slopes, 0.0, atol=2e-6)


def test_costs_are_in_single_precision_whatever_the_network():
    """In half precision the square of a weight of 300 is infinite."""
    with_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float16")
    try:
        net = scalar(2.0, 2, [300.0, 0.0])
    finally:
        keras.config.set_dtype_policy(with_policy)
    path = priced_path(net, START, ZERO, horizon=2.0)
    costs = ControlCost()(path), TrackingCost(target=[0.0])(path)
    assert [float(as_numpy(c)) for c in costs] == pytest.approx(
        [45000.0, 0.25 * 1.3**2 + 0.75 * 298.7**2], rel=1e-3
    )


def test_two_points_with_one_control_are_steered_at_the_known_cost():
    """``x' = w tanh x + b`` from (.5, 1.5) to (−1, 1), the states by the sum of both.

    Minimised by hand, 24 steps of Euler's scheme cost .58463.
    """
    optimize = pytest.importorskip("scipy.optimize")
    net = neural_ode((1,), 1, horizon=6.0, steps=24, kernel_initializer="zeros")
    x, target = np.array([[0.5], [1.5]], "float32"), np.array([[-1.0], [1.0]])
    hand, nothing = ByHand(net, "inside", [0.25] * 24), np.zeros((2, 1), "float32")
    names = [name for (name,) in hand.names]

    def objective(flat):
        for name, (w, b) in zip(names, flat.reshape(24, 2), strict=True):
            hand.weights[name] = [np.array([[w]]), np.array([b])]
        # Twice the mean of two is their sum.
        cost = 0.2 * hand.control("l2") + 2 * hand.tracking(x, target, np.ones(2))
        how = (x, nothing, np.ones(2), 0.2, "l2", 2.0, target)
        gradients = hand.gradients(*how)
        return cost, np.concatenate([np.ravel(s) for n in names for s in gradients[n]])

    start = np.random.default_rng(0).normal(size=48) * 0.3
    found = optimize.minimize(objective, start, jac=True, options={"gtol": 1e-7})
    assert found.fun == pytest.approx(0.58463, abs=5e-6)
    for name in names:
        net.get_layer(name).set_weights(hand.weights[name])
    labels = np.array([0, 1])
    costs = [ControlCost(0.2), TrackingCost(2.0, target)]
    loss, gradients = loss_and_gradients(net, costs, 6.0, x, labels, task=0.0)
    assert loss == pytest.approx(0.58463, abs=5e-6)
    slopes = [slope for name in names for slope in map(np.ravel, gradients[name])]
    # The difference of two weights near 1, in float32.
    np.testing.assert_allclose(np.concatenate(slopes), 0.0, atol=2e-6)
