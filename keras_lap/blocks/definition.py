"""When is a sum in a graph the end of a residual block?

``x_out = act?(x_in + r(x_in))``: `x_in` reaches the sum unchanged, or through a
shortcut that only changes its shape, and the rest of the sum depends on `x_in`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from keras_lap.blocks.graph import Graph, Node, Tensor, is_addition
from keras_lap.blocks.opening import flows
from keras_lap.blocks.operations import (
    NORMALIZATION,
    is_activation,
    shortcut_sources,
    unaltered,
)

Kind = Literal["identity", "projection", "layer"]


@dataclass(frozen=True, eq=False)
class Merge:
    """Where the two states of one residual block are found in a graph.

    Attributes:
        kind: What the shortcut is.
        shortcut: The state before: `x_in`, or its projection.
        source: `x_in` itself.
        output: The state after: the sum, or the activation of the sum.
        branches: Tensors of the graph that add up to the displacement; empty if there
            are none, or more than it takes to subtract one state from the other.
        later: The same sum read with a later one of its terms as the state before.
    """

    kind: Kind
    shortcut: Tensor
    source: Tensor
    output: Tensor
    branches: tuple[Tensor, ...] = ()
    later: Iterator[Merge] = field(default_factory=lambda: iter(()))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The parts of the displacement, else the states before and after."""
        return self.branches or (self.shortcut, self.output)


@dataclass(frozen=True, eq=False)
class Sum:
    """A node that returns a sum, perhaps activated.

    Attributes:
        node: The call.
        terms: The tensors that are added up, or that its layer computes them from.
        unchanged: Those of them that are terms as they are.
    """

    node: Node
    terms: list[Tensor]
    unchanged: list[Tensor]


def find_sum(graph: Graph, node: Node, inner: Graph | None) -> Sum | None:
    """Reads a node as a sum of two terms or more.

    Args:
        graph: The graph that holds `node`.
        node: Any node of it.
        inner: The graph inside the node's operation, if it has one.

    Returns:
        The sum of an addition, ``x + a + b`` being one sum of three; that of a layer
        which adds up its inputs; None for anything else.
    """
    if len(node.inputs) < 2:
        return None
    if is_addition(node.operation):
        terms = _terms(graph, node, lambda part: is_part(graph, part))
        return Sum(node, terms, terms)
    if inner is None:
        return None
    closing = inner.producer(inner.outputs[0])
    if closing is not None and is_activation(closing.operation):
        closing = inner.producer(closing.inputs[0])
    if closing is None or not is_addition(closing.operation):
        return None
    unchanged = []
    for outer, source in zip(node.inputs, inner.inputs, strict=True):
        rest = [term for term in closing.inputs if term is not source]
        # If the rest comes from it within the layer, the layer is a block, not a sum.
        if len(rest) < len(closing.inputs) and not any(
            flows(inner, source, term) for term in rest
        ):
            unchanged.append(outer)
    return Sum(node, list(node.inputs), unchanged) if unchanged else None


def is_part(graph: Graph, node: Node) -> bool:
    """Whether an addition is only a part of the sum that alone reads it.

    ``(x + a(x)) + b(x)`` is one sum; in ``(y + b(y)) + x`` the inner one is a block of
    its own, for its state before is another.
    """
    whole = _enclosing_sum(graph, node)
    if whole is None:
        return False
    own = _before(graph, node)
    if own is None:
        return True
    parts = (graph.producer(tensor) for tensor in whole.inputs)
    states = [
        _before(graph, part)
        for part in parts
        if part is not None and _enclosing_sum(graph, part) is whole
    ]
    same = all(state is None or state is own for state in states)
    return same and _before(graph, whole) is own


def _before(graph: Graph, node: Node) -> Tensor | None:
    """The state before an addition, taken with all additions that it alone reads."""
    attempts = _shortcuts(graph, _flat_sum(graph, node))
    return next((how[1] for how in attempts if not isinstance(how, str)), None)


def _enclosing_sum(graph: Graph, node: Node) -> Node | None:
    """The addition that alone reads the result of an addition and goes on with it."""
    total = node.outputs[0]
    consumers = graph.consumers(total)
    if not is_addition(node.operation) or len(consumers) != 1:
        return None
    (consumer,) = consumers
    inside_it = is_addition(consumer.operation) and len(consumer.inputs) > 1
    return consumer if inside_it and not graph.is_output(total) else None


def _flat_sum(graph: Graph, node: Node) -> Sum:
    """An addition with the terms of every addition that it alone reads."""
    terms = _terms(graph, node, lambda part: _enclosing_sum(graph, part) is not None)
    return Sum(node, terms, terms)


def _terms(graph: Graph, node: Node, opens: Callable[[Node], bool]) -> list[Tensor]:
    """The terms of an addition, those of the additions it opens in their places."""
    terms: list[Tensor] = []
    stack = list(node.inputs[::-1])
    while stack:
        tensor = stack.pop()
        part = graph.producer(tensor)
        if part is not None and opens(part):
            stack.extend(part.inputs[::-1])
        else:
            terms.append(tensor)
    return terms


