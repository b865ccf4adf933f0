"""λ, the Lagrange multiplier of the task: its variables, its bounds, its files.

λ and the counters of its ascent are variables, so the training step raises λ on the
device, compiled together with everything else; `keras_lap.training.ascent` says how.
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras
from keras import ops

from keras_lap._checks import finite_number, within
from keras_lap.training import ascent
from keras_lap.training.ascent import GREATEST, LEAST, Schedule, State

AUTO = "auto"
# PyTorch alone runs a step as it is written, or compiles it anew where it changes.
_COMPILES = keras.backend.backend() != "torch"


@keras.saving.register_keras_serializable("keras_lap")
class MultiplierAscent(keras.layers.Layer):
    """Holds λ and raises it by ``τ · task loss`` every so many batches.

    λ never moves until `start` is called, as `MultiplierUpdate` does when training
    begins. λ, the batches since the last update and the sum of their losses are
    saved with the model; the schedule (τ, `batches`) belongs to the one who trains
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
        batches: From one update to the next, scalar `keras.Variable`; 0 while λ holds.
        counted: How many batches it has seen since it was made, scalar
            `keras.Variable`.

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
        self.initial_multiplier = check_start(initial_multiplier)
        # No λ is 0, so 0 says that the first step has to choose; it is saved as such.
        first = 0.0 if self.is_automatic else float(self.initial_multiplier)
        self.max_multiplier = _bound(max_multiplier, max(first, LEAST))
        self.multiplier = self._scalar("multiplier", first)
        self.loss_sum = self._scalar("loss_sum", 0.0)
        self.steps = self._scalar("steps", 0)
        self.skipped = self._scalar("skipped", 0)
        self._tau = self._scalar("tau", 0.0)
        self.batches = self._scalar("batches", 0)
        self._averaged = self._scalar("averaged", 0)
        self._before = self._scalar("before", 0)
        self._is_before = False
        self.counted = self._scalar("counted", 0)
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

    def start(
        self, tau: float, batches: int, averaged: bool, before: bool = False
    ) -> None:
        """Sets the schedule from the next step on.

        Args:
            tau: Step size τ of the ascent, at least 0.
            batches: From one update to the next, counted from the last update wherever
                that was.
            averaged: Whether an update uses the mean of the losses since the last
                one instead of the loss of its own batch.
            before: Whether a step uses λ as it is after its own update. Defaults to
                False.
        """
        self._tau.assign(tau)
        self.batches.assign(batches)
        self._averaged.assign(int(averaged))
        self._before.assign(int(before))
        self._is_before = before

    def stop(self) -> None:
        """Holds λ where it is until `start` is called again."""
        self.start(tau=0.0, batches=0, averaged=False)

    @property
    def is_automatic(self) -> bool:
        """Whether the first training step chooses λ_0."""
        return self.initial_multiplier == AUTO

    def choose(self, cost: Any, unit_cost: Any, blocks: int) -> Any:
        """λ now; in the first pass under `"auto"` the λ_0 that fits the batch.

        ``λ_0 = C_1/2K if C > 10·C_1 else 1e30``, where C_1 is what the K blocks would
        cost if each moved every number of its state by one; see
        `keras_lap.training.ascent.start`.

        Args:
            cost: Transport cost C of the batch, scalar tensor; of the whole batch if
                several replicas share it.
            unit_cost: C_1 under the same energy, scalar tensor.
            blocks: Their number K.

        Returns:
            λ, scalar float32 tensor.
        """
        chosen = ascent.start(cost, unit_cost, blocks, self.max_multiplier)
        now = self.multiplier.value
        self.multiplier.assign(ops.where(now > 0, now, chosen))
        return self.value()

    def foresee(self, now: Any, task_loss: Any | None) -> Any:
        """λ in the objective of a step whose task loss is known; changes nothing.

        Args:
            now: λ in it so far, scalar float32 tensor.
            task_loss: As in `step`, which follows; None if λ has seen it already.

        Returns:
            What λ will be after the step, if `start` said so, else `now`.
        """
        # What is compiled once has to serve both; elsewhere it would be paid for.
        if not (_COMPILES or self._is_before):
            return now
        after = self.multiplier.value
        if task_loss is not None:
            after = self._risen(task_loss, self._schedule()).multiplier
        return ops.where(self._before.value > 0, after, now)

    def _schedule(self) -> Schedule:
        return Schedule(self._tau.value, self.batches.value, self._averaged.value)

    def _risen(self, task_loss: Any, schedule: Schedule) -> State:
        # Values and operators instead of variables and `keras.ops`: outside of a
        # compiled step, as on PyTorch, these cost several times as much.
        before = State(*(getattr(self, name).value for name in State._fields))
        loss = ops.cast(ops.stop_gradient(task_loss), "float32")
        return ascent.rise(before, loss, *schedule, self.max_multiplier)

    def step(
        self, task_loss: Any, schedule: Schedule | None = None, again: bool = False
    ) -> Any:
        """Counts one batch and raises λ if an update is due.

        An update that would make λ infinite, NaN or not positive is left out and
        counted in `skipped`.

        Args:
            task_loss: Task loss of the batch, scalar tensor; of the whole batch if
                several replicas share it.
            schedule: What holds where `start` has set none. Defaults to None: λ
                stays.
            again: Whether a schedule that `start` has set has seen this batch already.

        Returns:
            λ after the step, scalar float32 tensor.
        """
        now = set_before = self._schedule()
        if schedule is not None:
            is_set = set_before.batches > 0
            if again:
                set_before = set_before._replace(batches=0)
            pairs = zip(set_before, schedule, strict=True)
            now = Schedule(*(ops.where(is_set, one, own) for one, own in pairs))
        after = self._risen(task_loss, now)
        for name, value in after._asdict().items():
            getattr(self, name).assign(value)
        self.counted.assign(self.counted.value + 1)
        return self.value()

    def value(self) -> Any:
        """λ now, as a tensor of its own that later updates do not change."""
        return ops.copy(self.multiplier.value)

    def save_own_variables(self, store: Any) -> None:
        """Saves λ and the counters; the schedule is set by whoever trains next."""
        for name in (*State._fields, "counted"):
            store[name] = getattr(self, name).numpy()

    def load_own_variables(self, store: Any) -> None:
        """Restores what `save_own_variables` wrote."""
        try:
            values = {name: store[name] for name in State._fields}
        except KeyError as error:
            raise ValueError(
                "The file holds no multiplier: it was not saved by a LeastActionModel. "
                "The weights of a network alone are loaded by "
                "model.network.load_weights(path)."
            ) from error
        with contextlib.suppress(KeyError):  # a file of an earlier release has none
            values["counted"] = store["counted"]
        for name, value in values.items():
            getattr(self, name).assign(value)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "initial_multiplier": self.initial_multiplier,
            "max_multiplier": self.max_multiplier,
        }


def check_start(value: Any) -> float | str:
    """Returns `initial_multiplier` if it is `"auto"` or a λ that float32 can hold."""
    if isinstance(value, str) and value == AUTO:
        return AUTO
    advice = (
        "Small values weigh the energy more: 1 is a start, 5 a gentler one. "
        'Or pass "auto", and the first training step chooses.'
    )
    number = finite_number("initial_multiplier", value, "> 0", advice)
    why = "λ is a float32 number, from 1e-38 to 1e38, and C/λ has to stay finite."
    return within("initial_multiplier", number, LEAST, GREATEST, why)


def _bound(value: Any, initial: float) -> float | None:
    """Returns `max_multiplier` if λ can rise from `initial` to it."""
    if value is None:
        return None
    advice = "Use None to let the multiplier rise without bound."
    bound = finite_number("max_multiplier", value, "> 0", advice)
    why = f"The multiplier starts at initial_multiplier={initial!r}. {advice}"
    return within("max_multiplier", bound, initial, GREATEST, why)
