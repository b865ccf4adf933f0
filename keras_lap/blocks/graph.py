"""A network as plain data: calls of operations, and the tensors between them.

Nothing here knows Keras: `reading` makes these from a network, and a test may make them
by hand. What follows, definition and search, is a function of this data alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int | None, ...]

# The roles that an operation can play on the way of a state; see `operations`.
SUM = "sum"  # adds up its inputs
DIFFERENCE = "difference"  # takes one of two inputs from the other; see `Call.signs`
COPY = "copy"  # hands its input on unchanged
NORM = "norm"  # one of Keras's normalisations
ACTIVATION = "activation"  # works on each number by itself
PROJECTS = "projects"  # may lie on a shortcut that is a projection
POINTWISE = "pointwise"  # mixes the features of each place linearly
KEEPS_STATE = "keeps state"  # after it, the state is still the same one
MIXES = "mixes"  # mixes the features of a state by weights, or may do so
SHAPE_ONLY = "shape only"  # takes its inputs for their shapes alone
LAYER = "layer"  # is a layer, so that what it takes and returns can be seen
MODEL = "model"  # a model that is a graph itself
OWN = "own"  # runs code that is not Keras's: only looking inside tells what it does
DECLARED = "declared"  # its class says that it is a residual block as a whole


class Tensor:
    """A value in a graph, equal to itself alone.

    Attributes:
        shape: `(batch, ...)` with None for unknown sizes.
        symbol: What it was read from.
        producer: The call that makes it; None for an input of its graph, and for a
            value made from no input.
        consumers: The calls that take it as an input.
        leaves: Whether it is one of the outputs of its graph.
    """

    def __init__(self, shape: Shape, symbol: Any = None):
        self.shape = tuple(shape)
        self.symbol = symbol
        self.producer: Call | None = None
        self.consumers: list[Call] = []
        self.leaves = False

    @property
    def position(self) -> int:
        """Index of the call that makes it; −1 for an input of the graph."""
        return -1 if self.producer is None else self.producer.index


@dataclass(eq=False, repr=False)
class Call:
    """One call of one operation: the same layer called twice makes two.

    Attributes:
        operation: The layer, model or function that is called.
        label: The operation's name; that of its class for a function in a layer's
            `call`, which Keras names anew each time it is looked into.
        roles: What the operation can be; see above.
        inputs: Tensors that go in, positional and keyword ones alike; of a layer in a
            `call`, also those that are made of weights alone.
        outputs: Tensors that come out.
        signs: Of a sum or difference, 1 for each input that it adds and −1 for each
            that it takes away; empty if it adds them all.
        path: The calls around the graph that holds it, the outermost first.
        use: 0 for the first call with this label in this graph, 1 for the next.
        index: Its position in its graph; below a closed call, among the layers there.
        inside: The graph of the operation, whose inputs and outputs stand for those of
            the call, one for one; None if there is none, or it is closed.
        closed: Why it cannot be looked into; empty if it can, or need not be.
        used: Of a closed call, for each output the inputs whose values it was seen to
            use; None if that is not known.
        parts: The layers below a closed call; it is not known which of them it calls.
        is_part: Whether it is one of these, and stands for all calls of that layer.
        has_state: Whether it has weights, or layers of its own.
        in_call: Whether it lies in the graph of a `call`, not in that of a model.
        sealed: Why nothing inside can be recorded while it runs; empty if it can.
        arguments: What it was called with, to call it again.
        paths: Where each input is within ``(args, kwargs)``.
        number: Which call of its layer this is in time, within the `call` around it.
        count: How many calls of its layer there are in that.
        hidden: Why nothing of it can be seen while the `call` around it runs.
    """

    operation: Any
    label: str
    roles: frozenset[str] = frozenset()
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    signs: tuple[int, ...] = ()
    path: tuple[Call, ...] = ()
    use: int = 0
    index: int = 0
    inside: Graph | None = None
    closed: str = ""
    used: Sequence[Sequence[int]] | None = None
    parts: tuple[Call, ...] = ()
    is_part: bool = False
    has_state: bool = False
    in_call: bool = False
    sealed: str = ""
    arguments: Any = None
    paths: Sequence[tuple] = ()
    number: int | None = None
    count: int | None = None
    hidden: str = ""

    def __repr__(self) -> str:
        return f"<call of {self.name}>"

    @property
    def step(self) -> str:
        """The label, with ``#2``, ``#3``, … for later calls."""
        return self.numbered if self.use else self.label

    @property
    def numbered(self) -> str:
        """The label with the number of the call, ``#1`` for the first."""
        return f"{self.label}#{self.use + 1}"

    @property
    def name(self) -> str:
        """The step after the steps of the calls around it."""
        return "/".join(call.step for call in (*self.path, self))

    @property
    def exact_name(self) -> str:
        """A name for this one call, which a saved model keeps.

        The name with the number of every call; within a layer's `call`, where layers
        are often named by Keras and anew each time, the position instead: ``@3``; and
        ``~3`` for a layer below a closed call.
        """
        steps: list[str] = []
        within = False
        for call in (*self.path, self):
            if not call.is_part:
                within = within or call.in_call
                steps.append(f"@{call.index}" if within else call.numbered)
        return "/".join([*steps, f"~{self.index}"] if self.is_part else steps)

    @property
    def keeps_shape(self) -> bool:
        """Whether an output has the shape of one of the inputs."""
        shapes = {tensor.shape for tensor in self.inputs}
        return any(tensor.shape in shapes for tensor in self.outputs)


