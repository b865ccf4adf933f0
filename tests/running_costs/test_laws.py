"""The laws of docs/theory/horizons.md, proved there, on cases that NumPy can solve."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from support.basics import as_numpy
from support.ode_by_hand import ByHand

import keras_lap
from keras_lap.networks import continue_from, neural_ode
from keras_lap.running_costs import ControlCost, Path, PathLoss
from keras_lap.trajectory import Recorder

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="mathematics, once is enough"
)

RNG = np.random.default_rng(3)
POINTS = RNG.normal(size=(7, 2)).astype("float32")
TARGETS = RNG.normal(size=(7, 1)).astype("float32")
ALPHA, BETA = 0.25, 1.5
# Weights in float32 keep 6e-8 of their size, and there are some fifty of them.
SINGLE = 2e-5


def mse(y, output, sample_weight):
    return keras.ops.mean(keras.ops.square(keras.ops.subtract(output, y)))


def network(time_steps, dynamics="inside"):
    net = neural_ode((2,), 1, time_steps=time_steps, dynamics=dynamics, augment=1)
    numbers = np.random.default_rng(4)
    net.set_weights([0.5 * numbers.normal(size=w.shape) for w in net.get_weights()])
    return net


def priced(net, cost, steps, x=POINTS, y=TARGETS):
    report = keras_lap.find_residual_blocks(net)
    seen = Recorder(net, report, ["exits"])(x)
    path = Path(seen, net, x, y, None, report, steps, loss=mse)
    return float(as_numpy(cost(path)))


# Law 1


def test_the_energy_in_the_units_of_the_package_is_a_horizon():
    horizon, blocks, width = 6.0, 4, 3
    net = network([horizon / blocks] * blocks)
    hand = ByHand(net, "inside", [horizon / blocks] * blocks)
    pairs = itertools.pairwise(hand.states(POINTS))
    speeds = [np.sum((b - a) ** 2, axis=1) / (horizon / blocks) ** 2 for a, b in pairs]
    kinetic = ALPHA / 2 * horizon / blocks * np.mean(speeds, axis=1).sum()
    multiplier = 2 * horizon / (ALPHA * blocks * width)
    report = keras_lap.find_residual_blocks(net)
    _, moved = keras_lap.DisplacementRecorder(net, report)(POINTS)
    energy = keras_lap.energies.DisplacementEnergy(2.0)
    cost = sum(float(as_numpy(energy(each))) for each in moved)
    assert cost / multiplier == pytest.approx(kinetic, rel=SINGLE)


# Law 2


@pytest.mark.parametrize("dynamics", ["inside", "bottleneck"])
def test_longer_steps_and_smaller_controls(dynamics):
    steps, r = [0.5, 0.25, 0.75], 2.5
    net, longer = (network([c * dt for dt in steps], dynamics) for c in (1, r))
    scaled = "dense2" if dynamics == "bottleneck" else "dense"
    for layer in longer.layers:
        if layer.name.endswith(scaled):
            layer.set_weights([w / r for w in layer.get_weights()])
    many = [r * dt for dt in steps]
    np.testing.assert_allclose(
        as_numpy(longer(POINTS)), as_numpy(net(POINTS)), rtol=SINGLE, atol=1e-6
    )
    loss = PathLoss()
    expected = r * priced(net, loss, steps)
    assert priced(longer, loss, many) == pytest.approx(expected, rel=SINGLE)
    if dynamics == "bottleneck":  # where a part of the price alone is scaled
        return
    l2, h1 = (priced(net, ControlCost(norm=norm), steps) for norm in ("l2", "h1"))
    expected = {"l2": l2 / r, "h1": l2 / r + (h1 - l2) / r**3}
    expected |= {n: priced(net, ControlCost(norm=n), steps) for n in ("l1", "group")}
    for norm, value in expected.items():
        found = priced(longer, ControlCost(norm=norm), many)
        assert found == pytest.approx(value, rel=SINGLE), norm


# Law 3


def ends_of(controls, horizon, starts):
    """x(T) of ``x' = w tanh x + b`` in two steps, for many controls `(n, 2, 2)`."""
    x = np.broadcast_to(starts, (len(controls), len(starts)))
    for w, b in controls.transpose(1, 2, 0)[:, :, :, None]:
        x = x + horizon / 2 * (w * np.tanh(x) + b)
    return x


