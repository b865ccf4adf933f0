"""Which of the blocks, or of a model's layers, the user asked for by `blocks=`."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

from keras_lap.blocks.graph import OWN, SUM, Call, every_call
from keras_lap.blocks.operations import roles_of
from keras_lap.blocks.report import FoundBlock, ResidualBlock, Skipped
from keras_lap.blocks.search import whole
from keras_lap.blocks.tracing import layers_below

Chosen: TypeAlias = str | re.Pattern[str] | keras.Layer
Selection: TypeAlias = Chosen | Sequence[Chosen] | Callable[[Any], bool]


def select(
    root: Call, found: list[FoundBlock], skipped: list[Skipped], blocks: Selection
) -> tuple[list[FoundBlock], list[Skipped]]:
    """The blocks that the user asked for, in forward order.

    Args:
        root: The model.
        found: The blocks that were found in it.
        skipped: What was left out; a block around others may be asked for by name.
        blocks: What the user asked for.

    Returns:
        The chosen blocks, and what is left out then.
    """
    calls = [*every_call(root.inside), *root.parts]
    calls = [call for call in calls if call.inputs]
    if callable(blocks) and not isinstance(blocks, (type, keras.Operation)):
        chosen = _chosen_by_function(root, calls, found, blocks)
    else:
        chosen = _chosen_by_items(root, calls, found, skipped, _items(blocks))
        _check_not_nested(chosen)
    taken = {block.block.name for block in chosen}
    return chosen, [s for s in skipped if s.name not in taken]


def _chosen_by_function(
    root: Call,
    calls: list[Call],
    found: list[FoundBlock],
    wanted: Callable[[Any], bool],
) -> list[FoundBlock]:
    """The blocks found, and layers not Keras's own, that a function wants."""
    below = _by_prefix(found)
    chosen: dict[str, FoundBlock] = {}
    within = None
    for call in calls:
        if within is not None and f"{call.name}/".startswith(f"{within}/"):
            continue  # what is inside a block that counts is part of it
        within = None
        if not wanted(call.operation):
            continue
        for block in below.get(call.name, ()):
            chosen[block.exact_name] = block
        # A function that goes by names picks convolutions and norms as well.
        may_be_block = OWN in call.roles and (call.keeps_shape or call.is_part)
        if call.name not in below and may_be_block and not _holds(call, wanted):
            chosen[call.exact_name] = _as_block(root, call)
        if any(block.block.name == call.name for block in chosen.values()):
            within = call.name
    return list(chosen.values())


def _holds(call: Call, wanted: Callable[[Any], bool]) -> bool:
    """Whether it has a layer inside that a function wants, and that may count."""
    layers = layers_below(call.operation)
    return any(OWN in roles_of(layer) and wanted(layer) for layer in layers)


def _as_block(root: Call, call: Call) -> FoundBlock:
    """A whole layer as a block; below a closed call, each of its calls is one."""
    if call.is_part:
        block = ResidualBlock(call.name, "layer", call.inputs[0].shape)
        return FoundBlock(block, call)
    graph = call.path[-1].inside if call.path else root.inside
    assert graph is not None
    moved = whole(graph, call)
    if isinstance(moved, FoundBlock):
        return moved
    kind = "sum" if SUM in call.roles else "layer"
    raise ValueError(
        f"The {kind} {call.name!r} cannot be a block: {moved.reason}. "
        "print(keras_lap.find_residual_blocks(network)) says more; name the layer or "
        "the nested model that moves the state and keeps its shape, or pass "
        'blocks="auto".'
    )


