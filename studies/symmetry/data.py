"""Data that obey a group, and such that do not: drawn by a seed."""

from __future__ import annotations

import numpy as np

import keras_lap

Split = tuple[np.ndarray, np.ndarray]
TEST_IMAGES = 2000


def digits(size: int, seed: int, turned: bool) -> tuple[Split, Split]:
    """Scikit-learn's digits as they are, or each turned by a random quarter."""
    images, labels = all_digits()
    rng = np.random.default_rng(seed)
    order, turns = rng.permutation(len(images)), rng.integers(0, 4, len(images))
    if turned:
        images = turned_by(images, turns)
    train, test = order[:size], order[1000:]
    return (images[train], labels[train]), (images[test], labels[test])


def all_digits() -> Split:
    """Scikit-learn's digits, from 0 to 1, `(1797, 8, 8, 1)`, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / 16).astype("float32")[..., None], data.target


def mnist(size: int, seed: int, turned: bool) -> tuple[Split, Split]:
    """MNIST averaged to 14x14 pixels, as it is or each turned by a random quarter.

    The seed chooses the training images, as many of each class. The test images are the
    first `TEST_IMAGES`; the seed turns them.
    """
    data = keras_lap.datasets.load("mnist", size, seed=seed)
    rng = np.random.default_rng(seed)
    parts = []
    for x, y in (data.train, (data.test.x[:TEST_IMAGES], data.test.y[:TEST_IMAGES])):
        x = x.reshape(-1, 14, 2, 14, 2, 1).mean((2, 4))
        turns = rng.integers(0, 4, len(x))
        parts.append((turned_by(x, turns) if turned else x, y))
    return parts[0], parts[1]


def turned_by(images: np.ndarray, quarters: np.ndarray) -> np.ndarray:
    """Each image turned by so many quarters."""
    pairs = zip(images, quarters, strict=True)
    return np.stack([np.rot90(image, k) for image, k in pairs])


def sets(size: int, seed: int) -> tuple[Split, Split]:
    """A function of four numbers that does not know their order."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size + 2000, 4)).astype("float32")
    y = np.max(x, 1, keepdims=True) + np.sin(x).prod(1, keepdims=True)
    return (x[:size], y[:size]), (x[size:], y[size:])


def field(size: int, seed: int) -> tuple[Split, Split]:
    """An odd field of forces in the plane; only in part does it know no order."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size + 2000, 2)).astype("float32")
    first, second = x.T
    y = np.stack([-first + np.sin(2 * second), -second - 0.5 * first**3], 1)
    return (x[:size], y[:size]), (x[size:], y[size:])
