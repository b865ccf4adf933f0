"""Which positions of the states count: the masks that Keras keeps with tensors.

Layers hand a mask on, sums by ``+`` and layers that know of no masks lose it. So the
mask of a state is that of the nearest tensor which it comes from and which has one,
as long as the positions are the same; it is read where Keras sets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import keras

from keras_lap.blocks import (
    SUM,
    Call,
    FoundBlock,
    Graph,
    Tensor,
    every_call,
    mask_rank,
    measure,
    used,
    view,
)
from keras_lap.trajectory.plan import Look

MaskInput: TypeAlias = str | Callable[[Any], Any] | None


class MaskReader(keras.layers.Layer):
    """Returns the mask of its input, which Keras hands to a `call` that takes one."""

    def __init__(self) -> None:
        super().__init__(autocast=False)

    def call(self, x: Any, mask: Any = None) -> Any:
        """The mask, or None."""
        return mask

    def compute_mask(self, x: Any, previous_mask: Any) -> None:
        """A mask has none itself."""

    def compute_output_spec(self, x: Any, mask: Any = None) -> keras.KerasTensor:
        """Something of the mask's kind."""
        return keras.KerasTensor(x.shape[:-1], "bool")


class Place(NamedTuple):
    """A tensor, and the calls around the graph that holds it.

    Attributes:
        tensor: The tensor.
        path: The calls, the outermost first.
        root: The graph around them all.
    """

    tensor: Tensor
    path: tuple[Call, ...]
    root: Graph

    @property
    def graph(self) -> Graph:
        """The graph that holds the tensor."""
        graph = self.path[-1].inside if self.path else self.root
        assert graph is not None  # closed calls are not gone into
        return graph


@dataclass(frozen=True, eq=False)
class MaskPlan(Look):
    """The one tensor whose mask is that of the states of a block, and maybe of others.

    Attributes:
        around: The calls around its graph.
        reader: Reads the mask.
    """

    around: tuple[Call, ...] = ()
    reader: MaskReader = field(default_factory=MaskReader)

    @property
    def path(self) -> tuple[Call, ...]:
        """As in `Look`; the tensor may lie elsewhere than the block."""
        return self.around

    def read(self, value: Any) -> Any:
        """The mask; the tensor itself is let go."""
        return self.reader(value)


def plan_masks(
    root: Graph | None, blocks: Sequence[FoundBlock]
) -> tuple[list[MaskPlan], list[int | None]]:
    """Plans the masks of the states of some blocks.

    Args:
        root: The graph of their network; None if it is closed.
        blocks: The blocks.

    Returns:
        One plan for each mask, and for each block the index of that of its state; None
        if it has none.
    """
    tensors = (each for call in every_call(root) for each in call.outputs)
    if root is None or not any(map(mask_rank, tensors)):
        return [], [None] * len(blocks)
    sizes = _Sizes()
    plans: dict[Tensor, MaskPlan] = {}
    sources: list[Tensor | None] = []
    for block in blocks:
        source = _source(_state(root, block), sizes)
        sources.append(source and source.tensor)
        if source is not None and source.tensor not in plans:
            graph, tensor = source.graph, source.tensor
            views = (view(graph, tensor),) if graph.is_call else ()
            plans[tensor] = MaskPlan(block, (tensor,), views, source.path)
    order = list(plans)
    indices = [None if each is None else order.index(each) for each in sources]
    return list(plans.values()), indices


def _state(root: Graph, block: FoundBlock) -> Place:
    """The state of a block; of one below a closed call, what goes into that."""
    if block.residual is not None:
        return Place(block.residual.before, block.path, root)
    *around, closed = block.path
    return Place(closed.inputs[0], tuple(around), root)


