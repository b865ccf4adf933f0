"""What a search for residual blocks returns, and where each block is."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from keras_lap.blocks.definition import Kind, Merge
from keras_lap.blocks.graph import Graph, Node
from keras_lap.blocks.ports import CannotSee, Port, find_ports


@dataclass(frozen=True)
class ResidualBlock:
    """One residual block of a network.

    Attributes:
        name: Name of the merge layer, after the names of the nested models and layers
            that hold it; ``#2``, ``#3``, … mark later calls of the same layer.
        kind: `"identity"`, `"projection"` (the shortcut changes the shape) or
            `"layer"` (a whole layer: its residual connections are inside its call, or
            it was asked for by `blocks=`).
        shape: Shape of the state, `(batch, ...)` with None for unknown sizes; `()` if
            nothing of it is known.
        merge: Name of the operation that adds up last, as `name`; empty for a layer
            that is taken as a whole without looking inside. Not in comparisons.
    """

    name: str
    kind: Kind
    shape: tuple[int | None, ...]
    merge: str = field(default="", compare=False)

    @property
    def size(self) -> int | None:
        """Number of features of one sample's state; None if a size is unknown."""
        if not self.shape or None in self.shape[1:]:
            return None
        return math.prod(size for size in self.shape[1:] if size is not None)


@dataclass(frozen=True)
class Skipped:
    """Something that was looked at and left out.

    Attributes:
        name: Name as it would be in `ResidualBlock`.
        reason: Why it is not counted.
        site: Where it is, if it is a block around other blocks; not in comparisons.
    """

    name: str
    reason: str
    site: Site | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class Site:
    """Where a block is.

    Attributes:
        block: What the report shows of it.
        path: The calls of models and layers around the graph that holds its states.
        selection: The name that means this block alone; see `exact_name`.
        node: The call that it is named after; None inside a call that cannot be
            looked into.
        merge: Its states in the graph; None likewise.
        ports: Where they can be seen, if the graph is that of a layer's call.
        around: Names of the blocks that lie on its branch.
        on_branches: Whether what is recorded adds up to the displacement, instead of
            being the states before and after.
        state_ports: As `ports`, for the state before, then the one after or else the
            parts of the displacement.
        ends_on_branches: Whether `state_ports` ends with those.
    """

    block: ResidualBlock
    path: tuple[Node, ...]
    selection: str
    node: Node | None
    merge: Merge | None
    ports: tuple[Port, ...] = ()
    around: frozenset[str] = frozenset()
    on_branches: bool = False
    state_ports: tuple[Port, ...] = ()
    ends_on_branches: bool = False

    def with_states(self) -> Site:
        """The same block, to be recorded by its states instead of its displacement.

        Raises:
            ValueError: If the state before it cannot be seen.
        """
        if self.merge is None:  # recorded by its states in any case
            return self
        if not self.ports:
            return replace(self, merge=replace(self.merge, branches=()))
        if not self.state_ports:
            raise ValueError(
                f"The states of the block {self.block.name!r} lie between operations "
                "of a call, where only its displacement can be seen. Leave it out by "
                "blocks=..., or name the layer around it."
            )
        return replace(self, ports=self.state_ports)


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
        return [site.selection for site in self.sites]

    @property
    def summary(self) -> str:
        """One line: how many blocks of each kind, and how many were left out."""
        kinds = [block.kind for block in self]
        counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
        counts += [f"{len(self.skipped)} skipped"] * bool(self.skipped)
        return (
            f"{self.model_name}: {len(self)} residual block"
            f"{'' if len(self) == 1 else 's'} ({', '.join(counts) or 'none'})"
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, ready for JSON.

        Returns:
            `{"model", "summary", "blocks": [{"name", "kind", "shape", "size",
            "merge"}], "skipped": [{"name", "reason"}]}`.
        """
        return {
            "model": self.model_name,
            "summary": self.summary,
            "blocks": [
                {**asdict(b), "shape": list(b.shape), "size": b.size} for b in self
            ],
            "skipped": [{"name": s.name, "reason": s.reason} for s in self.skipped],
        }

    def __str__(self) -> str:
        rows = [("block", "kind", "state", "features", "merge")] * bool(self)
        rows += [
            (b.name, b.kind, str(b.shape), str(b.size or "?"), b.merge) for b in self
        ]
        left_out = [("skipped", "reason")] * bool(self.skipped)
        left_out += [(s.name, s.reason) for s in self.skipped]
        return "\n".join([self.summary, *_aligned(rows), *_aligned(left_out)])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of text as the lines of a table, a blank line before it."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
    return ["", *(f"  {line}".rstrip() for line in lines)]


def make_site(
    graph: Graph,
    path: tuple[Node, ...],
    node: Node,
    merge: Merge,
    closing: str | None = None,
) -> Site:
    """The site of a block that is named after `node`.

    Args:
        graph: The graph that holds its states.
        path: The calls around that graph.
        node: The call that the block is named after, in `graph`, or the last of
            `path` if the block is that layer.
        merge: The block's states.
        closing: Name of the operation that adds up last; by default that of `node`.

    Raises:
        CannotSee: If the states cannot be seen while the call runs.
    """
    states = (merge.shortcut, merge.output)
    ports: tuple[Port, ...] = ()
    state_ports: tuple[Port, ...] = ()
    on_branches, ends_on_branches = bool(merge.branches), False
    if graph.opened:
        ports, choice = find_ports(graph, *filter(None, (merge.branches, states)))
        on_branches = choice is merge.branches
        state_ports, ends_on_branches = _state_ports(graph, merge)
    around = path[:-1] if path and path[-1] is node else path
    name = full_name(around, node)
    merged = name if closing is None else closing
    block = ResidualBlock(name, merge.kind, graph.shape(merge.output), merged)
    return Site(
        block,
        path,
        exact_name(around, node),
        node,
        merge,
        ports,
        on_branches=on_branches,
        state_ports=state_ports,
        ends_on_branches=ends_on_branches,
    )


def _state_ports(graph: Graph, merge: Merge) -> tuple[tuple[Port, ...], bool]:
    """Ports of both states; or of the first and the displacement's parts, and True."""
    states = (merge.shortcut, merge.output)
    moved = (merge.shortcut, *merge.branches) if merge.branches else ()
    with contextlib.suppress(CannotSee):
        ports, choice = find_ports(graph, *filter(None, (states, moved)))
        return ports, choice is moved
    return (), False


def full_name(path: tuple[Node, ...], node: Node) -> str:
    """The name of a call after the names of the models and layers around it."""
    return "/".join(step.name for step in (*path, node))


def exact_name(path: tuple[Node, ...], node: Node) -> str:
    """A name for this one call, which a saved model keeps.

    The full name with the number of every call; within a layer's `call`, where layers
    are often named by Keras and anew each time, the position instead: ``@3``.
    """
    names: list[str] = []
    within = False
    for step in (*path, node):
        within = within or step.opened
        names.append(f"@{step.index}" if within else step.exact_name)
    return "/".join(names)
