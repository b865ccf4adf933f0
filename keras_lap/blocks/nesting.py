"""Blocks within blocks: of those that nest, the innermost counts.

A long skip around other blocks is a residual merge as well, but its displacement is
the sum of theirs: counted too, the same way would be paid for twice.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from keras_lap.blocks.definition import Merge
from keras_lap.blocks.graph import Graph, Node
from keras_lap.blocks.report import Site, Skipped, make_site


def innermost(
    graph: Graph, sites: list[Site], depth: int
) -> tuple[list[Site], list[Skipped]]:
    """Leaves out the blocks of a graph that have another one on their branch.

    Args:
        graph: The graph.
        sites: Its blocks, and those of the models and layers that it calls.
        depth: How many calls are around the graph.
    """
    kept, skipped = [], []
    by_node: dict[Node, list[Site]] = defaultdict(list)
    for site in sites:
        node = site.path[depth] if len(site.path) > depth else site.node
        if node is not None:
            by_node[node].append(site)
    for site in sites:
        held: list[Site] = []
        if len(site.path) == depth and site.block.kind != "layer":
            site, held = _first_clear(graph, site, by_node)
        if not held:
            kept.append(site)
            continue
        inner = f"the block {held[0].block.name!r} lies on its branch"
        reason = f"{inner}; the innermost counts, blocks= can name it"
        around = frozenset(other.block.name for other in held)
        outer = replace(site, around=around)
        skipped.append(Skipped(site.block.name, reason, outer))
    return kept, skipped


def _first_clear(
    graph: Graph, site: Site, by_node: dict[Node, list[Site]]
) -> tuple[Site, list[Site]]:
    """The first reading of a block's sum that holds no other block.

    ``h + f(h) + h_0`` moves ``h``, not ``h_0``, if a block lies between the two.
    """
    node, merge = _read(site)
    held = _on_branch(graph, site, by_node)
    for later in merge.later if held else ():
        if not _on_branch(graph, replace(site, merge=later), by_node):
            clear = make_site(graph, site.path, node, later)
            by_node[node] = [clear]
            return clear, []
    return site, held


def _on_branch(graph: Graph, site: Site, by_node: dict[Node, list[Site]]) -> list[Site]:
    """The blocks that move a state which comes from that of `site`, before its sum."""
    reached = {id(_read(site)[1].source)}
    held: list[Site] = []
    for node in _branch(graph, site):
        if all(id(tensor) not in reached for tensor in node.inputs):
            continue
        reached.update(id(tensor) for tensor in node.outputs)
        for found in by_node.get(node, ()):
            # Of a block of this graph, the state too and not only its branch must
            # come from there.
            own = found.node is node
            if not own or id(_read(found)[1].source) in reached:
                held.append(found)
    return held


def _branch(graph: Graph, site: Site) -> list[Node]:
    """The nodes between the source of a block and its sum, past the shortcut."""
    node, merge = _read(site)
    oldest = graph.position(merge.source)
    stack = [t for t in node.inputs if t is not merge.shortcut]
    found = set()
    while stack:
        tensor = stack.pop()
        position = graph.position(tensor)
        if tensor is merge.shortcut or position <= oldest or position in found:
            continue
        found.add(position)
        stack.extend(graph.nodes[position].inputs)
    return [graph.nodes[position] for position in sorted(found)]


def _read(site: Site) -> tuple[Node, Merge]:
    """The sum and the states of a block that was found in a graph."""
    assert site.node is not None
    assert site.merge is not None
    return site.node, site.merge
