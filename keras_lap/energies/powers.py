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
    return _alone(v, p, axes)


def power_sums(tensors: Sequence[Any], p: float, first: int) -> Any:
    """`power_sum` of several tensors of one shape, on PyTorch, by few operations.

    The tensors are kept for the gradient, which often are so anyway, and not the one
    that they are put into.

    Args:
        tensors: Tensors or arrays, at least one.
        p: Above 1.
        first: The first of the axes of each that are summed over.

    Returns:
        A tensor of the shape of the other axes, with an axis before them.
    """
    tensors = [ops.convert_to_tensor(each) for each in tensors]
    if first == len(tensors[0].shape):  # samples of one number
        tensors = [each[..., None] for each in tensors]
    axes = tuple(range(first + 1, len(tensors[0].shape) + 1))
    return _TorchPowerSums.apply(p, axes, *tensors)


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
    """``|v|^(p−2)·v``, the gradient but for the factor p.

    That one multiplies numbers, before or after, and no tensor like v.
    """
    return v if p == 2 else ops.sign(v) * ops.power(ops.abs(v), p - 1)


if keras.backend.backend() == "jax":
    import jax

    # By derivatives, and not by gradients, which would rule out forward mode.
    @functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
    def _alone(v: Any, p: float, axes: tuple[int, ...]) -> Any:
        return _powers(v, p, axes)

    @_alone.defjvp
    def _derivative_alone(p: float, axes: Any, values: Any, changes: Any) -> Any:
        (v,), (change,) = values, changes
        return _alone(v, p, axes), p * ops.sum(_slope(v, p) * change, axis=axes)

    @functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
    def _between(
        v: Any, before: Any, after: Any, p: float, axes: tuple[int, ...]
    ) -> Any:
        return _powers(v, p, axes)

    @_between.defjvp
    def _derivative(p: float, axes: Any, values: Any, changes: Any) -> Any:
        v, before, after = values
        change = p * ops.sum(_slope(after - before, p) * changes[0], axis=axes)
        return _between(v, before, after, p, axes), change


elif keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    def _alone(v: Any, p: float, axes: tuple[int, ...]) -> Any:  # type: ignore[misc]
        whole = isinstance(v, tf.Tensor) and len(axes) == v.shape.rank
        if p == 2 and whole:  # no square of each number is put anywhere
            return 2.0 * tf.nn.l2_loss(v)
        return _powers(v, p, axes)

    def _between(  # type: ignore[misc]
        v: Any, before: Any, after: Any, p: float, axes: tuple[int, ...]
    ) -> Any:
        # TensorFlow makes zeros for the gradients of arguments that have none: the
        # states are none.
        @tf.custom_gradient
        def run(v: Any) -> Any:
            def gradient(upstream: Any) -> Any:
                shape = [*upstream.shape, *[1] * len(axes)]
                upstream = ops.reshape(
                    upstream, [-1 if s is None else s for s in shape]
                )
                return _slope(after - before, p) * (p * upstream)

            return _alone(v, p, axes), gradient

        return run(v)


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
            slope = _torch_slope(v, gradient, ctx.p, ctx.axes, own=bool(after))
            return slope, *(None,) * (2 + 2 * len(after))

    class _TorchPowerSums(torch.autograd.Function):
        """`power_sums`: the tensors are put into one, both ways."""

        @staticmethod
        def forward(ctx: Any, p: float, axes: tuple[int, ...], *tensors: Any) -> Any:
            ctx.save_for_backward(*tensors)
            ctx.p, ctx.axes = p, axes
            v = _at_least_float32(torch.stack(tensors))
            return (v.square_() if p == 2 else v.abs_().pow_(p)).sum(axes)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> tuple[Any, ...]:
            v = _at_least_float32(torch.stack(ctx.saved_tensors))
            slope = _torch_slope(v, gradient, ctx.p, ctx.axes, own=True)
            return None, None, *slope.to(ctx.saved_tensors[0].dtype).unbind()

    def _at_least_float32(v: Any) -> Any:
        return v if v.dtype.itemsize >= 4 else v.float()

    def _torch_slope(
        v: Any, gradient: Any, p: float, axes: tuple[int, ...], own: bool
    ) -> Any:
        """``p·|v|^(p−2)·v`` by what comes from above; may use `own` memory again."""
        gradient = p * gradient.reshape(gradient.shape + (1,) * len(axes))
        if torch.is_grad_enabled():  # it is to be differentiated in turn
            return (v if p == 2 else v.abs().pow(p - 1).copysign(v)) * gradient
        if p == 2:
            return v.mul_(gradient) if own else v * gradient
        return v.abs().pow_(p - 1).copysign_(v).mul_(gradient)
