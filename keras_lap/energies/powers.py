"""Sums of powers, ``Σ_i |v_i|^p``, with gradients that are finite everywhere.

Written with `keras.ops` for every backend. PyTorch runs one operation after the other,
and for large states the memory that each takes anew costs more than its arithmetic;
there the gradient is written out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

# XLA takes operations together by itself, and TensorFlow runs a whole graph.
STARTS_EACH_OPERATION = keras.backend.backend() == "torch"


def power_sum(v: Any, p: float, first: int, kept: tuple[Any, Any] | None = None) -> Any:
    """``Σ_i |v_i|^p`` over all axes from one on; where v is 0, so is the gradient.

    The gradient ``p·|v|^(p−2)·v`` needs v, which has to be kept until then. Where the
    states around v are kept anyway, it takes their difference in the place of v: that
    saves the memory, and costs the digits that a difference loses, some ``ε·|x|/|v|``.

    Args:
        v: Tensor of any shape.
        p: Above 1.
        first: The first of the axes that are summed over.
        kept: Two tensors like v whose difference, second less first, it is. They get
            no gradient. Defaults to None.

    Returns:
        A tensor of the shape of the other axes.
    """
    axes = tuple(range(first, len(v.shape)))
    if not axes:  # samples of one number
        return power_sum(ops.expand_dims(v, first), p, first)
    if STARTS_EACH_OPERATION:
        return _TorchPowerSum.apply(v, p, axes, *(kept or ()))
    if kept is not None:
        return _between(v, *kept, p, axes)
    return _powers(v, p, axes)


def stacked(tensors: Sequence[Any]) -> Any:
    """Several tensors or arrays of one shape, as one with an axis before theirs."""
    if not STARTS_EACH_OPERATION:
        return ops.stack(tensors)
    # `ops.stack` walks through a long list several times before it begins.
    return torch.stack([ops.convert_to_tensor(each) for each in tensors])


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


def _powers(v: Any, p: float, axes: tuple[int, ...]) -> Any:
    # A product has a cheaper gradient than a square on TensorFlow.
    return ops.sum(v * v if p == 2 else ops.power(ops.abs(v), p), axis=axes)


def _slope(v: Any, p: float) -> Any:
    """``p·|v|^(p−2)·v``."""
    return p * (v if p == 2 else ops.sign(v) * ops.power(ops.abs(v), p - 1))


if keras.backend.backend() == "jax":
    import jax

    # By its derivative, and not by its gradient, which would rule out forward mode.
    @functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
    def _between(
        v: Any, before: Any, after: Any, p: float, axes: tuple[int, ...]
    ) -> Any:
        return _powers(v, p, axes)

    @_between.defjvp
    def _derivative(p: float, axes: Any, values: Any, changes: Any) -> Any:
        v, before, after = values
        change = ops.sum(_slope(after - before, p) * changes[0], axis=axes)
        return _between(v, before, after, p, axes), change


elif keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    def _between(  # type: ignore[misc]
        v: Any, before: Any, after: Any, p: float, axes: tuple[int, ...]
    ) -> Any:
        @tf.custom_gradient
        def run(v: Any, before: Any, after: Any) -> Any:
            def gradient(upstream: Any) -> Any:
                shape = [*upstream.shape, *[1] * len(axes)]
                upstream = ops.reshape(
                    upstream, [-1 if s is None else s for s in shape]
                )
                return _slope(after - before, p) * upstream, None, None

            return _powers(v, p, axes), gradient

        return run(v, before, after)


if STARTS_EACH_OPERATION:
    import torch

    class _TorchPowerSum(torch.autograd.Function):
        """`power_sum` with the gradient ``p·|v|^(p−2)·v``, in few passes over v."""

        @staticmethod
        def forward(
            ctx: Any, v: Any, p: float, axes: tuple[int, ...], *kept: Any
        ) -> Any:
            ctx.save_for_backward(*(kept or (v,)))
            ctx.p, ctx.axes = p, axes
            return (v * v if p == 2 else v.abs().pow_(p)).sum(axes)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> tuple[Any, ...]:
            v, *after = ctx.saved_tensors
            if after:
                v = after[0] - v
            others = (None,) * (2 + 2 * len(after))
            gradient = ctx.p * gradient.reshape(gradient.shape + (1,) * len(ctx.axes))
            if ctx.p == 2:
                return v * gradient, *others
            if torch.is_grad_enabled():  # it is to be differentiated in turn
                return v.abs().pow(ctx.p - 1).copysign(v) * gradient, *others
            slope = v.abs().pow_(ctx.p - 1).copysign_(v)
            return slope.mul_(gradient), *others
