"""Which of the blocks, or of a model's layers, the user asked for by `blocks=`."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

from keras_lap.blocks.graph import Graph
from keras_lap.blocks.places import Place, layers_within, places
from keras_lap.blocks.report import Site, Skipped

Chosen: TypeAlias = str | re.Pattern[str] | keras.Layer
Selection: TypeAlias = Chosen | Sequence[Chosen] | Callable[[Any], bool]


def select(
    model: keras.Model,
    graph: Graph | None,
    found: list[Site],
    skipped: list[Skipped],
    blocks: Selection,
) -> tuple[list[Site], list[Skipped]]:
    """The blocks that the user asked for, in forward order.

    Args:
        model: The model.
        graph: Its graph; None if its call cannot be looked into.
        found: The blocks that were found in it.
        skipped: What was left out; a block around others may be asked for by name.
        blocks: What the user asked for.

    Returns:
        The chosen blocks, and what is left out then.
    """
    everywhere = list(places(graph) if graph else layers_within((), model))
    if callable(blocks) and not isinstance(blocks, (type, keras.Operation)):
        chosen = _chosen_by_function(everywhere, found, blocks)
    else:
        items = _items(blocks)
        chosen = _chosen_by_items(model, everywhere, found, skipped, items)
        _check_not_nested(chosen)
    taken = {site.block.name for site in chosen}
    return chosen, [s for s in skipped if s.name not in taken]


def _chosen_by_function(
    everywhere: list[Place], found: list[Site], wanted: Callable[[Any], bool]
) -> list[Site]:
    """The blocks found, and layers not Keras's own, that a function wants."""
    held = _by_prefix(found)
    chosen: dict[str, Site] = {}
    within = None
    for place in everywhere:
        if within is not None and f"{place.name}/".startswith(f"{within}/"):
            continue  # what is inside a block that counts is part of it
        within = None
        if not wanted(place.operation):
            continue
        for site in held.get(place.name, ()):
            chosen[site.selection] = site
        # A function that goes by names picks convolutions and norms as well.
        if place.name not in held and place.may_be_block and not place.holds(wanted):
            chosen[place.exact] = place.as_block()
        if any(site.block.name == place.name for site in chosen.values()):
            within = place.name
    return list(chosen.values())


def _chosen_by_items(
    model: keras.Model,
    everywhere: list[Place],
    found: list[Site],
    skipped: list[Skipped],
    items: Sequence[Chosen],
) -> list[Site]:
    """The blocks that names, patterns and layers stand for."""
    held = _by_prefix(found)
    around = {skip.name: skip.site for skip in skipped if skip.site is not None}
    exact = {site.selection for site in found}
    # A name with its path means that one place; only a name that is none is looked for
    # at every depth.
    known = {name for place in everywhere for name in place.names}
    anywhere = {i for i in items if isinstance(i, str)} - known
    chosen: dict[str, Site] = {}
    hits: set[int] = set()
    for place in everywhere:
        hit = [i for i, item in enumerate(items) if _means(item, place, anywhere)]
        matched = [i for i, item in enumerate(items) if _matches(item, place)]
        hits.update(hit)
        if matched and place.exact in exact:
            hits.update(matched)
            hit += matched
        if not hit:
            continue
        if place.name in held:
            sites = held[place.name]
        else:
            sites = [around.get(place.name) or place.as_block()]
        chosen.update((site.selection, site) for site in sites)
    _check_all_hit(model, everywhere, items, hits)
    return list(chosen.values())


def _by_prefix(found: list[Site]) -> dict[str, list[Site]]:
    """The blocks at or inside each model or layer, by its full name."""
    held = defaultdict(list)
    for site in found:
        parts = site.block.name.split("/")
        for end in range(1, len(parts) + 1):
            held["/".join(parts[:end])].append(site)
    return dict(held)


def _means(item: Chosen, place: Place, anywhere: set[str]) -> bool:
    """Whether a name or layer of a selection stands for a place."""
    if isinstance(item, str):
        return item in place.names or (
            item in anywhere and item == place.operation.name
        )
    return item is place.operation


def _matches(item: Chosen, place: Place) -> bool:
    return isinstance(item, re.Pattern) and item.search(place.name) is not None


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
    model: keras.Model, everywhere: list[Place], items: Sequence[Chosen], hits: set[int]
) -> None:
    """Raises if a name, pattern or layer of the selection matched nothing."""
    for index, item in enumerate(items):
        if index in hits:
            continue
        if isinstance(item, re.Pattern):
            raise ValueError(
                f"blocks holds the pattern {item.pattern!r}, which no block of "
                f"{model.name!r} matches. "
                "print(keras_lap.find_residual_blocks(network)) lists the blocks."
            )
        label = item if isinstance(item, str) else item.name
        names = [place.name for place in everywhere]
        close = difflib.get_close_matches(label, names, n=5, cutoff=0.4)
        raise ValueError(
            f"blocks names {label!r}, which is no layer of {model.name!r}. "
            f"Close names: {', '.join(close) or ', '.join(names[:5])}. "
            "print(keras_lap.find_residual_blocks(network)) lists the blocks."
        )


def _check_not_nested(chosen: list[Site]) -> None:
    """Raises if one of two blocks that were asked for lies within the other."""
    names = {site.block.name for site in chosen}
    for site in chosen:
        parts = site.block.name.split("/")
        outer = ["/".join(parts[:end]) for end in range(1, len(parts))]
        outer += [o.block.name for o in chosen if site.block.name in o.around]
        for name in outer:
            if name in names:
                raise ValueError(
                    f"blocks names {name!r} and {site.block.name!r}, which lies within "
                    "it: the same displacement would count twice. Leave one out."
                )
