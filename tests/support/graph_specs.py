"""Small networks as plain data, and what can be made of them.

A `Net` lists named operations. `Keras` builds the Keras model of one, and evaluates it
operation by operation, which gives the value of every tensor by hand. How to decide
about its residual blocks is in `brute_force.py`; neither uses the package.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import keras

L = keras.layers

# The tensor number j that operation number i of a net returns.
Ref = tuple[int, int]


@dataclass(frozen=True)
class Op:
    """One operation; `options` are read by `_LAYERS` and `_FUNCTIONS`."""

    name: str
    kind: str
    inputs: tuple[Ref, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(repr=False)
class Net:
    """Operations in forward order, with the shapes of what they return."""

    name: str
    ops: list[Op] = field(default_factory=list)
    shapes: list[list[tuple[int, ...]]] = field(default_factory=list)
    outputs: list[Ref] = field(default_factory=list)
    sequential: bool = False

    def __repr__(self) -> str:
        """What Hypothesis prints of a failing example: a line for each operation."""
        lines = [f"{self.name}:{' Sequential' * self.sequential}"]
        for i, op in enumerate(self.ops):
            options = [f"{k}={v}" for k, v in op.options.items() if k != "net"]
            inputs = [f"x{a}" + (f"[{b}]" if b else "") for a, b in op.inputs]
            kind = op.options["net"].name if op.kind == "model" else op.kind
            lines.append(f"  x{i} = {kind}({', '.join(inputs + options)})")
        inner = {
            op.options["net"].name: op.options["net"]
            for op in self.ops
            if op.kind == "model"
        }
        nested = [repr(net) for net in inner.values()]
        return "\n".join([*lines, f"  return {self.outputs}", *nested])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def shape(self, ref: Ref) -> tuple[int, ...]:
        return self.shapes[ref[0]][ref[1]]

    def add(self, kind: str, *inputs: Ref, **options: Any) -> Ref:
        """Appends an operation; returns its first tensor."""
        name = options.pop("name", f"{self.name}_{kind}{len(self.ops)}")
        self.ops.append(Op(name, kind, inputs, options))
        self.shapes.append(_shapes(kind, [self.shape(ref) for ref in inputs], options))
        return len(self.ops) - 1, 0

    def end(self, *outputs: Ref) -> Net:
        """Fixes the outputs, each once; a bare chain of layers may be a Sequential."""
        self.outputs = list(dict.fromkeys(outputs))
        return self

    def is_chain(self) -> bool:
        """Whether it could be written as a Sequential."""
        steps = all(
            op.inputs == ((i, 0),) and len(self.shapes[i + 1]) == 1
            for i, op in enumerate(self.ops[1:])
        )
        layers = all(op.kind in _LAYERS or op.kind == "model" for op in self.ops[1:])
        return steps and layers and self.outputs == [(len(self.ops) - 1, 0)]


def _shapes(kind: str, inputs: list, options: dict) -> list[tuple[int, ...]]:
    """Shapes without the batch of what an operation returns: (side, side, channels)."""
    if kind == "input":
        return [options["shape"]]
    if kind == "model":
        return [options["net"].shape(ref) for ref in options["net"].outputs]
    first = max(inputs)  # of a sum or product, the one that the others broadcast to
    side, _, channels = first
    if kind in ("conv", "dense"):
        side = -(-side // options.get("strides", 1))
        return [(side, side, options["filters"])]
    if kind in ("average", "maximum"):
        return [(side // 2, side // 2, channels)]
    if kind == "squeeze":
        return [(1, 1, channels)]
    if kind == "split":
        return [(side, side, channels // 2)] * 2
    if kind == "concatenate":
        return [(side, side, sum(shape[-1] for shape in inputs))]
    return [first]


class Carry(L.Layer):
    """A layer with its residual connection inside its call."""

    def build(self, shape):
        self.dense = L.Dense(shape[-1], "tanh")
        self.dense.build(shape)

    def call(self, x):
        return x + self.dense(x)


def _conv(name, filters, size=1, strides=1, activation=None):
    return L.Conv2D(filters, size, strides, "same", activation=activation, name=name)


_LAYERS = {
    "conv": _conv,
    "dense": lambda name, filters, activation=None: L.Dense(
        filters, activation, name=name
    ),
    "average": lambda name: L.AveragePooling2D(2, name=name),
    "maximum": lambda name: L.MaxPooling2D(2, name=name),
    "batch norm": lambda name: L.BatchNormalization(name=name),
    "layer norm": lambda name: L.LayerNormalization(name=name),
    "relu": lambda name: L.ReLU(name=name),
    "tanh": lambda name: L.Activation("tanh", name=name),
    "identity": lambda name: L.Identity(name=name),
    "linear": lambda name: L.Activation("linear", name=name),
    "softmax": lambda name: L.Activation("softmax", name=name),
    "dropout": lambda name: L.Dropout(0.3, name=name),
    "squeeze": lambda name: L.GlobalAveragePooling2D(keepdims=True, name=name),
    "carry": lambda name: Carry(name=name),
}

_FUNCTIONS = {
    "relu op": lambda x: keras.ops.relu(x),
    "silu op": lambda x: keras.ops.silu(x),
    "constant": lambda x: x + 0.25,
    "less": lambda x: x - 0.25,
    "from": lambda x: 0.25 - x,
    "scale": lambda x: x * 0.5,
    "multiply": lambda x, y: x * y,
    "zeros": lambda x: keras.ops.zeros_like(x),
    "split": lambda x: keras.ops.split(x, 2, axis=-1),
    "concatenate": lambda *xs: keras.ops.concatenate(xs, axis=-1),
    "plus": lambda x, y: x + y,
    "ops.add": lambda x, y: keras.ops.add(x, y),
    "minus": lambda x, y: x - y,
}
_LAYERS["layers.Add"] = lambda name: L.Add(name=name)
_LAYERS["layers.Subtract"] = lambda name: L.Subtract(name=name)

ADDITIONS = ("layers.Add", "plus", "ops.add")
SUBTRACTIONS = ("layers.Subtract", "minus")
# What the inputs of an operation count in its result, if not all of them 1.
SIGNS = {**dict.fromkeys(SUBTRACTIONS, (1, -1)), "from": (-1,)}


class Keras:
    """A net's layers, its model, and its values by hand.

    Attributes:
        model: The Keras model.
        names: What the report calls an operation, by net and number.
    """

    def __init__(self, net: Net):
        self.net = net
        self.names: dict[tuple[str, int], str] = {}
        self._made: dict[tuple[str, int] | str, Any] = {}
        self.model = self._model(net)

    def values(self, *inputs: Any) -> dict[tuple, Any]:
        """Every tensor by (path, number of its operation, its number), by hand."""
        found: dict[tuple, Any] = {}
        self._walk(self.net, list(inputs), (), found)
        return found

    def _walk(self, net: Net, inputs: list, path: tuple, found: dict) -> list:
        uses: Counter = Counter()
        rest = iter(inputs)
        for i, op in enumerate(net.ops):
            args = [found[path, *ref] for ref in op.inputs]
            if op.kind == "input":
                results = [next(rest)]
            elif op.kind == "model":
                inner = op.options["net"]
                uses[inner.name] += 1
                inside = (*path, called(inner.name, uses[inner.name]))
                results = self._walk(inner, args, inside, found)
            else:
                results = self._apply(net, i, args)
            found.update({(path, i, j): value for j, value in enumerate(results)})
        return [found[path, *ref] for ref in net.outputs]

    def _apply(self, net: Net, i: int, args: list) -> list:
        """What one operation returns, for symbolic tensors and for values alike."""
        op = net.ops[i]
        if op.kind in _FUNCTIONS:
            result = _FUNCTIONS[op.kind](*args)
        else:
            layer = self._layer(net, i)
            result = layer(args) if len(args) > 1 else layer(*args)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def _layer(self, net: Net, i: int) -> Any:
        op = net.ops[i]
        if op.kind == "model":
            return self._model(op.options["net"])
        if (net.name, i) not in self._made:
            self._made[net.name, i] = _LAYERS[op.kind](op.name, **op.options)
        return self._made[net.name, i]

    def _model(self, net: Net) -> keras.Model:
        """The model of a net, the same one for every use of it."""
        if net.name not in self._made:
            build = self._sequential if net.sequential else self._functional
            self._made[net.name] = build(net)
        return self._made[net.name]

    def _sequential(self, net: Net) -> keras.Model:
        layers = [self._layer(net, i) for i in range(1, len(net.ops))]
        for i, layer in enumerate(layers, start=1):
            self.names[net.name, i] = layer.name
        shape = net.shapes[0][0]
        return keras.Sequential([keras.Input(shape), *layers], name=net.name)

    def _functional(self, net: Net) -> keras.Model:
        tensors: list[list] = []
        for i, op in enumerate(net.ops):
            args = [tensors[a][b] for a, b in op.inputs]
            if op.kind == "input":
                tensors.append([keras.Input(op.options["shape"])])
                continue
            tensors.append(self._apply(net, i, args))
            self.names[net.name, i] = tensors[-1][0]._keras_history.operation.name
        inputs = [
            t[0] for t, op in zip(tensors, net.ops, strict=True) if op.kind == "input"
        ]
        outputs = [tensors[i][j] for i, j in net.outputs]
        one = outputs[0] if len(outputs) == 1 else outputs
        return keras.Model(inputs if len(inputs) > 1 else inputs[0], one, name=net.name)


def called(name: str, use: int) -> str:
    """The name of a call in a report: with its number from the second on."""
    return f"{name}#{use}" if use > 1 else name
