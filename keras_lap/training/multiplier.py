"""λ, the Lagrange multiplier of the task, and its ascent.

The method of multipliers (Uzawa) alternates optimizer steps on ``C/λ + L`` with
``λ ← λ + τ·L``. λ and the counters of its ascent are variables, so the training
step raises λ on the device, compiled together with everything else.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_lap._checks import finite_number, within

AUTO = "auto"

_STATE = ("multiplier", "steps", "loss_sum", "skipped")
_RANGE = _LEAST, _GREATEST = 1e-30, 1e30
# Found on ResNet9 and MNIST: docs/results/README.md, "A default to leave alone".
_WASTEFUL, _WEIGHT_OF_WASTE = 10.0, 0.5
_WHY = (
    "λ is a float32 number, which ends at 1e-38 and 1e38, and C/λ has to stay finite."
)


@keras.saving.register_keras_serializable("keras_lap")
class MultiplierAscent(keras.layers.Layer):
    """Holds λ and raises it by ``τ · task loss`` every so many batches.

    λ never moves until `start` is called, as `MultiplierUpdate` does when training
    begins. λ, the steps since the last update and the sum of their losses are
    saved with the model; the schedule (τ, `every`) belongs to the one who trains
    and is not.

    Source: Karkar et al., arXiv 2009.08372, section 4.

    Args:
        initial_multiplier: λ_0, a number from 1e-30 to 1e30, or `"auto"`: see `choose`.
            Defaults to 1.
        max_multiplier: At which λ the ascent stops, from λ_0 to 1e30; None for no
            bound. Defaults to None.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Attributes:
        multiplier: λ, scalar float32 `keras.Variable`; 0 until `"auto"` has chosen.
        skipped: How many updates were left out, scalar `keras.Variable`.
        every: Batches between two updates, scalar `keras.Variable`; 0 while λ holds.

    Raises:
        ValueError: If an argument is outside the values above.
    """

    def __init__(
        self,
        initial_multiplier: float | str = 1.0,
        max_multiplier: float | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("name", "multiplier_ascent")
        super().__init__(**kwargs)
        self.initial_multiplier = _start(initial_multiplier)
        # No λ is 0, so 0 says that the first step has to choose; it is saved as such.
        first = 0.0 if self.is_automatic else float(self.initial_multiplier)
        self.max_multiplier = _bound(max_multiplier, max(first, _LEAST))
        self.multiplier = self._scalar("multiplier", first)
        self.loss_sum = self._scalar("loss_sum", 0.0)
        self.steps = self._scalar("steps", 0)
        self.skipped = self._scalar("skipped", 0)
        self._tau = self._scalar("tau", 0.0)
        self.every = self._scalar("every", 0)
        self._averaged = self._scalar("averaged", 0)
        self.built = True

    def _scalar(self, name: str, value: float) -> keras.Variable:
        """A scalar that mixed precision leaves in full precision.

        Every replica assigns the same value to it. Their mean would let one of them,
        whose loss is not finite, hold λ back while another raises it.
        """
        return self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(value),
            dtype="int32" if isinstance(value, int) else "float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name=name,
        )

    def start(self, tau: float, every: int, averaged: bool) -> None:
        """Sets the schedule from the next step on.

        Args:
            tau: Step size τ of the ascent, at least 0.
            every: Batches from one update to the next, counted from the last update
                wherever that was.
            averaged: Whether an update uses the mean of the losses since the last
                one instead of the loss of its own batch.
        """
        self._tau.assign(tau)
        self.every.assign(every)
        self._averaged.assign(int(averaged))

    def stop(self) -> None:
        """Holds λ where it is until `start` is called again."""
        self.start(tau=0.0, every=0, averaged=False)

    @property
    def is_automatic(self) -> bool:
        """Whether the first training step chooses λ_0."""
        return self.initial_multiplier == AUTO

    def choose(self, cost: Any, unit_cost: Any, blocks: int) -> Any:
        """λ now; in the first step under `"auto"` the λ_0 that fits the batch.

        ``λ_0 = C_1/2K if C > 10·C_1 else 1e30``, where C_1 is what the K blocks would
        cost if each moved every number of its state by one. The start of a network
        that costs ten times as much wastes action, and the energy mends it. Well
        initialised or normalised branches move by about one; there the energy was
        measured to harm or to do nothing, and 1e30 switches it off. The rule is
        empirical: `docs/results` holds the study. It takes for granted that states
        are scaled to about one, as normalisation and standardised inputs do.

        Args:
            cost: Transport cost C of the batch, scalar tensor; of the whole batch if
                several replicas share it.
            unit_cost: C_1 under the same energy, scalar tensor.
            blocks: Their number K.

        Returns:
            λ before the step, scalar float32 tensor.
        """
        cost, unit = ops.cast(cost, "float32"), ops.cast(unit_cost, "float32")
        chosen = ops.where(
            cost > _WASTEFUL * unit, _WEIGHT_OF_WASTE * unit / blocks, _GREATEST
        )
        chosen = ops.stop_gradient(ops.clip(chosen, _LEAST, self._greatest))
        now = self.value()
        return ops.where(now > 0, now, chosen)

    @property
    def _greatest(self) -> float:
        return _GREATEST if self.max_multiplier is None else self.max_multiplier

    def step(self, task_loss: Any, multiplier: Any = None) -> Any:
        """Counts one batch and raises λ if an update is due.

        An update that would make λ infinite, NaN or not positive is left out and
        counted in `skipped`.

        Args:
            task_loss: Task loss of the batch, scalar tensor; of the whole batch if
                several replicas share it.
            multiplier: λ before the step, from `choose`. Defaults to what it is.

        Returns:
            λ after the step, scalar float32 tensor.
        """
        # Values and operators instead of variables and `keras.ops`: outside of a
        # compiled step, as on PyTorch, these cost several times as much.
        before = self.multiplier.value if multiplier is None else multiplier
        loss = ops.cast(ops.stop_gradient(task_loss), "float32")
        every = self.every.value
        scheduled = every > 0
        steps = self.steps.value + ops.cast(scheduled, "int32")
        loss_sum = self.loss_sum.value
        loss_sum = ops.where(scheduled, loss_sum + loss, loss_sum)
        due = scheduled & (steps >= every)
        # Not 0 / 0 while nothing is scheduled, though nobody would read the result.
        mean = loss_sum / ops.cast(steps + ops.cast(~scheduled, "int32"), "float32")
        raised = before + self._tau.value * ops.where(
            self._averaged.value > 0, mean, loss
        )
        # A negative task loss lowers λ; at zero the objective would change its sign.
        valid = (raised > 0) & (raised < math.inf)
        if self.max_multiplier is not None:
            raised = ops.minimum(raised, self.max_multiplier)
        self.multiplier.assign(ops.where(due & valid, raised, before))
        spoilt = ops.cast(due & ~valid, "int32")
        self.skipped.assign(self.skipped.value + spoilt)
        goes_on = ops.cast(~due, "int32")
        self.steps.assign(steps * goes_on)
        self.loss_sum.assign(ops.where(due, ops.zeros_like(loss_sum), loss_sum))
        return self.value()

    def value(self) -> Any:
        """λ now, as a tensor of its own that later updates do not change."""
        return ops.copy(self.multiplier.value)

    def save_own_variables(self, store: Any) -> None:
        """Saves λ and the counters; the schedule is set by whoever trains next."""
        for name in _STATE:
            store[name] = getattr(self, name).numpy()

    def load_own_variables(self, store: Any) -> None:
        """Restores what `save_own_variables` wrote."""
        try:
            values = {name: store[name] for name in _STATE}
        except KeyError as error:
            raise ValueError(
                "The file holds no multiplier: it was not saved by a LeastActionModel. "
                "The weights of a network alone are loaded by "
                "model.network.load_weights(path)."
            ) from error
        for name, value in values.items():
            getattr(self, name).assign(value)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "initial_multiplier": self.initial_multiplier,
            "max_multiplier": self.max_multiplier,
        }


def _start(value: Any) -> float | str:
    """Returns `initial_multiplier` if it is `"auto"` or a λ that float32 can hold."""
    if isinstance(value, str) and value == AUTO:
        return AUTO
    name = "initial_multiplier"
    advice = (
        "Small values weigh the energy more: 1 is a start, 5 a gentler one. "
        'Or pass "auto", and the first training step chooses.'
    )
    return within(name, finite_number(name, value, "> 0", advice), *_RANGE, _WHY)


def _bound(value: Any, initial: float) -> float | None:
    """Returns `max_multiplier` if λ can rise from `initial` to it."""
    if value is None:
        return None
    advice = "Use None to let the multiplier rise without bound."
    bound = finite_number("max_multiplier", value, "> 0", advice)
    why = f"The multiplier starts at initial_multiplier={initial!r}. {advice}"
    return within("max_multiplier", bound, initial, _GREATEST, why)
