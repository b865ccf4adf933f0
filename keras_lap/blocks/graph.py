"""The graph of a Keras model, as plain nodes and tensors.

Keras has no public way to read which operation made a tensor from which others,
so everything here that starts with an underscore (``_keras_history``,
``_inbound_nodes``) and ``node.arguments`` stays in this one module. Checked on
Keras 3.15.1; ``tests/blocks/test_graph.py`` fails when a later version changes them.
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
        label: The operation's name; that of its class for a ``keras.ops`` operation in
            a layer's `call`, which Keras names anew each time it is looked into.
        use: 0 for the first call with this label in this graph, 1 for the next.
        index: Position of the node in its graph.
        call: Which call of the operation this is in time, from 0; where the graph is
            that of a layer's `call`, counted from the beginning of that.
        inputs: Tensors that went in, positional and keyword ones alike.
        outputs: Tensors that came out.
        arguments: Keras's record of how the inputs were passed.
    """

    operation: keras.Operation
    label: str = field(compare=False)
    use: int
    index: int = field(compare=False)
    call: int = field(compare=False)
    opened: bool = field(compare=False)
    inputs: tuple[Tensor, ...] = field(compare=False)
    outputs: tuple[Tensor, ...] = field(compare=False)
    arguments: Any = field(compare=False)

    @property
    def name(self) -> str:
        """The label, with ``#2``, ``#3``, … for later calls."""
        return self.exact_name if self.use else self.label

    @property
    def exact_name(self) -> str:
        """The label with the number of the call, ``#1`` for the first."""
        return f"{self.label}#{self.use + 1}"

    def call_arguments(self, values: dict[int, Any]) -> tuple[tuple, dict]:
        """The arguments of this call with each tensor replaced by its value.

        Args:
            values: The value of each input tensor, by the tensor's ``id``.

        Returns:
            Positional and keyword arguments, ready to call the operation with.
        """
        return self.arguments.fill_in(values)

    @property
    def argument_paths(self) -> list[tuple]:
        """Where each input is within ``(args, kwargs)``, in the order of `inputs`."""
        return tensor_paths(self.arguments.args, self.arguments.kwargs)


def tensor_paths(args: Any, kwargs: Any) -> list[tuple]:
    """The paths of all symbolic tensors within ``(args, kwargs)``."""
    flat = keras.tree.flatten_with_path((args, kwargs))
    return [path for path, leaf in flat if isinstance(leaf, keras.KerasTensor)]


@dataclass(frozen=True)
class Opened:
    """How the graph inside a layer's `call` came about.

    Attributes:
        paths: Where each input of the graph is within ``(args, kwargs)`` of the call.
        earlier: How often each layer had been called before, by the layer's `id`.
        calls: How often each layer was called in it, by the layer's `id`.
        unknown: The sizes that stand in for unknown ones, which `Graph.shape` shows
            as None: of the batch, and of others.
        training: The graph of the same call with ``training=True``; None if it takes
            no such argument, was given one, or does not run with it.
    """

    paths: list[tuple]
    earlier: dict[int, int]
    calls: dict[int, int]
    unknown: tuple[int | None, int | None]
    training: Graph | None = None


class Graph:
    """The nodes between a model's inputs and outputs, in forward order.

    Args:
        inputs: Symbolic tensors at which the graph begins.
        outputs: Symbolic tensors at which it ends.
        opened: Given if the graph is that of a layer's `call`.

    Attributes:
        nodes: Every node, each after the nodes it takes its inputs from.
        inputs: The tensors at which the graph begins.
        outputs: The tensors at which it ends.
        opened: How the graph came about, if it is that of a layer's `call`.
        insides: What was found inside the nodes' operations; see `_opening.inside`.
        sizes: What the sizes of its tensors were measured to be, if they were.
    """

    def __init__(
        self,
        inputs: list[Tensor],
        outputs: list[Tensor],
        opened: Opened | None = None,
    ):
        self.insides: dict[Node, Any] = {}
        self.sizes: Any = None
        self.inputs = inputs
        self.outputs = outputs
        self.opened = opened
        self.nodes = _forward_order(inputs, outputs, opened)
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

    def shape(self, tensor: Tensor) -> tuple[int | None, ...]:
        """The shape of a tensor with None for unknown sizes."""
        batch, other = self.opened.unknown if self.opened else (None, None)
        return tuple(
            None if size == (other if axis else batch) else size
            for axis, size in enumerate(tensor.shape)
        )

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


def _forward_order(
    inputs: list[Tensor], outputs: list[Tensor], opened: Opened | None
) -> list[Node]:
    """Nodes between `inputs` and `outputs`, parents first, without recursion."""
    earlier = opened.earlier if opened else {}
    ordered: list[Node] = []
    uses: dict[Any, int] = {}
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
        label: str = operation.name
        counted: Any = id(operation)
        if opened and not isinstance(operation, keras.Layer):
            counted = label = type(operation).__name__.lower()
        use = uses.get(counted, 0)
        uses[counted] = use + 1
        ordered.append(
            Node(
                operation,
                label,
                use,
                len(ordered),
                history.node_index - earlier.get(id(operation), 0),
                opened is not None,
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
