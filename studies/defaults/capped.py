"""A rule that keeps the task loss at a given value, as long as λ stays below its start.

Least action holds the task to ``L = 0`` and raises λ for ever. This rule asks for
``L ≤ ε``: λ rises while the loss is above ε and falls while it is below, and never
above λ_0, so that the energy keeps its weight where ε is out of reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from studies.defaults.methods import Method
from studies.defaults.training import movement, scalar

_PACE = 0.1
# Below, C/λ would overflow.
_LEAST = 1e-20


@dataclass(frozen=True)
class Capped(Method):
    """The rule, with λ_0 by a share.

    Attributes:
        loss: ε.
    """

    loss: float = 0.1


class CappedModel(keras.Model):
    """Trains by ``R/λ + L`` with ``λ ← min(λ_0, λ · exp(0.1 · clip(log(L/ε), ±1)))``.

    R is the sum over the blocks of ``mean ‖v‖²/‖x‖²``, v what a block adds to its state
    x. λ moves after each step. λ_0 is such that ``R/λ_0`` has the given part of the
    first objective, as with `keras_lap.Share`.

    Args:
        network: Whose blocks are `Add` layers of ``[state, branch]``.

    Attributes:
        part: Of the first objective.
        loss_bound: ε.
        multiplier: λ; 0 until the first step has chosen it.
        greatest: λ_0, likewise.
    """

    def __init__(self, network: keras.Model):
        super().__init__()
        _, relative = movement(network)
        self.moved = keras.Model(network.input, [network.output, relative])
        self.part, self.loss_bound = scalar("part", 0.5), scalar("loss_bound", 1.0)
        self.multiplier = scalar("multiplier", 0.0)
        self.greatest = scalar("greatest", 0.0)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Logits, and ``‖v‖²/‖x‖²`` of each block.

        Args:
            inputs: `(batch, ...)`.
            training: As in Keras.
        """
        return self.moved(inputs, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The objective; λ moves by it.

        Args:
            x: Inputs.
            y: Labels.
            y_pred: What `call` returned.
            sample_weight: As in Keras.
            training: As in Keras.
        """
        logits, relative = y_pred
        loss = super().compute_loss(x, y, logits, sample_weight, training)
        energy = ops.sum(ops.mean(relative, axis=0))
        now = self._at_present(ops.stop_gradient(loss), ops.stop_gradient(energy))
        return loss + energy / now

    def _at_present(self, loss: Any, energy: Any) -> Any:
        """λ of this step; moves it for the next one."""
        chosen = energy * (1 - self.part.value) / (self.part.value * loss)
        before, bound = self.multiplier.value, self.greatest.value
        is_first = ops.equal(before, 0)
        now = ops.where(is_first, chosen, before)
        greatest = ops.where(is_first, chosen, bound)
        far = ops.clip(ops.log(loss / self.loss_bound.value), -1, 1)
        after = ops.clip(now * ops.exp(_PACE * far), _LEAST, greatest)
        self.multiplier.assign(after)
        self.greatest.assign(greatest)
        return now
