"""`analyze`: runs data through a network and reports how many blocks they need."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap import running_costs
from keras_lap._checks import finite_number, whole_number
from keras_lap.blocks import LAYER, NORM, BlockReport, FoundBlock, Selection, every_call
from keras_lap.depth.advice import advise
from keras_lap.depth.probe import ExitProbe, Seen, blocks_of, run
from keras_lap.depth.report import BlockDepth, DepthReport, ExitDepth
from keras_lap.depth.scores import Scores
from keras_lap.trajectory import batches, recalibrated

# A block that moves less than this share of the one that moves most is idle.
_IDLE = 1e-3


def analyze(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    loss: Any = None,
    horizon: float | Sequence[float] | None = None,
    tolerance: float = 0.01,
    batch_size: int = 32,
    blocks: Selection = "auto",
    recalibrate: Any = False,
    verbose: int = 1,
) -> DepthReport:
    """Measures how many of its blocks a network needs.

    One pass over the data, in inference, gives loss and accuracy of all exits: of what
    the network returns if only its first 0, 1, …, K blocks run. The advice is the
    fewest blocks **from which on every exit** is within `tolerance`: the first that is
    can be luck. Pass validation data, which neither training nor the final figure has
    seen. The model is left as it is.

    A classification is told by its loss, a crossentropy; by an accuracy among the
    compiled metrics; or by whole numbers as targets of several outputs. Then the
    accuracy counts, and `tolerance` is a share of the samples. Probabilities are right
    on the side of one half, logits on that of 0, as the loss says. Otherwise an exit is
    within the tolerance if its loss is at most ``E* + tolerance · (E_0 − E*)``, with
    the best exit's E*: a loss may rise again along the layers. What comes after the
    last exit within it does not count.

    The change that the cut brings has a 95 % interval, paired over samples: of
    accuracies by Tango's score test (1998), which holds where few samples differ or
    none; of losses by the normal distribution.

    Source: Esteve-Yagüe et al., *Large-time asymptotics in deep learning*, arXiv
    2008.02491.

    Args:
        model: A compiled network with residual blocks, or a
            `keras_lap.LeastActionModel`, whose own blocks and horizon count. A
            projection block always runs.
        x: Inputs: arrays of shape `(n, ...)`, or a structure of them as the model takes
            it; a `keras.utils.PyDataset`; or an iterable of batches ``(x, y)``, such as
            a `tf.data.Dataset` or a PyTorch `DataLoader`. Weights of samples do not
            count.
        y: Targets of shape `(n, ...)`, or a dictionary of them by the name of the
            output; None if `x` hands them out.
        loss: A name, a `keras.losses.Loss`, or a function of targets and outputs that
            returns the losses of samples; one that returns a mean is called for each
            sample by itself. Defaults to None, the compiled loss.
        horizon: The time that the blocks stand for; see
            `keras_lap.running_costs.time_steps`. Defaults to None, that of the model,
            or a step of 1 for each block.
        tolerance: What a cut may cost, from 0. Defaults to 0.01.
        batch_size: Samples of a batch, for arrays. Defaults to 32.
        blocks: Which blocks count; see `keras_lap.find_residual_blocks`. Defaults to
            `"auto"`, all of them.
        recalibrate: Whether to estimate the moving statistics of batch normalisation
            anew before, as their mean over the batches of `x` through the whole
            network; or the data to do so on. The model has its own again afterwards,
            and `DepthReport.prune` has an argument of that name for each cut. Defaults
            to False.
        verbose: 1 for a progress bar, 0 for silence. Defaults to 1.

    Returns:
        A `DepthReport`.

    Raises:
        ValueError: If there is no block, one cannot be left out, there is no loss, no
            target or no sample, the network has several outputs or ends in what is not
            finite, or an argument is outside the values above.
        TypeError: If an argument has the wrong type.

    Examples:
        >>> found = keras_lap.depth.analyze(model, x, y, tolerance=0.02, verbose=0)
        >>> print(found)
        >>> small = found.prune()
    """
    tolerance = finite_number("tolerance", tolerance, ">= 0", "Use e.g. 0.01.")
    batch_size = whole_number("batch_size", batch_size, 1, "Use e.g. 32.")
    measure = Measurement(model, loss, horizon, blocks)
    new: Any = contextlib.nullcontext()
    if recalibrate is not False and recalibrate is not None:
        parts, _ = batches(x if recalibrate is True else recalibrate, None, batch_size)
        new = recalibrated(measure.network, (part for part, _ in parts))
    with new:
        seen = measure.run(x, y, batch_size, verbose)
    if not seen.is_finite:
        raise ValueError(
            f"The loss of {measure.network.name!r} is not finite for "
            f"{np.count_nonzero(~np.isfinite(seen.losses[:, -1]))} of "
            f"{len(seen.losses)} samples. Check data and weights for NaN and infinity."
        )
    return measure.report(seen, tolerance)


class Measurement:
    """Measures one network as often as asked; `callbacks.DepthMonitor` uses it.

    Args:
        model: As for `analyze`.
        loss: Likewise.
        horizon: Likewise.
        blocks: Likewise.

    Raises:
        ValueError: As `analyze`.
        TypeError: Likewise.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Any = None,
        horizon: float | Sequence[float] | None = None,
        blocks: Selection = "auto",
    ):
        self._found = blocks_of(model, blocks)
        self.steps = _time_steps(model, self._found, horizon)
        self._scores = Scores(model, loss)
        self._probe = ExitProbe(model, self._found)

    @property
    def network(self) -> keras.Model:
        """The network that is measured."""
        return self._probe.network

    @property
    def times(self) -> np.ndarray:
        """t_0 … t_K, `(blocks + 1,)`."""
        return np.concatenate([[0.0], np.cumsum(self.steps)])

    @property
    def squares(self) -> np.ndarray:
        """``‖u_k‖²``, of all trainable weights on the branch of each, `(blocks,)`."""
        weights = running_costs.controls(self.network, self._found.selection)
        return np.array([sum(map(_square, each)) for each in weights])

    def run(self, x: Any, y: Any, batch_size: int, verbose: int = 0) -> Seen:
        """Runs the data once; the arguments are those of `analyze`."""
        return run(self._probe, self._scores, x, y, batch_size, verbose)

    def report(self, seen: Seen, tolerance: float) -> DepthReport:
        """Makes the report of what was seen."""
        times = self.times
        shares = [None] * len(times)
        if seen.accuracies is not None:
            shares = seen.accuracies.mean(axis=0).tolist()
        means = seen.losses.mean(axis=0).tolist()
        exits = zip(times.tolist(), means, shares, strict=True)
        return DepthReport(
            self.network.name,
            tolerance,
            tuple(ExitDepth(k, *exit) for k, exit in enumerate(exits)),
            self._blocks(seen),
            advise(seen.losses, seen.accuracies, tolerance),
            seen.losses,
            seen.accuracies,
            seen.confidences,
            self.network,
            self._found.selection,
        )

    def _blocks(self, seen: Seen) -> tuple[BlockDepth, ...]:
        squares, moved = self.squares, np.sqrt(seen.costs)
        return tuple(
            BlockDepth(
                found.block.name,
                0.5 * step * float(squares[k]),
                float(seen.costs[k]),
                float(seen.relative[k]),
                step,
                bool(moved[k] < _IDLE * moved.max()),
                _is_scale_free(found),
            )
            for k, (found, step) in enumerate(
                zip(self._found.found, self.steps, strict=True)
            )
        )


def _time_steps(
    model: keras.Model, found: BlockReport, horizon: Any
) -> tuple[float, ...]:
    """The step of each block; those of a model whose projections do not count here."""
    own = getattr(model, "horizon", None) if horizon is None else horizon
    every = getattr(model, "block_report", found)
    if horizon is None and isinstance(every, BlockReport) and len(every) != len(found):
        steps = zip(every, running_costs.time_steps(own, len(every)), strict=True)
        kept = {block.name for block in found}
        return tuple(step for block, step in steps if block.name in kept)
    return running_costs.time_steps(own, len(found))


def _square(weight: keras.Variable) -> float:
    value = np.asarray(ops.convert_to_numpy(weight), float)
    return float(np.sum(value**2))


def _is_scale_free(found: FoundBlock) -> bool:
    """Whether a normalisation follows one of the kernels of a block's branch."""
    inner = [each for call in found.calls for each in (call, *every_call(call.inside))]
    return any(
        LAYER in call.roles
        and NORM not in call.roles
        and getattr(call.operation, "trainable_variables", ())
        and any(NORM in after.roles for out in call.outputs for after in out.consumers)
        for call in inner
    )
