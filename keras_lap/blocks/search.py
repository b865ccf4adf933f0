"""Residual blocks: which parts of a network move the data.

`find_residual_blocks` reads the graph of a model, through any nesting of models and
into the calls of layers and subclassed models, and reports the blocks in forward order
together with everything that looked like one and was left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_lap.blocks.carried import carried_branches, find_carried
from keras_lap.blocks.definition import Merge, find_merge, find_sum, is_part
from keras_lap.blocks.graph import Graph, Node, has_graph, keeps_shape
from keras_lap.blocks.nesting import innermost
from keras_lap.blocks.opening import graph_of, inside, is_declared
from keras_lap.blocks.places import whole_layer
from keras_lap.blocks.ports import CannotSee, recomputes
from keras_lap.blocks.report import (
    BlockReport,
    ResidualBlock,
    Site,
    Skipped,
    full_name,
    make_site,
)
from keras_lap.blocks.selection import Selection, select
from keras_lap.blocks.symbolic import CannotOpen

__all__ = [
    "BlockReport",
    "ResidualBlock",
    "Selection",
    "Site",
    "Skipped",
    "find_residual_blocks",
]


def find_residual_blocks(
    model: keras.Model,
    blocks: Selection = "auto",
    include_projections: bool = False,
) -> BlockReport:
    """Finds the residual blocks ``x_out = act?(x_in + r(x_in))`` of a model.

    A sum closes a block if one of its terms is a state that another term is
    computed from. The sum may be a `keras.layers.Add`, ``x + y``, `keras.ops.add` or
    a layer that adds up its inputs; an activation that alone reads the sum belongs to
    the block. A layer whose `call` carries its input to its output by such sums, as
    transformer layers do, is one block of kind `"layer"`; this is found out by running
    the `call` once on symbolic tensors. Blocks further inside a call, or in that of a
    subclassed model, count by themselves. Of blocks that nest the innermost counts. A
    layer whose call does not run on symbolic tensors is not counted unless `blocks`
    names it or its class sets ``is_residual_block = True``; the report says so.

    Args:
        model: A model, built: Functional, Sequential or subclassed.
        blocks: `"auto"`; or a list of names of merge layers, of nested models that hold
            blocks, or of any layer that keeps the shape of its input; of these layers
            themselves; of regular expressions (`re.compile`), searched for in the
            names of the blocks that `"auto"` finds; or a function from a layer to
            whether it is wanted, asked of every layer: it chooses among the blocks
            that `"auto"` finds and layers that are not Keras's own.
        include_projections: Whether to count blocks whose shortcut changes the
            shape; their displacement starts at the projected input. Defaults to
            False.

    Returns:
        A `BlockReport`, empty if nothing was found.

    Raises:
        ValueError: If the model is not built or its call cannot be looked into, a name
            or layer of `blocks` is unknown, a chosen layer changes the shape of its
            input, or one of two chosen blocks lies within the other.
        TypeError: If an argument has the wrong type.

    Examples:
        >>> network = keras_lap.networks.resnet9((8, 8, 1), 10, filters=4)
        >>> len(keras_lap.find_residual_blocks(network))
        9
    """
    graph, found, skipped = _search(model, blocks)
    if not isinstance(blocks, str) or blocks != "auto":
        found, skipped = select(model, graph, found, skipped, blocks)
    counted = []
    for site in found:
        if site.block.kind == "projection" and not include_projections:
            _check_not_named(site, blocks)
            skipped.append(Skipped(site.block.name, _PROJECTION))
        else:
            counted.append(site)
    return BlockReport(model.name, tuple(counted), tuple(skipped))


def _search(
    model: Any, blocks: Selection
) -> tuple[Graph | None, list[Site], list[Skipped]]:
    """The graph of a model, and everything in it that is a block or looks like one.

    No graph if the model's call cannot be looked into and `blocks` names layers in it.
    """
    _check_is_built(model)
    try:
        graph = graph_of(model)
    except CannotOpen as error:
        if blocks != "auto":
            return None, [], []
        raise ValueError(
            f"{model.name!r} ({type(model).__name__}) has a call() of its own that "
            f"cannot be looked into ({error}). Name the layers that move the data "
            "with blocks=[...], or express the model with the Functional API: "
            "keras.Model(inputs, outputs)."
        ) from error
    sites, skipped = _scan(graph)
    return graph, sites, skipped


def _check_not_named(site: Site, blocks: Selection) -> None:
    """Raises if the user named a block that is left out for its shortcut."""
    operation = site.node.operation if site.node is not None else None
    names = {site.block.name, getattr(operation, "name", None)}
    named = blocks if isinstance(blocks, Sequence) and blocks != "auto" else ()
    if any(item is operation or item in names for item in named):
        raise ValueError(
            f"blocks names {site.block.name!r}, but {_PROJECTION}. Pass "
            "include_projections=True, or leave it out of blocks."
        )


_CLOSED = "cannot be looked into, so not counted; blocks= can name it ({})"
_PROJECTION = "its shortcut is a projection; include_projections=True counts it"


def _check_is_built(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Residual blocks are found in a keras.Model. Received: "
            f"{model!r} (of type {type(model).__name__}). Wrap a single layer as "
            "keras.Sequential([keras.Input(shape), layer])."
        )
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} ({type(model).__name__}) is not built, so its "
            "layers are not connected yet. Call it once on a batch, or give a "
            "Sequential model a keras.Input(shape) as its first entry."
        )


def _scan(
    graph: Graph, path: tuple[Node, ...] = ()
) -> tuple[list[Site], list[Skipped]]:
    """Looks at every sum of a graph, of the models nested in it and inside layers."""
    streams: set[int] = set()
    sites: list[Site] = []
    skipped: list[Skipped] = []
    for node in graph.nodes:
        try:
            found = _look_at(graph, path, node, streams)
        except (CannotOpen, CannotSee) as error:
            if isinstance(error, CannotSee) or keeps_shape(node):
                skipped.append(Skipped(full_name(path, node), str(error)))
            continue
        sites += found[0]
        skipped += found[1]
    sites, nesting = innermost(graph, sites, len(path))
    return sites, skipped + nesting


def _look_at(
    graph: Graph, path: tuple[Node, ...], node: Node, streams: set[int]
) -> tuple[list[Site], list[Skipped]]:
    """Looks at one call: a sum, a model, a layer that may hold sums, or neither."""
    if is_declared(node.operation):
        return [whole_layer(graph, path, node)], []
    try:
        inner = inside(graph, node)
    except CannotOpen as error:
        raise CannotOpen(_CLOSED.format(error)) from error
    found = None
    if not has_graph(node.operation) and not is_part(graph, node):
        found = find_sum(graph, node, inner)
    if found is not None:
        merge = find_merge(graph, found, streams)
        if isinstance(merge, Merge):
            return [make_site(graph, path, node, merge)], []
        return [], [Skipped(full_name(path, node), merge)]
    if inner is None:
        return [], []
    scan = _scan(inner, (*path, node))
    if has_graph(node.operation):
        return scan
    return _as_layer(graph, path, node, inner, *scan)


def _as_layer(
    graph: Graph,
    path: tuple[Node, ...],
    node: Node,
    inner: Graph,
    sites: list[Site],
    skipped: list[Skipped],
) -> tuple[list[Site], list[Skipped]]:
    """Turns the merges in a layer's call into one block, the layer, if it is one.

    It is if these merges carry one of its inputs to an output; what else is inside is
    part of it then. Layers with blocks of their own inside count in its place.
    """
    own = [site for site in sites if len(site.path) == len(path) + 1]
    if not own or any(site.block.kind == "layer" for site in sites):
        return _within_call(node, sites, skipped)
    merges = {id(s.node.outputs[0]): s.merge for s in own if s.node and s.merge}
    carried = find_carried(inner, merges) if len(own) == len(sites) else None
    if carried is None:
        return _within_call(node, sites, skipped)
    source, result, passed = carried
    closing = own[-1].block.name
    before, after = node.inputs[source], node.outputs[result]
    if all(merge.kind == "identity" for merge in passed):
        branches = carried_branches(inner, *carried)
        if branches and not recomputes(node.operation):
            begin, end = inner.inputs[source], inner.outputs[result]
            merge = Merge("layer", begin, before, end, branches)
            site = make_site(inner, (*path, node), node, merge, closing)
            if site.on_branches:
                return [site], []
        merge = Merge("layer", before, before, after)
        return [make_site(graph, path, node, merge, closing)], []
    shortcut, end = passed[0].shortcut, inner.outputs[result]
    if tuple(shortcut.shape) != tuple(end.shape) or recomputes(node.operation):
        return _within_call(node, sites, skipped)
    merge = Merge("projection", shortcut, passed[0].source, end)
    return [make_site(inner, (*path, node), node, merge, closing)], []


def _within_call(
    node: Node, sites: list[Site], skipped: list[Skipped]
) -> tuple[list[Site], list[Skipped]]:
    """Keeps the blocks inside a layer's call if they can be seen there."""
    if not recomputes(node.operation):
        return sites, skipped
    reason = f"{node.name!r} runs under a RematScope, where nothing inside is kept"
    return [], [*skipped, *(Skipped(site.block.name, reason) for site in sites)]
