"""`TransportReport`: how far, how straight and how far from optimal data are moved."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, astuple, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from keras_lap._checks import finite_only
from keras_lap._drawing import counted, html_table, save_page, short, text_table
from keras_lap._extras import require
from keras_lap.transport.distances import Regularity
from keras_lap.transport.optimal import Matching


@dataclass(frozen=True)
class BlockTransport:
    """How one block moves its state, with ``v = x_{k+1} − x_k``.

    Attributes:
        name: As in `keras_lap.find_residual_blocks`.
        kind: Likewise.
        stage: Index of its stage.
        cost: ``mean |v|^p`` over samples and elements, as in the energy.
        displacement_mean: Mean over samples of ``‖v‖₂``.
        displacement_quantiles: Quantiles of ``‖v‖₂`` by their level, `"0.05"`,
            `"0.25"`, `"0.5"`, `"0.75"`, `"0.95"`; beyond 10 000 samples those of a
            random sample of so many.
        relative_displacement: Mean of ``‖v‖₂/‖x_k‖₂`` over samples with ``x_k ≠ 0``;
            None if there is none.
        cosine_with_previous: Mean cosine with the displacement of the block before in
            the stage, over samples that both move; None for the first one.
    """

    name: str
    kind: str
    stage: int
    cost: float
    displacement_mean: float
    displacement_quantiles: dict[str, float]
    relative_displacement: float | None
    cosine_with_previous: float | None


@dataclass(frozen=True, eq=False)
class StageTransport:
    """How the blocks of one stage move data from its first state to its last.

    Attributes:
        blocks: Names of its blocks.
        path_ratio: Mean over samples of `path_ratio`; 1 for straight lines.
        line_shape_score: Mean over samples of `line_shape_score`.
        optimal_transport_score: See `optimal_transport_score`; of the sample.
        matching: The optimal matching of the sample's first and last states.
        regularity: Lipschitz quotients of the map from first to last states and of its
            inverse, on the sample.
        states: The sample’s states, each `(n, ...)`: before the first block and
            after each.
    """

    blocks: tuple[str, ...]
    path_ratio: float
    line_shape_score: float
    optimal_transport_score: float
    matching: Matching
    regularity: Regularity
    states: tuple[np.ndarray, ...] = field(repr=False)

    @property
    def network_cost(self) -> float:
        """Mean over the sample of ``‖x_K − x_0‖₂^p``."""
        return self.matching.network_cost

    @property
    def optimal_cost(self) -> float:
        """The same under the optimal matching of the two clouds."""
        return self.matching.optimal_cost

    @property
    def optimality(self) -> float:
        """`optimal_cost / network_cost`; 1 for a map that moves nothing."""
        return self.matching.optimality

    @property
    def own_partner_share(self) -> float:
        """Share of the sample whose optimal partner is its own image."""
        return self.matching.own_share


_STAGE_KEYS = (
    "network_cost",
    "optimal_cost",
    "optimality",
    "own_partner_share",
    "path_ratio",
    "line_shape_score",
    "optimal_transport_score",
)


# Under which statistics a network with batch normalisation was run.
STATISTICS = {
    "none": "no moving statistics",
    "moving": "moving statistics, as in inference",
    "re-estimated": "moving statistics estimated anew",
    "batch": "batch statistics, as in training",
}


@dataclass(frozen=True, eq=False, repr=False)
class TransportReport:
    """How a network transports data; made by `analyze`.

    `str(report)` is a readable table.

    A cost can fall because states shrink; `relative_displacement` then stays.

    Attributes:
        model_name: Name of the network.
        p: Exponent of all costs.
        num_samples: Samples that were run.
        blocks: One entry for each block, in forward order.
        stages: Runs of blocks that move one state through a space of fixed dimension.
        labels: Labels of the sample's points, `(n, ...)`, or None.
        statistics: Of batch normalisation, under which the network was run:
            `"moving"`, `"re-estimated"`, `"batch"`, or `"none"` where it has none.
    """

    model_name: str
    p: float
    num_samples: int
    blocks: tuple[BlockTransport, ...]
    stages: tuple[StageTransport, ...]
    labels: np.ndarray | None = field(default=None, repr=False)
    statistics: str = "moving"

    @property
    def relative_displacement(self) -> float | None:
        """Mean of the blocks' `relative_displacement`; None if none has one."""
        known = [block.relative_displacement for block in self.blocks]
        values = [value for value in known if value is not None]
        return float(np.mean(values)) if values else None

    @property
    def total_cost(self) -> float:
        """The transport cost: the sum of the costs of all blocks."""
        return sum(block.cost for block in self.blocks)

    @property
    def sample_size(self) -> int:
        """How many samples the comparison with optimal transport rests on."""
        return len(self.stages[0].states[0])

    def mean(self, number: str) -> float:
        """The mean of a number over the stages, each weighted by its blocks.

        Args:
            number: Name of a number of `StageTransport`, e.g. `"optimality"`.
        """
        values = [getattr(stage, number) for stage in self.stages]
        weights = [len(stage.blocks) for stage in self.stages]
        return float(np.average(values, weights=weights))

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain data.

        Returns:
            `{"p", "num_samples", "total_cost", "blocks": [{"name", "kind", "stage",
            "cost", "displacement_mean", "displacement_quantiles",
            "relative_displacement", "cosine_with_previous"}], "stages": [{"blocks",
            "network_cost", "optimal_cost", "optimality", "own_partner_share",
            "path_ratio", "line_shape_score", "optimal_transport_score"}]}`. The stage
            of a block is an index of `"stages"`, the blocks of a stage are names.
        """
        return {
            "p": self.p,
            "num_samples": self.num_samples,
            "total_cost": self.total_cost,
            "blocks": [asdict(block) for block in self.blocks],
            "stages": [
                {
                    "blocks": list(stage.blocks),
                    **{key: getattr(stage, key) for key in _STAGE_KEYS},
                }
                for stage in self.stages
            ],
        }

    def to_json(self, **options: Any) -> str:
        """`to_dict` as JSON; infinite numbers, which JSON lacks, become null.

        Args:
            **options: Further arguments of `json.dumps`, e.g. `indent=2`.
        """
        return json.dumps(finite_only(self.to_dict()), allow_nan=False, **options)

    def to_dataframe(self) -> Any:
        """The numbers of the blocks as a pandas data frame, one row for each.

        The quantiles have columns `displacement_0.05` and so on; numbers of a block's
        stage have columns `stage_optimality` and so on.

        Raises:
            ImportError: If pandas is not installed.
        """
        pandas = require("pandas", "pandas", "dataframe", "to_dataframe()")
        plain = self.to_dict()
        rows = []
        for block in plain["blocks"]:
            stage = plain["stages"][block["stage"]]
            quantiles = block.pop("displacement_quantiles")
            block |= {f"displacement_{level}": q for level, q in quantiles.items()}
            rows.append(block | {f"stage_{key}": stage[key] for key in _STAGE_KEYS})
        return pandas.DataFrame(rows)

    def save_html(
        self,
        path: str | Path,
        reference: TransportReport | None = None,
        stage: int = -1,
        note: str = "",
    ) -> None:
        """Writes a page with a sentence, pictures and all numbers.

        It needs no other file.

        Args:
            path: Where to, in a folder that is there.
            reference: A report of another network on the same data, to compare with in
                the sentence and the pictures. Defaults to None.
            stage: Index of the stage whose points are drawn. Defaults to -1, the last.
            note: What else is known, such as the accuracy of both networks, as text; it
                stands below the sentence. Defaults to none.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If `path` is a folder, or lies in none; if there is no such
                stage; if the costs of `reference` have another exponent.
        """
        from keras_lap.transport.page import page  # which draws reports

        save_page(path, page(self, reference, stage, note))

    @property
    def summary(self) -> str:
        """One line: how many samples and blocks, what they cost."""
        return (
            f"{self.model_name}: transport of {self.num_samples} samples by "
            f"{counted(len(self.blocks), 'block')} in "
            f"{counted(len(self.stages), 'stage')}, p = {self.p:g}, "
            f"total cost {short(self.total_cost)}, "
            f"‖v‖/‖x‖ {short(self.relative_displacement)}"
        )

    def __repr__(self) -> str:
        return f"<{self.summary}>"

    def __str__(self) -> str:
        lines = [self.summary]
        for caption, (head, *rows) in zip(self.captions, self.tables(), strict=True):
            lines += [f"  {caption}", "", *text_table(head, rows, align=">"), ""]
        return "\n".join(lines[:-1])

    def _repr_html_(self) -> str:
        said = f"<p>{html.escape(self.summary)}</p>"
        for caption, rows in zip(self.captions, self.tables(), strict=True):
            said += f"<p>{html.escape(caption)}</p>{html_table(rows)}"
        return said

    @property
    def captions(self) -> tuple[str, str]:
        """What the numbers of the blocks and of the stages mean, a line each."""
        exact = "" if self.stages[0].matching.exact else " (Sinkhorn, an upper bound)"
        return (
            f"cost: mean |v|^{self.p:g} per element of the state; "
            f"{STATISTICS[self.statistics]}",
            f"Against optimal transport, on {self.sample_size} samples{exact}; network "
            f"and optimal cost: mean ‖x_K − x_0‖^{self.p:g} of a sample",
        )

    def tables(self) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
        """Blocks and stages as rows of text, the head first."""
        stages = map(_stage_row, self.stages, count())
        return [_BLOCK_HEAD, *map(_block_row, self.blocks)], [_STAGE_HEAD, *stages]


_BLOCK_HEAD = ("block", "kind", "stage", "cost", "mean ‖v‖", "‖v‖/‖x‖", "cosine")
_STAGE_HEAD = (
    *("stage", "blocks", "network cost", "optimal cost", "ratio", "own partner"),
    *("path ratio", "line shape", "OT score", "Lipschitz", "inverse"),
)


def _block_row(block: BlockTransport) -> tuple[str, ...]:
    name, kind, stage, cost, mean, _, relative, cosine = astuple(block)
    numbers = map(short, (cost, mean, relative, cosine))
    return (name, kind, str(stage), *numbers)


def _stage_row(stage: StageTransport, index: int) -> tuple[str, ...]:
    numbers = [
        *(getattr(stage, key) for key in _STAGE_KEYS),
        stage.regularity.forward.maximum,
        stage.regularity.inverse.maximum,
    ]
    return (str(index), str(len(stage.blocks)), *map(short, numbers))
