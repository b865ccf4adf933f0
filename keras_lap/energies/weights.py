"""How much the positions and samples of a state weigh: masks and sample weights.

A position is what a mask can leave out: an index of the axes between the batch and the
features, as a token of a sequence is.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lap.trajectory import at_least_float32, fits


def position_weights(
    mask: Any, sample_weight: Any, like: Any, rescaled: bool = True
) -> Any:
    """Weighs the positions of a state, or its samples, as Keras weighs those of a loss.

    The weighted mean of values ``e_j`` of the positions is ``Σ_j w_j e_j`` over their
    number, without division by ``Σ w``. A mask is scaled up for that, to
    ``mask · (their number) / Σ mask``, so that the mean is one over the valid positions
    of the batch, whatever was padded.

    Args:
        mask: Tensor of shape `(batch, positions, ...)`, true or 1 where a position
            counts; None for all.
        sample_weight: As `fit` takes it: `(batch,)`, `(batch, 1)` or, for positions,
            `(batch, positions, ...)`; what does not fit the positions of `like` is
            averaged over them. Of several outputs, the mean of their weights. None for
            1.
        like: The state or displacement, `(batch, positions, ..., features)`.
        rescaled: Whether a mask is scaled up. Not so for a sum over the positions, to
            which padded ones add nothing. Defaults to True.

    Returns:
        A tensor whose axes are the first axes of `like`; None if all weigh 1.
    """
    weights = None
    for each in (_of_mask(mask, rescaled), _of_samples(sample_weight, like)):
        if each is None:
            continue
        if weights is not None:
            rank = max(len(weights.shape), len(each.shape))
            each = expanded(weights, rank) * expanded(each, rank)
        weights = each
    return weights


def _of_mask(mask: Any, rescaled: bool) -> Any:
    if mask is None:
        return None
    mask = at_least_float32(mask)
    if not rescaled:
        return mask
    share = ops.mean(mask)
    return mask / ops.where(share > 0, share, ops.ones_like(share))


def _of_samples(sample_weight: Any, like: Any) -> Any:
    """The sample weights of a batch, with axes that are the first of `like`."""
    outputs = [_fitted(w, like) for w in keras.tree.flatten(sample_weight)]
    if all(each is None for each in outputs):
        return None
    if len(outputs) > 1:
        outputs = [1.0 if w is None else _over_samples(w) for w in outputs]
    return sum(outputs[1:], outputs[0]) / len(outputs) if outputs[1:] else outputs[0]


def _fitted(weights: Any, like: Any) -> Any:
    if weights is None:
        return None
    weights = at_least_float32(weights)
    while len(weights.shape) > 1 and weights.shape[-1] == 1:
        weights = ops.squeeze(weights, axis=-1)
    return weights if fits(weights, like) else _over_samples(weights)


def _over_samples(weights: Any) -> Any:
    return ops.mean(weights, axis=tuple(range(1, len(weights.shape))))


def expanded(weights: Any, rank: int) -> Any:
    """The same with axes of size 1 behind its own, `rank` in all."""
    for _ in range(rank - len(weights.shape)):
        weights = ops.expand_dims(weights, axis=-1)
    return weights


def only_weighted(tensor: Any, weights: Any) -> Any:
    """The same tensor, with zeros where the weight is 0, whatever stood there.

    Args:
        tensor: Of shape `(batch, ...)`.
        weights: See `position_weights`.
    """
    counts = expanded(ops.not_equal(weights, 0), len(tensor.shape))
    return ops.where(counts, tensor, ops.zeros_like(tensor))
