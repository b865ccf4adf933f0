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
from keras_lap.experiments.study import Data, Initializer, Network

_OPTIONS = ("filters", "num_blocks", "cardinality", "group_width")
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
    """
    options = {name: getattr(network, name) for name in _OPTIONS}
    builders = {"dense_resnet": dense_resnet}
    build: Any = builders.get(network.kind) or getattr(keras_lap.networks, network.kind)
    return build(
        input_shape,
        num_classes,
        batch_norm=network.batch_norm,
        kernel_initializer=build_initializer(network.initializer, seed),
        **{name: value for name, value in options.items() if value is not None},
    )


def build_initializer(initializer: Initializer, seed: int) -> Any:
    """The Keras initializer that `initializer` describes, with a seed."""
    if initializer.kind == "normal":
        return keras.initializers.RandomNormal(stddev=initializer.scale, seed=seed)
    if initializer.kind == "orthogonal":
        return keras.initializers.Orthogonal(gain=initializer.scale, seed=seed)
    return keras.initializers.VarianceScaling(
        2.0, mode="fan_out", distribution="untruncated_normal", seed=seed
    )


def dense_resnet(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    filters: int = 16,
    num_blocks: int = 9,
    batch_norm: bool = True,
    kernel_initializer: Any = None,
) -> keras.Model:
    """A residual network that moves points in the space in which they are given.

    A block is ``x + W_2 relu(bn(W_1 x))``; there is no stem, so the states of a
    network for points in the plane can be drawn. The head is one dense layer.

    Args:
        input_shape: `(features,)`.
        num_classes: Number of logits.
        filters: Units of a block's hidden layer.
        num_blocks: Number of residual blocks.
        batch_norm: Whether hidden layers are normalised.
        kernel_initializer: Initializer of every kernel, with an integer seed.

    Returns:
        A model from `(batch, features)` to `(batch, num_classes)`.
    """
    counter = iter(range(2 * num_blocks + 1))

    def dense(units: int, name: str) -> keras.Layer:
        # One instance draws the same values each time: a seed for every layer.
        config = kernel_initializer.get_config()
        seed = 1000 * config["seed"] + next(counter)
        own = type(kernel_initializer).from_config({**config, "seed": seed})
        return keras.layers.Dense(units, kernel_initializer=own, name=name)

    (features,) = input_shape
    x = inputs = keras.Input((features,), name="point")
    for block in range(1, num_blocks + 1):
        v = dense(filters, f"block{block}_dense1")(x)
        if batch_norm:
            v = keras.layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, name=f"block{block}_bn"
            )(v)
        v = keras.layers.ReLU(name=f"block{block}_relu")(v)
        v = dense(features, f"block{block}_dense2")(v)
        x = keras.layers.Add(name=f"block{block}_add")([x, v])
    return keras.Model(inputs, dense(num_classes, "logits")(x), name="dense_resnet")


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
    """
    dataset = keras_lap.datasets.load(
        data.name, data.train_size, data.validation_size, seed
    )
    available = len(dataset.test.y)
    if data.test_size is None:
        return dataset
    if not 0 < data.test_size <= available:
        raise ValueError(
            f"test_size must be from 1 to {available}, or None for all. Received: "
            f"test_size={data.test_size}."
        )
    order = np.random.default_rng(_TEST_SAMPLE_SEED).permutation(available)
    sample = np.sort(order[: data.test_size])
    test = Split(dataset.test.x[sample], dataset.test.y[sample])
    return dataclasses.replace(dataset, test=test)
