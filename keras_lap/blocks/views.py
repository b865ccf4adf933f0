"""Where a tensor of a graph can be seen while the `call` that it is the graph of runs.

Between the operations of a `call` nothing can be read, but every layer that it calls
takes tensors and returns tensors, and so does the layer itself. In the graph of a model
everything can be seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from keras_lap.blocks.graph import LAYER, Call, Graph, Tensor

BETWEEN = "its states lie between operations, no layer takes or returns them"
OTHERWISE = "its states are read in another way in training"


@dataclass(frozen=True, eq=False)
class View:
    """An argument or a result of one call of a layer, within the call of another.

    Attributes:
        layer: The layer that is called; None for the one whose call is looked into.
        number: Which of its calls, from 0; None for every one.
        count: How many calls of it were seen when it was looked into.
        result: Index among the tensors of its result, or None for an argument.
        path: Path of the argument within ``(args, kwargs)``; None for the first.
        hidden: Why nothing can be seen there; empty if it can.
    """

    layer: Any = None
    number: int | None = 0
    count: int | None = 1
    result: int | None = None
    path: tuple | None = None
    hidden: str = ""


def view(graph: Graph, tensor: Tensor) -> View:
    """Where a tensor of the graph inside a layer's call can be seen."""
    found = _view(graph, tensor)
    # As where dropout is only called in training: there, what goes into the sum is
    # another tensor.
    training = graph.training
    if training and not found.hidden:
        twin = _at(training, found)
        if twin is None or _consumers(twin) != _consumers(tensor):
            return replace(found, hidden=OTHERWISE)
    return found


def why_hidden(graph: Graph, tensors: Iterable[Tensor]) -> str:
    """Why one of some tensors of a graph cannot be seen; empty if all can."""
    if not graph.is_call:
        return ""
    reasons = (view(graph, tensor).hidden for tensor in tensors)
    return next(filter(None, reasons), "")


def _view(graph: Graph, tensor: Tensor) -> View:
    producer = tensor.producer
    if producer is not None and LAYER in producer.roles:
        return _of_call(producer, result=producer.outputs.index(tensor))
    if tensor in graph.inputs:
        return View(path=graph.paths[graph.inputs.index(tensor)])
    if tensor.leaves:
        return View(result=graph.outputs.index(tensor))
    for call in tensor.consumers:
        if LAYER in call.roles:
            return _of_call(call, path=call.paths[call.inputs.index(tensor)])
    return View(hidden=BETWEEN)


def _of_call(call: Call, **where: Any) -> View:
    layer, number, count = call.operation, call.number, call.count
    return View(layer, number, count, hidden=call.hidden, **where)


def _at(graph: Graph, seen: View) -> Tensor | None:
    """The tensor of a graph that a view found in another graph shows."""
    paths, inputs, outputs = graph.paths, graph.inputs, graph.outputs
    if seen.layer is not None:
        calls = (c for c in graph.calls if c.operation is seen.layer)
        call = next((c for c in calls if c.number == seen.number), None)
        if call is None:
            return None
        paths, inputs, outputs = call.paths, list(call.inputs), list(call.outputs)
    if seen.result is not None:
        return outputs[seen.result] if seen.result < len(outputs) else None
    pairs = zip(paths, inputs, strict=True)
    return next((tensor for path, tensor in pairs if path == seen.path), None)


def _consumers(tensor: Tensor) -> Counter[Any]:
    """What takes a tensor: which layers, and functions of which kind."""
    return Counter(
        id(call.operation) if LAYER in call.roles else call.label
        for call in tensor.consumers
    )
