"""Problems that are solved exactly, and a model's objective in double precision.

The problems are solved by formulas of their own in NumPy; the package's part is the
objective and its gradient at the solution, where the one has to be known and the other
zero.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

import keras_lap
from keras_lap._extras import require
from keras_lap.networks import neural_ode


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """All that Keras makes in it computes in float64; on JAX, JAX as well."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "jax":
            import jax

            stack.enter_context(jax.enable_x64(True))
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        try:
            yield
        finally:
            keras.config.set_floatx(before[0])
            keras.config.set_dtype_policy(before[1])


def objective(
    model: keras_lap.LeastActionModel, x: np.ndarray, y: np.ndarray, task: float = 1.0
) -> tuple[dict[str, float], dict[str, list[np.ndarray]]]:
    """What a model minimises on one batch, and the gradient, from a step of its own.

    A step of gradient descent at rate 1 moves every weight by its gradient.

    Args:
        model: The model; it is compiled anew, and its weights end as they were.
        x: Inputs, `(batch, ...)`.
        y: Targets, `(batch, outputs)`; the task is the mean squared error.
        task: A factor of the task. Defaults to 1.

    Returns:
        The logs of the step, and the gradients by the names of the layers.
    """
    loss = keras.losses.MeanSquaredError()
    model.compile(keras.optimizers.SGD(1.0), loss, loss_weights=[task])
    layers = [each for each in model.network.layers if each.weights]
    before = [layer.get_weights() for layer in layers]
    logs = model.train_on_batch(x, y, return_dict=True)
    gradients = {}
    for layer, old in zip(layers, before, strict=True):
        pairs = zip(old, layer.get_weights(), strict=True)
        gradients[layer.name] = [one - other for one, other in pairs]
        layer.set_weights(old)
    return {name: float(value) for name, value in logs.items()}, gradients


def steered(
    controls: np.ndarray,
    time_steps: Sequence[float] | np.ndarray,
    drift: np.ndarray | None = None,
) -> keras.Model:
    """The network ``x' = A x + b(t)``, which returns its state.

    Only the biases, the controls b, can be trained.

    Args:
        controls: b of each block, `(blocks, features)`.
        time_steps: The step of each block.
        drift: A, `(features, features)`. Defaults to None, zero.
    """
    features = controls.shape[1]
    net = neural_ode(
        *((features,), features),
        time_steps=[float(step) for step in time_steps],
        activation="linear",
        readout="last",
        kernel_initializer="zeros",
    )
    for number, control in enumerate(controls, start=1):
        dense = net.get_layer(f"block{number}_dense")
        kernel = np.zeros((features, features)) if drift is None else drift.T
        dense.set_weights([kernel, control])
        dense.kernel.trainable = False
    return net


def states(net: keras.Model, x: np.ndarray) -> np.ndarray:
    """The states x_0 … x_K of a network of `neural_ode`, `(K + 1, batch, features)`."""
    ends = [each.output for each in net.layers if each.name.endswith("_add")]
    starts = [each.output for each in net.layers if each.name == "pad"] or [net.input]
    tap = keras.Model(net.input, [*starts[:1], *ends])
    return np.array([keras.ops.convert_to_numpy(state) for state in tap(x)])


def solve_l1(
    distance: float, horizon: float, blocks: int, alpha: float, bound: float | None
) -> np.ndarray:
    """Steers ``x' = b`` to a point at the least ``½ ∫ x² + a ∫ |b|``, ``|b| ≤ M``.

    Moving away never pays, so that all controls have one sign and the norm is a sum.

    Args:
        distance: How far the point is, from 0.
        horizon: T.
        blocks: The number of equal steps.
        alpha: Price of the controls.
        bound: M; None for no bound.

    Returns:
        The controls towards the point, from 0, `(blocks,)`.
    """
    optimize = require("scipy.optimize", "scipy", "studies", "Solving this problem")
    dt = horizon / blocks
    moved = dt * np.tri(blocks + 1, blocks, -1)
    rule = np.full(blocks + 1, dt)
    rule[[0, -1]] /= 2

    def cost(controls: np.ndarray) -> tuple[float, np.ndarray]:
        gap = distance - moved @ controls
        slope = alpha * dt - moved.T @ (rule * gap)
        return rule @ gap**2 / 2 + alpha * dt * controls.sum(), slope

    found = optimize.minimize(
        *(cost, np.zeros(blocks)),
        jac=True,
        bounds=[(0, bound)] * blocks,
        options={"ftol": 1e-16, "gtol": 1e-12, "maxiter": 10_000, "maxcor": 30},
    )
    return found.x


def solve(
    start: Any,
    target: Any,
    time_steps: Sequence[float] | np.ndarray,
    alpha: float,
    beta: float = 1.0,
    drift: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Steers ``x_{k+1} = x_k + dt_k (A x_k + b_k)`` to a target at the least cost.

    The cost is ``(β/2) Σ w_k |x_k − x̄|² + (a/2) Σ dt_k |b_k|²``, w the trapezoidal
    rule; the states are linear in the controls, so the best ones solve a linear system.

    Args:
        start: x_0, `(features,)`.
        target: x̄, `(features,)`.
        time_steps: The K steps.
        alpha: Price of the controls.
        beta: Price of the distance. Defaults to 1.
        drift: A. Defaults to None, zero.

    Returns:
        The controls, `(K, features)`, and the cost.
    """
    dt, start = np.asarray(time_steps, "float64"), np.asarray(start, "float64")
    count, size = len(dt), len(start)
    matrix = np.zeros((size, size)) if drift is None else drift
    free, moved = [start], [np.zeros((size, count * size))]
    for k, step in enumerate(dt):
        flow = np.eye(size) + step * matrix
        after = flow @ moved[-1]
        after[:, k * size : (k + 1) * size] += step * np.eye(size)
        free.append(flow @ free[-1])
        moved.append(after)
    weights = (np.append(dt, 0) + np.append(0, dt)) / 2
    rule = np.repeat(beta * weights, size)
    gap, linear = (np.array(free) - target).ravel(), np.concatenate(moved)
    hessian = linear.T @ (rule[:, None] * linear) + alpha * np.diag(np.repeat(dt, size))
    controls = np.linalg.solve(hessian, -linear.T @ (rule * gap))
    gap = gap + linear @ controls
    cost = rule @ gap**2 / 2 + alpha * np.repeat(dt, size) @ controls**2 / 2
    return controls.reshape(count, size), float(cost)
