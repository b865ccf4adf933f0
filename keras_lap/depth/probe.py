"""`ExitProbe`: reads all exits of a network and the moves of its blocks at once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._drawing import counted
from keras_lap.blocks import BlockReport, find_residual_blocks
from keras_lap.depth.scores import Scores
from keras_lap.training import FedLikeNetwork
from keras_lap.trajectory import Recorder, at_least_float32, batches


class Valid(keras.losses.Loss):
    """1 for each position that counts in a loss of these outputs, 0 for others."""

    def __init__(self) -> None:
        super().__init__(name="valid", reduction=None)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Ones; Keras multiplies them by the mask that comes with the outputs."""
        return ops.ones_like(y_pred[..., 0])


class ExitProbe(FedLikeNetwork):
    """Runs a network on batches and reads its exits, and how its blocks move the data.

    A model, so that Keras compiles it like any other.

    Args:
        model: A network, or a `LeastActionModel` around one.
        report: The blocks that count.

    Raises:
        ValueError: If there is no block, one cannot be left out, or the network has
            several outputs.
    """

    def __init__(self, model: keras.Model, report: BlockReport):
        super().__init__(autocast=False, name="depth_probe")
        self.network = report.root.operation
        outputs = keras.tree.flatten(getattr(self.network, "outputs", None) or [None])
        if len(outputs) > 1:
            raise ValueError(
                "The exits of one output are compared. Received: "
                f"{self.network.name!r} with {counted(len(outputs), 'output')}. Make a "
                "model of the one that counts, keras.Model(net.inputs, "
                "net.outputs[0])."
            )
        self._record = Recorder(self.network, report, ["exits", "states"])
        self._valid = Valid()
        self.built = True

    def call(self, inputs: Any) -> dict[str, Any]:
        """What one batch shows.

        Returns:
            `"exits"`, K + 1 outputs; `"valid"`, which positions of them count; of each
            block `"cost"`, ``mean (x_{k+1} − x_k)²``, and `"relative"`,
            ``‖x_{k+1} − x_k‖ / ‖x_k‖``, and of each state `"norm"`, ``‖x_k‖``, K + 1 of
            them; each of every sample, `(batch,)`.
        """
        seen = self._record(inputs, training=False)
        assert seen.exits is not None  # as they are wanted
        assert seen.states is not None
        exits = [
            at_least_float32(output)
            for exit in seen.exits
            for output in keras.tree.flatten(exit)
        ]
        last = keras.tree.flatten(seen.exits[-1])[0]
        pairs = [pair for (pair,) in seen.states]
        costs, relative = [], []
        for before, after in pairs:
            square = _of_samples(ops.mean, after - before)
            size = _of_samples(ops.mean, before)
            costs.append(square)
            relative.append(ops.sqrt(square / size))
        states = [pairs[0][0], *(after for _, after in pairs)]
        valid = self._valid(last, last) if len(last.shape) > 2 else None
        found = {"exits": exits, "cost": costs, "relative": relative}
        found["norm"] = [ops.sqrt(_of_samples(ops.sum, x)) for x in states]
        return found if valid is None else {**found, "valid": valid}


def _of_samples(reduce: Any, x: Any) -> Any:
    """A sum or mean of the squares of each sample, `(batch,)`."""
    return reduce(ops.square(x), axis=tuple(range(1, len(x.shape))))


