"""The statistics of batch normalisation: a batch's own, the moving ones, new ones.

In training a `keras.layers.BatchNormalization` normalises by the mean and variance of
the batch; afterwards by moving averages of them, which lag behind, most in short
trainings of deep networks. Then both run different networks. So they do where a channel
was silent on all training samples, and is not on another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_lap._checks import finite_number, within
from keras_lap.blocks import layers_below

# Of the median of the variances of a layer.
SILENT = 0.01


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


def raise_variances(network: keras.Layer, fraction: float = SILENT) -> dict[str, int]:
    """Raises moving variances that are next to nothing beside others of their layer.

    Of a channel that is silent on all training samples the moving variance ends near
    zero. Inference divides by its root, and a sample that wakes the channel is carried
    far. Each moving variance becomes

        v_c ← max(v_c, fraction · median_c v_c).

    Where half of the channels are silent, the median is too, and tells nothing.
    Nothing else changes: neither a network as it is run in training, nor what is
    frozen. It is for the end of a training; one that goes on averages the variances
    anew. From a bad start with 100 samples it gained up to 2.7 points of accuracy; from
    good starts, where a small variance need not be that of a silent channel, it changed
    nothing or cost some tenths of a point (`studies/results/README.md`): look at
    validation data before and after.

    Args:
        network: The network, or a model that has it; it is changed.
        fraction: Of the median of a layer, between 0 and 1; unitless. Defaults to 0.01.

    Returns:
        How many channels were raised, by the path of their layer; layers without any
        are left out.

    Raises:
        ValueError: If `fraction` is not such a number, or a moving variance is not
            finite; nothing is changed then.

    Example:
        >>> norm = keras.layers.BatchNormalization(name="norm")
        >>> norm.build((None, 3))
        >>> norm.moving_variance.assign([2.0, 1e-7, 3.0])
        >>> keras_lap.trajectory.raise_variances(norm)
        {'norm': 1}
    """
    advice = "It is a part of the median. Use e.g. 0.01."
    fraction = finite_number("fraction", fraction, "> 0", advice)
    fraction = within("fraction", fraction, 0, 1, advice)
    found = list(_silent(network, fraction))
    for norm, values, _ in found:
        if not np.isfinite(values).all():
            raise ValueError(
                "Variances are raised where they are finite. Received: a moving "
                f"variance of {norm.path!r} that is not. The training has diverged: "
                "go back to weights from before it did, or train anew."
            )
    raised: dict[str, int] = {}
    for norm, values, least in found:
        if count := int((values < least).sum()):
            norm.moving_variance.assign(np.maximum(values, least))
            raised[norm.path] = raised.get(norm.path, 0) + count
    return raised


def count_silent_channels(network: keras.Layer) -> int:
    """How many channels `raise_variances` would raise, by its default."""
    return sum(int((v < least).sum()) for _, v, least in _silent(network, SILENT))


def _silent(
    network: keras.Layer, fraction: float
) -> Iterator[tuple[keras.layers.BatchNormalization, np.ndarray, Any]]:
    """Each layer, its moving variances, `(channels,)`, and the least they may be."""
    for norm in _norms(network):
        values = np.array(keras.ops.convert_to_numpy(norm.moving_variance))
        least = fraction * np.median(values.astype("float64"))
        # As it is kept: what was raised to it once is not below it afterwards.
        yield norm, values, least.astype(values.dtype)


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
