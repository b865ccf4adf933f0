"""What a search for residual blocks returns, and where each block is."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import keras

from keras_lap._drawing import counted, few, html_table, text_table
from keras_lap.blocks.definition import Kind, Residual, between
from keras_lap.blocks.graph import LAYER, Call, Graph

# Why something that looks like a block, or may hold one, is left out.
CLOSED = "cannot be looked into, so not counted; blocks= can name it ({})"
CLOSED_WITHIN = "cannot be looked into, so blocks in it are missed; part of {!r} ({})"
PROJECTION = "its shortcut is a projection; include_projections=True counts it"
AROUND = "the block {!r} lies on its branch; the innermost counts, blocks= can name it"
OTHER_STATE = "moves another state than the one that {!r} is measured by"
UNKNOWN = "; whether it passes on the values of its inputs is not known"


@dataclass(frozen=True)
class ResidualBlock:
    """One residual block of a network.

    Attributes:
        name: Name of the merge layer, after the names of the nested models and layers
            that hold it; ``#2``, ``#3``, … mark later calls of the same layer.
        kind: `"identity"`, `"projection"` (the shortcut changes the shape or is a
            linear layer) or `"layer"` (a whole layer: its residual connections are
            inside its call, or it was asked for by `blocks=`).
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
        found: Where it is, if it is a block around other blocks; not in comparisons.
    """

    name: str
    reason: str
    found: FoundBlock | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class FoundBlock:
    """A block, and where in the network it was found.

    Attributes:
        block: What the report shows of it.
        call: The call that it is named after.
        graph: The graph that holds its states; None for a layer below a closed call.
        residual: Its states and branches in that graph; None likewise.
        around: Names of the blocks that lie on its branch.
    """

    block: ResidualBlock
    call: Call = field(repr=False)
    graph: Graph | None = field(default=None, repr=False)
    residual: Residual | None = field(default=None, repr=False)
    around: frozenset[str] = frozenset()

    @property
    def path(self) -> tuple[Call, ...]:
        """The calls around the graph that holds its states."""
        if self.call.is_part:
            return tuple(call for call in self.call.path if not call.is_part)
        within = self.graph is not None and self.graph is self.call.inside
        return (*self.call.path, self.call) if within else self.call.path

    @property
    def exact_name(self) -> str:
        """The name that means this block alone, which a saved model keeps."""
        return self.call.exact_name

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """The calls that compute its displacement: its branch, or itself."""
        whole = self.block.kind == "layer" or self.graph is self.call.inside
        if self.residual is None or whole:
            return (self.call,)
        source, before = self.residual.source, self.residual.before
        tensors = between(source, before, self.call.inputs)
        return tuple(tensor.producer for tensor in tensors if tensor.producer)

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers among these."""
        layers = [
            call.operation
            for call in self.calls
            if call is self.call or LAYER in call.roles
        ]
        return tuple(dict.fromkeys(layers))

    @cached_property
    def variables(self) -> tuple[Any, ...]:
        """Weights that these calls take themselves, as in the `call` of a model."""
        given = [
            (call.arguments.args, call.arguments.kwargs)
            for call in self.calls
            if call.arguments is not None
        ]
        flat = keras.tree.flatten(given)
        return tuple(each for each in flat if isinstance(each, keras.Variable))


@dataclass(frozen=True, eq=False, repr=False)
class BlockReport(Sequence):
    """The residual blocks of a model, in forward order, and what was left out.

    A sequence of `ResidualBlock`; `str(report)` is a readable table.

    Attributes:
        model_name: Name of the model that was searched.
        found: Where each block is; for `DisplacementRecorder`.
        skipped: What was looked at and left out, each with its reason.
        root: The network as it was read.
    """

    model_name: str
    found: tuple[FoundBlock, ...]
    skipped: tuple[Skipped, ...]
    root: Call = field(repr=False)

    def __repr__(self) -> str:
        names = few([block.name for block in self])
        return f"<{self.summary}{': ' * bool(names)}{names}>"

    def __getitem__(self, index: Any) -> Any:
        blocks = tuple(found.block for found in self.found)
        return blocks[index]

    def __len__(self) -> int:
        return len(self.found)

    @property
    def selection(self) -> list[str]:
        """Names that choose these very blocks when given as `blocks=`."""
        return [found.exact_name for found in self.found]

    @property
    def summary(self) -> str:
        """One line: how many blocks of each kind, and how many were left out."""
        kinds = [block.kind for block in self]
        counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
        counts += [f"{len(self.skipped)} skipped"] * bool(self.skipped)
        blocks = counted(len(self), "residual block")
        return f"{self.model_name}: {blocks} ({', '.join(counts) or 'none'})"

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
        lines = [self.summary]
        for table in self._tables(short=True):
            lines += ["", *text_table(table[0], table[1:])]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        tables = "".join(map(html_table, self._tables()))
        return f"<p>{html.escape(self.summary)}</p>{tables}"

    def _tables(self, short: bool = False) -> list[list[tuple[str, ...]]]:
        """Blocks and what was left out as rows of text, under their heads.

        Args:
            short: Whether a merge is written without what its block's name says.
        """
        blocks: list[tuple[str, ...]] = [
            (
                *(b.name, b.kind, str(b.shape), str(b.size or "?")),
                _beyond(b.name, b.merge) if short else b.merge,
            )
            for b in self
        ]
        left_out: list[tuple[str, ...]] = [(s.name, s.reason) for s in self.skipped]
        tables = [
            [("block", "kind", "state", "features", "merge"), *blocks],
            [("skipped", "reason"), *left_out],
        ]
        return [table for table in tables if len(table) > 1]


def _beyond(name: str, merge: str) -> str:
    """What the name of a merge says beyond that of its block.

    Nested models have long names; written twice in a line, they are too long for it.
    """
    around = name if merge.startswith(f"{name}/") else name.rpartition("/")[0]
    inside = around and merge.startswith(f"{around}/")
    return f"…{merge.removeprefix(around)}" if inside else merge


def require_blocks(report: BlockReport, purpose: str) -> None:
    """Refuses a network without a residual block.

    Args:
        report: What was found in it.
        purpose: What the blocks are for, e.g. `"whose displacement could be measured"`.

    Raises:
        ValueError: If nothing was found.
    """
    if not report:
        raise ValueError(
            f"{report.model_name!r} has no residual block {purpose}.\n{report}\nName "
            "the layers that move the data with blocks=[...], or count blocks with a "
            "projection by include_projections=True."
        )
