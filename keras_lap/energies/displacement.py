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
    power_sums,
    root_power,
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
        v = at_least_float32(displacement)
        return self._scaled(self._total(v), [v])

    def weighted(self, displacement: Any, weights: Any) -> Any:
        """As in `Energy`; see the class for what the weights multiply."""
        v = at_least_float32(displacement)
        return self._scaled(self._weighted_total(v, weights), [v])

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
        if _is_changed(type(self)):
            return super().of_blocks(displacements, weights)
        weights = [None] * len(displacements) if weights is None else weights
        all_count = all(each is None for each in weights)
        if all_count and _small_and_alike(displacements):
            return self._scaled(self._totals(displacements), displacements)
        # Below, what rounding leaves of two branches that cancel has a steep slope.
        pairs = kept if kept and all_count and self.p >= 2 else [None] * len(weights)
        moved = [at_least_float32(each) for each in displacements]
        totals = [
            self._total(v, _like(v, pair))
            if own is None
            else self._weighted_total(v, own)
            for v, own, pair in zip(moved, weights, pairs, strict=True)
        ]
        return self._scaled(ops.stack(totals), moved)

    def _total(self, v: Any, kept: tuple[Any, Any] | None = None) -> Any:
        """The sum of ``e_b`` over the batch, of one block."""
        if self.norm == "elementwise":
            return power_sum(v, self.p, 0, kept)
        return ops.sum(root_power(power_sum(v, 2.0, 1, kept), self.p))

    def _totals(self, alike: Sequence[Any]) -> Any:
        """The same of several blocks, on PyTorch."""
        if self.norm == "elementwise":
            return power_sums(alike, self.p, 0)
        return ops.sum(root_power(power_sums(alike, 2.0, 1), self.p), axis=1)

    def _scaled(self, total: Any, moved: Sequence[Any]) -> Any:
        """Means from one sum, or from a tensor of one for each displacement.

        All at once, as an operation for each has its price on every backend.
        """
        known, unknown = zip(*map(self._numbers, moved), strict=True)
        # The energy is homogeneous: the step scales one number, not the tensor.
        factors = [self.time_step**-self.p / each for each in known]
        precision = keras.backend.standardize_dtype(total.dtype)
        if len({*factors}) == 1:
            total = total * factors[0]
        else:
            total = total * ops.convert_to_tensor(factors, dtype=precision)
        if all(each is None for each in unknown):
            return total
        sizes = [ops.cast(1 if n is None else n, total.dtype) for n in unknown]
        return total / (ops.stack(sizes) if len(total.shape) else sizes[0])

    def _numbers(self, v: Any) -> tuple[int, Any]:
        """What is divided by: the sizes that are known, and a product of the others."""
        sizes = ops.shape(v)
        if any(size is None for size in sizes):  # TensorFlow's ragged tensors
            sizes = (v.nrows() if self.reduction == "sum" else ops.size(v),)
        elif self.reduction == "sum":
            sizes = sizes[:1]
        known = math.prod(size for size in sizes if isinstance(size, int))
        # A batch of any size in TensorFlow's graph.
        others = [size for size in sizes if not isinstance(size, int)]
        return known, math.prod(others) if others else None

    def _weighted_total(self, v: Any, weights: Any) -> Any:
        """The weighted sum of ``e_b`` of one block."""
        v = only_weighted(v, weights)
        weights = ops.cast(weights, v.dtype)
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
    # With all blocks in one tensor, a step of JAX reads and writes five times as much
    # for a hundred small ones: benchmarks/README.md, section 11.
    if not STARTS_EACH_OPERATION:
        return False
    shapes = {tuple(each.shape) for each in displacements}
    if len(displacements) == 1 or len(shapes) > 1:
        return False
    return math.prod(shapes.pop()[1:]) <= _SMALL


def _is_changed(kind: type[DisplacementEnergy]) -> bool:
    """Whether a subclass says itself what one displacement costs."""
    ours = DisplacementEnergy
    return kind.__call__ is not ours.__call__ or kind.weighted is not ours.weighted


def _like(v: Any, kept: tuple[Any, Any] | None) -> tuple[Any, Any] | None:
    """Two states, if they have the shape and the precision of a displacement."""
    if kept is None or any(size is None for size in ops.shape(v)):  # ragged
        return None
    alike = (v.dtype == x.dtype and tuple(v.shape) == tuple(x.shape) for x in kept)
    return kept if all(alike) else None
