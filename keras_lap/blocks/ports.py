"""Where a state can be seen while a layer's `call` runs.

Between the operations of a `call` nothing can be read, but every layer that it calls
takes tensors and returns tensors, and so does the layer itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras

from keras_lap.blocks.graph import Graph, Tensor


class CannotSee(Exception):
    """No layer takes or returns the tensor; the text says so."""


@dataclass(frozen=True, eq=False)
class Port:
    """An argument or a result of one call of a layer, within the call of another.

    Attributes:
        layer: The layer that is called; None for the one whose call is looked into.
        call: Which of its calls, from 0; None for every one.
        calls: How many calls of it were seen when it was looked into.
        result: Index among the tensors of its result, or None for an argument.
        argument: Path of the argument within ``(args, kwargs)``; None for the first.
    """

    layer: keras.Layer | None
    call: int | None
    calls: int | None
    result: int | None
    argument: tuple | None = None

    def read(self, args: tuple, kwargs: dict, result: Any) -> Any:
        """The tensor at this port, given what went into the call and came out."""
        if self.result is not None:
            return keras.tree.flatten(result)[self.result]
        value: Any = (args, kwargs)
        if self.argument is None:
            return keras.tree.flatten(value)[0]
        for key in self.argument:
            value = value[key]
        return value


def find_ports(
    graph: Graph, *choices: tuple[Tensor, ...]
) -> tuple[tuple[Port, ...], tuple[Tensor, ...]]:
    """Ports at which tensors of the graph inside a layer's call can be seen.

    Args:
        graph: The graph.
        *choices: Tensors any of which will do, the best ones first.

    Returns:
        The ports, and the choice that they are of.

    Raises:
        CannotSee: If none of the choices can be seen.
    """
    reason = CannotSee()
    for tensors in choices:
        try:
            return tuple(_find_port(graph, tensor) for tensor in tensors), tensors
        except CannotSee as error:
            reason = error
    raise reason


def _find_port(graph: Graph, tensor: Tensor) -> Port:
    port = _port(graph, tensor)
    assert graph.opened is not None
    training = graph.opened.training
    # As where dropout is only called in training: there, what goes into the sum is
    # another tensor.
    if training and _readers(training, _at(training, port)) != _readers(graph, tensor):
        raise CannotSee("its states are read in another way in training")
    return port


def _port(graph: Graph, tensor: Tensor) -> Port:
    """Any port at which a tensor can be seen."""
    assert graph.opened is not None
    producer = graph.producer(tensor)
    if producer is not None and isinstance(producer.operation, keras.Layer):
        index = _position(producer.outputs, tensor)
        return Port(*_call(graph, producer), index)
    for position, source in enumerate(graph.inputs):
        if source is tensor:
            return Port(None, 0, 1, None, graph.opened.paths[position])
    if graph.is_output(tensor):
        return Port(None, 0, 1, _position(graph.outputs, tensor))
    for node in graph.consumers(tensor):
        if isinstance(node.operation, keras.Layer):
            path = node.argument_paths[_position(node.inputs, tensor)]
            return Port(*_call(graph, node), None, path)
    raise CannotSee("its states lie between operations, no layer takes or returns them")


def _at(graph: Graph, port: Port) -> Tensor | None:
    """The tensor of a graph that a port found in another graph shows."""
    assert graph.opened is not None
    tensors: dict[Any, Tensor] = {}
    if port.layer is None:
        tensors = dict(zip(graph.opened.paths, graph.inputs, strict=True))
        tensors |= dict(enumerate(graph.outputs))
    for node in graph.nodes:
        if node.operation is port.layer and node.call == port.call:
            tensors = dict(zip(node.argument_paths, node.inputs, strict=True))
            tensors |= dict(enumerate(node.outputs))
    return tensors.get(port.argument if port.result is None else port.result)


def _readers(graph: Graph, tensor: Tensor | None) -> Counter[Any]:
    """What reads a tensor: which layers, and operations of which kind."""
    nodes = [] if tensor is None else graph.consumers(tensor)
    operations = (node.operation for node in nodes)
    return Counter(
        id(operation) if isinstance(operation, keras.Layer) else type(operation)
        for operation in operations
    )


def _call(graph: Graph, node: Any) -> tuple[keras.Layer, int, int]:
    """The layer of a node, which of its calls the node is, and of how many."""
    assert graph.opened is not None
    layer = node.operation
    if recomputes(layer):
        raise CannotSee(
            f"{layer.name!r} runs under a RematScope, where nothing is kept"
        )
    if id(layer) not in graph.opened.calls:
        raise CannotSee(f"{layer.name!r} is no attribute of the layer that calls it")
    return layer, node.call, graph.opened.calls[id(layer)]


def recomputes(layer: keras.Layer) -> bool:
    """Whether a layer computes its call anew for the gradient (`keras.RematScope`).

    What is seen inside such a call is not there any more after it.
    """
    return layer._remat_mode is not None


def _position(tensors: Any, tensor: Tensor) -> int:
    return next(i for i, other in enumerate(tensors) if other is tensor)
