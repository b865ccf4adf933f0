"""`analyze`: runs data through a network and reports how it was transported."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_lap._checks import choice, finite_number, whole_number
from keras_lap._drawing import counted
from keras_lap.blocks import Selection
from keras_lap.trajectory import (
    batches,
    count_silent_channels,
    has_moving_statistics,
    recalibrated,
)
from keras_lap.transport.distances import regularity
from keras_lap.transport.optimal import match, optimal_transport_score, solver
from keras_lap.transport.report import BlockTransport, StageTransport, TransportReport
from keras_lap.transport.sampling import Reservoir
from keras_lap.transport.states import Move, StateReader, split_into_stages
from keras_lap.transport.sums import StageSums

# The sampled states take at most so much memory.
SAMPLE_BYTES = 2**30
# The statistics of a batch say something from so many samples on, and moving ones that
# make the cost more than so many times as large or small have not settled.
SETTLED_FROM, SETTLED = 16, 3.0


def analyze(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    p: float | None = None,
    batch_size: int = 32,
    max_samples: int = 1000,
    blocks: Selection = "auto",
    include_projections: bool = False,
    recalibrate: Any = False,
    statistics: str = "moving",
    verbose: int = 1,
) -> TransportReport:
    """Measures how a network transports data: how far, how straight, how optimally.

    One forward pass over all data. Sums are taken batch by batch, so memory does not
    grow with the data. The comparison with optimal transport, and the pictures, use a
    random sample of the data (all of it where it fits), whose states are kept. Blocks
    are grouped into stages, each of which moves one state through a space of fixed
    dimension: a new one begins where the shape changes, and after anything that is no
    block and changes the state.

    The network is run as in inference: its batch normalisation uses moving statistics,
    while the `transport_cost` of a training's logs is that under the statistics of each
    batch. Until the moving ones have settled, the two may differ by powers of ten. A
    warning says so if they differ by more than a factor of 3 on the first batch of 16
    samples or more; `recalibrate` estimates the moving statistics anew, and
    ``statistics="batch"`` measures as the logs do: on the same batches and weights, by
    the exponent of the energy, total cost and `transport_cost` agree.

    Positions that a mask leaves out, as in training, have no part in any number; in the
    states that are kept they are 0. Costs are means over all numbers that count; the
    logs' mean over batches is the same where every batch has as many of them.

    Args:
        model: A trained model: any network with residual blocks, or a
            `LeastActionModel`, whose own blocks and exponent count.
        x: Inputs: arrays of shape `(n, ...)`, or a structure of them as the model takes
            it; a `keras.utils.PyDataset`; or an iterable of batches ``x`` or
            ``(x, y)``, such as a `tf.data.Dataset` or a PyTorch `DataLoader`.
        y: Labels of shape `(n, ...)`, for the colours of pictures alone.
        p: Exponent of all costs, above 1. Defaults to that of the model's energy, or 2.
        batch_size: Samples of a batch, for arrays. Defaults to 32.
        max_samples: Most samples to compare with optimal transport, at least 2; fewer
            are taken if their states would take more than 1 GiB. Up to 2000 the
            comparison is exact. Defaults to 1000.
        blocks: Which blocks count; see `keras_lap.find_residual_blocks`.
        include_projections: Likewise.
        recalibrate: Whether to estimate the moving statistics of batch normalisation
            anew before, as their mean over the batches of `x`; or the data to do so on,
            in a form that `x` may have. The model has its own again afterwards.
            Defaults to False.
        statistics: Of batch normalisation: `"moving"`, or `"batch"`, those of each
            batch as in training, whatever `recalibrate` is. Dropout stays off. Defaults
            to `"moving"`.
        verbose: 1 for a progress bar, 0 for silence. Defaults to 1.

    Returns:
        A `TransportReport`.

    Raises:
        ImportError: If POT is not installed.
        ValueError: If there are fewer than two samples, a state is not finite, the
            model has no residual block, or an argument is outside the values above.
        TypeError: If an argument has the wrong type.

    Examples:
        >>> report = keras_lap.transport.analyze(network, images, labels)
        >>> print(report)
        >>> report.stages[0].optimality
    """
    if p is not None:
        p = finite_number("p", p, "> 1", "Use 2 for squared distances.")
    batch_size = whole_number("batch_size", batch_size, 1, "Use e.g. 32.")
    max_samples = whole_number("max_samples", max_samples, 2, "Use e.g. 1000.")
    measure = Measurement(model, blocks, include_projections, statistics)
    if recalibrate is False or recalibrate is None or statistics == "batch":
        return measure(x, y, p, batch_size, max_samples, verbose)
    parts, _ = batches(x if recalibrate is True else recalibrate, None, batch_size)
    with recalibrated(measure.network, (part for part, _ in parts)):
        report = measure(x, y, p, batch_size, max_samples, verbose)
    anew = report.statistics == "moving"
    return replace(report, statistics="re-estimated") if anew else report


class Measurement:
    """Measures how one network transports data, as often as asked.

    Args:
        model: As for `analyze`.
        blocks: Likewise.
        include_projections: Likewise.
        statistics: Likewise.

    Raises:
        ImportError: If POT is not installed.
        ValueError: If the model has no residual block.
    """

    def __init__(
        self,
        model: keras.Model,
        blocks: Selection = "auto",
        include_projections: bool = False,
        statistics: str = "moving",
    ):
        self._own = choice("statistics", statistics, ("moving", "batch")) == "batch"
        solver()  # better missed before the data are run than after
        self._reader = StateReader(model, blocks, include_projections)
        self._compared = False

    @property
    def network(self) -> keras.Model:
        """The network that is measured."""
        return self._reader.network

    def __call__(
        self,
        x: Any,
        y: Any,
        p: float | None,
        batch_size: int,
        max_samples: int,
        verbose: int = 0,
    ) -> TransportReport:
        """Runs the data once; the arguments are those of `analyze`."""
        parts, steps = batches(x, y, batch_size, self.network)
        bar = keras.utils.Progbar(steps, verbose=verbose, unit_name="batch")
        collected = None
        for number, (part, labels) in enumerate(parts, start=1):
            trained = self._reader.moves_in_training(part) if self._own else None
            moves = trained or self._reader.moves(part)
            if collected is None:
                collected = _Collected(moves, p or self._reader.exponent, max_samples)
            collected.add(moves, labels)
            compares = not (self._own or self._compared)
            if compares and len(moves[0].before) >= SETTLED_FROM:
                self._compared = True  # once: a network in training settles by and by
                self._compare(part, moves, p or self._reader.exponent)
            bar.update(number, finalize=number == steps)
        count = 0 if collected is None else collected.count
        if collected is None or count < 2:
            raise ValueError(
                "A transport is compared on two samples or more. Received: "
                f"{counted(count, 'sample')} in x. Pass arrays of shape (n, ...)."
            )
        report = collected.report(self._reader.report.model_name)
        run = "batch" if self._own else "moving"
        has = has_moving_statistics(self.network)
        return replace(report, statistics=run if has else "none")

    def _compare(self, x: Any, moves: list[Move], p: float) -> None:
        """Warns where moving statistics make another network than training has run."""
        in_training = self._reader.moves_in_training(x)
        if in_training is None:
            return
        moving, own = (_total_cost(each, p) for each in (moves, in_training))
        if max(moving, own) > SETTLED * min(moving, own):
            warnings.warn(
                f"The network {self.network.name!r} moves a batch by a total cost of "
                f"{moving:.3g} under the moving statistics of its batch normalisation, "
                f"as in inference, and of {own:.3g} under the batch's own, as in "
                "training: the moving statistics have not settled. Compare this report "
                "with no transport_cost of a training's logs; analyze(..., "
                "recalibrate=True) estimates them anew, statistics='batch' measures as "
                "the logs do, longer training or a smaller "
                "momentum of BatchNormalization makes them settle."
                f"{_of_silent_channels(self.network)}",
                stacklevel=4,
            )


def _of_silent_channels(network: keras.Model) -> str:
    """What else may be the cause, if it may."""
    count = count_silent_channels(network)
    if count == 0:
        return ""
    return (
        f" {counted(count, 'channel')} with next to no moving variance may have been "
        "silent on the training samples, and carry others far: "
        "keras_lap.trajectory.raise_variances(network) bounds such variances."
    )


def _total_cost(moves: list[Move], p: float) -> float:
    return sum(float(np.sum(move.cost(p))) / max(move.elements, 1) for move in moves)


class _Collected:
    """What is kept while batches pass by."""

    def __init__(self, moves: list[Move], p: float, max_samples: int):
        self.count = 0
        self._p = p
        self._names = [move.name for move in moves]
        self._parts = split_into_stages(moves)
        self._sums = [StageSums(moves[part], p) for part in self._parts]
        fitting = SAMPLE_BYTES // sum(s[:1].nbytes for s in self._sampled(moves))
        self._sample = Reservoir(max(2, min(max_samples, fitting)))

    def add(self, moves: list[Move], labels: Any) -> None:
        """Adds a batch."""
        if [move.name for move in moves] != self._names:
            raise ValueError(
                "The blocks were not run alike in all batches: "
                f"{len(self._names)} times in the first one, {len(moves)} times in a "
                "later one. Choose blocks that are, by blocks=..."
            )
        for sums, part in zip(self._sums, self._parts, strict=True):
            sums.add(moves[part])
        own = [] if labels is None else [labels]
        self._sample.add([*self._sampled(moves), *own])
        self.count += len(moves[0].before)

    def _sampled(self, moves: list[Move]) -> list[np.ndarray]:
        """The states of every stage: before its first block and after each."""
        return [
            state
            for stage in (moves[part] for part in self._parts)
            for state in (stage[0].before, *(move.after for move in stage))
        ]

    def report(self, model_name: str) -> TransportReport:
        """Makes the report of everything that was added."""
        rows = iter(self._sample.rows())
        blocks: list[BlockTransport] = []
        stages: list[StageTransport] = []
        for number, sums in enumerate(self._sums):
            blocks += [block.report(number) for block in sums.blocks]
            states = [next(rows) for _ in range(len(sums.blocks) + 1)]
            stages.append(_stage(sums, states, self._p))
        labels = next(rows, None)
        return TransportReport(
            model_name, self._p, self.count, tuple(blocks), tuple(stages), labels
        )


def _stage(sums: StageSums, states: list[np.ndarray], p: float) -> StageTransport:
    return StageTransport(
        tuple(block.name for block in sums.blocks),
        sums.path_ratio.result() or 1.0,
        sums.line_shape_score.result() or 1.0,
        optimal_transport_score(states),
        match(states[0], states[-1], p),
        regularity(states[0], states[-1]),
        tuple(states),
    )
