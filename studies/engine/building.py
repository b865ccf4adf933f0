"""Builds the network and loads the data that a run describes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_lap
from keras_lap.datasets import Dataset, Split
from studies.engine.augmentation import pooled
from studies.engine.networks import Initializer, Network
from studies.engine.study import Data

_TEST_SAMPLE_SEED = 0


def build_network(
    network: Network, input_shape: Sequence[int], num_classes: int, seed: int
) -> keras.Model:
    """Builds the network with initial weights that only the seed decides.

    Args:
        network: What to build.
        input_shape: Shape of one input, without the batch axis.
        num_classes: Number of logits.
        seed: Seed of the initial weights.

    Returns:
        A `keras.Model` from `(batch, *input_shape)` to `(batch, num_classes)`.

    Raises:
        TypeError: If a builder of the user's returns anything else.
    """
    initializer = build_initializer(network.initializer, seed)
    built = network.build(
        input_shape, num_classes, kernel_initializer=initializer, **network.options()
    )
    return _checked(built, keras.Model, network.kind, "a keras.Model")


def build_initializer(initializer: Initializer, seed: int) -> Any:
    """The Keras initializer that `initializer` describes, with a seed."""
    if isinstance(initializer.kind, keras.initializers.Initializer):
        config = initializer.kind.get_config()
        drawn = {"seed": seed} if "seed" in config else {}
        return type(initializer.kind).from_config({**config, **drawn})
    if initializer.kind == "normal":
        return keras.initializers.RandomNormal(stddev=initializer.scale, seed=seed)
    if initializer.kind == "orthogonal":
        return keras.initializers.Orthogonal(gain=initializer.scale, seed=seed)
    return keras.initializers.VarianceScaling(
        2.0, mode="fan_out", distribution="untruncated_normal", seed=seed
    )


@functools.lru_cache(maxsize=4)
def load_data(data: Data, seed: int) -> Dataset:
    """Loads what `data` describes; the last few are kept, for the methods to share.

    Args:
        data: Which data.
        seed: Draws the training and the validation examples. The sample of the test
            split is the same for every seed.

    Returns:
        A `keras_lap.datasets.Dataset`.

    Raises:
        ValueError: If the test split has fewer examples than `data.test_size`.
        TypeError: If a source of the user's returns anything but a `Dataset`.
    """
    dataset = _load(data, seed)
    if data.pool is not None:
        dataset = _averaged(dataset, data.pool)
    available = len(dataset.test.y)
    if data.test_size is None:
        return dataset
    if data.test_size > available:
        raise ValueError(
            f"test_size must be from 1 to {available}, or None for all. Received: "
            f"test_size={data.test_size}."
        )
    order = np.random.default_rng(_TEST_SAMPLE_SEED).permutation(available)
    sample = np.sort(order[: data.test_size])
    test = Split(dataset.test.x[sample], dataset.test.y[sample])
    return dataclasses.replace(dataset, test=test)


def _load(data: Data, seed: int) -> Dataset:
    if isinstance(data.name, str):
        return keras_lap.datasets.load(
            data.name,
            data.train_size,
            data.validation_size,
            seed,
            balanced=data.balanced,
        )
    if isinstance(data.name, Dataset):
        return data.name
    return _checked(data.name(seed), Dataset, data.name, "a keras_lap.datasets.Dataset")


def _averaged(dataset: Dataset, size: int) -> Dataset:
    def averaged(split: Split | None) -> Split | None:
        return split and Split(pooled(split.x, size), split.y)

    smaller = {
        name: averaged(getattr(dataset, name))
        for name in ("train", "validation", "test")
    }
    shape = smaller["train"].x.shape[1:]  # type: ignore[union-attr]
    return dataclasses.replace(dataset, input_shape=shape, **smaller)  # type: ignore[arg-type]


def _checked(made: Any, kind: type, by: Any, accepted: str) -> Any:
    """What a function of the user's made, if it is of that kind."""
    if isinstance(made, kind):
        return made
    raise TypeError(
        f"{by!r} must return {accepted}. Received: {made!r} of type "
        f"{type(made).__name__}."
    )