def _source(state: Place, sizes: _Sizes) -> Place | None:
    """The nearest tensor with a mask that a state comes from, of the same positions."""
    rank = len(state.tensor.shape)
    stack, seen = [state], set()
    while stack:
        place = stack.pop()
        tensor = place.tensor
        if tensor in seen or sizes.of(place, 2) != sizes.of(state, 2):
            continue
        seen.add(tensor)
        own = mask_rank(tensor)
        if 0 < own < rank and sizes.of(place, own) == sizes.of(state, own):
            graph = place.graph
            if not (graph.is_call and view(graph, tensor).hidden):
                return place
        stack += reversed(list(_earlier(place)))
    return None


def _earlier(place: Place) -> Iterator[Place]:
    """What a tensor comes from: the state before a sum, or a first argument, first."""
    tensor, path, root = place
    call, graph = tensor.producer, place.graph
    if call is None:
        if path and tensor in graph.inputs:
            outer = path[-1].inputs[graph.inputs.index(tensor)]
            yield Place(outer, path[:-1], root)
    elif call.inside is not None and not call.hidden:
        result = call.inside.outputs[call.outputs.index(tensor)]
        yield Place(result, (*path, call), root)
    else:
        inputs = list(used(tensor))
        if SUM in call.roles:
            inputs.sort(key=lambda each: each.position)
        yield from (Place(each, path, root) for each in inputs)


class _Sizes:
    """The sizes of the first axes of tensors; None for those of the input's own."""

    def __init__(self) -> None:
        self._measured: dict[int, Any] = {}

    def of(self, place: Place, axes: int) -> tuple[int | None, ...]:
        """The sizes of so many axes of a tensor."""
        graph, tensor = place.graph, place.tensor
        shape = tensor.shape[:axes]
        if graph.is_call or None not in shape[1:]:
            return shape
        # An unknown size may be that of the input or one computed from it.
        if id(graph) not in self._measured:
            self._measured[id(graph)] = measure(graph)
        measured = self._measured[id(graph)]
        known = measured.known.get(id(tensor.symbol), shape)[1:axes]
        return (shape[0], *(None if n == measured.length else n for n in known))


def fits(mask: Any, state: Any) -> bool:
    """Whether the axes of a mask, or of weights, are the first axes of a state.

    The last axis of a state is one of features, which no mask leaves out, unless it has
    no other than that of the batch. Sizes that are not known yet are taken to agree.
    """
    own, other = tuple(mask.shape), tuple(state.shape)
    if len(own) > 1 and len(own) >= len(other):
        return False
    pairs = zip(own, other, strict=False)
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def given_mask(network: keras.Model, mask: MaskInput) -> Callable[[Any], Any]:
    """How to take a mask from the inputs of a network.

    Args:
        network: The network.
        mask: Key or name of an input, a function from the inputs to the mask, or None.

    Returns:
        A function from the inputs to the mask, or to None if there is none.

    Raises:
        ValueError: If the network has no input of this name; on its call, if the inputs
            have none.
        TypeError: If `mask` is none of these.
    """
    if mask is None:
        return lambda inputs: None
    if not isinstance(mask, str):
        if callable(mask):
            return mask
        raise TypeError(
            "mask must be the name of an input, or a function from the inputs to the "
            f"mask. Received: mask={mask!r} (of type {type(mask).__name__}). Pass e.g. "
            "mask='padding_mask'."
        )
    name: str = mask
    names = [symbol.name for symbol in getattr(network, "inputs", None) or ()]
    structure = network.input if names else None
    keys = [*structure] if isinstance(structure, Mapping) else []
    if names and name not in [*keys, *names]:
        raise ValueError(_no_input(name, dict.fromkeys([*keys, *names])))

    def read(inputs: Any) -> Any:
        if isinstance(inputs, Mapping) and name in inputs:
            return inputs[name]
        if name in names:
            return keras.tree.flatten(inputs)[names.index(name)]
        raise ValueError(_no_input(name, inputs if isinstance(inputs, Mapping) else ()))

    return read


def _no_input(name: str, names: Iterable[str]) -> str:
    known = ", ".join(map(repr, names))
    return (
        f"mask names an input that the network does not have. Received: mask={name!r}. "
        + (f"Its inputs are {known}" if known else "Its inputs have no names")
        + "; a function from the inputs to the mask serves too."
    )