def find_merge(graph: Graph, found: Sum, streams: set[int]) -> Merge | str:
    """Decides whether a sum closes a residual block.

    Args:
        graph: The graph that holds the sum.
        found: The sum.
        streams: Ids of the sums that closed a block without an activation, so far;
            extended by this one if it does so too.

    Returns:
        The merge, or the reason why it is not one.
    """
    attempts = _shortcuts(graph, found)
    reason = ""
    for how in attempts:
        if isinstance(how, str):
            reason = reason or how
            continue
        merge = _as_merge(graph, found, streams, *how)
        if merge.output is found.node.outputs[0]:
            streams.add(id(merge.output))
        readings = (rest for rest in attempts if not isinstance(rest, str))
        later = (_as_merge(graph, found, streams, *rest) for rest in readings)
        return replace(merge, later=later)
    return reason or "sums parallel branches: no input is a shortcut past the others"


def _as_merge(
    graph: Graph,
    found: Sum,
    streams: set[int],
    kind: Kind,
    shortcut: Tensor,
    source: Tensor,
) -> Merge:
    total = found.node.outputs[0]
    rest = [term for term in found.terms if term is not shortcut]
    raw = id(shortcut) in streams or _starts_with_activation(graph, source, rest)
    output = total if raw else _activated(graph, total)
    plain = output is total and is_addition(found.node.operation)
    branches = _others(found.node, shortcut) if plain else ()
    return Merge(kind, shortcut, source, output, branches)


def _shortcuts(graph: Graph, found: Sum) -> Iterator[tuple[Kind, Tensor, Tensor] | str]:
    """Readings of a sum as a block: kind, state before, and where that comes from.

    If several of its terms are states of the others, the earliest comes first. A
    reason stands for what looks like a reading and is none.
    """
    shape = tuple(found.node.outputs[0].shape)

    def others_use(tensor: Tensor, source: Tensor) -> bool:
        rest = (term for term in found.terms if term is not tensor)
        return any(flows(graph, source, term) for term in rest)

    unchanged = list({id(tensor): tensor for tensor in found.unchanged}.values())
    is_identity = False

    def age(tensor: Tensor) -> int:
        return min(graph.position(copy) for copy in unaltered(graph, tensor))

    for tensor in sorted(unchanged, key=age):
        copies = unaltered(graph, tensor)
        source = next((t for t in copies if others_use(tensor, t)), None)
        if source is not None and tuple(tensor.shape) == shape:
            is_identity = True
            yield "identity", tensor, source
        elif source is not None:
            yield f"the sum broadcasts its shortcut from {tensor.shape} to {shape}"
    if is_identity:
        return
    chains = [list(shortcut_sources(graph, term)) for term in found.terms]
    for tensor in unchanged:
        sources = shortcut_sources(graph, tensor)
        source = next((s for s in sources if others_use(tensor, s)), None)
        if source is not None:
            yield _projection(tensor, source, chains)


def _projection(
    tensor: Tensor, source: Tensor, chains: list[list[Tensor]]
) -> tuple[Kind, Tensor, Tensor] | str:
    """Decides whether a chain of shortcut layers from `source` is a projection."""
    if sum(any(t is source for t in chain) for chain in chains) > 1:
        return "sums parallel branches: all of them look like shortcuts"
    if tuple(tensor.shape) == tuple(source.shape):
        return "its shortcut is a layer that keeps the shape, so no state reaches it"
    return "projection", tensor, source


def _activated(graph: Graph, total: Tensor) -> Tensor:
    """The activation of a sum if nothing else reads the sum, else the sum."""
    consumers = graph.consumers(total)
    if len(consumers) != 1 or graph.is_output(total):
        return total
    (node,) = consumers
    return node.outputs[0] if is_activation(node.operation) else total


def _starts_with_activation(graph: Graph, source: Tensor, rest: list[Tensor]) -> bool:
    """Whether a branch of a state begins by normalising or activating it.

    In such a pre-activation network the states are the sums themselves, and an
    activation after the last of them belongs to the head. Other readers of the state,
    such as a head of its own, say nothing about the block.
    """
    return any(
        flows(graph, node.outputs[0], term)
        for node in graph.consumers(source)
        if is_activation(node.operation) or isinstance(node.operation, NORMALIZATION)
        for term in rest
    )


def _others(node: Node, shortcut: Tensor) -> tuple[Tensor, ...]:
    """The other terms of an addition, whose own sum then is ``x_out − x_in``.

    None if there are more than two, one is broadcast, or the shortcut is no term itself
    but that of an addition which is; that one may add a constant, which is no tensor.
    """
    terms = list(node.inputs)
    places = [place for place, term in enumerate(terms) if term is shortcut]
    if not places:
        return ()
    del terms[places[0]]  # and no other: ``x + x`` moves x by x
    return few(terms, shortcut)


def few(branches: list[Tensor], state: Tensor) -> tuple[Tensor, ...]:
    """The branches, if adding them up costs no more than subtracting two states."""
    alike = all(tuple(each.shape) == tuple(state.shape) for each in branches)
    return tuple(branches) if alike and len(branches) <= 2 else ()
