"""Pictures along the layers: what a network returns and weighs, block by block."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import is_whole, refusal, whole_number
from keras_lap._drawing import (
    color,
    colors_of,
    grid,
    label,
    marker,
    matplotlib,
    whole_ticks,
)
from keras_lap.blocks import BlockReport
from keras_lap.depth.analysis import Measurement
from keras_lap.depth.probe import blocks_of
from keras_lap.training import FedLikeNetwork
from keras_lap.trajectory import Recorder

# Panels of decisions that are drawn where none are named.
_PANELS = 10
_STYLES = ("-", "--", "-.", ":")


def plot_layers(
    models: keras.Model | Mapping[str, keras.Model],
    x: Any,
    y: Any,
    *,
    loss: Any = None,
    horizon: float | Sequence[float] | None = None,
    batch_size: int = 256,
) -> Any:
    """Draws the error, the size of the states and that of the weights by layer.

    Three panels over the time ``t_k`` before block k: the loss of the exit
    ``L(ŷ_k)``, what the network returns if only its first k blocks run, on a
    logarithmic scale if it is positive; the mean over the samples of ``‖x_k‖``; and
    ``‖u_k‖``, the norm of all trainable weights on the branch of block k, constant over
    its time step.

    Args:
        models: A network or a `keras_lap.LeastActionModel`; or several by name, drawn
            over one another.
        x: Data, what the networks take, as arrays of shape `(n, ...)`.
        y: Their targets, `(n, ...)`.
        loss: As for `keras_lap.depth.analyze`. Defaults to None, what each model was
            compiled with.
        horizon: The time of the blocks; see `keras_lap.running_costs.time_steps`.
            Defaults to None, that of a `LeastActionModel`, else 1 for each block.
        batch_size: How many samples run at a time. Defaults to 256.

    Returns:
        A `matplotlib.figure.Figure`. A panel has one line, or steps, for each model.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: As `keras_lap.depth.analyze`.
        TypeError: Likewise.

    Examples:
        >>> figure = keras_lap.depth.plot_layers({"least action": model}, x, y)
        >>> figure.savefig("layers.png")
    """
    named = _named(models)
    measures = [Measurement(each, loss, horizon) for each in named.values()]
    seen = [each.run(x, y, batch_size) for each in measures]
    figure, axes = grid(3, 3, (3.6, 3.0))
    shades = colors_of(named)
    for number, (name, measure) in enumerate(zip(named, measures, strict=True)):
        style = {"color": shades[number], "linestyle": _STYLES[number % 4]}
        times, errors = measure.times, seen[number].losses.mean(axis=0)
        axes[0].plot(times, errors, label=label(name), **style)
        axes[1].plot(times, seen[number].norms, **style)
        sizes = np.sqrt(measure.squares)
        axes[2].stairs(sizes, times, baseline=None, lw=1.5, **style)
    if all(np.all(each.losses.mean(axis=0) > 0) for each in seen):
        axes[0].set_yscale("log")
    counted = all(np.all(np.diff(each.times) == 1) for each in measures)
    titles = ("loss after k blocks", "mean $\\|x_k\\|$", "$\\|u_k\\|$")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(xlabel="blocks" if counted else "time $t_k$")
        axis.set_title(title, fontsize=10)
        if counted:
            whole_ticks(axis.xaxis)
    if len(named) > 1:
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=4, fontsize=8)
    return figure


def plot_decisions(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    exits: Sequence[int] | None = None,
    threshold: float = 0.0,
    resolution: int = 150,
) -> Any:
    """Draws what a network with two inputs decides, cut after 0, 1, …, K blocks.

    Each panel is one exit: the plane of the inputs, coloured by the class that this
    exit gives to its points, with the data over it.

    Args:
        model: A network or a `keras_lap.LeastActionModel` that takes `(batch, 2)`. The
            largest of several outputs is the class; a single one above `threshold` is
            the greater of two targets.
        x: Data, `(n, 2)`.
        y: Their classes: whole numbers, one-hot rows, or two values of one output.
        exits: Numbers of blocks, from 0 to K. Defaults to None, ten of them, evenly.
        threshold: Of a single output: 0 for logits and targets ±1, 0.5 for
            probabilities. Defaults to 0.0.
        resolution: Points on each side of the plane. Defaults to 150.

    Returns:
        A `matplotlib.figure.Figure`. Titles have the number of blocks and the accuracy
        on the data.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the network does not take two numbers, its exits are no
            classes, y is neither, there is no such exit, or a block cannot be left
            out.
        TypeError: If the model is none.
    """
    x = np.asarray(keras.ops.convert_to_numpy(x))
    report = blocks_of(model, "auto")
    if x.shape[1:] != (2,):
        accepted = "be points of the plane, of shape (n, 2)"
        advice = "plot_layers draws networks of any input."
        raise refusal("The data x", accepted, x.shape, advice)
    chosen = _exits_of(exits, len(report))
    side = whole_number("resolution", resolution, 2)
    corners = np.stack([x.min(axis=0), x.max(axis=0)])
    corners += 0.1 * np.ptp(x, axis=0) * np.array([[-1], [1]])
    (left, bottom), (right, top) = corners
    plane = np.meshgrid(np.linspace(left, right, side), np.linspace(bottom, top, side))
    points = np.stack(plane, axis=-1).reshape(-1, 2).astype(x.dtype)
    everything = np.concatenate([x, points])
    read = _Exits(report, chosen)
    outputs = read.predict(everything, batch_size=2048, verbose=0)
    labels = _labels(y, _width(outputs[0]))
    # Light colours of all classes, those of the points.
    shades = matplotlib("colors").ListedColormap(
        [color(number) for number in range(max(2, _width(outputs[0])))]
    )
    figure, axes = grid(len(chosen), 5, (2.1, 2.3))
    for axis, k, output in zip(axes, chosen, outputs, strict=True):
        decided = _decisions(output, threshold)
        area = decided[len(x) :].reshape(side, side)
        span = {"vmin": -0.5, "vmax": shades.N - 0.5, "cmap": shades}
        axis.pcolormesh(*plane, area, alpha=0.25, rasterized=True, **span)
        for number in np.unique(labels):
            own = x[labels == number]
            style = {"color": color(number), "marker": marker(number)}
            axis.scatter(*own.T, s=6, linewidths=0.2, edgecolors="white", **style)
        share = np.mean(decided[: len(x)] == labels)
        axis.set_title(f"{k} of {len(report)} blocks: {share:.3f}", fontsize=8)
        axis.tick_params(labelsize=6)
    return figure


class _Exits(FedLikeNetwork):
    """Runs a network on batches, and returns some of its exits.

    A model, so that Keras compiles it like any other.

    Args:
        report: Its blocks.
        exits: Which exits.
    """

    def __init__(self, report: BlockReport, exits: Collection[int]):
        super().__init__(autocast=False, name="exits_probe")
        self.network = report.root.operation
        self._record = Recorder(self.network, report, ["exits"], exits=exits)
        self._exits = exits
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The exits, a list."""
        exits = self._record(inputs, training=False).exits or []
        return [exits[k] for k in self._exits]


