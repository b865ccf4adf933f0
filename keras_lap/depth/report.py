"""`DepthReport`: how good a network is after each of its blocks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lap._checks import finite_number, finite_only
from keras_lap._drawing import (
    counted,
    html_paragraphs,
    html_table,
    save_page,
    short,
    text_table,
)
from keras_lap.depth.advice import Advice
from keras_lap.depth.confidence import check_thresholds, early_exits
from keras_lap.depth.cutting import prune
from keras_lap.depth.decay import Decay, resampled
from keras_lap.depth.page import page
from keras_lap.depth.report_picture import draw
from keras_lap.trajectory import batches
from keras_lap.trajectory import recalibrate as estimate

# Of the table of early exits.
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class ExitDepth:
    """What a network is worth if only its first blocks run.

    Attributes:
        blocks: How many.
        time: The time that they stand for.
        loss: Mean loss.
        accuracy: Share of samples that are classified rightly, or None.
    """

    blocks: int
    time: float
    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class BlockDepth:
    """What one block does.

    Attributes:
        name: As in `keras_lap.find_residual_blocks`.
        control_energy: ``½ dt_k |u_k|²``, its part of a
            `keras_lap.running_costs.ControlCost`.
        cost: ``mean (x_{k+1} − x_k)²`` over samples and elements, kinetic energy.
        relative_displacement: Mean over samples of ``‖x_{k+1} − x_k‖/‖x_k‖``.
        time_step: ``dt_k``.
        idle: Whether it moves the data, in the root mean square, by less than 1e-3 of
            what the block does that moves them most.
        scale_free: Whether a normalisation follows one of its kernels, so that the
            size of its weights, and `control_energy`, means little.
    """

    name: str
    control_energy: float
    cost: float
    relative_displacement: float
    time_step: float
    idle: bool
    scale_free: bool


@dataclass(frozen=True, eq=False, repr=False)
class DepthReport:
    """How good a network is after each of its blocks; made by `analyze`.

    `str(report)` is a readable table.

    Attributes:
        model_name: Name of the network.
        tolerance: What a cut may cost.
        exits: K + 1 entries, with 0 to K blocks.
        blocks: K entries.
        advice: How many blocks to keep.
        losses: Loss of each sample at each exit, `(n, K + 1)`.
        accuracies: 1 where a sample is classified rightly, else 0, likewise; None where
            nothing says that the task is a classification.
        confidences: Probability of the class that is chosen, likewise; None where the
            task is not to choose one class for each sample, or where nothing says
            whether the outputs are logits.
    """

    model_name: str
    tolerance: float
    exits: tuple[ExitDepth, ...]
    blocks: tuple[BlockDepth, ...]
    advice: Advice
    losses: np.ndarray = field(repr=False)
    accuracies: np.ndarray | None = field(repr=False)
    confidences: np.ndarray | None = field(repr=False)
    _network: keras.Model = field(repr=False)
    _selection: list[str] = field(repr=False)

    @cached_property
    def decay(self) -> Decay:
        """How fast the loss falls along the layers.

        As `keras_lap.depth.fit_decay` without a known floor; but the interval comes
        from 200 resamples of the samples.
        """
        return resampled(np.array([exit.time for exit in self.exits]), self.losses)

    @property
    def layers_needed(self) -> int:
        """The number of blocks that the advice keeps."""
        return self.advice.keep

    @property
    def summary(self) -> str:
        """One line, ``3 of 8 blocks``."""
        return f"{self.layers_needed} of {counted(len(self.blocks), 'block')}"

    def layers_for(self, error: float) -> int | None:
        """The fewest blocks with which the mean loss is at most so large.

        Args:
            error: A loss.

        Returns:
            Their number as observed, or None if no exit has so small a loss.

        Raises:
            ValueError: If `error` is no finite number.
        """
        error = finite_number("error", error, "> -inf", "It is a loss.")
        reached = (exit.blocks for exit in self.exits if exit.loss <= error)
        return next(reached, None)

    def early_exits(
        self, thresholds: Sequence[float] = THRESHOLDS
    ) -> list[dict[str, float]] | None:
        """Accuracy against mean depth, if each sample stops as soon as it is sure.

        What `keras_lap.depth.early_exit` does, sample by sample, from the exits of this
        report.

        Args:
            thresholds: What the probability of the chosen class has to exceed. Defaults
                to 0.5, 0.7, 0.8, 0.9, 0.95, 0.99.

        Returns:
            As `EarlyExit.curve`: for each threshold a dictionary of `threshold`,
            `accuracy` and `blocks`, the mean number that a sample takes; None without
            `confidences`.

        Raises:
            ValueError: If a threshold is no number >= 0.
        """
        check_thresholds(thresholds)
        if self.confidences is None or self.accuracies is None:
            return None
        return early_exits(self.confidences, self.accuracies, thresholds)

    def prune(self, keep: int | None = None, recalibrate: Any = None) -> keras.Model:
        """The network with the advised number of blocks, without retraining.

        Args:
            keep: Another number of blocks. Defaults to None, that of the advice.
            recalibrate: Inputs, in a form that `x` of `analyze` may have, on which the
                moving statistics of batch normalisation are estimated anew. The network
                is then a copy, with weights of its own: its statistics are no more
                those of the whole network. Defaults to None, which leaves them.

        Returns:
            As `keras_lap.depth.prune`.

        Raises:
            ValueError: As `keras_lap.depth.prune`; with `recalibrate`, if a layer
                cannot be copied.
        """
        keep = self.layers_needed if keep is None else keep
        small = prune(self._network, keep, self._selection)
        return small if recalibrate is None else recalibrated_copy(small, recalibrate)

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain data.

        Returns:
            `{"model", "num_samples", "tolerance", "exits": [{"blocks", "time", "loss",
            "accuracy"}], "blocks": [{"name", "control_energy", "cost",
            "relative_displacement", "time_step", "idle", "scale_free"}], "decay":
            {"rate", "low", "high", "floor", "amplitude", "points"}, "advice": {"keep",
            "accuracy", "change", "low", "high"}, "early_exits": [{"threshold",
            "accuracy", "blocks"}] or None}`.
        """
        return {
            "model": self.model_name,
            "num_samples": len(self.losses),
            "tolerance": self.tolerance,
            "exits": [asdict(exit) for exit in self.exits],
            "blocks": [asdict(block) for block in self.blocks],
            "decay": asdict(self.decay),
            "advice": asdict(self.advice),
            "early_exits": self.early_exits(),
        }

    def to_json(self, **options: Any) -> str:
        """`to_dict` as JSON; infinite numbers, which JSON lacks, become null.

        Args:
            **options: Further arguments of `json.dumps`, e.g. `indent=2`.
        """
        return json.dumps(finite_only(self.to_dict()), allow_nan=False, **options)

    def plot(self) -> Any:
        """Draws the error by layer, and what the blocks do.

        Returns:
            A `matplotlib.figure.Figure`: loss along the time of the network on a
            logarithmic axis with the decay that fits it and the advice; control energy
            and cost of each block; and, with `confidences`, accuracy against mean depth
            of networks that are cut and of samples that stop by themselves. Paths of
            single samples are drawn by `keras_lap.transport.plot_trajectories`.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        return draw(self)

    def save_html(self, path: str | Path) -> None:
        """Writes a page with all numbers and the picture, which needs no other file.

        Args:
            path: Where to, in a folder that is there.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If `path` is a folder, or lies in none.
        """
        save_page(path, page(f"Depth of {self.model_name}", self.sentences(), self))

    def __repr__(self) -> str:
        return f"<{self.model_name}: {self.summary}>"

    def __str__(self) -> str:
        lines = self.sentences()
        for head, *rows in self.tables():
            lines += ["", *text_table(head, rows, align=">")]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        said = "".join(html_paragraphs(self.sentences()))
        return said + "".join(html_table(rows) for rows in self.tables())

    def sentences(self) -> list[str]:
        """What it says, line by line: advice, change, decay."""
        shares = self.accuracies is not None
        unit = 100 if shares else 1
        advice = (self.advice.change, self.advice.low, self.advice.high)
        change, *ends = (f"{unit * number:+.3g}" for number in advice)
        decay = (self.decay.rate, self.decay.low, self.decay.high)
        rate, low, high = map(short, decay)
        fall = f"rate {rate} per unit of time, 95 % interval {low} to {high}"
        if self.decay.rate is None:
            fall = f"too steep to tell its rate; at least {low}"
            fall = fall if self.decay.low is not None else "none can be told"
        lines = [
            f"{self.model_name}: {self.summary} within {self.tolerance:g} of the "
            f"{'whole network' if shares else 'best exit'}, "
            f"{counted(len(self.losses), 'sample')}",
            f"change of {'accuracy, in points' if shares else 'the loss'}: {change}, "
            f"95 % interval {ends[0]} to {ends[1]}",
            f"decay of the loss: {fall}",
        ]
        if any(block.scale_free for block in self.blocks):
            lines.append(
                "scale-free: a normalisation follows a kernel, whose size and control "
                "energy mean little; go by the cost there"
            )
        return lines

    def tables(self) -> list[list[tuple[str, ...]]]:
        """Exits, blocks and, if known, early exits as rows of text, the head first."""
        exits = [("blocks", "time", "loss", "accuracy", "advice")] + [
            (
                str(exit.blocks),
                *map(short, (exit.time, exit.loss, exit.accuracy)),
                "keep" if exit.blocks == self.layers_needed else "",
            )
            for exit in self.exits
        ]
        head = ("block", "control energy", "cost", "‖v‖/‖x‖", "time step", "notes")
        blocks = [head] + [
            (
                block.name,
                *map(short, (block.control_energy, block.cost)),
                *map(short, (block.relative_displacement, block.time_step)),
                ", ".join(["idle"] * block.idle + ["scale-free"] * block.scale_free),
            )
            for block in self.blocks
        ]
        points = self.early_exits()
        if points is None:
            return [exits, blocks]
        early = [("each sample stops once surer than", "accuracy", "mean blocks")] + [
            tuple(f"{point[key]:.3g}" for key in ("threshold", "accuracy", "blocks"))
            for point in points
        ]
        return [exits, blocks, early]


def recalibrated_copy(net: keras.Model, x: Any, batch_size: int = 32) -> keras.Model:
    """A copy of a network with statistics of batch normalisation of its own.

    Args:
        net: A Functional or Sequential network.
        x: Inputs to estimate them on, as for `analyze`.
        batch_size: Samples of a batch, for arrays.

    Returns:
        The copy.

    Raises:
        ValueError: If a layer of it cannot be copied, or there is no batch.
    """
    try:
        copy = keras.models.clone_model(net)
    except Exception as error:  # whatever the code of a layer raises
        raise ValueError(
            f"The network {net.name!r} cannot be copied: Keras cannot make a layer of "
            f"it anew from its configuration ({type(error).__name__}: {error}). Leave "
            "out recalibrate; the cut network then keeps the statistics that it has."
        ) from error
    copy.set_weights(net.get_weights())
    parts, _ = batches(x, None, batch_size)
    estimate(copy, (part for part, _ in parts))
    return copy