class Seen:
    """What all batches showed, as NumPy arrays.

    Args:
        parts: For each batch losses and hits `(exits, batch, ...)`, confidences
            `(exits, batch)` or None, which positions count `(batch, ...)` or None,
            costs and relative displacements `(blocks, batch)`, norms of states
            `(blocks + 1, batch)`.

    Attributes:
        losses: Loss of each sample at each exit, `(n, exits)`.
        accuracies: Share of its positions that is right, likewise; None if the task is
            no classification.
        confidences: Probability of the class that is chosen, likewise; None if the task
            is not to choose one for a sample.
        costs: ``mean (x_{k+1} − x_k)²`` over samples and elements, `(blocks,)`.
        relative: Mean of ``‖x_{k+1} − x_k‖ / ‖x_k‖`` over samples with ``x_k ≠ 0``,
            `(blocks,)`.
        norms: Mean of ``‖x_k‖`` over samples, `(blocks + 1,)`.
    """

    def __init__(self, parts: list[tuple[Any, ...]]):
        losses, hits, sure, valid, costs, relative, norms = zip(*parts, strict=True)
        weights = None if valid[0] is None else valid
        self.losses = _by_sample(losses, weights)
        self.accuracies = None if hits[0] is None else _by_sample(hits, weights)
        self.confidences = None if sure[0] is None else np.concatenate(sure, 1).T
        self.costs = np.concatenate(costs, axis=1).mean(axis=1)
        self.norms = np.concatenate(norms, axis=1).mean(axis=1)
        ratios = np.concatenate(relative, axis=1)
        known = np.isfinite(ratios)
        self.relative = np.where(known, ratios, 0).sum(axis=1) / np.maximum(
            known.sum(axis=1), 1
        )

    @property
    def is_finite(self) -> bool:
        """Whether the loss of the whole network is a number for every sample."""
        return bool(np.all(np.isfinite(self.losses[:, -1])))


def run(
    probe: ExitProbe, scores: Scores, x: Any, y: Any, batch_size: int, verbose: int
) -> Seen:
    """Runs data through a probe once.

    Args:
        probe: Of a network.
        scores: Of its task.
        x: As for `keras_lap.depth.analyze`.
        y: Likewise.
        batch_size: Likewise.
        verbose: Likewise.

    Raises:
        ValueError: If there are no targets or no samples.
    """
    parts, steps = batches(x, y, batch_size, probe.network)
    bar = keras.utils.Progbar(steps, verbose=verbose, unit_name="batch")
    found = []
    for number, (part, labels) in enumerate(parts, start=1):
        if labels is None:
            raise ValueError(
                "The exits of a network are compared by targets. Received: y=None. "
                "Pass arrays x and y, or a data set of batches (x, y)."
            )
        try:
            seen = keras.tree.map_structure(np.asarray, probe.predict_on_batch(part))
        except Exception:
            probe.network.predict_on_batch(part)  # says in its own name what is wrong
            raise
        exits = seen["exits"]
        moves = [np.stack(seen[name]) for name in ("cost", "relative", "norm")]
        read = scores.losses, scores.hits, scores.confidences
        of_exits = [each(labels, exits) for each in read]
        found.append((*of_exits, seen.get("valid"), *moves))
        bar.update(number, finalize=number == steps)
    if not found:
        raise ValueError(
            "Depth is measured on one sample or more. Received: no sample in x. Pass "
            "arrays of shape (n, ...), or data that can be run through again."
        )
    return Seen(found)


def blocks_of(model: keras.Model, blocks: Any) -> BlockReport:
    """The blocks of a model that can be left out.

    Args:
        model: A network, or a `LeastActionModel`, whose own blocks count if `blocks` is
            `"auto"`, but for those with a projection.
        blocks: See `keras_lap.find_residual_blocks`.
    """
    own = getattr(model, "block_report", None)
    if not isinstance(own, BlockReport):
        return find_residual_blocks(model, blocks)
    if not isinstance(blocks, str):
        return find_residual_blocks(model.network, blocks)
    kept = [found.exact_name for found in own.found if found.block.kind != "projection"]
    if len(kept) == len(own):
        return own
    return find_residual_blocks(model.network, kept)


def _by_sample(parts: Any, valid: Any) -> np.ndarray:
    """Means over the positions that count of each sample, `(n, exits)`."""
    rows, counted_positions = [], []
    for number, values in enumerate(parts):
        values = values.reshape(*values.shape[:2], -1)
        weights = np.ones(values.shape[1:])
        if valid is not None and valid[number][0].size == values.shape[2]:
            weights = valid[number].reshape(weights.shape)
        rows.append((values * weights).sum(axis=2).T)
        counted_positions.append(weights.sum(axis=1))
    # A sample with more positions weighs more, as in Keras's mean over all of them.
    return np.concatenate(rows) / np.mean(np.concatenate(counted_positions))
