"""Finite groups of orthogonal matrices, and the makers of common ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np

from keras_lap._checks import refusal, whole_number

# Above the rounding of a product of float32 matrices: what is nearer is one element.
TOLERANCE = 1e-6
MOST_FOR_ALL_SUBGROUPS = 24


@keras.saving.register_keras_serializable("keras_lap")
class FiniteGroup:
    """A finite group, given by orthogonal matrices that multiply as its elements do.

    ``elements[a] @ elements[b] == elements[table[a, b]]``. The group is the set of
    these matrices; how it acts on data of another form says an action, as
    `keras_lap.symmetry.Images`.

    Args:
        elements: The matrices, `(n, d, d)`: all of them, each once. The identity is
            moved to the front, the others keep their order; entries within 1e-6 of 0
            or ±1 are rounded to these.
        name: What reports call it. Defaults to None, its order and dimension.

    Raises:
        ValueError: If the matrices are not orthogonal, repeat one another, or some
            product of two is missing.

    Examples:
        >>> swap = keras_lap.symmetry.FiniteGroup([np.eye(2), [[0, 1], [1, 0]]])
        >>> swap.order, swap.dimension
        (2, 2)
    """

    def __init__(self, elements: Any, name: str | None = None):
        matrices = orthogonal("elements", elements)
        first = np.flatnonzero(_same(matrices, np.eye(matrices.shape[-1])))
        if not len(first):
            raise refusal("elements", "hold the identity matrix", elements, _CLOSURE)
        order = [first[0], *(i for i in range(len(matrices)) if i != first[0])]
        self.elements = matrices[order]
        self.elements.setflags(write=False)
        self.name = name or f"group of order {self.order} on R^{self.dimension}"
        self._finder = _Finder(self.elements)
        if (self._finder(self.elements) != np.arange(self.order)).any():
            raise ValueError(
                "elements must hold every matrix once. Received: "
                f"{len(matrices)} matrices with repeats. Leave those out."
            )
        self.generators, self._words = self._generate()

    def _generate(self) -> tuple[dict[int, np.ndarray], list[tuple[int, int, int]]]:
        """Elements that generate all others, and how.

        Returns:
            For each generator t the indices of all a·t; and, in an order in which each
            is known before it is used, b = a·t for every element b but the identity.

        A finite set with the identity is closed under all products if it is closed
        under those with elements that generate it: n·log n products instead of n².
        """
        generators: dict[int, np.ndarray] = {}
        words: list[tuple[int, int, int]] = []
        reached = np.zeros(self.order, bool)
        reached[0] = True
        while not reached.all():
            new = int(np.argmin(reached))
            generators[new] = products = self._finder(
                self.elements @ self.elements[new]
            )
            if (products < 0).any():
                a = int(np.argmin(products))
                raise ValueError(
                    "elements must be closed under products. Received: "
                    f"{self.order} matrices that lack the product of\n"
                    f"{self.elements[a]} and\n{self.elements[new]}. {_CLOSURE}"
                )
            fresh = [int(a) for a in np.flatnonzero(reached)]
            while fresh:
                a = fresh.pop()
                for t, by_t in generators.items():
                    b = int(by_t[a])
                    if not reached[b]:
                        reached[b] = True
                        words.append((a, t, b))
                        fresh.append(b)
        return generators, words

    @property
    def order(self) -> int:
        """How many elements it has."""
        return len(self.elements)

    @property
    def dimension(self) -> int:
        """Rows of its matrices."""
        return int(self.elements.shape[-1])

    @cached_property
    def table(self) -> np.ndarray:
        """The Cayley table, `(n, n)`: row a, column b is the index of a·b."""
        table = np.empty((self.order, self.order), np.int32)
        table[:, 0] = np.arange(self.order)
        for a, t, b in self._words:
            table[:, b] = self.generators[t][table[:, a]]
        return table

    @cached_property
    def inverses(self) -> np.ndarray:
        """The index of the inverse of each element, `(n,)`."""
        return self._finder(np.swapaxes(self.elements, 1, 2))

    def subgroups(self, cyclic_only: bool = True) -> tuple[FiniteGroup, ...]:
        """Its subgroups, the trivial one and, if it is among them, itself included.

        Args:
            cyclic_only: Whether to list only those that one element generates; all,
                up to order 24. Defaults to True.

        Returns:
            The groups, the smaller before the larger.

        Raises:
            ValueError: If all are asked for of a larger group.
        """
        if not cyclic_only and self.order > MOST_FOR_ALL_SUBGROUPS:
            raise ValueError(
                f"All subgroups are listed up to order {MOST_FOR_ALL_SUBGROUPS}. "
                f"Received: a group of order {self.order}. Pass cyclic_only=True, or "
                "name the subgroups that you mean by from_generators."
            )
        cyclic = {self._closed({element}) for element in range(self.order)}
        found = set(cyclic)
        fresh = set() if cyclic_only else set(cyclic)
        while fresh:
            joined = {self._closed(a | b) for a in fresh for b in cyclic}
            fresh = joined - found
            found |= fresh
        members = sorted(map(sorted, found), key=lambda each: (len(each), each))
        return tuple(self._restricted(each) for each in members)

    def _closed(self, members: set[int] | frozenset[int]) -> frozenset[int]:
        """The subgroup that some elements generate."""
        closed = np.array(sorted({0, *members}))
        while True:
            products = np.unique(self.table[np.ix_(closed, closed)])
            if len(products) == len(closed):
                return frozenset(map(int, closed))
            closed = products

    def _restricted(self, members: list[int]) -> FiniteGroup:
        """The subgroup of these elements."""
        if len(members) == self.order:
            return self
        generators: list[int] = []
        for element in members[1:]:  # no two subgroups have the same
            if element not in self._closed({*generators}):
                generators.append(element)
        made = f"{self.name}: made by {', '.join(map(str, generators))}"
        return FiniteGroup(
            self.elements[members], made if generators else "trivial group"
        )

    def __len__(self) -> int:
        return self.order

    def __mul__(self, other: FiniteGroup) -> FiniteGroup:
        """The direct product: block-diagonal matrices; (a, b) has index a·|B| + b."""
        if not isinstance(other, FiniteGroup):
            return NotImplemented
        d, e = self.dimension, other.dimension
        blocks = np.zeros((self.order, other.order, d + e, d + e))
        blocks[:, :, :d, :d] = self.elements[:, None]
        blocks[:, :, d:, d:] = other.elements
        return FiniteGroup(
            blocks.reshape(-1, d + e, d + e), f"{self.name} × {other.name}"
        )

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same matrices in the same order."""
        if not isinstance(other, FiniteGroup):
            return NotImplemented
        same = self.elements.shape == other.elements.shape
        return same and bool(_same(self.elements, other.elements).all())

    def __hash__(self) -> int:
        return hash(self.elements.shape)

    def __repr__(self) -> str:
        return f"<FiniteGroup {self.name!r}, order {self.order}, on R^{self.dimension}>"

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        return {"elements": self.elements.tolist(), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FiniteGroup:
        """Rebuilds the group from what `get_config` returned."""
        return cls(**config)


_CLOSURE = "from_generators([...]) finds all products of a few matrices."


class _Finder:
    """Finds matrices among those of a group.

    A random linear form takes each to a number; only the few whose numbers are near
    are compared.
    """

    def __init__(self, elements: np.ndarray):
        self.form = np.random.default_rng(0).normal(size=elements.shape[1:])
        self.form /= np.abs(self.form).sum()  # near matrices have numbers as near
        numbers = self._numbers(elements)
        self.order = np.argsort(numbers, kind="stable")
        self.numbers, self.elements = numbers[self.order], elements

    def _numbers(self, matrices: np.ndarray) -> np.ndarray:
        return np.tensordot(matrices, self.form, 2)

    def __call__(self, matrices: np.ndarray) -> np.ndarray:
        """The index of each matrix, `(m,)`, and −1 for one that is not there."""
        numbers = self._numbers(matrices)
        low = np.searchsorted(self.numbers, numbers - TOLERANCE)
        high = np.searchsorted(self.numbers, numbers + TOLERANCE)
        found = np.full(len(matrices), -1)
        for step in range(int((high - low).max(initial=0))):
            near = self.order[np.minimum(low + step, len(self.order) - 1)]
            hit = (low + step < high) & (found < 0)
            hit &= _same(self.elements[near], matrices)
            found[hit] = near[hit]
        return found


def _same(matrices: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which matrices are equal but for rounding."""
    return np.abs(matrices - others).max((-2, -1)) < TOLERANCE


def orthogonal(argument: str, value: Any) -> np.ndarray:
    """`value` as orthogonal matrices `(n, d, d)` in float64, whole entries exact.

    Args:
        argument: Name of the argument, for the message.
        value: What the user passed.

    Raises:
        ValueError: If it is something else.
    """
    try:
        matrices = np.array(value, "float64")
    except (TypeError, ValueError):
        matrices = np.empty(0)
    if matrices.ndim != 3 or 0 in matrices.shape or len(set(matrices.shape[1:])) != 1:
        raise ValueError(
            f"{argument} must be square matrices of shape (n, d, d). Received: "
            f"{argument} of shape {np.shape(matrices) if matrices.size else '?'}. Pass "
            "one matrix for each element of the group."
        )
    products = matrices @ np.swapaxes(matrices, 1, 2)
    wrong = ~_same(products, np.eye(matrices.shape[-1]))  # NaN is wrong, too
    if wrong.any():
        index = int(np.argmax(wrong))
        raise ValueError(
            f"{argument} must be orthogonal matrices, g gᵀ = 1. Received: {argument}"
            f"[{index}]=\n{matrices[index]}. A finite group of other matrices is "
            "orthogonal in other coordinates."
        )
    whole = np.round(matrices)
    return np.where(np.abs(matrices - whole) < TOLERANCE, whole + 0.0, matrices)


def cyclic(d: int) -> FiniteGroup:
    """The shifts of d coordinates; element k moves the first to place k.

    Args:
        d: How many coordinates, at least 1.
    """
    whole_number("d", d, 1)
    shifts = [np.roll(np.eye(d), k, axis=0) for k in range(d)]
    return FiniteGroup(shifts, f"shifts of {d}")


def symmetric(d: int) -> FiniteGroup:
    """All permutations of d coordinates.

    Args:
        d: How many coordinates, from 1 to 7; 7 have 5040 permutations already.

    Raises:
        ValueError: If there are more.
    """
    if whole_number("d", d, 1) > 7:
        advice = "Of 8 there are 40320. Generate a subgroup by from_generators."
        raise refusal("d", "be at most 7", d, advice)
    rows = np.eye(d)
    every = [rows[list(each)] for each in itertools.permutations(range(d))]
    return FiniteGroup(every, f"permutations of {d}")


def rotations(n: int) -> FiniteGroup:
    """The turns of the plane by multiples of 360°/n, counter-clockwise.

    Args:
        n: How many, at least 1.
    """
    angles = 2 * np.pi * np.arange(whole_number("n", n, 1)) / n
    return FiniteGroup(_turns(angles), f"turns by 360°/{n}")


def dihedral(n: int) -> FiniteGroup:
    """The turns of `rotations(n)`, then each after a left-right mirror image.

    Args:
        n: How many turns, at least 1.
    """
    turns = _turns(2 * np.pi * np.arange(whole_number("n", n, 1)) / n)
    mirrored = turns @ np.diag([-1.0, 1.0])
    return FiniteGroup([*turns, *mirrored], f"turns by 360°/{n} and mirror images")


def _turns(angles: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angles), np.sin(angles)
    return np.moveaxis(np.array([[cos, -sin], [sin, cos]]), -1, 0)


def mirror() -> FiniteGroup:
    """The left-right mirror image of the plane."""
    return FiniteGroup([np.eye(2), np.diag([-1.0, 1.0])], "left-right mirror")


def sign(d: int) -> FiniteGroup:
    """The identity and x → −x in d dimensions.

    Args:
        d: How many coordinates, at least 1.
    """
    one = np.eye(whole_number("d", d, 1))
    return FiniteGroup([one, -one], f"sign of {d}")


def from_generators(
    generators: Sequence[Any], max_order: int = 1000, name: str | None = None
) -> FiniteGroup:
    """The group of all products of some orthogonal matrices.

    Args:
        generators: The matrices, `(k, d, d)`.
        max_order: At how many elements to give up. Defaults to 1000.
        name: What reports call it. Defaults to None.

    Raises:
        ValueError: If the matrices are not orthogonal, or generate more elements.

    Examples:
        >>> quarter = [[0, -1], [1, 0]]
        >>> keras_lap.symmetry.from_generators([quarter]).order
        4
    """
    matrices = orthogonal("generators", generators)
    whole_number("max_order", max_order, 1)
    found = fresh = np.eye(matrices.shape[-1])[None]
    while len(fresh):
        products = (fresh[:, None] @ matrices).reshape(-1, *found.shape[1:])
        products = products[_Finder(found)(products) < 0]
        # Each once: the first that is equal to it is itself.
        fresh = products[_Finder(products)(products) == np.arange(len(products))]
        found = np.concatenate([found, fresh])
        if len(found) > max_order:
            raise ValueError(
                f"generators must generate at most max_order={max_order} elements. "
                f"Received: matrices that generate more than {len(found) - 1}. Turns "
                "by an irrational part of 360° never come back; otherwise raise "
                "max_order."
            )
    return FiniteGroup(found, name)
