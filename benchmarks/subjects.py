"""The networks that are measured, each with data and a loss that fit it."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import keras_lap

CLASSES = 10


@dataclass(frozen=True)
class Subject:
    """A network and one batch's size.

    Args:
        network: The network, which returns logits, or the features of a backbone.
        shape: Of one input.
        batch: Samples of a batch.
    """

    network: keras.Model
    shape: tuple[int, ...]
    batch: int

    def data(self, batches: int) -> dict[str, Any]:
        """Noise and random labels; how long a step takes does not depend on them."""
        rng = np.random.default_rng(0)
        samples = batches * self.batch
        return {
            "x": rng.normal(size=(samples, *self.shape)).astype("float32"),
            "y": rng.integers(0, CLASSES, samples),
            "batch_size": self.batch,
            "shuffle": False,
            "verbose": 0,
        }


@contextlib.contextmanager
def deep_recursion() -> Iterator[None]:
    """Keras builds the graph of a deep chain by recursion."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def resnet9() -> Subject:
    """The paper's ResNet9 with 32 filters, on images of 28×28."""
    network = keras_lap.networks.resnet9((28, 28, 1), CLASSES, filters=32)
    return Subject(network, (28, 28, 1), 64)


def resnet50v2() -> Subject:
    """ResNet50V2 of `keras.applications`, on images of 64×64."""
    network = keras.applications.ResNet50V2(
        weights=None,
        classes=CLASSES,
        input_shape=(64, 64, 3),
        classifier_activation=None,
    )
    return Subject(network, (64, 64, 3), 8)


def vit(
    layers: int = 6, heads: int = 4, width: int = 128, inner: int = 256, batch: int = 16
) -> Subject:
    """A small ViT of KerasHub, whose blocks lie inside the calls of its layers."""
    import keras_hub

    backbone = keras_hub.models.ViTBackbone(
        image_shape=(32, 32, 3),
        patch_size=4,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=inner,
    )
    features = keras.layers.GlobalAveragePooling1D()(backbone.output)
    logits = keras.layers.Dense(CLASSES)(features)
    return Subject(keras.Model(backbone.inputs, logits), (32, 32, 3), batch)


def dense(blocks: int = 100, width: int = 16, batch: int = 32) -> Subject:
    """Tiny dense blocks, where recording itself weighs the most."""
    with deep_recursion():
        x = inputs = keras.Input((width,))
        for _ in range(blocks):
            x = keras.layers.Add()([x, keras.layers.Dense(width, activation="tanh")(x)])
        network = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
    return Subject(network, (width,), batch)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "ResNet9": resnet9,
    "ResNet50V2": resnet50v2,
    "ViT": vit,
    "dense, 100 blocks": dense,
    "dense, 5 blocks": functools.partial(dense, 5),
}


def compiled(model: keras.Model, **options: Any) -> keras.Model:
    """The model, ready for training on classes."""
    model.compile(
        keras.optimizers.SGD(0.001, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return model
