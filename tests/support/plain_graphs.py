"""A `Net` as the plain graph that the package would read from its Keras model.

Written from the definition of the operations, and not by what the package knows of
Keras: what is found in such a graph is a matter of definition and search alone.
"""

from __future__ import annotations

from collections import Counter

from keras_lap.blocks import Call, Graph, Tensor
from keras_lap.blocks import graph as roles
from support.graph_specs import SIGNS, Net

LAYER = {roles.LAYER, roles.MIXES}
ACTS = {roles.ACTIVATION, roles.KEEPS_STATE}
SUM = {roles.SUM, roles.KEEPS_STATE}
DIFFERENCE = {roles.DIFFERENCE, roles.KEEPS_STATE}
SHORTCUT = {*LAYER, roles.PROJECTS}
LINEAR = {*SHORTCUT, roles.POINTWISE}
COPY = {roles.COPY, roles.KEEPS_STATE}
ROLES = {
    "conv": LINEAR,  # if it is linear and looks at one pixel
    "dense": LINEAR,  # if it is linear
    "average": SHORTCUT,
    "maximum": SHORTCUT,
    "batch norm": {*SHORTCUT, roles.NORM, roles.KEEPS_STATE},
    "layer norm": {*SHORTCUT, roles.NORM, roles.KEEPS_STATE},
    "relu": LAYER | ACTS,
    "tanh": LAYER | ACTS,
    "identity": SHORTCUT | COPY,
    "linear": SHORTCUT | COPY | ACTS,
    "softmax": LAYER,
    "dropout": {*LAYER, roles.KEEPS_STATE},
    "squeeze": LAYER,
    "carry": {*LAYER, roles.OWN},
    "model": {*LAYER, roles.OWN, roles.MODEL},
    "relu op": ACTS,
    "silu op": ACTS,
    "constant": SUM,
    "less": DIFFERENCE,
    "from": DIFFERENCE,
    "scale": {roles.KEEPS_STATE},
    "multiply": {roles.KEEPS_STATE},
    "zeros": {roles.SHAPE_ONLY},
    "split": set(),
    "concatenate": set(),
    "plus": SUM,
    "ops.add": SUM,
    "layers.Add": {*LAYER, roles.SUM},
    "minus": DIFFERENCE,
    "layers.Subtract": {*LAYER, roles.DIFFERENCE},
}


def plain_graph(net: Net, path: tuple[Call, ...] = ()) -> Graph:
    """The calls of a net, those of the nets in it inside their calls."""
    tensors: list[list[Tensor]] = []
    calls: list[Call] = []
    uses: Counter[str] = Counter()
    for op, shapes in zip(net.ops, net.shapes, strict=True):
        inputs = tuple(tensors[a][b] for a, b in op.inputs)
        outputs = tuple(Tensor((None, *shape)) for shape in shapes)
        tensors.append(list(outputs))
        if op.kind == "input":
            continue
        found = frozenset(ROLES[op.kind])
        if op.options.get("activation") or op.options.get("size", 1) > 1:
            found -= {roles.PROJECTS, roles.POINTWISE}
        inner = op.options.get("net")
        label = inner.name if inner else op.name
        signs, place = SIGNS.get(op.kind, ()), (path, uses[label], len(calls))
        call = Call(op, label, found, inputs, outputs, signs, *place)
        uses[label] += 1
        if inner:
            call.inside = plain_graph(inner, (*path, call))
        elif op.kind == "carry":
            call.inside = carrying(inputs[0].shape, (*path, call))
        calls.append(call)
    inputs = [
        t for (t, *_), op in zip(tensors, net.ops, strict=True) if op.kind == "input"
    ]
    return Graph(calls, inputs, [tensors[i][j] for i, j in net.outputs])


def carrying(shape: tuple, path: tuple[Call, ...]) -> Graph:
    """What the call of a layer does that adds an activated dense layer to its input."""
    x, r, total = (Tensor(shape) for _ in range(3))
    place = {"path": path, "in_call": True, "number": 0, "count": 1}
    dense = Call("dense", "dense", frozenset(LAYER), (x,), (r,), **place)
    dense.paths = [(0, 0)]
    add = Call("add", "add", frozenset(SUM), (x, r), (total,), index=1, **place)
    return Graph([dense, add], [x], [total], is_call=True, paths=[(0, 0)])


def name_of(net: Net, key: tuple) -> str:
    """What a report calls the operation of a tensor; see `brute_force.Key`."""
    path, number, _ = key
    own = find(net, path)
    return "/".join((*path, own.ops[number].name))


def find(net: Net, path: tuple[str, ...]) -> Net:
    """The net that is called along a path."""
    for step in path:
        inner = (op.options["net"] for op in net.ops if op.kind == "model")
        net = next(n for n in inner if n.name == step.partition("#")[0])
    return net
