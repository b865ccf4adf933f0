"""Where a network can be cut: which tensors are one and the same without a block.

A block is left out by ``x_{k+1} := x_k``, an activation of the sum included. The calls
after it have to be made again: in the graph of a model they can be, and in that of the
`call` of a layer where it runs on batches of any size and computes nothing with weights
of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_lap.blocks import (
    BlockReport,
    Call,
    FoundBlock,
    Graph,
    NotAgain,
    Script,
    Tensor,
)

ADVICE = (
    "Name the layer around it by blocks=[...] where that layer keeps the shape of its "
    "input, leave the block out by blocks=[...], or write what calls it with the "
    "Functional API: keras.Model(inputs, outputs)."
)


@dataclass(frozen=True, eq=False)
class Cuts:
    """The graph of a network, opened where blocks lie in models and layers within it.

    Attributes:
        script: What its calls are made with again.
        calls: Every call, each after those that it takes its inputs from.
        outputs: What the network returns.
        states: Of each block the tensors that are its states before and after.
        same: Tensors at the border of a call that was opened, and what they are.
    """

    script: Script
    calls: tuple[Call, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[tuple[Tensor, Tensor], ...]
    same: dict[Tensor, Tensor]

    def one(self, tensor: Tensor) -> Tensor:
        """The tensor itself, where a tensor is that of a call which was opened."""
        while tensor in self.same:
            tensor = self.same[tensor]
        return tensor

    def inputs(self, call: Call) -> list[Tensor]:
        """What goes into a call."""
        return [self.one(tensor) for tensor in call.inputs]

    def needed(self, skipped: Iterable[int]) -> set[Tensor]:
        """All tensors that the network needs without some of its blocks.

        Args:
            skipped: Indices of these blocks.
        """
        before = {self.states[index][1]: self.states[index][0] for index in skipped}
        needed = set(self.outputs)
        for call in reversed(self.calls):
            for tensor in needed.intersection(call.outputs):
                instead = before.get(tensor)
                needed.update(self.inputs(call) if instead is None else [instead])
        return needed


def find_cuts(report: BlockReport) -> Cuts:
    """Finds where the blocks of a network can be left out.

    Args:
        report: What was found in it.

    Returns:
        Its graph.

    Raises:
        ValueError: If a block lies where it cannot be left out.
    """
    script = Script()
    ends = [states_of(report.root, found, script) for found in report.found]
    opened = {call for _, _, path in ends for call in path}
    same: dict[Tensor, Tensor] = {}
    root = report.root.inside
    calls = tuple(_calls(root, opened, same)) if root is not None else ()
    cuts = Cuts(script, calls, (), (), same)
    outputs = tuple(cuts.one(tensor) for tensor in root.outputs) if root else ()
    states = tuple((cuts.one(x), cuts.one(y)) for x, y, _ in ends)
    return Cuts(script, calls, outputs, states, same)


def call_again(
    call: Call, cuts: Cuts, values: dict[Tensor, Any], operation: keras.Operation
) -> list[Any]:
    """Calls an operation again.

    Args:
        call: What it was called with before.
        cuts: The graph that holds the call.
        values: What its inputs are now.
        operation: What to call in its place.

    Returns:
        The values of its outputs.

    Raises:
        ValueError: If it takes weights of a layer whose `call` it lies in.
    """
    pairs = zip(call.inputs, cuts.inputs(call), strict=True)
    inputs = {tensor: values[own] for tensor, own in pairs}
    return keras.tree.flatten(call_of(cuts.script, call, inputs, operation))


def call_of(
    script: Script, call: Call, inputs: Mapping[Tensor, Any], operation: Any
) -> Any:
    """Makes one call again; an error says what lies around it.

    Args:
        script: What it is called with.
        call: What was called.
        inputs: The values of its inputs.
        operation: What to call in its place.

    Raises:
        ValueError: As `call_again`.
    """
    try:
        return script.call(call, inputs, operation)
    except NotAgain as error:
        raise ValueError(
            f"Blocks inside the call() of {call.path[-1].label!r} cannot be left out: "
            f"{error}. {ADVICE}"
        ) from None


def states_of(
    root: Call, found: FoundBlock, script: Script
) -> tuple[Tensor, Tensor, tuple[Call, ...]]:
    """The states of a block in the graph of a network, and the calls around it.

    Args:
        root: The network.
        found: The block.
        script: Where what is around it is opened.

    Raises:
        ValueError: If what is around it cannot be called again.
    """
    call, residual, path = found.call, found.residual, found.path
    if residual is None:
        raise refused(found, path[-1] if path else root, "that is not looked into")
    before, after = residual.before, residual.after
    inside = call.inside
    if found.block.kind == "layer" and inside is not None and found.graph is inside:
        path = call.path
        before = call.inputs[inside.inputs.index(before)]
        after = call.outputs[inside.outputs.index(after)]
    for around in (root, *path):
        reason = script.open(around)
        if reason:
            raise refused(found, around, reason)
    return before, after, path


def refused(found: FoundBlock, around: Call, reason: str) -> ValueError:
    """The error for a block that cannot be left out.

    Args:
        found: The block.
        around: The call whose inside cannot be called again.
        reason: Why.
    """
    kind = type(around.operation).__name__
    return ValueError(
        f"The block {found.block.name!r} cannot be left out: it lies inside the call() "
        f"of {around.label!r} ({kind}), which runs as a whole: {reason}. {ADVICE}"
    )


def _calls(
    graph: Graph, opened: set[Call], same: dict[Tensor, Tensor]
) -> Iterator[Call]:
    for call in graph.calls:
        if call not in opened:
            yield call
            continue
        assert call.inside is not None  # as of everything that was opened
        same.update(zip(call.inside.inputs, call.inputs, strict=True))
        yield from _calls(call.inside, opened, same)
        same.update(zip(call.outputs, call.inside.outputs, strict=True))
