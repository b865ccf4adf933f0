"""The data of the study: three parts of each set, and two spirals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import keras_lap


@dataclass(frozen=True, eq=False)
class Parts:
    """Training, validation and test data, each `(x, y)`.

    Attributes:
        train: To train on.
        validation: To choose strengths and depths by.
        test: To report.
        classes: Number of classes.
    """

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: int


def load(name: str, train: int, validation: int, test: int | None = None) -> Parts:
    """Loads data, the same whenever it is called.

    Args:
        name: `"spirals"`, or a name of `keras_lap.datasets.load`.
        train: Number of training examples.
        validation: Number of validation examples.
        test: Number of test examples; None for all there are.

    Returns:
        The parts, which share no example.
    """
    if name == "spirals":
        x, y = spirals(train + validation + (test or 0))
        known = train + validation
        return Parts(
            (x[:train], y[:train]),
            (x[train:known], y[train:known]),
            (x[known:], y[known:]),
            classes=2,
        )
    data = keras_lap.datasets.load(name, train, validation)
    if data.validation is None:
        raise ValueError(
            "Depths are chosen on validation data. Received: validation=0. Pass the "
            "number of examples to set aside."
        )
    x, y = data.test
    return Parts(data.train, data.validation, (x[:test], y[:test]), data.num_classes)


def spirals(
    count: int, turns: float = 1.5, noise: float = 0.05, seed: int = 0
) -> tuple:
    """Two spirals that wind round each other.

    Args:
        count: Number of points, of both together.
        turns: Turns of each; the radius grows from 0 to 2 with the angle.
        noise: Standard deviation of what is added to each coordinate.
        seed: Of the points.

    Returns:
        Points `(count, 2)`, float32, and labels `(count,)`, in random order.
    """
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, count)
    # The root spreads the points evenly over the area.
    along = np.sqrt(generator.uniform(0.02, 1, count))
    angle = 2 * np.pi * turns * along + np.pi * y
    x = 2 * along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x += noise * generator.normal(size=x.shape)
    return x.astype("float32"), y
