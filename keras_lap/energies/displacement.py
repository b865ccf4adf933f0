"""`DisplacementEnergy`: the p-th power of the length of a displacement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_lap._checks import choice, finite_number, is_number
from keras_lap.energies.energy import Energy
from keras_lap.energies.powers import (
    STARTS_EACH_OPERATION,
    power_sum,
    root_power,
    stacked,
)
from keras_lap.energies.weights import only_weighted, position_weights
from keras_lap.trajectory import at_least_float32

_SMALL = 4096  # numbers of a state; above, arithmetic outweighs starting it


@keras.saving.register_keras_serializable("keras_lap")
class DisplacementEnergy(Energy):
    r"""The p-th power of the length of a displacement; kinetic energy for p = 2.

    With velocity ``v = displacement / time_step``, sample ``b`` and feature ``i``:

    - ``norm="elementwise"``: ``e_b = Σ_i |v_bi|^p``, the authors' choice;
    - ``norm="euclidean"``: ``e_b = ‖v_b‖₂^p``;
    - ``reduction="sum"``: ``energy = mean_b e_b``;
    - ``reduction="mean"``: ``energy = mean_b e_b / (number of features)``.

    Where a mask leaves positions out, only the features of valid positions count, in
    both norms; their number is then its mean over the batch. Weights of samples
    multiply ``e_b``, without division by their sum, as in Keras's losses. Weights of
    positions multiply ``|v_bi|^p``; for the Euclidean norm the largest of a sample
    multiplies ``e_b``, and each ``v_bi²`` within it, its share of the largest.

    The gradient is finite everywhere, and zero where the displacement or the weight is.
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

    def weighted(self, displacement: Any, weights: Any) -> Any:
        """As in `Energy`; see the class for what the weights multiply."""
        v = only_weighted(at_least_float32(displacement), weights)
        weights = ops.cast(weights, v.dtype)
        return self._of(v, batch_axis=0, weights=weights)

    def weights_for(self, displacement: Any, mask: Any, sample_weight: Any) -> Any:
        """As in `Energy`; for a sum over the positions, the mask is not scaled up."""
        rescaled = self.reduction == "mean"
        return position_weights(mask, sample_weight, displacement, rescaled)

    def of_blocks(
        self,
        displacements: Sequence[Any],
        weights: Sequence[Any] | None = None,
        kept: Sequence[tuple[Any, Any] | None] | None = None,
    ) -> Any:
        """As in `Energy`; on PyTorch, small ones of one shape are taken together.

        There each operation has its price, whatever it works on: beside a small layer
        some for every block weigh, and beside a large one a copy of its state would.

        Args:
            displacements: As in `Energy`.
            weights: As in `Energy`.
            kept: For each displacement ``(x_k, x_{k+1})``, of which the gradient then
                takes the difference, so that the displacement need not be kept for it;
                or None. Read for p of 2 or more where all positions weigh 1, in float32
                and float64.
        """
        # Below, what rounding leaves of two branches that cancel has a steep slope.
        kept = kept if self.p >= 2 else None
        all_count = weights is None or all(each is None for each in weights)
        if not all_count or not _small_and_alike(displacements):
            own = type(self).__call__ is not DisplacementEnergy.__call__
            if not all_count or kept is None or own:
                return super().of_blocks(displacements, weights)
            pairs = zip(displacements, kept, strict=True)
            return ops.stack([self._between(v, ends) for v, ends in pairs])
        return self._of(at_least_float32(stacked(displacements)), batch_axis=1)

    def _between(self, displacement: Any, kept: tuple[Any, Any] | None) -> Any:
        v = at_least_float32(displacement)
        if kept is not None and not all(_is_like(v, each) for each in kept):
            kept = None
        return self._of(v, batch_axis=0, kept=kept)

    def _of(
        self,
        v: Any,
        batch_axis: int,
        weights: Any = None,
        kept: tuple[Any, Any] | None = None,
    ) -> Any:
        """The energies of the tensors along the axes before that of the batch."""
        if weights is not None:
            total = self._weighted_total(v, weights)
        elif self.norm == "elementwise":
            total = power_sum(v, self.p, batch_axis, kept)
        else:
            square = power_sum(v, 2.0, batch_axis + 1, kept)
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

    def _weighted_total(self, v: Any, weights: Any) -> Any:
        """The weighted sum of ``e_b`` of one block."""
        rank = len(weights.shape)
        if self.norm == "elementwise":
            return ops.sum(weights * power_sum(v, self.p, rank))
        square = power_sum(v, 2.0, rank)
        if rank > 1:
            positions = tuple(range(1, rank))
            largest = ops.max(weights, axis=positions, keepdims=True)
            share = weights / ops.where(largest > 0, largest, ops.ones_like(largest))
            square = ops.sum(share * square, axis=positions)
            weights = ops.squeeze(largest, axis=positions)
        return ops.sum(weights * root_power(square, self.p))


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
    if not STARTS_EACH_OPERATION:
        return False
    shapes = {tuple(each.shape) for each in displacements}
    if len(displacements) == 1 or len(shapes) > 1:
        return False
    return math.prod(shapes.pop()[1:]) <= _SMALL


def _is_like(v: Any, state: Any) -> bool:
    """Whether a state has the shape and the precision of a displacement."""
    if v.dtype != state.dtype or tuple(v.shape) != tuple(state.shape):
        return False
    return not any(size is None for size in ops.shape(v))  # ragged on TensorFlow
