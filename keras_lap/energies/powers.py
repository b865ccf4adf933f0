"""Sums of powers, ``Σ_i |v_i|^p``, with gradients that are finite everywhere.

Written with `keras.ops` for every backend. PyTorch runs one operation after the other,
and for large states the memory that each takes anew costs more than its arithmetic;
there the gradient is written out.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

# XLA takes operations together by itself, and TensorFlow runs a whole graph.
STARTS_EACH_OPERATION = keras.backend.backend() == "torch"


def power_sum(v: Any, p: float, first: int) -> Any:
    """``Σ_i |v_i|^p`` over all axes from one on; where v is 0, so is the gradient.

    Args:
        v: Tensor of any shape.
        p: Above 1.
        first: The first of the axes that are summed over.

    Returns:
        A tensor of the shape of the other axes.
    """
    axes = tuple(range(first, len(v.shape)))
    if not axes:  # samples of one number
        return power_sum(ops.expand_dims(v, first), p, first)
    if STARTS_EACH_OPERATION:
        return _TorchPowerSum.apply(v, p, axes)
    # A product has a cheaper gradient than a square on TensorFlow.
    return ops.sum(v * v if p == 2 else ops.power(ops.abs(v), p), axis=axes)


def root_power(square: Any, p: float) -> Any:
    """``square^(p/2)`` whose gradient at 0 is 0, where the power rule gives inf·0.

    The smallest normal float32 is the bound because processors may flush smaller
    numbers to zero in one place and not in another.
    """
    if p == 2:
        return square
    positive = square > 2.0**-126
    safe = ops.where(positive, square, ops.ones_like(square))
    return ops.where(positive, ops.power(safe, p / 2), ops.zeros_like(square))


if STARTS_EACH_OPERATION:
    import torch

    class _TorchPowerSum(torch.autograd.Function):
        """`power_sum` with the gradient ``p·|v|^(p−2)·v``, in few passes over v."""

        @staticmethod
        def forward(ctx: Any, v: Any, p: float, axes: tuple[int, ...]) -> Any:
            ctx.save_for_backward(v)
            ctx.p, ctx.axes = p, axes
            return (v * v if p == 2 else v.abs().pow_(p)).sum(axes)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> tuple[Any, None, None]:
            (v,) = ctx.saved_tensors
            gradient = ctx.p * gradient.reshape(gradient.shape + (1,) * len(ctx.axes))
            if ctx.p == 2:
                return v * gradient, None, None
            if torch.is_grad_enabled():  # it is to be differentiated in turn
                return v.abs().pow(ctx.p - 1).copysign(v) * gradient, None, None
            slope = v.abs().pow_(ctx.p - 1).copysign_(v)
            return slope.mul_(gradient), None, None