def test_what_falls_and_what_rises_with_the_horizon():
    """Minima over 6 561 controls, each simulated over its own horizon."""
    values = np.linspace(-2, 2, 9)
    grid = np.array(list(itertools.product(values, repeat=4))).reshape(-1, 2, 2)
    starts = np.array([-0.5, 0.3, 1.0])
    targets = ends_of(grid[[5000]], 1.0, starts)  # one of them solves the task
    horizons = np.linspace(0.5, 400, 200)
    found = []
    for horizon in horizons:
        u = grid / horizon
        loss = np.mean((ends_of(u, horizon, starts) - targets) ** 2, axis=1)
        square = horizon / 2 * np.sum(u**2, axis=(1, 2))
        best = np.argmin(loss + ALPHA / 2 * square)
        found.append((loss[best], horizon * square[best]))
    loss, price = np.array(found).T  # E(T) and T ∫ |u|² dt
    product = horizons * loss + ALPHA / 2 * price  # T J(T)
    solving = np.mean((ends_of(grid, 1.0, starts) - targets) ** 2, axis=1) < 1e-20
    least = np.sum(grid[solving] ** 2, axis=(1, 2)).min() / 2
    rounding = 1e-12
    assert loss[0] > 0.01 > loss[-1]
    assert np.all(np.diff(loss) <= rounding)
    assert np.all(np.diff(price) >= -rounding)
    assert np.all(np.diff(product) >= -rounding)
    assert np.all(np.diff(product, 2) <= 1e-9)
    assert np.all(product <= ALPHA / 2 * least + rounding)
    assert np.all(loss <= ALPHA * least / (2 * horizons) + rounding)
    assert price[-1] == pytest.approx(least)


def solved(matrix, steps, start, target, running, end, price):
    """States of ``x_{k+1} = x_k + dt_k (A x_k + u_k)`` at the optimum, and J.

    ``J = Σ_k (running w_k + end δ_kK)/2 |x_k − x̄|² + price/2 Σ dt_k |u_k|²``, a linear
    least squares problem in u.
    """
    size, blocks = len(start), len(steps)
    free, by = [np.asarray(start, float)], [np.zeros((size, blocks * size))]
    for k, dt in enumerate(steps):
        push = np.eye(size) + dt * matrix
        moved = push @ by[-1]
        moved[:, k * size : (k + 1) * size] += dt * np.eye(size)
        free.append(push @ free[-1])
        by.append(moved)
    weights = np.zeros(blocks + 1)
    weights[:-1] += running * np.array(steps) / 2
    weights[1:] += running * np.array(steps) / 2
    weights[-1] += end
    root = np.repeat(np.sqrt(weights), size)[:, None]
    gaps = (np.array(free) - target).reshape(-1, 1)
    prices = np.diag(np.sqrt(price * np.repeat(steps, size)))
    rows = np.concatenate([root * np.concatenate(by), prices])
    wanted = np.concatenate([-root * gaps, np.zeros((len(prices), 1))])
    u, *_ = np.linalg.lstsq(rows, wanted, rcond=None)
    states = np.array(free) + (np.concatenate(by) @ u).reshape(-1, size)
    return states, u[:, 0], float(np.sum((rows @ u - wanted) ** 2) / 2)


NOTHING = np.zeros((1, 1))


@pytest.mark.parametrize("horizon", [2.0, 8.0, 64.0])
def test_the_linear_terminal_problem(horizon):
    c, start = 1.4, -1.3
    steps = [horizon / 16] * 16
    states, u, cost = solved(NOTHING, steps, [start], [0.0], 0.0, c, ALPHA)
    ratio = 1 + c * horizon / ALPHA
    assert states[-1, 0] == pytest.approx(start / ratio, rel=1e-9)
    assert cost == pytest.approx(c / 2 * start**2 / ratio, rel=1e-9)
    np.testing.assert_allclose(u, u[0], rtol=1e-9)


# Law 4


