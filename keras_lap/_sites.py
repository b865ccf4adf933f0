"""What a search for residual blocks returns, and where each block is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_lap._graph import Node
from keras_lap._merges import Kind, Merge


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
        return [exact_name(site.path, site.node) for site in self.sites]

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


def make_site(path: tuple[Node, ...], node: Node, merge: Merge) -> Site:
    """The site of a block that is named after `node`."""
    shape = tuple(merge.output.shape)
    block = ResidualBlock(full_name(path, node), merge.kind, shape)
    return Site(block, path, node, merge)


def full_name(path: tuple[Node, ...], node: Node) -> str:
    """The name of a call after the names of the models around it."""
    return "/".join(step.name for step in (*path, node))


def exact_name(path: tuple[Node, ...], node: Node) -> str:
    """The full name with the number of the call, which means this call alone."""
    return "/".join([*(step.name for step in path), node.exact_name])
