"""How a group acts on arrays: vectors, rows, images, parameters.

Arrays have the batch first. NumPy arrays stay NumPy arrays; all else becomes a tensor
of the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import is_whole, refusal
from keras_lap.symmetry.arrays import (
    as_array,
    cast_beside,
    float_type_of,
    library_of,
    take_for,
    type_of,
)
from keras_lap.symmetry.groups import TOLERANCE, FiniteGroup, orthogonal

_register = keras.saving.register_keras_serializable("keras_lap")


class Action:
    """Base of the actions: what each element of a group does to data.

    A subclass implements `apply`. For all a and b, ``apply(a, apply(b, x))`` has to be
    ``apply(table[a, b], x)``.

    Args:
        group: The `FiniteGroup` that acts.

    Raises:
        TypeError: If it is none.
    """

    def __init__(self, group: FiniteGroup):
        if not isinstance(group, FiniteGroup):
            advice = "Pass e.g. keras_lap.symmetry.mirror()."
            raise refusal("group", "be a FiniteGroup", group, advice, TypeError)
        self.group = group

    def apply(self, index: Any, x: Any) -> Any:
        """ρ_g x.

        Args:
            index: Which element g: one whole number, or whole numbers `(batch,)`, one
                for each sample.
            x: An array, `(batch, ...)`.

        Returns:
            An array of the same shape and type; whole numbers become floats where
            matrices are not whole, and where they have signs that the type has not.

        Raises:
            ValueError: If the group cannot act on that shape.
        """
        raise NotImplementedError

    def invert(self, index: Any, x: Any) -> Any:
        """ρ_g⁻¹ x; arguments as in `apply`."""
        inverses = self.group.inverses
        if is_whole(index) or isinstance(index, np.ndarray):
            return self.apply(inverses[index], x)
        return self.apply(ops.take(ops.convert_to_tensor(inverses), index), x)

    def orbit(self, x: Any) -> Any:
        """ρ_g x for all g, `(n, batch, ...)`."""
        images = [self.apply(index, x) for index in range(self.group.order)]
        return library_of(x).stack(images)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.group.name!r}>"

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        return {"group": keras.saving.serialize_keras_object(self.group)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Action:
        """Rebuilds the action from what `get_config` returned."""
        group = keras.saving.deserialize_keras_object(config["group"])
        return cls(**{**config, "group": group})


@_register
class Trivial(Action):
    """Every element leaves everything as it is, as turning an image does its label."""

    def apply(self, index: Any, x: Any) -> Any:
        """Returns x."""
        return x


@_register
class Linear(Action):
    """Matrices multiply one axis: ``x @ g.T`` for the last.

    Args:
        group: The `FiniteGroup` that acts.
        matrices: One orthogonal matrix for each of its elements, `(n, d, d)`, which
            multiply as they do. Defaults to None, the group's own.
        axis: Which axis of x has the d coordinates; not the first, the batch. Defaults
            to -1.

    Raises:
        ValueError: If there are fewer or more matrices than elements, or they do not
            multiply as the elements do, or are not orthogonal.
        TypeError: If `group` is no `FiniteGroup`.

    Examples:
        >>> shifts = keras_lap.symmetry.cyclic(3)
        >>> act = keras_lap.symmetry.Linear(shifts)
        >>> act.apply(1, np.array([[1.0, 2.0, 3.0]]))
        array([[3., 1., 2.]])
    """

    def __init__(self, group: FiniteGroup, matrices: Any = None, axis: int = -1):
        super().__init__(group)
        if not is_whole(axis) or axis == 0:
            raise refusal("axis", "be a whole number but 0, the batch", axis)
        self.axis = int(axis)
        self._own = matrices is None
        self.matrices = group.elements if self._own else _checked(group, matrices)
        # Orthogonal matrices of whole entries move coordinates, with signs. A product
        # would be inexact: accelerators round the factors, floats large whole numbers.
        self._moves = bool((self.matrices == np.round(self.matrices)).all())
        self._places = np.abs(self.matrices).argmax(2).astype("int32")
        self._signs = self.matrices.sum(2)

    @property
    def dimension(self) -> int:
        """How many coordinates it acts on."""
        return int(self.matrices.shape[-1])

    def apply(self, index: Any, x: Any) -> Any:
        """As `Action.apply`."""
        x = as_array(x)
        rank = len(x.shape)
        size = x.shape[self.axis] if -rank <= self.axis < rank else 0
        is_batch = rank > 0 and self.axis % rank == 0
        if rank < 2 or is_batch or size not in (None, self.dimension):
            raise ValueError(
                f"The group {self.group.name!r} acts on {self.dimension} coordinates "
                f"along axis {self.axis}. Received: an array of shape "
                f"{tuple(x.shape)}. The batch comes first; Linear(group, matrices, "
                "axis) takes matrices for another size."
            )
        library = library_of(x)
        moved = library.moveaxis(x, self.axis, -1)
        change = self._move if self._moves else self._multiply
        return library.moveaxis(change(index, moved), -1, self.axis)

    def _move(self, index: Any, x: Any) -> Any:
        """Exchanges coordinates of the last axis, with signs."""
        library, ones = library_of(x), (1,) * (len(x.shape) - 2)
        if is_whole(index):
            x = library.take(x, self._places[int(index)], axis=-1)
            signs = self._signs[int(index)]
        else:
            shape = (-1, *ones, self.dimension)
            places = library.reshape(take_for(self._places, index, x, "int32"), shape)
            x = library.take_along_axis(x, places, axis=-1)
            signs = library.reshape(take_for(self._signs, index, x), shape)
        if (self._signs > 0).all():
            return x
        if type_of(x) == "bool" or type_of(x).startswith("uint"):  # has no signs
            x = cast_beside(x, float_type_of(x), x)
        return x * cast_beside(signs, x.dtype, x)

    def _multiply(self, index: Any, x: Any) -> Any:
        """Multiplies the last axis by matrices, in floats."""
        library, ones = library_of(x), (1,) * (len(x.shape) - 2)
        x = cast_beside(x, float_type_of(x), x)
        if is_whole(index):
            return library.matmul(
                x, cast_beside(self.matrices[int(index)].T, x.dtype, x)
            )
        matrices = library.swapaxes(take_for(self.matrices, index, x), 1, 2)
        matrices = cast_beside(matrices, x.dtype, x)
        shape = (-1, *ones, self.dimension, self.dimension)
        product = library.matmul(x[..., None, :], library.reshape(matrices, shape))
        return product[..., 0, :]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        matrices = None if self._own else self.matrices.tolist()
        return {**super().get_config(), "matrices": matrices, "axis": self.axis}


@_register
class Images(Action):
    """Turns and mirrors images by moving their pixels, exactly.

    The matrices of the group act on the plane, x to the right and y upwards:
    `rotations(4)` turns as ``np.rot90(images, k, (1, 2))`` does, `mirror()` exchanges
    left and right. Quarter turns need images as high as they are wide. The axes after
    the batch are height and width, also where Keras has channels first: permute before.

    Args:
        group: A `FiniteGroup` of 2×2 matrices of entries 0 and ±1.

    Raises:
        ValueError: If the group has other matrices.
        TypeError: If `group` is no `FiniteGroup`.

    Examples:
        >>> quarters = keras_lap.symmetry.Images(keras_lap.symmetry.rotations(4))
        >>> pixels = np.arange(4).reshape(1, 2, 2, 1)
        >>> quarters.apply(1, pixels)[0, :, :, 0]
        array([[1, 3],
               [0, 2]])
    """

    def __init__(self, group: FiniteGroup):
        super().__init__(group)
        elements = group.elements
        if group.dimension != 2 or (elements != np.round(elements)).any():
            raise ValueError(
                "Pixels are moved exactly by quarter turns and mirror images alone: "
                "2×2 matrices of entries 0 and ±1. Received: "
                f"group={group!r}. Pass mirror(), rotations(2), rotations(4) or "
                "dihedral(4) of keras_lap.symmetry, or a subgroup of the last."
            )
        # The matrix is the diagonal of its row sums times 1 or the exchange of x and y.
        # The exchange is a transposition and both flips: rows count downwards.
        swaps = elements[:, 0, 0] == 0
        signs = elements.sum(2) < 0
        self._flags = np.stack([swaps, signs[:, 1] ^ swaps, signs[:, 0] ^ swaps], 1)

    def apply(self, index: Any, x: Any) -> Any:
        """As `Action.apply`; x has shape `(batch, height, width, ...)`."""
        x = as_array(x)
        if len(x.shape) < 3:
            raise ValueError(
                "Images have the shape (batch, height, width, ...). Received: "
                f"{tuple(x.shape)}. Reshape flat pixels before, or let the matrices "
                "of a group move them: inputs='vectors'."
            )
        height, width = x.shape[1:3]
        if self._flags[:, 0].any() and height != width:
            raise ValueError(
                "Quarter turns and transpositions need square images. Received: "
                f"images of {height}×{width}. Pad them, or take mirror() or "
                "rotations(2)."
            )
        library = library_of(x)
        moves: tuple[Callable[[Any], Any], ...] = (
            lambda each: library.swapaxes(each, 1, 2),
            lambda each: library.flip(each, 1),
            lambda each: library.flip(each, 2),
        )
        if is_whole(index):
            for flag, move in zip(self._flags[int(index)], moves, strict=True):
                x = move(x) if flag else x
            return x
        flags = take_for(self._flags, index, x, "bool")
        for number, move in enumerate(moves):
            if self._flags[:, number].any():
                shape = (-1, *(1,) * (len(x.shape) - 1))
                x = library.where(library.reshape(flags[:, number], shape), move(x), x)
        return x


def conjugation(group: FiniteGroup, output: Any = None) -> Linear:
    """How a group acts on the parameters z of a unit ``σ(z x)``.

    ``M_g z = ρ̂_g z ρ_gᵀ``, on ``z.reshape(-1)`` the matrix ``kron(ρ̂_g, ρ_g)``. With it
    ``σ(M_g z ρ_g x) = ρ̂_g σ(z x)`` where σ commutes with ρ̂_g; one that is applied to
    each coordinate does so with permutations alone, an odd one with signs, too.

    Args:
        group: The group, which acts on the d inputs by its own matrices.
        output: How it acts on the o outputs: matrices `(n, o, o)`, a `Linear` action,
            `"vectors"` as on the inputs, or `"trivial"` on one output that stays as it
            is. Defaults to None, as on the inputs.

    Returns:
        A `Linear` action on vectors of o·d parameters.

    Raises:
        ValueError: If `output` is none of these.
        TypeError: If `group` is no `FiniteGroup`.
    """
    if output is None:
        output = "vectors"
    elif isinstance(output, str) and output == "trivial":
        output = np.ones((group.order, 1, 1))
    action = action_of("output", output, group)
    if not isinstance(action, Linear):
        accepted = "be matrices (n, o, o), a Linear action, 'vectors' or 'trivial'"
        raise refusal("output", accepted, output)
    pairs = zip(action.matrices, group.elements, strict=True)
    return Linear(group, [np.kron(hat, rho) for hat, rho in pairs])


def projector(action: Linear) -> np.ndarray:
    """The orthogonal projection on what a group leaves fixed: ``P = mean_g M_g``.

    Args:
        action: A `Linear` action on D coordinates, such as `conjugation` returns.

    Returns:
        The matrix, `(D, D)`.

    Raises:
        TypeError: If the action is not linear.
    """
    if not isinstance(action, Linear):
        advice = "Pass e.g. Linear(group) or conjugation(group)."
        raise refusal("action", "be a Linear action", action, advice, TypeError)
    mean: np.ndarray = action.matrices.mean(0)
    return mean


def fixed_basis(action: Linear) -> np.ndarray:
    """An orthonormal basis of what a group leaves fixed.

    Args:
        action: As in `projector`.

    Returns:
        The vectors as columns, `(D, m)`; ``m = mean_g trace M_g``, perhaps 0.

    Raises:
        TypeError: If the action is not linear.

    Examples:
        >>> swap = keras_lap.symmetry.cyclic(2)
        >>> keras_lap.symmetry.fixed_basis(keras_lap.symmetry.conjugation(swap)).shape
        (4, 2)
    """
    values, vectors = np.linalg.eigh(projector(action))
    return vectors[:, values > 0.5]  # they are 0 and 1


def action_of(argument: str, value: Any, group: FiniteGroup) -> Action:
    """The action that `inputs=` or `outputs=` means.

    Args:
        argument: Name of the argument, for messages.
        value: `"trivial"`; `"vectors"`, the group's matrices on the last axis;
            `"rows"`, on axis 1; `"images"`; matrices `(n, d, d)` on the last axis; or
            an `Action`.
        group: The group that acts.

    Raises:
        ValueError: If it is none of these, or an action of another group.
        TypeError: If `group` is no `FiniteGroup`.
    """
    if isinstance(value, Action):
        if value.group != group:
            raise ValueError(
                f"{argument} must be an action of the group itself. Received: one of "
                f"{value.group!r} beside {group!r}. Build both from one group."
            )
        return value
    named = {"trivial": Trivial, "vectors": Linear, "images": Images}
    if isinstance(value, str) and value in named:
        return named[value](group)
    if isinstance(value, str) and value == "rows":
        return Linear(group, axis=1)
    advice = "One action serves them all where there are several."
    if value is None or isinstance(value, str | Mapping | int | float):
        accepted = "be 'trivial', 'vectors', 'rows', 'images', matrices or an Action"
        raise refusal(argument, accepted, value, advice)
    try:
        return Linear(group, value)
    except ValueError as error:
        raise ValueError(f"{argument} taken as matrices: {error} {advice}") from None


def _checked(group: FiniteGroup, value: Any) -> np.ndarray:
    """Matrices that multiply as the elements of the group do."""
    matrices = orthogonal("matrices", value)
    if len(matrices) != group.order:
        raise ValueError(
            f"matrices must be one for each of the {group.order} elements of "
            f"{group.name!r}. Received: {len(matrices)} matrices."
        )
    for generator, products in {0: np.arange(group.order), **group.generators}.items():
        error = np.abs(matrices @ matrices[generator] - matrices[products]).max((1, 2))
        if error.max() > TOLERANCE:
            a, b = int(np.argmax(error)), generator
            raise ValueError(
                "matrices must multiply as the elements of the group do. Received: "
                f"matrices whose product {a}·{b} is not matrix {products[a]}, which "
                "group.table says. The order of group.elements counts, and the "
                "identity is first."
            )
    return matrices