def spread_of_speeds(blocks):
    """How far ``|u_k|`` of the terminal problem of ``w tanh x + b`` is from even."""
    horizon, starts, targets = 2.0, np.array([0.5, 1.5]), np.array([-1.0, 1.0])
    dt = horizon / blocks

    def objective(u):
        u, states = u.reshape(-1, 2), [starts]
        for w, b in u:
            states.append(states[-1] + dt * (w * np.tanh(states[-1]) + b))
        gap = states[-1] - targets
        slope, back = np.empty_like(u), 2 * gap / len(starts)
        for k in reversed(range(blocks)):
            inner = np.tanh(states[k])
            slope[k] = dt * back @ inner, dt * back.sum()
            back = back * (1 + dt * u[k, 0] * (1 - inner**2))
        cost = np.mean(gap**2) + ALPHA / 2 * dt * np.sum(u**2)
        return cost, (slope + ALPHA * dt * u).ravel()

    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10}
    found = minimize(
        objective, np.zeros(2 * blocks), jac=True, method="L-BFGS-B", options=options
    )
    sizes = np.linalg.norm(found.x.reshape(-1, 2), axis=1)
    return np.ptp(sizes) / sizes.mean()


def test_the_terminal_problem_moves_at_constant_speed():
    """Up to the error of the scheme, which is of first order."""
    coarse, fine = spread_of_speeds(20), spread_of_speeds(80)
    assert 0 < fine < 0.02
    assert fine < 0.3 * coarse


# Law 5


def test_free_steps_make_a_group_norm():
    sizes, horizon = np.array([0.3, 2.0, 0.9, 1.4]), 3.0

    def cost(logits):  # of steps that add up to the horizon
        steps = horizon * np.exp(logits) / np.exp(logits).sum()
        return np.sum(sizes**2 / steps)

    found = minimize(cost, np.zeros(4), method="BFGS")
    assert found.fun == pytest.approx(sizes.sum() ** 2 / horizon, rel=1e-8)
    steps = horizon * np.exp(found.x) / np.exp(found.x).sum()
    np.testing.assert_allclose(steps, horizon * sizes / sizes.sum(), rtol=1e-4)


# Law 6


@pytest.mark.parametrize("norm", ["l2", "l1", "group", "h1"])
def test_idle_blocks_cost_what_the_path_loss_makes_of_the_output(norm):
    net = network([0.5] * 4)
    longer = continue_from(net, horizon=3.5, steps=7)

    def objective(net, steps):
        task = float(np.mean((as_numpy(net(POINTS)) - TARGETS) ** 2))
        path = BETA * priced(net, PathLoss(), steps)
        return task + path + ALPHA * priced(net, ControlCost(norm=norm), steps), task

    before, task = objective(net, [0.5] * 4)
    after, _ = objective(longer, [0.5] * 7)
    bound = before + BETA * 1.5 * task
    if norm == "h1":  # the jump to zero has its price
        last = sum(np.sum(w**2) for w in net.get_layer("block4_dense").get_weights())
        bound += ALPHA / 2 * last / 0.5
    # A group of zeros costs 1e-6: its root has a slope.
    assert after == pytest.approx(bound, rel=SINGLE)


@pytest.mark.parametrize("blocks", [5, 8, 40])
def test_the_mean_loss_over_all_depths(blocks):
    dt, end, start = 0.5, 2.0, [1.2]

    def optimum(count):
        steps = [dt] * count
        states, _, cost = solved(NOTHING, steps, start, [0.0], BETA * end, end, ALPHA)
        return end / 2 * states[:, 0] ** 2, cost

    few, cost = optimum(4)
    losses, longer = optimum(blocks)
    horizon = blocks * dt
    weights = np.full(blocks + 1, dt)
    weights[[0, -1]] = dt / 2
    mean = weights @ losses / horizon
    assert mean <= few[-1] + cost / (BETA * horizon)
    assert longer <= cost + BETA * (horizon - 4 * dt) * few[-1]
    # It is not lax: the bound without the second term is wrong.
    assert mean > few[-1]


# What was solved in full


@pytest.mark.parametrize(("dt", "blocks"), [(0.25, 20), (0.25, 80), (1.0, 10)])
def test_the_tracked_scalar_problem(dt, blocks):
    start, horizon = -1.3, dt * blocks
    rate = np.arccosh(1 + BETA * dt**2 / (2 * ALPHA)) / dt
    times = dt * np.arange(blocks + 1)
    states, _, cost = solved(NOTHING, [dt] * blocks, [start], [0.0], BETA, 0.0, ALPHA)
    expected = start * np.cosh(rate * (horizon - times)) / np.cosh(rate * horizon)
    # Rounding of a solve, beside the first error.
    np.testing.assert_allclose(states[:, 0], expected, atol=1e-12)
    size = ALPHA * start**2 / (2 * dt)
    expected = size * np.sinh(rate * dt) * np.tanh(rate * horizon)
    assert cost == pytest.approx(expected, rel=1e-10)


