"""Which tensors of a network its own backward pass keeps anyway.

A normalisation keeps its input for its gradient, and so do a product and a convolution
for that of their kernels. An activation keeps its output, and a sum keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from keras_lap.blocks import NORM, Call, Tensor

_KEEP_INPUT = (
    *(layers.Dense, layers.EinsumDense),
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
)
# Whose derivative is one of their result. XLA takes that of `relu` of what went in.
_BY_RESULT = {"tanh", "sigmoid"}
if keras.backend.backend() != "jax":
    _BY_RESULT.add("relu")


def is_made_to_be_kept(tensor: Tensor) -> bool:
    """Whether what makes a tensor keeps it: an activation, for its own gradient.

    Args:
        tensor: Of the graph of a model or of a call.
    """
    call = tensor.producer
    activation = getattr(call.operation if call else None, "activation", None)
    return getattr(activation, "__name__", "") in _BY_RESULT


def is_kept(tensor: Tensor, around: Sequence[Call] = ()) -> bool:
    """Whether the backward pass keeps a tensor, as far as the calls that take it tell.

    Args:
        tensor: Of the graph of a model or of a call.
        around: The calls around that graph, the outermost first.
    """
    for call in tensor.consumers:
        if NORM in call.roles or isinstance(call.operation, _KEEP_INPUT):
            return True
        for outer, inner in zip(
            call.inputs, call.inside.inputs if call.inside else (), strict=False
        ):
            if outer is tensor and is_kept(inner):
                return True
    if tensor.leaves and around:
        *further, call = around
        ends = call.inside.outputs if call.inside else ()
        return any(
            is_kept(outer, further)
            for outer, inner in zip(call.outputs, ends, strict=False)
            if inner is tensor
        )
    return False
