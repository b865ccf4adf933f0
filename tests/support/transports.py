"""Networks whose transport is known, and a report's numbers computed another way."""

from __future__ import annotations

import keras
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


def affine_network(*blocks):
    """``x ← x + A x + b`` for each block ``(A, b)``; outputs the last state."""
    inputs = x = keras.Input((len(blocks[0][1]),))
    layers = []
    for number, (_, shift) in enumerate(blocks):
        layers.append(keras.layers.Dense(len(shift), name=f"move{number}"))
        x = keras.layers.Add(name=f"block{number}")([x, layers[-1](x)])
    network = keras.Model(inputs, keras.layers.Flatten()(x), name="affine")
    for layer, (matrix, shift) in zip(layers, blocks, strict=True):
        layer.set_weights([np.asarray(matrix, float).T, np.asarray(shift, float)])
    return network


def random_blocks(count=3, features=4, seed=0):
    """Blocks `(A, b)` for `affine_network`, none of them small."""
    generator = np.random.default_rng(seed)
    return [
        (
            generator.normal(0, 0.5, (features, features)),
            generator.normal(size=features),
        )
        for _ in range(count)
    ]


def states_of(blocks, x):
    """The states of an affine network in float64, by the formula."""
    states = [np.asarray(x, float)]
    for matrix, shift in blocks:
        # The network holds its weights in float32.
        matrix, shift = (np.float32(part).astype(float) for part in (matrix, shift))
        states.append(states[-1] + states[-1] @ matrix.T + shift)
    return states


def cheapest(before, after, p):
    """The cost of the best assignment and its permutation, by SciPy's solver."""
    costs = cdist(before, after) ** p
    rows, columns = linear_sum_assignment(costs)
    return costs[rows, columns].mean(), columns


def points(count=40, features=4, seed=1):
    """A cloud of float32 points."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, features)).astype("float32")