def _named(models: Any) -> dict[str, keras.Model]:
    if isinstance(models, Mapping):
        return dict(models)
    return {getattr(models, "name", "network"): models}


def _exits_of(exits: Sequence[int] | None, blocks: int) -> list[int]:
    if exits is None:
        evenly = np.linspace(0, blocks, min(_PANELS, blocks + 1))
        return [int(k) for k in np.round(evenly)]
    chosen = list(exits)
    if not chosen or not all(is_whole(k, 0) and k <= blocks for k in chosen):
        accepted = f"be whole numbers from 0 to {blocks}, the number of blocks"
        raise refusal("exits", accepted, exits)
    return [int(k) for k in chosen]


def _width(output: Any) -> int:
    """How many numbers one sample has in the output of a classifier."""
    shape: tuple[int, ...] = getattr(output, "shape", ())
    if len(shape) not in (1, 2):
        raise ValueError(
            "Decisions are those of one output, of shape (batch, classes) or "
            f"(batch, 1). Received: {shape or type(output).__name__}. Draw a model "
            "with that output alone."
        )
    return int(shape[1]) if len(shape) == 2 else 1


def _labels(y: Any, width: int) -> np.ndarray:
    """The class of each sample, a whole number from 0."""
    y = np.asarray(ops.convert_to_numpy(y))
    if y.ndim == 2 and y.shape[1] > 1:
        y = y.argmax(axis=1)
    found, labels = np.unique(y.reshape(-1), return_inverse=True)
    if width == 1:
        fits = len(found) <= 2
    else:
        fits = bool(np.all(np.isin(found, np.arange(width))))
        labels = y.reshape(-1)
    if not fits:
        accepted = f"be two values, or with several outputs one of 0 … {width - 1}"
        raise refusal("The targets y", accepted, found[:5].tolist())
    return labels.astype(int)


def _decisions(output: np.ndarray, threshold: float) -> np.ndarray:
    if _width(output) > 1:
        return output.argmax(axis=1)
    return (output.reshape(-1) > threshold).astype(int)
