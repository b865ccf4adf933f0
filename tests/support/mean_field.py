"""Units, losses and their gradients in NumPy, written out."""

from __future__ import annotations

import itertools

import numpy as np


def permutations(name):
    """The matrices of C2, Z3 or S3, identity first."""
    size = {"C2": 2, "Z3": 3, "S3": 3}[name]
    orders = list(itertools.permutations(range(size)))
    if name == "Z3":
        orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    return np.stack([np.eye(size)[list(order)] for order in orders])


def forward(cloud, x):
    """``(1/N) Σ σ(z_i x)`` for a cloud of square matrices `(n, d·d)`."""
    total = 0
    for row in cloud:
        z = row.reshape(x.shape[1], x.shape[1])
        total = total + 1 / (1 + np.exp(-(x @ z.T)))
    return total / len(cloud)


def moved(cloud, g):
    """Each unit z of a cloud as g z gᵀ."""
    return np.stack([(g @ z.reshape(g.shape) @ g.T).ravel() for z in cloud])


def loss(cloud, x, y):
    """The summed squared error, averaged over the batch."""
    return np.mean(np.sum((forward(cloud, x) - y) ** 2, axis=1))


def losses(group):
    """The losses of the four schemes as functions of cloud, x and y."""

    def augmented(cloud, x, y):
        return np.mean([loss(cloud, x @ g.T, y @ g.T) for g in group])

    def averaged(cloud, x, y):
        mean = np.mean([forward(cloud, x @ g.T) @ g for g in group], axis=0)
        return np.mean(np.sum((mean - y) ** 2, axis=1))

    def equivariant(cloud, x, y):
        return loss(np.mean([moved(cloud, g) for g in group], axis=0), x, y)

    every = (loss, augmented, averaged, equivariant)
    return dict(
        zip(("free", "augmented", "averaged", "equivariant"), every, strict=True)
    )


def gradient(function, cloud, *data, step=1e-5):
    """Central differences in float64."""
    found = np.zeros_like(cloud)
    for place in np.ndindex(*cloud.shape):
        up, down = cloud.copy(), cloud.copy()
        up[place] += step
        down[place] -= step
        found[place] = (function(up, *data) - function(down, *data)) / (2 * step)
    return found