def _chosen_by_items(
    root: Call,
    calls: list[Call],
    found: list[FoundBlock],
    skipped: list[Skipped],
    items: Sequence[Chosen],
) -> list[FoundBlock]:
    """The blocks that names, patterns and layers stand for."""
    below = _by_prefix(found)
    around = {skip.name: skip.found for skip in skipped if skip.found is not None}
    exact = {block.exact_name for block in found}
    # A name with its path means that one call; only a name that is none is looked for
    # at every depth.
    names = [_names(call) for call in calls]
    known = frozenset().union(*names)
    anywhere = frozenset(i for i in items if isinstance(i, str)) - known
    chosen: dict[str, FoundBlock] = {}
    hits: set[int] = set()
    for call, own in zip(calls, names, strict=True):
        hit = [i for i, item in enumerate(items) if _means(item, call, own, anywhere)]
        matched = [i for i, item in enumerate(items) if _matches(item, call)]
        hits.update(hit)
        if matched and call.exact_name in exact:
            hits.update(matched)
            hit += matched
        if not hit:
            continue
        if call.name in below:
            blocks = below[call.name]
        else:
            blocks = [around.get(call.name) or _as_block(root, call)]
        chosen.update((block.exact_name, block) for block in blocks)
    _check_all_hit(root, calls, items, hits)
    return list(chosen.values())


def _by_prefix(found: list[FoundBlock]) -> dict[str, list[FoundBlock]]:
    """The blocks at or inside each model or layer, by its full name."""
    below = defaultdict(list)
    for block in found:
        parts = block.block.name.split("/")
        for end in range(1, len(parts) + 1):
            below["/".join(parts[:end])].append(block)
    return dict(below)


def _names(call: Call) -> frozenset[str]:
    """Every name that means a call by its path."""
    if call.is_part:
        return frozenset((call.exact_name, call.name))
    numbered = "/".join(step.numbered for step in (*call.path, call))
    every_use = "/".join([*(step.step for step in call.path), call.label])
    return frozenset((call.exact_name, numbered, every_use))


def _means(
    item: Chosen, call: Call, names: frozenset[str], anywhere: frozenset[str]
) -> bool:
    """Whether a name or layer of a selection stands for a call."""
    if isinstance(item, str):
        return item in names or (item in anywhere and item == call.operation.name)
    return item is call.operation


def _matches(item: Chosen, call: Call) -> bool:
    return isinstance(item, re.Pattern) and item.search(call.name) is not None


def _items(blocks: Any) -> Sequence[Chosen]:
    """What `blocks` lists, checked; a pattern alone is a list of one."""
    items = [blocks] if isinstance(blocks, re.Pattern) else blocks
    if isinstance(items, str) or not isinstance(items, Sequence) or not items:
        raise TypeError(
            'blocks must be "auto", a list of layer names, regular expressions '
            "(re.compile) or layers, or a function from a layer to a bool. "
            f"Received: blocks={items!r}."
        )
    for item in items:
        if not isinstance(item, (str, re.Pattern, keras.Operation)):
            raise TypeError(
                "blocks must hold layer names or layers, or regular expressions. "
                f"Received: {item!r} (of type {type(item).__name__})."
            )
    return items


def _check_all_hit(
    root: Call, calls: list[Call], items: Sequence[Chosen], hits: set[int]
) -> None:
    """Raises if a name, pattern or layer of the selection matched nothing."""
    for index, item in enumerate(items):
        if index in hits:
            continue
        ask = "print(keras_lap.find_residual_blocks(network)) lists the blocks."
        if isinstance(item, re.Pattern):
            raise ValueError(
                f"blocks holds the pattern {item.pattern!r}, which no block of "
                f"{root.label!r} matches. {ask}"
            )
        label = item if isinstance(item, str) else item.name
        names = [call.name for call in calls]
        close = difflib.get_close_matches(label, names, n=5, cutoff=0.4)
        raise ValueError(
            f"blocks names {label!r}, which is no layer of {root.label!r}. "
            f"Close names: {', '.join(close) or ', '.join(names[:5])}. {ask}"
        )


def _check_not_nested(chosen: list[FoundBlock]) -> None:
    """Raises if one of two blocks that were asked for lies within the other."""
    names = {each.block.name for each in chosen}
    for each in chosen:
        name = each.block.name
        parts = name.split("/")
        outer = ["/".join(parts[:end]) for end in range(1, len(parts))]
        outer += [other.block.name for other in chosen if name in other.around]
        for around in (each for each in outer if each in names):
            raise ValueError(
                f"blocks names {around!r} and {name!r}, which lies within it: the same "
                "displacement would count twice. Leave one out."
            )
