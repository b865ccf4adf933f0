"""`ControlCost`: what the weights of the blocks cost over the time of a network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import choice
from keras_lap.blocks import require_blocks
from keras_lap.running_costs.path import Path
from keras_lap.running_costs.running_cost import RunningCost
from keras_lap.trajectory import at_least_float32

_Controls = Sequence[Sequence[Any]]
# Within the root of a group's norm, whose slope at 0 would be infinite.
_SMALL = 1e-12


@keras.saving.register_keras_serializable("keras_lap")
class ControlCost(RunningCost):
    """The integral of a norm of the controls u_k, the weights on the blocks' branches.

    Over the blocks k = 0 … K−1 with their time steps ``dt_k``:

    * `"l2"`: ``½ Σ dt_k |u_k|²``
    * `"h1"`: `"l2"` and ``½ Σ |u_{k+1} − u_k|² / ((dt_k + dt_{k+1}) / 2)``, which makes
      the controls smooth in time and takes blocks of one architecture;
    * `"l1"`: ``Σ dt_k |u_k|₁``, which makes single weights vanish;
    * `"group"`: ``Σ dt_k |u_k|₂``, which makes whole blocks vanish. With Adam they end
      near 1e-7, not at 0.

    Biases count, stem, head and frozen weights do not, and weights that blocks share
    count for each of them. Logged as `control_cost`. A weight decay is no such cost: it
    acts on all weights, and not on the loss. The scale of a kernel before a batch
    normalisation means nothing: there, the energy of displacements is the better price.

    Source: Esteve-Yagüe et al., *Large-time asymptotics in deep learning*, arXiv
    2008.02491; for `"l1"`, Esteve-Yagüe and Geshkovski, *Sparsity in long-time control
    of neural ODEs*, arXiv 2102.13566.

    Args:
        weight: From 0. Defaults to 1.0.
        norm: `"l2"`, `"h1"`, `"l1"` or `"group"`. Defaults to `"l2"`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> cost = keras_lap.running_costs.ControlCost(0.01, norm="group")
        >>> model = keras_lap.LeastActionModel(network, running_costs=[cost])
    """

    def __init__(self, weight: float = 1.0, norm: str = "l2"):
        super().__init__(weight)
        self.norm = choice("norm", norm, tuple(_NORMS))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        return {**super().get_config(), "norm": self.norm}

    def check(self, path: Path) -> None:
        """Refuses networks without blocks, and `"h1"` of blocks that differ."""
        require_blocks(path.report, "whose weights could be priced")
        if self.norm == "h1":
            _check_alike(path)

    def __call__(self, path: Path) -> Any:
        """As in `RunningCost`."""
        self.check(path)
        controls = [[at_least_float32(u) for u in block] for block in path.controls]
        return _NORMS[self.norm](controls, path.time_steps)


def _sums(power: Callable[[Any], Any], controls: _Controls) -> Any:
    """``Σ_i power(u_ki)`` of each block, `(blocks,)`."""
    # Few operations for many small weights: PyTorch runs one after the other.
    sums = [ops.sum(power(u)) for block in controls for u in block]
    if not sums:
        return ops.zeros(len(controls), "float32")
    stacked = ops.stack(sums)
    sizes = [len(block) for block in controls]
    owner = np.repeat(np.eye(len(controls)), sizes, axis=1)
    return ops.sum(ops.cast(owner, stacked.dtype) * stacked, axis=1)


def _integral(steps: Sequence[float], values: Any) -> Any:
    return ops.sum(ops.cast(np.array(steps), values.dtype) * values)


def _l2(controls: _Controls, steps: Sequence[float]) -> Any:
    return 0.5 * _integral(steps, _sums(ops.square, controls))


def _h1(controls: _Controls, steps: Sequence[float]) -> Any:
    changes = [
        [after - before for before, after in zip(*pair, strict=True)]
        for pair in itertools.pairwise(controls)
    ]
    # |Δu|² / dt, where dt is the time between the middles of two steps.
    rates = [2.0 / (before + after) for before, after in itertools.pairwise(steps)]
    return _l2(controls, steps) + _l2(changes, rates)


def _l1(controls: _Controls, steps: Sequence[float]) -> Any:
    return _integral(steps, _sums(ops.abs, controls))


def _group(controls: _Controls, steps: Sequence[float]) -> Any:
    own = [dt * bool(block) for dt, block in zip(steps, controls, strict=True)]
    return _integral(own, ops.sqrt(_sums(ops.square, controls) + _SMALL))


_NORMS = {"l2": _l2, "h1": _h1, "l1": _l1, "group": _group}


def _check_alike(path: Path) -> None:
    shapes = [[tuple(u.shape) for u in block] for block in path.controls]
    blocks = zip(path.report, shapes, strict=True)
    for (one, before), (other, after) in itertools.pairwise(blocks):
        if before != after:
            raise ValueError(
                "norm='h1' compares the weights of each block with those of the next, "
                "so all blocks need weights of the same shapes. Received: "
                f"{one.name!r} with {before} and {other.name!r} with {after}. Use "
                "norm='l2', 'l1' or 'group', or choose blocks that are alike by "
                "blocks=[...]."
            )
