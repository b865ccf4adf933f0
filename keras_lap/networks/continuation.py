"""Continues a network of `neural_ode` on another horizon, or with other steps."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_lap._checks import finite_number, whole_number
from keras_lap.networks.neural_ode import BRANCHES, SCALED, euler_step, values

_STEP = ("scale", "add")  # the layers of a block after its branch


@dataclass(frozen=True)
class _Read:
    """What the graph of a network says of it."""

    before: list[keras.Layer]
    branches: list[list[keras.Layer]]
    time_steps: list[float]
    dynamics: str
    after: list[keras.Layer]


@dataclass(frozen=True)
class _Block:
    """A block of the new network: which old one it repeats, and how."""

    source: int  # index of the old block
    time_step: float
    scale: float = 1.0  # of the weights that the horizon scales
    idle: bool = False  # all weights zero


def continue_from(net: keras.Model, *, horizon: float, steps: int) -> keras.Model:
    """Builds a network of `neural_ode` on a new horizon, from one that was trained.

    Three continuations keep what was learned, and which one is meant is seen from the
    numbers:

    * as many steps: the weights are *rescaled* by the old horizon over the new one,
      which leaves all states as they were; of a bottleneck those of the second layer;
    * the same time step: idle blocks, of weights zero, are *appended*, which leaves all
      outputs as they were, or the last blocks are *cut*. Idle bottlenecks, and idle
      blocks with ReLU outside, start in a saddle: at most their last bias learns;
    * the same horizon, a multiple of the steps: each block is *repeated* with a smaller
      step, the finer Euler scheme of the same controls, at the same price.

    Unequal steps are rescaled and divided in proportion; appended blocks have the step
    of the last one. The new network has layers of its own and is not compiled.

    Args:
        net: A network of `neural_ode`, loaded from a file or not. It stays as it is.
        horizon: The new time T > 0.
        steps: The new number of blocks.

    Returns:
        A model that is built as `net` is.

    Raises:
        ValueError: If the numbers mean none of the three, if `net` is no such network,
            or if a continuation needs what its activation is not: homogeneous, or zero
            at zero.
        TypeError: If `net` is no model.

    Examples:
        >>> networks = keras_lap.networks
        >>> short = networks.neural_ode((2,), 1, horizon=5.0, steps=4)
        >>> long = networks.continue_from(short, horizon=10.0, steps=8)
    """
    horizon = finite_number("`horizon`", horizon, "> 0", "It is the new time T.")
    steps = whole_number("`steps`", steps, 1, "It is the new number of blocks.")
    old = _read(net)
    blocks = _plan(old.time_steps, horizon, steps)
    if old.dynamics == "outside":
        _check_activation(old, blocks)
    return _build(net, old, blocks)


def _read(net: Any) -> _Read:
    """Takes a network apart by the names of its layers, in the order of its graph."""
    if not isinstance(net, keras.Model):
        raise TypeError(
            "continue_from takes a network of keras_lap.networks.neural_ode. "
            f"Received: {net!r} (of type {type(net).__name__})."
        )
    before: list[keras.Layer] = []
    after: list[keras.Layer] = []
    blocks: dict[int, dict[str, keras.Layer]] = {}
    for layer in net.layers:
        parts = re.fullmatch(r"block(\d+)_(\w+)", layer.name)
        if parts:
            blocks.setdefault(int(parts[1]), {})[parts[2]] = layer
        elif not isinstance(layer, keras.layers.InputLayer):
            (after if blocks else before).append(layer)
    names = [layer.name for layer in before]
    orders = [tuple(block) for block in blocks.values()]
    dynamics = next(
        (d for d, branch in BRANCHES.items() if orders[:1] == [(*branch, *_STEP)]), ""
    )
    whole = names in ([], ["flatten"], ["pad"], ["flatten", "pad"])
    whole = whole and [layer.name for layer in after] == ["readout"]
    whole = whole and list(blocks) == list(range(1, len(blocks) + 1))
    if not (dynamics and whole and len(set(orders)) == 1):
        raise ValueError(
            "continue_from takes a network of keras_lap.networks.neural_ode, whose "
            f"layers it knows by their names and order. Received: {net.name!r} "
            f"({type(net).__name__}), with the layers "
            f"{', '.join(layer.name for layer in net.layers[:9])}, …. Of a "
            "LeastActionModel pass model.network."
        )
    time_steps = [float(block["scale"].scale) for block in blocks.values()]
    branches = [[block[n] for n in BRANCHES[dynamics]] for block in blocks.values()]
    return _Read(before, branches, time_steps, dynamics, after)


def _plan(old: list[float], horizon: float, steps: int) -> list[_Block]:
    """The blocks of the new network, for the one continuation that is meant."""
    total, last = sum(old), len(old) - 1
    if steps == len(old):
        ratio = horizon / total
        return [_Block(k, dt * ratio, 1 / ratio) for k, dt in enumerate(old)]
    if steps % len(old) == 0 and _close(horizon, total):
        times = steps // len(old)
        return [_Block(k, dt / times) for k, dt in enumerate(old) for _ in range(times)]
    kept = [_Block(k, dt) for k, dt in enumerate(old[:steps])]
    idle = [_Block(last, old[last], idle=True)] * (steps - len(old))
    if _close(horizon, sum(block.time_step for block in kept + idle)):
        return kept + idle
    raise ValueError(
        f"A network with horizon {total:g} and {len(old)} steps is continued in one "
        f"of three ways. Received: horizon={horizon!r}, steps={steps!r}. Rescale it by "
        f"steps={len(old)} and any horizon; append idle blocks or cut the last ones by "
        f"the same time step, e.g. horizon={total + old[last]:g} and "
        f"steps={len(old) + 1}; or refine it by horizon={total:g} and a multiple of "
        f"{len(old)} steps. One after the other gives the rest."
    )


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6)


def _check_activation(old: _Read, blocks: list[_Block]) -> None:
    """Refuses what ``σ(W x + b)`` allows for some activations alone."""
    dense, activation = old.branches[-1]
    once = values(activation, dense.units)
    # Wide enough for half precision; what is not homogeneous is off by far more.
    homogeneous = all(
        np.allclose(values(activation, dense.units, c), c * once, rtol=1e-2)
        for c in (2.0, 3.0)
    )
    if not homogeneous and any(block.scale != 1 for block in blocks):
        raise ValueError(
            "The weights cannot be rescaled: with dynamics 'outside' the activation "
            f"{_named(activation)} is not homogeneous, σ(c·x) = c·σ(x) for c > 0, as "
            "relu and leaky_relu are. Use dynamics='inside' or 'bottleneck', or keep "
            "the time step or the horizon."
        )
    if values(activation, dense.units, 0.0).any() and any(b.idle for b in blocks):
        raise ValueError(
            "Idle blocks cannot be appended: with dynamics 'outside' the activation "
            f"{_named(activation)} is not 0 at 0, so weights of zero move the data. "
            "Use dynamics='inside' or 'bottleneck', or another activation."
        )


def _named(activation: keras.Layer) -> str:
    function = getattr(activation, "activation", activation)
    return repr(getattr(function, "__name__", function))


def _build(net: keras.Model, old: _Read, blocks: list[_Block]) -> keras.Model:
    (inputs,) = net.inputs
    first = keras.Input(inputs.shape[1:], dtype=inputs.dtype, name=inputs.name)
    x, weights = first, []
    for layer in old.before:
        x = _copy(layer, layer.name)(x)
    for number, block in enumerate(blocks, start=1):
        name, branch = f"block{number}", []
        for kind, layer in zip(
            BRANCHES[old.dynamics], old.branches[block.source], strict=True
        ):
            branch.append(_copy(layer, f"{name}_{kind}"))
            scale = block.scale if kind == SCALED[old.dynamics] else 1.0
            factor = 0.0 if block.idle and kind != "activation" else scale
            weights.append((branch[-1], layer, factor))
        x = euler_step(x, branch, block.time_step, name)
    for layer in old.after:
        head = _copy(layer, layer.name)
        weights.append((head, layer, 1.0))
        x = head(x)
    for layer, source, factor in weights:
        layer.set_weights([factor * weight for weight in source.get_weights()])
    return keras.Model(first, x, name=net.name)


def _copy(layer: keras.Layer, name: str) -> keras.Layer:
    return type(layer).from_config({**layer.get_config(), "name": name})
