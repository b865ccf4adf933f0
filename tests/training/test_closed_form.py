"""A linear residual network whose objective, gradient and step are known by hand.

States are rows: ``x_{k+1} = x_k + x_k W_k``, the head is ``y = x_K H`` and the task
loss is ``mean (y − t)²``. The gradient below is the chain rule written out in NumPy.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

import keras_lap
from keras_lap.energies import DisplacementEnergy

BATCH, WIDTH, BLOCKS, MULTIPLIER, RATE = 5, 4, 3, 2.5, 0.1


def energy_and_gradient(v, p, norm, reduction):
    """The energy of one displacement and its derivative by the displacement."""
    scale = 1 / (v.size if reduction == "mean" else len(v))
    if norm == "elementwise":
        return scale * np.sum(abs(v) ** p), scale * p * abs(v) ** (p - 1) * np.sign(v)
    length = np.linalg.norm(v, axis=1, keepdims=True)
    return scale * np.sum(length**p), scale * p * length ** (p - 2) * v


def objective_and_gradients(x, t, weights, head, p, norm, reduction):
    """``C/λ + L`` and its derivatives by every ``W_k`` and by ``H``."""
    states = [x]
    for w in weights:
        states.append(states[-1] + states[-1] @ w)
    error = states[-1] @ head - t
    task = np.mean(error**2)
    d_output = 2 * error / error.size
    d_head = states[-1].T @ d_output
    d_state = d_output @ head.T
    cost, d_weights = 0.0, []
    for k in reversed(range(BLOCKS)):
        energy, d_move = energy_and_gradient(states[k] @ weights[k], p, norm, reduction)
        cost += energy
        d_branch = d_state + d_move / MULTIPLIER
        d_weights.insert(0, states[k].T @ d_branch)
        d_state = d_state + d_branch @ weights[k].T
    return task, cost, d_weights, d_head


@pytest.mark.parametrize("norm", ["elementwise", "euclidean"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("p", [1.5, 2, 3])
def test_one_step_of_gradient_descent(p, norm, reduction):
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(BATCH, WIDTH)), rng.normal(size=(BATCH, 2))
    weights = [0.5 * rng.normal(size=(WIDTH, WIDTH)) for _ in range(BLOCKS)]
    head = rng.normal(size=(WIDTH, 2))

    inputs = state = keras.Input((WIDTH,))
    for _ in range(BLOCKS):
        state = state + keras.layers.Dense(WIDTH, use_bias=False)(state)
    network = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(state))
    network.set_weights([*weights, head])
    model = keras_lap.LeastActionModel(
        network, DisplacementEnergy(p, norm, reduction), MULTIPLIER
    )
    model.compile(keras.optimizers.SGD(RATE), loss="mse")
    logs = model.train_on_batch(x, t, return_dict=True)

    task, cost, d_weights, d_head = objective_and_gradients(
        x, t, weights, head, p, norm, reduction
    )
    assert float(logs["task_loss"]) == pytest.approx(task, rel=1e-5)
    assert float(logs["transport_cost"]) == pytest.approx(cost, rel=1e-5)
    assert float(logs["loss"]) == pytest.approx(task + cost / MULTIPLIER, rel=1e-5)
    stepped = [
        w - RATE * d
        for w, d in zip([*weights, head], [*d_weights, d_head], strict=False)
    ]
    for variable, expected in zip(network.trainable_variables, stepped, strict=True):
        np.testing.assert_allclose(as_numpy(variable.value), expected, rtol=1e-4)