def test_the_costs_of_the_package_have_that_optimum():
    """Which the trapezoidal rule alone has, with the first and the last exit halved."""
    dt, blocks, start = 0.25, 20, -1.3
    rate = np.arccosh(1 + BETA * dt**2 / (2 * ALPHA)) / dt
    times = dt * np.arange(blocks + 1)
    states = start * np.cosh(rate * (dt * blocks - times)) / np.cosh(rate * dt * blocks)
    net = neural_ode((1,), 1, horizon=dt * blocks, steps=blocks, readout="last")
    for k, speed in enumerate(np.diff(states) / dt, start=1):
        net.get_layer(f"block{k}_dense").set_weights([NOTHING, np.array([speed])])
    batch = np.array([[start]], "float32"), np.zeros((1, 1), "float32")
    path = priced(net, PathLoss(), [dt] * blocks, *batch)
    control = priced(net, ControlCost(), [dt] * blocks, *batch)
    size = ALPHA * start**2 / (2 * dt)
    expected = size * np.sinh(rate * dt) * np.tanh(rate * dt * blocks)
    # The loss is e², not its half.
    assert BETA / 2 * path + ALPHA * control == pytest.approx(expected, rel=1e-5)


def test_a_target_that_is_no_equilibrium():
    drift = np.array([[0.2, 1.0], [-0.5, -0.3]])
    target = np.array([-1.0, 0.5])
    rest = np.linalg.solve(BETA * np.eye(2) + ALPHA * drift.T @ drift, BETA * target)
    steps = [0.05] * 300
    states, u, _ = solved(drift, steps, [1.5, -1.0], target, BETA, 0.0, ALPHA)
    gaps = np.linalg.norm(states - rest, axis=1)
    assert gaps[150] < 1e-3 < 0.05 < gaps[-1]  # it arrives, and leaves again
    middle = u.reshape(-1, 2)[150]
    np.testing.assert_allclose(middle, -drift @ rest, atol=2e-3)
    # A control gains what it does to the states after it: nothing at the end, and
    # one step before, the half of a step.
    gained = -BETA * 0.05 / 2 / ALPHA * (states[-1] - target)
    np.testing.assert_allclose(u.reshape(-1, 2)[-1], gained, rtol=1e-7)


def sparse(blocks, horizon, bound, start, price):
    """Controls of ``x' = u``, `"l1"`, as a difference of two that are positive."""
    dt = horizon / blocks
    weights = np.full(blocks + 1, dt)
    weights[[0, -1]] = dt / 2

    def objective(parts):
        up, down = parts.reshape(2, -1)
        gaps = start + dt * np.concatenate([[0.0], np.cumsum(up - down)])
        slope = dt * np.cumsum((BETA * weights * gaps)[:0:-1])[::-1]
        cost = BETA / 2 * weights @ gaps**2 + price * dt * parts.sum()
        return cost, np.concatenate([slope, -slope]) + price * dt

    found = minimize(
        objective,
        np.zeros(2 * blocks),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, bound)] * (2 * blocks),
        options={"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-12},
    )
    up, down = found.x.reshape(2, -1)
    return dt * (up - down)


def test_every_control_is_zero_after_a_time():
    horizon, bound, start, price = 8.0, 1.0, 1.5, 0.45

    def condition(t):
        return (start - bound * t) * (horizon - t) - price / BETA

    time = brentq(condition, 0.0, start / bound)
    moved = sparse(64, horizon, bound, start, price)
    dt = horizon / 64
    # The trapezoidal rule is off by the square of the step.
    assert -moved.sum() / bound == pytest.approx(time, rel=1e-3)
    assert np.allclose(moved[: int(time / dt)], -bound * dt)
    assert np.all(moved[int(time / dt) + 1 :] == 0)


def test_without_a_bound_the_first_block_moves_all():
    horizon, blocks, start, price = 8.0, 8, 1.5, 0.45
    moved = sparse(blocks, horizon, None, start, price)
    expected = price / (BETA * (horizon - horizon / blocks / 2))
    assert start + moved[0] == pytest.approx(expected, rel=1e-5)
    assert np.abs(moved[1:]).max() < 1e-6