@dataclass(eq=False, repr=False)
class Graph:
    """The calls between some inputs and outputs, in forward order.

    Attributes:
        calls: Every call, each after those that it takes its inputs from.
        inputs: The tensors at which the graph begins.
        outputs: The tensors at which it ends.
        is_call: Whether it is what a `call` does, and not the graph of a model.
        paths: In that case, where each input is within ``(args, kwargs)`` of the call.
        training: The graph of the same call with ``training=True``; None if it takes
            no such argument, was given one, or does not run with it.
    """

    calls: list[Call]
    inputs: list[Tensor]
    outputs: list[Tensor]
    is_call: bool = False
    paths: Sequence[tuple] = ()
    training: Graph | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for call in self.calls:
            for tensor in call.outputs:
                tensor.producer = call
            for tensor in call.inputs:
                tensor.consumers.append(call)
        for tensor in self.outputs:
            tensor.leaves = True


def every_call(graph: Graph | None) -> Iterator[Call]:
    """Every call in a graph, each before those inside it."""
    for call in graph.calls if graph else ():
        yield call
        yield from every_call(call.inside)
        yield from call.parts


def flows(source: Tensor, tensor: Tensor) -> bool:
    """Whether the value of `source` is used to compute `tensor` (true for itself).

    An operation that only reads the shape of an input passes no value on, nor does a
    layer whose inside shows that, nor a closed one of which nothing is known. Only
    calls after `source` are visited, so the cost is the length of the branch between
    the two and not the depth of the network; and the oldest first, which lie nearest
    to `source` if that is used again and again along the way.
    """
    oldest = source.position
    heap, seen = [(tensor.position, 0, tensor)], {tensor}
    while heap:
        position, _, current = heapq.heappop(heap)
        if current is source:
            return True
        if position <= oldest:
            continue
        for earlier in used(current):
            if earlier not in seen:
                seen.add(earlier)
                heapq.heappush(heap, (earlier.position, len(seen), earlier))
    return False


def used(tensor: Tensor) -> Sequence[Tensor]:
    """The inputs of the call that makes `tensor` whose values it uses for it."""
    call = tensor.producer
    if call is None or SHAPE_ONLY in call.roles:
        return ()
    index = call.outputs.index(tensor)
    if call.closed:
        return [call.inputs[each] for each in call.used[index]] if call.used else ()
    if call.inside is None:
        return call.inputs
    output = call.inside.outputs[index]
    pairs = zip(call.inputs, call.inside.inputs, strict=True)
    return [outer for outer, inner in pairs if flows(inner, output)]
