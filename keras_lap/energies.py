"""Energies: what one displacement costs.

A block moves its state from ``x_k`` to ``x_{k+1}``. An energy turns that
displacement into one number; the transport cost of a network is the sum of the
energies of its blocks (`keras_lap.training.terms`).

Energies are made of sums of powers, ``Σ_i |v_i|^p``, written with `keras.ops` for every
backend. PyTorch runs one operation after the other, and for large states the memory
that each takes anew costs more than its arithmetic; there the gradient is written out.
"""

from __future__ import annotations

import abc
import inspect
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_lap._checks import choice, finite_number, is_number
from keras_lap.trajectory import at_least_float32

__all__ = ["DisplacementEnergy", "Energy"]

_SMALL = 4096  # numbers of a state; above, arithmetic outweighs starting it
# XLA takes operations together by itself, and TensorFlow runs a whole graph.
_STARTS_EACH_OPERATION = keras.backend.backend() == "torch"


class Configured:
    """Base class of what a model saves by the arguments of its constructor.

    An energy, or a running cost. Give a class with arguments a `get_config` that
    returns them.
    """

    # Arguments that a base class takes and keeps.
    _kept: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving.

        Raises:
            NotImplementedError: If the class takes arguments and does not say which.
        """
        own = set(inspect.signature(type(self)).parameters) - set(self._kept)
        if own and type(self).get_config is Configured.get_config:
            raise NotImplementedError(
                f"{type(self).__name__} takes arguments, so it needs a get_config() "
                "that returns them to be saved with a model."
            )
        return {name: getattr(self, name) for name in self._kept}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Rebuilds it from what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        try:
            config = self.get_config()
        except NotImplementedError:
            config = {}
        arguments = ", ".join(f"{key}={value!r}" for key, value in config.items())
        return f"{type(self).__name__}({arguments})"


class Energy(Configured, abc.ABC):
    """Base class of energies: a function from a displacement to a scalar.

    Subclass it to penalise displacements in another way. Give the class a
    `get_config` that returns its constructor's arguments and decorate it with
    `keras.saving.register_keras_serializable`, and models that use it can be saved
    and loaded.

    Examples:
        >>> @keras.saving.register_keras_serializable("my_project")
        ... class LogEnergy(keras_lap.energies.Energy):
        ...     def __call__(self, displacement):
        ...         return keras.ops.mean(keras.ops.log1p(displacement**2))
    """

    @abc.abstractmethod
    def __call__(self, displacement: Any) -> Any:
        """Computes the energy of one block on one batch.

        Args:
            displacement: ``x_{k+1} − x_k``, tensor of shape `(batch, ...)`.

        Returns:
            A scalar tensor.
        """

    def of_blocks(self, displacements: Sequence[Any]) -> Any:
        """Computes the energies of several blocks on one batch.

        Override it where that is cheaper together than one by one.

        Args:
            displacements: One tensor of shape `(batch, ...)` per block, at least one.

        Returns:
            A tensor of shape `(blocks,)`.

        Raises:
            ValueError: If the energy returns anything but a scalar.
        """
        return ops.stack([scalar(self(each), self) for each in displacements])


def deserialize(
    what: str, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
) -> Any:
    """Rebuilds what `keras.saving.serialize_keras_object` made of an energy or cost.

    Args:
        what: `"energy"` or `"running cost"`, for the message.
        config: The energy or running cost as a file of a model holds it.
        custom_objects: Classes by name, beside those registered with Keras.

    Raises:
        ValueError: If its class is not registered.
    """
    try:
        return keras.saving.deserialize_keras_object(
            config, custom_objects=custom_objects
        )
    except TypeError as error:
        name, registered = config["class_name"], config["registered_name"]
        if keras.saving.get_registered_object(registered, custom_objects) is not None:
            raise
        package = registered.rpartition(">")[0]
        register = "@keras.saving.register_keras_serializable"
        raise ValueError(
            f"The model in this file was trained with the {what} {name}, which Keras "
            f"cannot find: no class is registered as {registered!r}. Pass "
            f"custom_objects={{{registered!r}: {name}}} to keras.saving.load_model, "
            + (
                f"or import the module that registers it by {register}({package!r})."
                if package
                else f"and decorate the class by {register}('my_project') before it "
                "is saved again."
            )
        ) from error


@keras.saving.register_keras_serializable("keras_lap")
class DisplacementEnergy(Energy):
    r"""The p-th power of the length of a displacement; kinetic energy for p = 2.

    With velocity ``v = displacement / time_step``, sample ``b`` and feature ``i``:

    - ``norm="elementwise"``: ``e_b = Σ_i |v_bi|^p``, the authors' choice;
    - ``norm="euclidean"``: ``e_b = ‖v_b‖₂^p``;
    - ``reduction="sum"``: ``energy = mean_b e_b``;
    - ``reduction="mean"``: ``energy = mean_b e_b / (number of features)``.

    The gradient is finite everywhere, and zero where the displacement is zero.
    float16 and bfloat16 displacements are computed in float32.

    Source: Karkar et al., *A Principle of Least Action for the Training of Neural
    Networks*, ECML PKDD 2020, arXiv 2009.08372, equation (8).

    Args:
        p: Exponent, a finite number above 1. Defaults to 2.
        norm: `"elementwise"` or `"euclidean"`. Defaults to `"elementwise"`.
        reduction: `"mean"`, whose scale does not depend on the width of the network
            (exactly so for the elementwise norm and for p = 2), or `"sum"`.
            Defaults to `"mean"`.
        time_step: Step h of the Euler scheme ``x_{k+1} = x_k + h·v_k(x_k)``, above
            0. Defaults to 1.

    Raises:
        ValueError: If an argument is outside the values above.

    Examples:
        >>> energy = keras_lap.energies.DisplacementEnergy(p=2.0)
        >>> float(energy(np.array([[3.0, 4.0]])))
        12.5
    """

    _kept = ("p", "norm", "reduction", "time_step")

    def __init__(
        self,
        p: float = 2.0,
        norm: str = "elementwise",
        reduction: str = "mean",
        time_step: float = 1.0,
    ):
        self.p = finite_number(
            "p",
            p,
            "> 1",
            "Use p=2 for kinetic energy; at p=1 minimisers are not unique and the "
            "gradient jumps at zero.",
        )
        self.time_step = finite_number(
            "time_step",
            time_step,
            "> 0",
            "Use 1 unless the network scales its branches by a step h, then pass h.",
        )
        self.norm = choice("norm", norm, ("elementwise", "euclidean"))
        self.reduction = choice("reduction", reduction, ("mean", "sum"))

    def __call__(self, displacement: Any) -> Any:
        """Computes the energy of one block on one batch.

        Args:
            displacement: Tensor or array of shape `(batch, ...)`.

        Returns:
            A scalar tensor of dtype float32 (float64 for float64 displacements).
        """
        return self._of(at_least_float32(displacement), batch_axis=0)

    def of_blocks(self, displacements: Sequence[Any]) -> Any:
        """As in `Energy`; on PyTorch, small ones of one shape are taken together.

        There each operation has its price, whatever it works on: beside a small layer
        some for every block weigh, and beside a large one a copy of its state would.
        """
        if not _small_and_alike(displacements):
            return super().of_blocks(displacements)
        stacked = ops.stack([at_least_float32(each) for each in displacements])
        return self._of(stacked, batch_axis=1)

    def _of(self, v: Any, batch_axis: int) -> Any:
        """The energies of the tensors along the axes before that of the batch."""
        if self.norm == "elementwise":
            total = power_sum(v, self.p, batch_axis)
        else:
            square = power_sum(v, 2.0, batch_axis + 1)
            total = ops.sum(root_power(square, self.p), axis=batch_axis)
        sizes = ops.shape(v)[batch_axis:]
        if any(size is None for size in sizes):  # TensorFlow's ragged tensors
            sizes = (v.nrows() if self.reduction == "sum" else ops.size(v),)
        elif self.reduction == "sum":
            sizes = sizes[:1]
        known = math.prod(size for size in sizes if isinstance(size, int))
        # The energy is homogeneous: the step scales one number, not the tensor.
        total = total * (self.time_step**-self.p / known)
        for size in sizes:
            if not isinstance(size, int):  # a batch of any size in TensorFlow's graph
                total = total / ops.cast(size, total.dtype)
        return total


def get(identifier: float | Energy) -> Energy:
    """Returns the energy that `identifier` stands for.

    Args:
        identifier: An `Energy`, or a number: the exponent p of a
            `DisplacementEnergy` with its other arguments at their defaults.

    Returns:
        An `Energy`.

    Raises:
        ValueError: If the exponent is not above 1.
        TypeError: If `identifier` is neither an energy nor a number.
    """
    if isinstance(identifier, Energy):
        return identifier
    if is_number(identifier):
        return DisplacementEnergy(p=identifier)
    raise TypeError(
        "energy must be an exponent p > 1 or a keras_lap.energies.Energy. Received: "
        f"energy={identifier!r} (of type {type(identifier).__name__}). Pass e.g. 2.0, "
        "or keras_lap.energies.DisplacementEnergy(p=2.0, norm='euclidean')."
    )


def _small_and_alike(displacements: Sequence[Any]) -> bool:
    """Whether several have one shape that is small, where taking them together pays."""
    # With all blocks in one tensor JAX took a hundred MiB more to compile a hundred.
    if not _STARTS_EACH_OPERATION:
        return False
    shapes = {tuple(each.shape) for each in displacements}
    if len(displacements) == 1 or len(shapes) > 1:
        return False
    return math.prod(shapes.pop()[1:]) <= _SMALL


def scalar(cost: Any, source: Any) -> Any:
    """Returns `cost` as a tensor if it is one number.

    Args:
        cost: What an energy or a running cost has returned.
        source: Which one, for the message.

    Raises:
        ValueError: If it has axes.
    """
    cost = ops.convert_to_tensor(cost)
    if len(cost.shape) > 0:
        raise ValueError(
            "Energies and running costs must return a scalar. Received: shape "
            f"{tuple(cost.shape)} from {source!r}. Reduce over the batch and the "
            "features, e.g. by keras.ops.mean."
        )
    return cost


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
    if _STARTS_EACH_OPERATION:
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


if _STARTS_EACH_OPERATION:
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
