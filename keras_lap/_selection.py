"""Which of the blocks, or of a model's layers, the user asked for by `blocks=`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_lap._graph import Graph, Node, has_graph, is_addition, keeps_shape
from keras_lap._merges import Merge
from keras_lap._opening import is_openable
from keras_lap._sites import Site, exact_name, full_name, make_site

Selection = str | Sequence[str | keras.Layer] | Callable[[Any], bool]


def select(model: keras.Model, found: list[Site], blocks: Selection) -> list[Site]:
    """The blocks that the user asked for, in forward order."""
    wanted = _wanted(model, blocks)
    by_name = {site.block.name: site for site in found}
    hits: set[Any] = set()
    sites: list[Site] = []
    taken: set[str] = set()
    for path, node in _calls(model):
        name = full_name(path, node)
        hit = wanted(path, node)
        if not hit:
            continue
        hits.add(hit)
        held = [s for n, s in by_name.items() if f"{n}/".startswith(f"{name}/")]
        if not held and (not callable(blocks) or _may_be_block(node)):
            held = [_whole_layer(path, node)]
        for site in held:
            if site.block.name not in taken:
                taken.add(site.block.name)
                sites.append(site)
    _check_all_hit(model, blocks, hits)
    return sites


def _may_be_block(node: Node) -> bool:
    """Whether a layer that a function picked can be a block though none was found.

    A function that goes by names picks convolutions and norms as well: only layers
    that are not Keras's own are taken as a whole.
    """
    return is_openable(node.operation) and keeps_shape(node)


def _wanted(
    model: keras.Model, blocks: Selection
) -> Callable[[tuple[Node, ...], Node], Any]:
    """Turns a selection into a test that returns what it matched, or False."""
    if callable(blocks) and not isinstance(blocks, (type, keras.Operation)):
        return lambda path, node: bool(blocks(node.operation)) and "callable"
    if isinstance(blocks, str) or not isinstance(blocks, Sequence) or not blocks:
        raise TypeError(
            'blocks must be "auto", a list of layer names or layers, or a function '
            f"from a layer to a bool. Received: blocks={blocks!r}."
        )
    names = {item for item in blocks if isinstance(item, str)}
    layers = {id(item) for item in blocks if isinstance(item, keras.Operation)}
    strange = [b for b in blocks if not isinstance(b, (str, keras.Operation))]
    if strange:
        raise TypeError(
            "blocks must hold layer names or layers. Received: "
            f"{strange[0]!r} (of type {type(strange[0]).__name__})."
        )

    # A name with its path means that one place; only a name that is none is looked for
    # at every depth.
    places = {name for path, node in _calls(model) for name in _place_names(path, node)}
    anywhere = names - places

    def test(path: tuple[Node, ...], node: Node) -> Any:
        if id(node.operation) in layers:
            return id(node.operation)
        for name in _place_names(path, node):
            if name in names:
                return name
        name = node.operation.name
        return name if name in anywhere else False

    return test


def _place_names(path: tuple[Node, ...], node: Node) -> tuple[str, str]:
    """The names of one place: of this call, and of every call of its layer."""
    every_call = "/".join([*(step.name for step in path), node.operation.name])
    return exact_name(path, node), every_call


def _check_all_hit(model: keras.Model, blocks: Selection, hits: set[Any]) -> None:
    """Raises if a name or layer of the selection matched nothing."""
    if callable(blocks):
        return
    for item in blocks:
        if (item if isinstance(item, str) else id(item)) in hits:
            continue
        label = item if isinstance(item, str) else item.name
        names = [full_name(path, node) for path, node in _calls(model)]
        close = difflib.get_close_matches(label, names, n=5, cutoff=0.4)
        raise ValueError(
            f"blocks names {label!r}, which is no layer of {model.name!r}. "
            f"Close names: {', '.join(close) or ', '.join(names[:5])}. "
            "print(keras_lap.find_residual_blocks(network)) lists the blocks."
        )


def _whole_layer(path: tuple[Node, ...], node: Node) -> Site:
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
            f"{before.shape} and its output {after.shape}, so there is no "
            "displacement between them. Choose layers that keep the shape of their "
            'state, or blocks="auto".'
        )
    return make_site(path, node, Merge("layer", before, before, after, None))


def _calls(
    model: keras.Model, path: tuple[Node, ...] = ()
) -> Iterator[tuple[tuple[Node, ...], Node]]:
    """Every call of an operation in a model, nested models before their insides."""
    for node in Graph.of(model).nodes:
        if not node.inputs:
            continue
        yield path, node
        if has_graph(node.operation):
            yield from _calls(node.operation, (*path, node))
