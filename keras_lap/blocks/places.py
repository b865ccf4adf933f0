"""Everything in a model that `blocks=` can name: calls of layers, at any depth."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_lap.blocks.definition import Merge
from keras_lap.blocks.graph import Graph, Node, is_addition, keeps_shape
from keras_lap.blocks.opening import build_shape, inside, is_openable
from keras_lap.blocks.ports import CannotSee, Port
from keras_lap.blocks.report import (
    ResidualBlock,
    Site,
    exact_name,
    full_name,
    make_site,
)
from keras_lap.blocks.symbolic import CannotOpen


@dataclass(frozen=True, eq=False)
class Place:
    """One call of an operation, or a layer in a call that cannot be looked into.

    Attributes:
        operation: What is called.
        name: As in the report.
        exact: The name that a saved model keeps.
        names: Every name that means it by its path.
        may_be_block: Whether it can be a block though none was found in it: it keeps
            the shape of its input, and is not one of Keras's own layers.
        as_block: Makes the whole layer a block.
    """

    operation: keras.Operation
    name: str
    exact: str
    names: frozenset[str]
    may_be_block: bool
    as_block: Callable[[], Site]

    def holds(self, wanted: Callable[[Any], bool]) -> bool:
        """Whether it has a layer inside that a function wants, and that may count."""
        if not isinstance(self.operation, keras.Layer):
            return False
        inner = self.operation._flatten_layers(include_self=False)
        return any(is_openable(layer) and wanted(layer) for layer in inner)


def places(graph: Graph, path: tuple[Node, ...] = ()) -> Iterator[Place]:
    """Every call of an operation in a graph, each before those inside it."""
    for node in graph.nodes:
        if not node.inputs:
            continue
        numbered = "/".join(step.exact_name for step in (*path, node))
        every_call = "/".join([*(step.name for step in path), node.label])
        exact = exact_name(path, node)
        yield Place(
            node.operation,
            full_name(path, node),
            exact,
            frozenset((exact, numbered, every_call)),
            is_openable(node.operation) and keeps_shape(node),
            functools.partial(whole_layer, graph, path, node),
        )
        try:
            inner = inside(graph, node)
        except CannotOpen:
            yield from layers_within((*path, node), node.operation)
            continue
        if inner is not None:
            yield from places(inner, (*path, node))


def layers_within(path: tuple[Node, ...], layer: keras.Layer) -> Iterator[Place]:
    """The layers below one whose call cannot be looked into."""
    around = "".join(f"{step.name}/" for step in path)
    exact_around = f"{exact_name(path[:-1], path[-1])}/" if path else ""
    for index, (name, below) in enumerate(_below(layer, around)):
        exact = f"{exact_around}~{index}"
        as_block = functools.partial(_every_call, path, below, name, exact)
        yield Place(
            below,
            name,
            exact,
            frozenset((exact, name)),
            is_openable(below),
            as_block,
        )


def _below(layer: keras.Layer, around: str) -> Iterator[tuple[str, keras.Layer]]:
    for below in layer._flatten_layers(include_self=False, recursive=False):
        name = f"{around}{below.name}"
        yield name, below
        yield from _below(below, f"{name}/")


def whole_layer(graph: Graph, path: tuple[Node, ...], node: Node) -> Site:
    """A whole layer as a block: displacement = output − input."""
    name = full_name(path, node)
    if is_addition(node.operation):
        raise ValueError(
            f"The sum {name!r} cannot be a block: no state reaches it past a branch. "
            "print(keras_lap.find_residual_blocks(network)) says why; name the layer "
            "or the nested model that moves the state."
        )
    before, after = node.inputs[0], node.outputs[0]
    if tuple(before.shape) != tuple(after.shape):
        raise ValueError(
            f"The layer {name!r} cannot be a block: its input has shape "
            f"{graph.shape(before)} and its output {graph.shape(after)}, so there is "
            "no displacement between them. Choose layers that keep the shape of their "
            'state, or blocks="auto".'
        )
    try:
        merge = Merge("layer", before, before, after)
        return make_site(graph, path, node, merge, closing="")
    except CannotSee as error:
        raise ValueError(f"The layer {name!r} cannot be a block: {error}.") from error


def _every_call(
    path: tuple[Node, ...], layer: keras.Layer, name: str, exact: str
) -> Site:
    """A layer in a call that cannot be looked into: each of its calls moves a state."""
    shape = build_shape(layer)
    ports = (Port(layer, None, None, None, None), Port(layer, None, None, 0))
    return Site(ResidualBlock(name, "layer", shape), path, exact, None, None, ports)
