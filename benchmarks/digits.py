"""What the energy's gradient loses where it takes a displacement from two states.

The gradient of C with respect to all weights, in float32, over the same in float64: of
the displacements as the branches return them, and as the difference of the states that
the backward pass keeps (`keras_lap.trajectory.Trajectory.kept`). The smaller a branch
beside its state, the more digits the difference loses: the kernels that end the
branches are multiplied by `branch scale`.

    python benchmarks/digits.py [--quick]
"""

from __future__ import annotations

from typing import Any

import harness
import keras
import numpy as np
from keras import ops
from subjects import resnet9

import keras_lap
from keras_lap.training import block_costs, total_cost
from keras_lap.trajectory import Recorder

SCALES = (1.0, 1e-2, 1e-4, 1e-6)
BATCH, GOAL = 4, 1e-3


def cases(quick: bool) -> list[harness.Case]:
    """Branches of several sizes; one in a quick run."""
    return [
        {"backend": "torch", "scale": scale}
        for scale in (SCALES[1:2] if quick else SCALES)
    ]


def measure(scale: float) -> list[harness.Row]:
    """Compares the gradients of the paper's ResNet9."""
    keras.utils.set_random_seed(0)
    built = resnet9()
    x = np.random.default_rng(0).normal(size=(BATCH, *built.shape)).astype("float32")
    report = keras_lap.find_residual_blocks(built.network)
    for found in report.found:
        variables = found.layers[-1].trainable_variables
        for variable in variables:
            variable.assign(variable * scale)
    weights = built.network.get_weights()
    by_branch, moved = _gradient(built.network, x, kept=False)
    by_states, _ = _gradient(built.network, x, kept=True)
    keras.config.set_floatx("float64")
    # The policy was made of the old floatx and would stay.
    keras.config.set_dtype_policy("float64")
    exact_network = resnet9().network
    exact_network.set_weights(weights)
    assert exact_network.compute_dtype == "float64"
    exact, _ = _gradient(exact_network, x.astype("float64"), kept=False)
    errors = [_error(each, exact) for each in (by_branch, by_states)]
    return [
        {
            "network": "ResNet9",
            "branch scale": scale,
            "branch over state, smallest": min(moved),
            "branch over state, largest": max(moved),
            "error by branches": errors[0],
            "error by states": errors[1],
            "met": errors[1] <= GOAL,
        }
    ]


def _gradient(network: Any, x: Any, kept: bool) -> tuple[list[Any], list[float]]:
    """The gradient of C, and how large the branches are beside their states."""
    import torch

    report = keras_lap.find_residual_blocks(network)
    record = Recorder(network, report, ["displacements", "kept", "states"])
    path = record(ops.convert_to_tensor(x), training=True)
    assert path.displacements is not None
    assert path.states is not None
    assert path.kept is not None
    energy = keras_lap.energies.DisplacementEnergy()
    ends = path.kept if kept else None
    cost = total_cost(block_costs(path.displacements, energy, None, ends))
    values = [variable.value for variable in network.trainable_variables]
    found = torch.autograd.grad(cost, values, allow_unused=True)
    sizes = [
        float(torch.linalg.norm(moved) / torch.linalg.norm(before))
        for moved, [(before, _)] in zip(path.displacements, path.states, strict=True)
    ]
    return [None if each is None else each.numpy() for each in found], sizes


def _error(gradient: list[Any], exact: list[Any]) -> float:
    """The norm of the deviation over that of the gradient, of all weights together."""
    pairs = [(a, b) for a, b in zip(gradient, exact, strict=True) if b is not None]
    apart = sum(float(np.sum((a - b) ** 2)) for a, b in pairs)
    return float(np.sqrt(apart / sum(float(np.sum(b**2)) for _, b in pairs)))


BENCHMARK = harness.Benchmark("digits", cases, measure, ("network", "branch scale"))

if __name__ == "__main__":
    harness.main(BENCHMARK)
