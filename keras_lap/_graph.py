"""The graph of a Keras model, as plain nodes and tensors.

Keras has no public way to read which operation made a tensor from which others,
so everything here that starts with an underscore (``_keras_history``,
``_inbound_nodes``) and ``node.arguments`` stays in this one module. Checked on
Keras 3.15.1; ``tests/test_graph.py`` fails when a later version changes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import keras

Tensor: TypeAlias = keras.KerasTensor


@dataclass(frozen=True)
class Node:
    """One call of one operation: the same layer called twice makes two nodes.

    Two nodes are equal if they are the same call, though they were read apart.

    Attributes:
        operation: The layer, model or ``keras.ops`` operation that was called.
        use: 0 for the first call of the operation in this graph, 1 for the next.
        inputs: Tensors that went in, positional and keyword ones alike.
        outputs: Tensors that came out.
        arguments: Keras's record of how the inputs were passed.
    """

    operation: keras.Operation
    use: int
    inputs: tuple[Tensor, ...] = field(compare=False)
    outputs: tuple[Tensor, ...] = field(compare=False)
    arguments: Any = field(compare=False)

    @property
    def name(self) -> str:
        """The operation's name, with ``#2``, ``#3``, … for later calls."""
        return self.exact_name if self.use else self.operation.name

    @property
    def exact_name(self) -> str:
        """The name with the number of the call, ``#1`` for the first."""
        return f"{self.operation.name}#{self.use + 1}"

    def call_arguments(self, values: dict[int, Any]) -> tuple[tuple, dict]:
        """The arguments of this call with each tensor replaced by its value.

        Args:
            values: The value of each input tensor, by the tensor's ``id``.

        Returns:
            Positional and keyword arguments, ready to call the operation with.
        """
        return self.arguments.fill_in(values)


class Graph:
    """The nodes between a model's inputs and outputs, in forward order.

    Args:
        inputs: Symbolic tensors at which the graph begins.
        outputs: Symbolic tensors at which it ends.

    Attributes:
        nodes: Every node, each after the nodes it takes its inputs from.
        inputs: The tensors at which the graph begins.
        outputs: The tensors at which it ends.
        insides: What was found inside the nodes' operations; see `_opening.inside`.
    """

    def __init__(self, inputs: list[Tensor], outputs: list[Tensor]):
        self.insides: dict[Node, Any] = {}
        self.inputs = inputs
        self.outputs = outputs
        self.nodes = _forward_order(inputs, outputs)
        self._producer: dict[int, int] = {}
        self._consumers: dict[int, list[Node]] = {}
        for index, node in enumerate(self.nodes):
            for tensor in node.outputs:
                self._producer[id(tensor)] = index
            for tensor in node.inputs:
                self._consumers.setdefault(id(tensor), []).append(node)

    @classmethod
    def of(cls, model: keras.Model) -> Graph:
        """The graph of a model for which `has_graph` is true."""
        return cls(list(model.inputs), list(model.outputs))

    def position(self, tensor: Tensor) -> int:
        """Index of the node that makes `tensor`; −1 for an input of the graph."""
        return self._producer.get(id(tensor), -1)

    def producer(self, tensor: Tensor) -> Node | None:
        """The node that makes `tensor`; None for an input of the graph."""
        position = self.position(tensor)
        return self.nodes[position] if position >= 0 else None

    def consumers(self, tensor: Tensor) -> list[Node]:
        """The nodes that take `tensor` as an input."""
        return self._consumers.get(id(tensor), [])

    def is_output(self, tensor: Tensor) -> bool:
        """Whether `tensor` is one of the graph's outputs."""
        return any(tensor is output for output in self.outputs)


def has_graph(operation: keras.Operation) -> bool:
    """Whether `operation` is a Functional or Sequential model that is its graph.

    A model whose class overrides ``call`` may do anything, whatever graph it was
    built from, so it has none here; nor has a Sequential that is not built yet.
    """
    if not isinstance(operation, keras.Model):
        return False
    if not isinstance(operation, (keras.Function, keras.Sequential)):
        return False
    own_call = type(operation).call.__module__.startswith("keras.src.models.")
    return own_call and bool(getattr(operation, "inputs", None))


def keeps_shape(node: Node) -> bool:
    """Whether an output of a node has the shape of one of its inputs."""
    shapes = {tuple(tensor.shape) for tensor in node.inputs}
    return any(tuple(tensor.shape) in shapes for tensor in node.outputs)


def structure(model: keras.Model) -> tuple[Any, Any]:
    """The symbolic inputs and outputs of a model's own graph, as it nests them.

    A Sequential has ``input`` and ``output`` only once it was called elsewhere, and
    then they are those of that call.
    """
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def is_addition(operation: keras.Operation) -> bool:
    """Whether `operation` sums its inputs: ``layers.Add`` or ``x + y``."""
    return isinstance(operation, keras.layers.Add) or is_op(operation, "numpy", "Add")


def is_op(operation: keras.Operation, module: str, *names: str) -> bool:
    """Whether `operation` is the node that a ``keras.ops`` function makes.

    Args:
        operation: Any operation of a graph.
        module: The part of ``keras.ops`` it stems from, e.g. ``"numpy"``, ``"nn"``.
        *names: Accepted class names, e.g. ``"Add"`` for ``keras.ops.add``.
    """
    kind = type(operation)
    return kind.__module__ == f"keras.src.ops.{module}" and kind.__name__ in names


def _forward_order(inputs: list[Tensor], outputs: list[Tensor]) -> list[Node]:
    """Nodes between `inputs` and `outputs`, parents first, without recursion."""
    ordered: list[Node] = []
    uses: dict[int, int] = {}
    done = {id(tensor) for tensor in inputs}
    stack: list[tuple[Tensor, bool]] = [(tensor, False) for tensor in outputs[::-1]]
    while stack:
        tensor, parents_done = stack.pop()
        if id(tensor) in done:
            continue
        history = getattr(tensor, "_keras_history", None)
        if history is None or history.operation is None:
            done.add(id(tensor))  # an input, or a value made from no input
            continue
        operation = history.operation
        raw = operation._inbound_nodes[history.node_index]
        if not parents_done:
            stack.append((tensor, True))
            stack.extend((parent, False) for parent in _pending(raw, done))
            continue
        use = uses.get(id(operation), 0)
        uses[id(operation)] = use + 1
        ordered.append(
            Node(
                operation,
                use,
                tuple(raw.input_tensors),
                tuple(raw.outputs),
                raw.arguments,
            )
        )
        done.update(id(output) for output in raw.outputs)
    return ordered


def _pending(raw: Any, done: set[int]) -> Iterator[Tensor]:
    """Inputs of a Keras node that are not visited yet, last one first."""
    return (tensor for tensor in reversed(raw.input_tensors) if id(tensor) not in done)
