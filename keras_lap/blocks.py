"""Residual blocks: which parts of a network move the data.

`find_residual_blocks` reads the graph of a Functional or Sequential model, through
any nesting of such models and into the calls of layers, and reports the blocks in
forward order together with everything that looked like one and was left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_lap._graph import Graph, Node, has_graph, is_addition
from keras_lap._merges import Kind, Merge, find_carried, find_merge, find_sum, is_part
from keras_lap._opening import CannotOpen, inside, is_openable

Selection = str | Sequence[str | keras.Layer] | Callable[[Any], bool]


@dataclass(frozen=True)
class ResidualBlock:
    """One residual block of a network.

    Attributes:
        name: Name of the merge layer, after the names of the nested models that
            hold it; ``#2``, ``#3``, … mark later calls of the same layer.
        kind: `"identity"`, `"projection"` (the shortcut changes the shape) or
            `"layer"` (a whole layer: its residual connections are inside its call, or
            it was asked for by `blocks=`).
        shape: Shape of the state, `(batch, ...)` with None for unknown sizes.
    """

    name: str
    kind: Kind
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Skipped:
    """Something that was looked at and left out.

    Attributes:
        name: Name as it would be in `ResidualBlock`.
        reason: Why it is not counted.
    """

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Site:
    """Where a block is: the calls of nested models around it, and its merge."""

    block: ResidualBlock
    path: tuple[Node, ...]
    node: Node
    merge: Merge


@dataclass(frozen=True, eq=False)
class BlockReport(Sequence):
    """The residual blocks of a model, in forward order, and what was left out.

    A sequence of `ResidualBlock`; `str(report)` is a readable table.

    Attributes:
        model_name: Name of the model that was searched.
        sites: Where each block is; for `DisplacementRecorder`.
        skipped: What was looked at and left out, each with its reason.
    """

    model_name: str
    sites: tuple[Site, ...]
    skipped: tuple[Skipped, ...] = field(default=())

    def __getitem__(self, index: Any) -> Any:
        blocks = tuple(site.block for site in self.sites)
        return blocks[index]

    def __len__(self) -> int:
        return len(self.sites)

    @property
    def selection(self) -> list[str]:
        """Names that choose these very blocks when given as `blocks=`."""
        return [_exact_name(site.path, site.node) for site in self.sites]

    def __str__(self) -> str:
        kinds = [block.kind for block in self]
        counts = ", ".join(
            f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)
        )
        lines = [f"{self.model_name}: {len(self)} residual blocks ({counts or 'none'})"]
        rows = [(b.name, b.kind, str(b.shape)) for b in self]
        rows += [(s.name, "skipped", s.reason) for s in self.skipped]
        widths = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
        lines += [f"  {n:<{widths[0]}}  {k:<{widths[1]}}  {t}" for n, k, t in rows]
        return "\n".join(lines)


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
        found = _select(model, found, blocks)
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
        name = _full_name(path, node)
        try:
            inner = inside(graph, node)
        except CannotOpen as error:
            if _keeps_shape(node):
                skipped.append(Skipped(name, _CLOSED.format(error)))
            continue
        found = None
        if not has_graph(node.operation) and not is_part(graph, node):
            found = find_sum(graph, node, inner)
        if found is not None:
            merge = find_merge(graph, found, streams)
            if isinstance(merge, Merge):
                sites.append(_site(path, node, merge))
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
    name = _full_name(path, node)
    if carried is None:
        reason = "merges inside its call, but not from its input to its output"
        return [], [*skipped, Skipped(name, reason)]
    before, after = node.inputs[carried[0]], node.outputs[carried[1]]
    if tuple(before.shape) != tuple(after.shape):
        reason = f"its state changes shape inside its call, {before.shape} to "
        return [], [*skipped, Skipped(name, f"{reason}{after.shape}")]
    return [_site(path, node, Merge("layer", before, before, after, None))], []


def _keeps_shape(node: Node) -> bool:
    shapes = {tuple(tensor.shape) for tensor in node.inputs}
    return any(tuple(tensor.shape) in shapes for tensor in node.outputs)


def _site(path: tuple[Node, ...], node: Node, merge: Merge) -> Site:
    shape = tuple(merge.output.shape)
    block = ResidualBlock(_full_name(path, node), merge.kind, shape)
    return Site(block, path, node, merge)


def _full_name(path: tuple[Node, ...], node: Node) -> str:
    return "/".join(step.name for step in (*path, node))


def _exact_name(path: tuple[Node, ...], node: Node) -> str:
    return "/".join([*(step.name for step in path), node.exact_name])


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


def _select(model: keras.Model, found: list[Site], blocks: Selection) -> list[Site]:
    """The blocks that the user asked for, in forward order."""
    wanted = _wanted(model, blocks)
    by_name = {site.block.name: site for site in found}
    hits: set[Any] = set()
    sites: list[Site] = []
    taken: set[str] = set()
    for path, node in _calls(model):
        name = _full_name(path, node)
        hit = wanted(path, node)
        if not hit:
            continue
        hits.add(hit)
        held = [s for n, s in by_name.items() if f"{n}/".startswith(f"{name}/")]
        if not held and (not callable(blocks) or _may_be_block(node)):
            held = [_layer_site(path, node)]
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
    return is_openable(node.operation) and _keeps_shape(node)


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
    layers = {id(item): item for item in blocks if isinstance(item, keras.Operation)}
    strange = [b for b in blocks if not isinstance(b, (str, keras.Operation))]
    if strange:
        raise TypeError(
            "blocks must hold layer names or layers. Received: "
            f"{strange[0]!r} (of type {type(strange[0]).__name__})."
        )

    # A name with its path means that one place; only a name that is none is looked for
    # at every depth.
    places = {name for path, node in _calls(model) for name in _place_names(path, node)}

    def test(path: tuple[Node, ...], node: Node) -> Any:
        if id(node.operation) in layers:
            return id(node.operation)
        for name in _place_names(path, node):
            if name in names:
                return name
        name = node.operation.name
        return name if name in names - places else False

    return test


def _place_names(path: tuple[Node, ...], node: Node) -> tuple[str, str]:
    """The names of one place: of this call, and of every call of its layer."""
    every_call = "/".join([*(step.name for step in path), node.operation.name])
    return _exact_name(path, node), every_call


def _check_all_hit(model: keras.Model, blocks: Selection, hits: set[Any]) -> None:
    """Raises if a name or layer of the selection matched nothing."""
    if callable(blocks):
        return
    for item in blocks:
        if (item if isinstance(item, str) else id(item)) in hits:
            continue
        label = item if isinstance(item, str) else item.name
        names = [_full_name(path, node) for path, node in _calls(model)]
        close = difflib.get_close_matches(label, names, n=5, cutoff=0.4)
        raise ValueError(
            f"blocks names {label!r}, which is no layer of {model.name!r}. "
            f"Close names: {', '.join(close) or ', '.join(names[:5])}. "
            "print(keras_lap.find_residual_blocks(network)) lists the blocks."
        )


def _layer_site(path: tuple[Node, ...], node: Node) -> Site:
    """A whole layer as a block: displacement = output − input."""
    name = _full_name(path, node)
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
    return _site(path, node, Merge("layer", before, before, after, None))
