"""Where the displacement and the states of each block are to be seen in one pass.

What is wanted decides which tensors: both states, or the branches, which add up to the
displacement without the rounding of a difference and without keeping both states.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_lap.blocks import Call, FoundBlock, Tensor, View, view, why_hidden
from keras_lap.trajectory.kept import is_kept, is_made_to_be_kept

DISPLACEMENTS, STATES, MASKS = "displacements", "states", "masks"
EXITS, KEPT = "exits", "kept"
WANTED = (DISPLACEMENTS, STATES, MASKS, EXITS, KEPT)


@dataclass(frozen=True, eq=False)
class Look:
    """Which tensors of one graph are to be seen for a block.

    Attributes:
        found: The block.
        tensors: What is to be seen, each once; empty below a closed call.
        views: Where, if the graph is that of a `call`.
    """

    found: FoundBlock
    tensors: tuple[Tensor, ...]
    views: tuple[View, ...]

    @property
    def path(self) -> tuple[Call, ...]:
        """The calls around the graph."""
        return self.found.path

    def read(self, value: Any) -> Any:
        """What is kept of a tensor that was seen."""
        return value


@dataclass(frozen=True, eq=False)
class Plan(Look):
    """What is to be seen of the way of the data through one block.

    Attributes:
        displacement: Which of the tensors show the displacement: indices of its parts,
            or of the states before and after; empty if it is not wanted.
        adds_up: Whether they are its parts.
        signs: Of these parts, −1 for one that is taken away.
        states: Which of them show the states: indices of the one before, and of the
            one after or the parts of the displacement; empty if they are not wanted.
        adds_on: Whether it is these parts.
        kept: Which of them are the states before and after, where the backward pass
            keeps both; empty if it does not, or they are not wanted.
    """

    displacement: tuple[int, ...] = ()
    adds_up: bool = False
    states: tuple[int, ...] = ()
    adds_on: bool = False
    signs: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()

    def displaced(self, seen: Sequence[Any]) -> Any:
        """The displacement, from what was seen of the tensors in one call."""
        parts = [seen[index] for index in self.displacement]
        return _total(parts, self.signs) if self.adds_up else _difference(*parts)

    def pair(self, seen: Sequence[Any]) -> tuple[Any, Any]:
        """The states before and after, in full precision, likewise."""
        before, *end = (seen[index] for index in self.states)
        if self.adds_on:
            return at_least_float32(before), _total([before, *end], (1, *self.signs))
        return at_least_float32(before), at_least_float32(*end)

    def kept_pair(self, seen: Sequence[Any]) -> tuple[Any, Any] | None:
        """The states before and after as the backward pass keeps them, if it does."""
        if not self.kept:
            return None
        before, after = (seen[index] for index in self.kept)
        return before, after


def split(
    plans: Sequence[Look], depth: int
) -> tuple[list[Look], dict[Call, list[Look]]]:
    """What is to be seen in one graph, and what within each of its calls.

    Args:
        plans: What is to be seen in the graph, at any depth.
        depth: How many calls are around the graph.
    """
    own = [plan for plan in plans if len(plan.path) == depth]
    within: dict[Call, list[Look]] = {}
    for plan in plans:
        for call in plan.path[depth : depth + 1]:
            within.setdefault(call, []).append(plan)
    return own, within


def plan_block(found: FoundBlock, wanted: Collection[str]) -> Plan:
    """Plans one block.

    Args:
        found: The block.
        wanted: Some of `WANTED`.

    Raises:
        ValueError: If its states are wanted and cannot be seen.
    """
    graph, residual = found.graph, found.residual
    if graph is None or residual is None:  # below a closed call: every call of a layer
        layer = found.call.operation
        views = (View(layer, None, None), View(layer, None, None, result=0))
        return Plan(found, (), views, (0, 1), False, (0, 1))
    ends: tuple[Tensor, ...] = (residual.before, residual.after)
    branches = tuple(term.tensor for term in residual.branches)
    by_parts = bool(branches) and not why_hidden(graph, branches)
    moved = branches if by_parts else ends
    adds_on = STATES in wanted and bool(why_hidden(graph, ends))
    states = (residual.before, *branches) if adds_on else ends
    if adds_on and (not branches or why_hidden(graph, states)):
        raise ValueError(
            f"The states of the block {found.block.name!r} lie between operations of a "
            "call, where only its displacement can be seen. Leave it out by "
            "blocks=..., or name the layer around it."
        )
    parts = [*moved] if DISPLACEMENTS in wanted else []
    parts += states if STATES in wanted else ()
    kept = KEPT in wanted and not why_hidden(graph, ends)
    kept = kept and all(is_kept(each, found.path) for each in ends)
    if by_parts and [term.sign for term in residual.branches] == [1]:
        # A branch that is kept itself costs nothing more, and has all its digits.
        kept = kept and not is_made_to_be_kept(*branches)
    parts += ends if kept else ()
    tensors = tuple(dict.fromkeys(parts))
    return Plan(
        found,
        tensors,
        tuple(view(graph, each) for each in tensors) if graph.is_call else (),
        tuple(map(tensors.index, moved)) if DISPLACEMENTS in wanted else (),
        by_parts,
        tuple(map(tensors.index, states)) if STATES in wanted else (),
        adds_on,
        tuple(term.sign for term in residual.branches),
        tuple(map(tensors.index, ends)) if kept else (),
    )


def at_least_float32(tensor: Any) -> Any:
    """Casts to float32 unless the tensor is of that or a higher precision already."""
    tensor = keras.ops.convert_to_tensor(tensor)
    # Not `result_type`, which makes float32 of float64 on PyTorch and JAX.
    precise = keras.backend.standardize_dtype(tensor.dtype) in ("float32", "float64")
    return tensor if precise else keras.ops.cast(tensor, "float32")


def _total(parts: Sequence[Any], signs: Sequence[int]) -> Any:
    """The sum of the parts; of one alone, itself, in the precision that it has."""
    (total, *rest), (sign, *others) = parts, signs
    total = total if sign > 0 else -total
    for part, sign in zip(rest, others, strict=True):
        first, second = at_least_float32(total), at_least_float32(part)
        total = first + second if sign > 0 else first - second
    return total


def _difference(before: Any, after: Any) -> Any:
    """``after − before``; the difference of two states needs full precision."""
    if tuple(before.shape) != tuple(after.shape):
        raise ValueError(
            f"A layer chosen by blocks= takes a state of shape {tuple(before.shape)} "
            f"and returns one of shape {tuple(after.shape)}, so there is no "
            "displacement between them. Choose layers that keep the shape."
        )
    return at_least_float32(after) - at_least_float32(before)
