"""The statistics of batch normalisation: a batch's own, the moving ones, new ones.

In training a `keras.layers.BatchNormalization` normalises by the mean and variance of
the batch; afterwards by moving averages of them, which lag behind, most in short
trainings of deep networks. Then both run different networks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_lap.blocks import layers_below


@contextlib.contextmanager
def batch_statistics(network: keras.Layer) -> Iterator[None]:
    """Lets a network normalise by each batch's own statistics, and keep none of them.

    All else runs as `training` says, dropout too; frozen layers normalise as they do
    in training.

    Args:
        network: The network; to be run in this thread only.
    """
    with keras.StatelessScope(), _normalising(_norms(network)):
        yield


def recalibrate(network: keras.Layer, batches: Iterable[Any]) -> None:
    """Estimates the moving statistics of a network anew, as the mean over some batches.

    It is run on each of them as in inference, but for its batch normalisation, which
    uses the batch's own statistics as it does in training. What is frozen stays as it
    is.

    Args:
        network: The network.
        batches: What it takes, batch by batch; those of several passes one after the
            other count alike.

    Raises:
        ValueError: If there is no batch; nothing is changed then.
    """
    norms = _norms(network)
    momenta = [norm.momentum for norm in norms]
    calls = dict.fromkeys(map(id, norms), 0)

    def weigh(norm: keras.layers.BatchNormalization) -> None:
        # Such that the moving average is the mean over the calls so far. What it was
        # before may be infinite, and is not multiplied by 0 but left out.
        calls[id(norm)] += 1
        norm.momentum = 1 - 1 / calls[id(norm)]
        if calls[id(norm)] == 1:
            for variable in (norm.moving_mean, norm.moving_variance):
                variable.assign(keras.ops.zeros(variable.shape))

    batch = None
    try:
        with _normalising(norms, weigh):
            for batch in batches:
                network(batch, training=False)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if batch is None:
        raise ValueError(
            "Statistics are estimated on one batch or more. Received: no batch. Pass "
            "data that can be run through again, not an iterator that has ended."
        )


@contextlib.contextmanager
def recalibrated(network: keras.Layer, batches: Iterable[Any]) -> Iterator[None]:
    """As `recalibrate`, and gives the network back what it had.

    Args:
        network: The network.
        batches: What it takes, batch by batch.
    """
    kept = [
        (variable, np.array(keras.ops.convert_to_numpy(variable)))
        for norm in _norms(network)
        for variable in (norm.moving_mean, norm.moving_variance)
    ]
    try:
        recalibrate(network, batches)
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


def has_moving_statistics(network: keras.Layer) -> bool:
    """Whether a network normalises otherwise in training than afterwards."""
    return bool(_norms(network))


def _norms(network: keras.Layer) -> list[keras.layers.BatchNormalization]:
    """The layers with moving statistics that are not frozen, each once."""
    layers = [network, *layers_below(network)]
    norms = [n for n in layers if isinstance(n, keras.layers.BatchNormalization)]
    return [norm for norm in norms if norm.trainable]


@contextlib.contextmanager
def _normalising(
    norms: list[keras.layers.BatchNormalization],
    before: Callable[[Any], None] = lambda norm: None,
) -> Iterator[None]:
    """Runs the calls of some layers as in training; `before` is told of each call."""
    owns = [vars(norm).get("call") for norm in norms]

    def stand_in(norm: Any, own: Any) -> Callable[..., Any]:
        call = own or type(norm).call.__get__(norm)

        def run(*args: Any, **kwargs: Any) -> Any:
            before(norm)
            return call(*args, **{**kwargs, "training": True})

        return run

    for norm, own in zip(norms, owns, strict=True):
        vars(norm)["call"] = stand_in(norm, own)
    try:
        yield
    finally:
        for norm, own in zip(norms, owns, strict=True):
            del vars(norm)["call"]
            if own is not None:
                vars(norm)["call"] = own
