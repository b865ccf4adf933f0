"""Residual blocks: which parts of a network move the data.

`find_residual_blocks` reads the graph of a Functional or Sequential model, through
any nesting of such models and into the calls of layers, and reports the blocks in
forward order together with everything that looked like one and was left out.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_lap._graph import Graph, Node, has_graph, keeps_shape
from keras_lap._merges import Merge, find_carried, find_merge, find_sum, is_part
from keras_lap._opening import CannotOpen, inside
from keras_lap._selection import Selection, select
from keras_lap._sites import (
    BlockReport,
    ResidualBlock,
    Site,
    Skipped,
    full_name,
    make_site,
)

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
    the `call` once on symbolic tensors. A layer whose call does not run on them is not
    counted, and the report says so.

    Args:
        model: A Functional or Sequential model, built.
        blocks: `"auto"`; or names of merge layers, of nested models that hold
            blocks, or of any layer that keeps the shape of its input; or these
            layers themselves; or a function from a layer to whether it is wanted,
            asked of every layer: it chooses among the blocks that `"auto"` finds and
            layers that are not Keras's own.
        include_projections: Whether to count blocks whose shortcut changes the
            shape; their displacement starts at the projected input. Defaults to
            False.

    Returns:
        A `BlockReport`, empty if nothing was found.

    Raises:
        ValueError: If the model has no graph to read, a name or layer of `blocks`
            is unknown, or a chosen layer changes the shape of its input.
        TypeError: If an argument has the wrong type.

    Example:
        >>> network = keras_lap.networks.resnet9((8, 8, 1), 10, filters=4)
        >>> len(keras_lap.find_residual_blocks(network))
        9
    """
    _check_has_graph(model)
    found, skipped = _scan(Graph.of(model))
    if blocks != "auto":
        found = select(model, found, blocks)
    counted = []
    for site in found:
        if site.block.kind == "projection" and not include_projections:
            _check_not_named(site, blocks)
            skipped.append(Skipped(site.block.name, _PROJECTION))
        else:
            counted.append(site)
    return BlockReport(model.name, tuple(counted), tuple(skipped))


def _check_not_named(site: Site, blocks: Selection) -> None:
    """Raises if the user named a block that is left out for its shortcut."""
    names = {site.block.name, site.node.operation.name}
    named = () if callable(blocks) or isinstance(blocks, str) else blocks
    if any(item is site.node.operation or item in names for item in named):
        raise ValueError(
            f"blocks names {site.block.name!r}, but {_PROJECTION}. Pass "
            "include_projections=True, or leave it out of blocks."
        )


_CLOSED = "cannot be looked into, so not counted; blocks= can name it ({})"
_PROJECTION = "its shortcut is a projection; include_projections=True counts it"


def _check_has_graph(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Residual blocks are found in a keras.Model. Received: "
            f"{model!r} (of type {type(model).__name__}). Wrap a single layer as "
            "keras.Sequential([keras.Input(shape), layer])."
        )
    if has_graph(model):
        return
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} ({type(model).__name__}) is not built, so its "
            "layers are not connected yet. Call it once on a batch, or give a "
            "Sequential model a keras.Input(shape) as its first entry."
        )
    raise ValueError(
        f"The model {model.name!r} ({type(model).__name__}) is not a Functional or "
        "Sequential model with Keras's own call(), so it has no graph to read. "
        "Express it with the Functional API: keras.Model(inputs, outputs)."
    )


def _scan(
    graph: Graph, path: tuple[Node, ...] = ()
) -> tuple[list[Site], list[Skipped]]:
    """Looks at every sum of a graph, of the models nested in it and inside layers."""
    streams: set[int] = set()
    sites: list[Site] = []
    skipped: list[Skipped] = []
    for node in graph.nodes:
        name = full_name(path, node)
        try:
            inner = inside(graph, node)
        except CannotOpen as error:
            if keeps_shape(node):
                skipped.append(Skipped(name, _CLOSED.format(error)))
            continue
        found = None
        if not has_graph(node.operation) and not is_part(graph, node):
            found = find_sum(graph, node, inner)
        if found is not None:
            merge = find_merge(graph, found, streams)
            if isinstance(merge, Merge):
                sites.append(make_site(path, node, merge))
            else:
                skipped.append(Skipped(name, merge))
        elif inner is not None:
            scan = _scan(inner, (*path, node))
            if not has_graph(node.operation):
                scan = _as_layer(path, node, inner, *scan)
            sites += scan[0]
            skipped += scan[1]
    return sites, skipped


def _as_layer(
    path: tuple[Node, ...],
    node: Node,
    inner: Graph,
    sites: list[Site],
    skipped: list[Skipped],
) -> tuple[list[Site], list[Skipped]]:
    """Turns what was found inside a layer's call into one block, the layer."""
    own = [site for site in sites if site.path == (*path, node)]
    if any(site.block.kind == "layer" for site in own) or len(own) < len(sites):
        reason = f"lies inside the call of {node.name!r}, where states are not recorded"
        return [], [*skipped, *(Skipped(site.block.name, reason) for site in sites)]
    if not own:
        return [], skipped
    merges = {id(site.node.outputs[0]): site.merge for site in own}
    carried = find_carried(inner, merges)
    name = full_name(path, node)
    if carried is None:
        reason = "merges inside its call, but not from its input to its output"
        return [], [*skipped, Skipped(name, reason)]
    before, after = node.inputs[carried[0]], node.outputs[carried[1]]
    if tuple(before.shape) != tuple(after.shape):
        reason = f"its state changes shape inside its call, {before.shape} to "
        return [], [*skipped, Skipped(name, f"{reason}{after.shape}")]
    return [make_site(path, node, Merge("layer", before, before, after, None))], []
