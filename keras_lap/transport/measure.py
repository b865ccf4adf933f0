"""`analyze`: runs data through a network and reports how it was transported."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lap._checks import finite_number, whole_number
from keras_lap.blocks import Selection
from keras_lap.energies import DisplacementEnergy
from keras_lap.training.model import LeastActionModel
from keras_lap.transport.batches import batches
from keras_lap.transport.lipschitz import regularity
from keras_lap.transport.optimal import match, optimal_transport_score, solver
from keras_lap.transport.report import (
    LEVELS,
    BlockTransport,
    StageTransport,
    TransportReport,
)
from keras_lap.transport.sampling import Reservoir
from keras_lap.transport.states import Pair, StateReader, split_into_stages
from keras_lap.transport.sums import StageSums

# The sampled states take at most so much memory.
SAMPLE_BYTES = 2**30


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
    verbose: int = 1,
) -> TransportReport:
    """Measures how a network transports data: how far, how straight, how optimally.

    One forward pass over all data. Sums are taken batch by batch, so memory does not
    grow with the data. The comparison with optimal transport, and the pictures, use a
    random sample of the data (all of it where it fits), whose states are kept. Blocks
    are grouped into stages, each of which moves one state through a space of fixed
    dimension: a new one begins where the shape changes, and after anything that is no
    block and changes the state.

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
    p = exponent_of(model) if p is None else p
    p = finite_number("p", p, "> 1", "Use 2 for squared distances.")
    batch_size = whole_number("batch_size", batch_size, 1, "Use e.g. 32.")
    max_samples = whole_number("max_samples", max_samples, 2, "Use e.g. 1000.")
    solver()  # better missed before the data are run than after
    reader = StateReader(model, blocks, include_projections)
    return read(reader, x, y, p, batch_size, max_samples, verbose)


def read(
    reader: StateReader,
    x: Any,
    y: Any,
    p: float,
    batch_size: int,
    max_samples: int,
    verbose: int = 0,
) -> TransportReport:
    """As `analyze`, with a reader that was made before."""
    parts, steps = batches(x, y, batch_size)
    bar = keras.utils.Progbar(steps, verbose=verbose, unit_name="batch")
    stream = None
    for number, (part, labels) in enumerate(parts, start=1):
        names, kinds, states = reader(part)
        if stream is None:
            stream = _Stream(names, kinds, states, p, max_samples)
        stream.add(names, states, labels)
        bar.update(number, finalize=number == steps)
    count = 0 if stream is None else stream.count
    if stream is None or count < 2:
        raise ValueError(
            f"A transport is compared on two samples or more. Received: {count} "
            f"sample{'' if count == 1 else 's'} in x. Pass arrays of shape (n, ...)."
        )
    return stream.report(reader.report.model_name)


class _Stream:
    """What is kept while batches pass by."""

    def __init__(
        self,
        names: list[str],
        kinds: list[str],
        states: list[Pair],
        p: float,
        max_samples: int,
    ):
        self.count = 0
        self._names, self._kinds, self._p = names, kinds, p
        self._stages = split_into_stages(states)
        self._sums = [StageSums(p, [names[k] for k in ks]) for ks in self._stages]
        sizes = [array[:1].nbytes for array in self._sampled(states)]
        fitting = SAMPLE_BYTES // sum(sizes)
        self._sample = Reservoir(max(2, min(max_samples, fitting)))

    def add(self, names: list[str], states: list[Pair], labels: Any) -> None:
        """Adds a batch."""
        if names != self._names:
            raise ValueError(
                "The blocks were not run alike in all batches: "
                f"{len(self._names)} times in the first one, {len(names)} times in a "
                "later one. Choose blocks that are, by blocks=..."
            )
        for sums, indices in zip(self._sums, self._stages, strict=True):
            sums.add([states[index] for index in indices])
        own = [] if labels is None else [labels]
        self._sample.add([*self._sampled(states), *own])
        self.count += len(states[0][0])

    def _sampled(self, states: list[Pair]) -> list[np.ndarray]:
        """The states of every stage: before its first block and after each."""
        return [
            state
            for stage in self._stages
            for state in (states[stage[0]][0], *(states[k][1] for k in stage))
        ]

    def report(self, model_name: str) -> TransportReport:
        """Makes the report of everything that was added."""
        rows = self._sample.rows()
        blocks: list[BlockTransport] = []
        stages: list[StageTransport] = []
        for number, (sums, indices) in enumerate(
            zip(self._sums, self._stages, strict=True)
        ):
            for block, index in zip(sums.blocks, indices, strict=True):
                quantiles = zip(LEVELS, block.quantiles(LEVELS), strict=True)
                blocks.append(
                    BlockTransport(
                        self._names[index],
                        self._kinds[index],
                        number,
                        block.cost.result() or 0.0,
                        block.norm.result() or 0.0,
                        {str(level): quantile for level, quantile in quantiles},
                        block.relative.result(),
                        block.cosine.result(),
                    )
                )
            states = [rows.pop(0) for _ in range(len(indices) + 1)]
            names = tuple(self._names[index] for index in indices)
            stages.append(_stage(names, sums, states, self._p))
        labels = rows[0] if rows else None
        return TransportReport(
            model_name, self._p, self.count, tuple(blocks), tuple(stages), labels
        )


def _stage(
    names: tuple[str, ...], sums: StageSums, states: list[np.ndarray], p: float
) -> StageTransport:
    return StageTransport(
        names,
        sums.path_ratio.result() or 1.0,
        sums.line_shape_score.result() or 1.0,
        optimal_transport_score(states),
        match(states[0], states[-1], p),
        regularity(states[0], states[-1]),
        tuple(states),
    )


def exponent_of(model: keras.Model) -> float:
    """The exponent that a model is trained with; 2 if there is none."""
    energy = model.energy if isinstance(model, LeastActionModel) else None
    return energy.p if isinstance(energy, DisplacementEnergy) else 2.0
