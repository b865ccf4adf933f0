"""Pictures of a training, from the history that `fit` returns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from keras_lap._drawing import (
    colors_of,
    grid,
    label,
    matplotlib,
    single,
    whole_ticks,
)

History = Mapping[str, Sequence[float]]
_BLOCK = "transport_cost_block"
# On which data the logs of `fit` have a transport cost.
_DATA = {
    "transport_cost": "training data",
    "transport_total_cost": "data of the monitor",
}


def plot_block_costs(history: Any, ax: Any = None) -> Any:
    """Draws the cost of each block over the epochs as a heat map.

    Args:
        history: What `fit` returned, or its `history`, of a training with a
            ``TransportMonitor(x, logs="all")``; or costs of shape `(epochs, blocks)`.
        ax: Axes to draw in; by default those of a new figure.

    Returns:
        The `matplotlib.axes.Axes`. Costs are drawn on a logarithmic scale; blocks
        without cost stay white.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the history holds no costs of blocks.
    """
    costs = _block_costs(history)
    axis = single(ax)
    colors = matplotlib("colors")
    visible = np.ma.masked_invalid(np.ma.masked_less_equal(costs, 0)).T
    # Epochs and blocks count from 1.
    edges = [np.arange(count + 1) + 0.5 for count in costs.shape]
    # cividis is made to look the same to the colour-blind, and is even in grey.
    mesh = axis.pcolormesh(*edges, visible, norm=colors.LogNorm(), cmap="cividis")
    axis.figure.colorbar(mesh, ax=axis, label="cost of the block")
    axis.set(xlabel="epoch", ylabel="block")
    whole_ticks(axis.xaxis, axis.yaxis)
    return axis


def plot_training(history: Any) -> Any:
    """Draws λ, task loss and transport cost over the epochs on one page.

    Args:
        history: What `fit` returned for a `LeastActionModel`, or its `history`; or such
            histories by name, drawn over one another.

    Returns:
        A `matplotlib.figure.Figure` of three panels. Of a plain training, which has
        neither λ nor transport cost, the loss is drawn as task loss, and the cost of
        the data of a `TransportMonitor` if it had one. If all had one, all costs are
        those of its data; the legend says of which data they are.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If a history has no epoch.
    """
    histories = _named(history)
    figure, axes = grid(3, 3, (3.6, 3.2))
    shades = colors_of(histories)
    panels = (
        ("multiplier λ", ("multiplier",)),
        ("task loss", ("task_loss", "loss")),
        ("transport cost", _cost_keys(histories.values())),
    )
    for axis, (title, keys) in zip(axes, panels, strict=True):
        for number, (name, values) in enumerate(histories.items()):
            key = next((key for key in keys if key in values), None)
            if key is not None:
                said = f"{name}, {_DATA[key]}" if key in _DATA else name
                _curve(axis, values[key], said, number, shades[number])
        axis.set(xlabel="epoch", ylabel=title)
        whole_ticks(axis.xaxis)
        if title != "multiplier λ" and _positive(axis):
            axis.set_yscale("log")
    if len(histories) > 1:
        axes[1].legend(fontsize=8)
        if axes[2].lines:
            axes[2].legend(fontsize=8)
    return figure


def _cost_keys(histories: Collection[History]) -> list[str]:
    """Costs on the same data for all networks, if there are any; else their own."""
    having = [values for values in histories if not _DATA.keys().isdisjoint(values)]
    common = [key for key in _DATA if all(key in values for values in having)]
    return common[:1] or list(_DATA)


def _curve(
    axis: Any, values: Sequence[float], name: str, number: int, shade: str
) -> None:
    measured = np.asarray(values, float)
    epochs = np.arange(1, len(measured) + 1)[np.isfinite(measured)]
    style = ("-", "--", "-.", ":")[number % 4]
    line = {"color": shade, "label": label(name)}
    axis.plot(epochs, measured[epochs - 1], style, **line)


def _positive(axis: Any) -> bool:
    values = [line.get_ydata() for line in axis.lines]
    return bool(values) and all(len(v) and np.all(v > 0) for v in values)


def _named(history: Any) -> dict[str, History]:
    history = getattr(history, "history", history)
    parts = history.values() if isinstance(history, Mapping) else ()
    if not any(isinstance(part, Mapping) or hasattr(part, "history") for part in parts):
        history = {"training": history}
    named = {name: getattr(part, "history", part) for name, part in history.items()}
    if not all(named.values()):
        raise ValueError(
            "A history without epochs cannot be drawn. Received: "
            f"{[name for name, values in named.items() if not values]} empty. Pass "
            "what fit() returned."
        )
    return named


def _block_costs(history: Any) -> np.ndarray:
    values = getattr(history, "history", history)
    if not isinstance(values, Mapping):
        costs = np.asarray(values, float)
        if costs.ndim == 2 and costs.size:
            return costs
        raise ValueError(
            "Costs of blocks must have the shape (epochs, blocks). Received: shape "
            f"{costs.shape}."
        )
    count = sum(key.startswith(_BLOCK) for key in values)
    if not count:
        raise ValueError(
            "The history holds no costs of blocks: it has "
            f"{', '.join(sorted(values)) or 'nothing'}. Train a LeastActionModel with "
            "callbacks=[keras_lap.callbacks.TransportMonitor(x, logs='all')]."
        )
    return np.array([values[f"{_BLOCK}{index}"] for index in range(count)], float).T
