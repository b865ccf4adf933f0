"""λ, the Lagrange multiplier of the task: its variables, its bounds, its files.

λ and the counters of its ascent are variables, so the training step raises λ on the
device, compiled together with everything else; `keras_lap.training.ascent` says how.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import finite_number, within
from keras_lap.training import ascent, replicas
from keras_lap.training.ascent import GREATEST, LEAST, Schedule, Seen, Share, State
from keras_lap.training.scalars import copy, number, stack, where

AUTO = "auto"


@keras.saving.register_keras_serializable("keras_lap")
class MultiplierAscent(keras.layers.Layer):
    """Holds λ and raises it by ``τ · task loss`` every so many batches.

    λ never moves until `start` is called, as `MultiplierUpdate` does when training
    begins. λ, the batches since the last update and the sum of their losses are
    saved with the model; the schedule (τ, `batches`) belongs to the one who trains
    and is not.

    Source: Karkar et al., arXiv 2009.08372, section 4.

    Args:
        initial_multiplier: λ_0, a number from 1e-30 to 1e30, a
            `keras_lap.Share` of the first objective, or `"auto"`: see
            `keras_lap.training.ascent.start`. Defaults to 1.
        max_multiplier: At which λ the ascent stops, from λ_0 to 1e30; None for no
            bound. Defaults to None.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Attributes:
        multiplier: λ, scalar float32 `keras.Variable`; 0 until `"auto"` has chosen.
        skipped: How many updates were left out, scalar `keras.Variable`.
        batches: From one update to the next, scalar `keras.Variable`; 0 while λ holds.
        is_before: Whether a step uses λ as it is after its own update. It is read as a
            step is compiled, which holds one order: the other lets the whole gradient
            wait for the loss, that of several devices for a sum over all of them.
        seen: λ_0 that was chosen and the fields of `keras_lap.training.ascent.Seen`,
            `keras.Variable` `(4,)`; only where λ_0 is chosen.
        counted: How many batches it has seen since it was made, scalar
            `keras.Variable`.

    Raises:
        ValueError: If an argument is outside the values above.
    """

    def __init__(
        self,
        initial_multiplier: float | str | Share = 1.0,
        max_multiplier: float | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("name", "multiplier_ascent")
        super().__init__(**kwargs)
        self.initial_multiplier = check_start(initial_multiplier)
        # No λ is 0, so 0 says that the first step has to choose; it is saved as such.
        given = self.initial_multiplier
        first = given if isinstance(given, float) else 0.0
        self.max_multiplier = _bound(max_multiplier, max(first, LEAST))
        self.multiplier = self._scalar("multiplier", first)
        self.loss_sum = self._scalar("loss_sum", 0.0)
        self.steps = self._scalar("steps", 0)
        self.skipped = self._scalar("skipped", 0)
        self._tau = self._scalar("tau", 0.0)
        self.batches = self._scalar("batches", 0)
        self._averaged = self._scalar("averaged", 0)
        self.is_before = self._has_chosen = False
        self.counted = self._scalar("counted", 0)
        if self.is_automatic:
            self.seen = self._of_each_replica("seen", 1 + len(Seen._fields))
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

    def _of_each_replica(self, name: str, length: int) -> keras.Variable:
        """A vector that every replica assigns for itself, without waiting for others.

        TensorFlow's replicas run in turns, until they have to wait. One that waited in
        the middle of a network would find the losses of the next one among its own.
        """
        return keras.Variable(
            np.zeros(length),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="mean",
            synchronization="on_read",
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
            before: Whether a step uses λ as it is after its own update; what was
                compiled for the other order has to be compiled anew. Defaults to False.
        """
        self._tau.assign(tau)
        self.batches.assign(batches)
        self._averaged.assign(int(averaged))
        self.is_before = before
        self.look_again()

    def stop(self) -> None:
        """Holds λ where it is until `start` is called again."""
        # While λ holds, both orders are one, and what was compiled serves on.
        self.start(tau=0.0, batches=0, averaged=False, before=self.is_before)

    @property
    def is_automatic(self) -> bool:
        """Whether a training step chooses λ_0."""
        return self.initial_multiplier == AUTO or self.share is not None

    @property
    def share(self) -> Share | None:
        """The `Share` by which λ_0 is chosen, if it is."""
        first = self.initial_multiplier
        return first if isinstance(first, Share) else None

    @property
    def initial(self) -> float | None:
        """λ_0; infinite if `"auto"` has switched the energy off, None until chosen."""
        if not isinstance(self.initial_multiplier, str | Share):
            return self.initial_multiplier
        chosen = float(replicas.read(self.seen)[0])
        return shown(chosen) if chosen else None

    @property
    def decision(self) -> str:
        """How λ_0 was chosen, and by which numbers; one line, without a full stop."""
        first = self.initial
        if not self.is_automatic:
            return f"λ_0 = {first:g}, as given"
        if first is None:
            if float(replicas.read(self.multiplier)) > 0:
                return "λ was given, by a file or by hand"
            return f"λ_0 is to be chosen, by {self.initial_multiplier!r}"
        _, cost, unit, rest = (float(each) for each in replicas.read(self.seen))
        if self.share is None:
            where = "above" if cost > ascent.WASTEFUL else "not above"
            found = f"the blocks move by {cost:.3g}, as mean(v²), {where} "
            found += f"{ascent.WASTEFUL:g}"
            return ("energy off" if first == math.inf else f"λ_0 = {first:.3g}") + (
                f': "auto", {found}'
            )
        known = f"C = {cost:.3g}"
        if cost < unit:
            known += f", counted as {unit:.3g},"
        return (
            f"λ_0 = {first:.3g}: {self.share!r} of the first objective, by {known} and "
            f"{rest:.3g} for the rest of it"
        )

    def is_waiting(self) -> bool:
        """Whether λ_0 may have to be chosen yet; always, within a compiled step."""
        if not self.is_automatic or not replicas.runs_as_written():
            return self.is_automatic
        if not self._has_chosen:  # then the device is not asked any more
            self._has_chosen = bool(replicas.read(self.multiplier) > 0)
        return not self._has_chosen

    def look_again(self) -> None:
        """Forgets that λ_0 has been chosen; called where λ may have been given back."""
        self._has_chosen = False

    def choose(self, seen: Seen) -> Any:
        """λ in the objective; if it is to be chosen, the λ_0 that fits the batch.

        What was seen is kept for `decision`.

        Args:
            seen: Of the whole batch if several replicas share it; see
                `keras_lap.training.ascent.start` and `keras_lap.Share`.

        Returns:
            As `in_use`.
        """
        rule = ascent.start if self.share is None else self.share.start
        chosen = rule(Seen(*map(number, seen)), self.max_multiplier)
        now = self.multiplier.value
        self._keep(chosen, seen)
        self.multiplier.assign(ops.where(now > 0, now, chosen))
        return self.in_use()

    def note(self, cost: Any, least: Any) -> None:
        """Keeps what a pass has cost, for a `Share` that chooses without its step.

        Args:
            cost: Transport cost C, scalar tensor; on several replicas, of each one's
                part of the batch.
            least: The least that counts.
        """
        self._keep(0.0, Seen(cost, least))

    def _keep(self, chosen: Any, seen: Seen) -> None:
        values = stack([number(each) for each in (chosen, *seen)])
        before = self.seen.value
        self.seen.assign(ops.where(self.multiplier.value > 0, before, values))

    def with_seen(self, task_loss: Any) -> Any:
        """What `step` takes: L alone, or a tensor of L and of what `note` has kept."""
        if self.share is None or not self.is_waiting():
            return task_loss
        seen = self.seen.value
        return stack([number(task_loss), seen[1], seen[2]])

    def in_use(self) -> Any:
        """λ as an objective has it: infinite while it has not been chosen."""
        if not self.is_automatic:
            return self.value()
        now = self.multiplier.value
        return where(now > 0, now, math.inf)

    def foresee(self, now: Any, task_loss: Any | None) -> Any:
        """λ in the objective of a step whose task loss is known; changes nothing.

        Args:
            now: λ in it so far, scalar float32 tensor.
            task_loss: As in `step`, which follows; None if λ has seen it already.

        Returns:
            What λ will be after the step, if `start` said so, else `now`.
        """
        if not self.is_before:
            return now
        if task_loss is None:
            return self.multiplier.value
        return self._risen(task_loss, self._schedule()).multiplier

    def _schedule(self) -> Schedule:
        return Schedule(self._tau.value, self.batches.value, self._averaged.value)

    def _risen(self, task_loss: Any, schedule: Schedule) -> State:
        # Values and operators instead of variables and `keras.ops`: outside of a
        # compiled step, as on PyTorch, these cost several times as much.
        before = State(*(getattr(self, name).value for name in State._fields))
        return ascent.rise(before, number(task_loss), *schedule, self.max_multiplier)

    def step(
        self, task_loss: Any, schedule: Schedule | None = None, again: bool = False
    ) -> Any:
        """Counts one batch and raises λ if an update is due.

        An update that would make λ infinite, NaN or not positive is left out and
        counted in `skipped`.

        Args:
            task_loss: Task loss of the batch, scalar tensor; of the whole batch if
                several replicas share it. Or that of `with_seen`: a λ_0 that is to be
                chosen then is, and rises from the next step on.
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
        if len(task_loss.shape):
            waits = ~(self.multiplier.value > 0)
            self.choose(Seen(task_loss[1], task_loss[2], task_loss[0]))
            task_loss = task_loss[0]
            now = now._replace(batches=ops.where(waits, 0, now.batches))
        after = self._risen(task_loss, now)
        for name, value in after._asdict().items():
            getattr(self, name).assign(value)
        self.counted.assign(self.counted.value + 1)
        return self.value()

    def value(self) -> Any:
        """λ now, as a tensor of its own that later updates do not change."""
        return copy(self.multiplier.value)

    def compute_output_shape(self, input_shape: Any) -> tuple[()]:
        """That of λ, for the summary of a model."""
        return ()

    def save_own_variables(self, store: Any) -> None:
        """Saves λ and the counters; the schedule is set by whoever trains next."""
        seen = ("seen",) if self.is_automatic else ()
        for name in (*State._fields, "counted", *seen):
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
        for name in ("counted", "seen"):
            with contextlib.suppress(KeyError):  # a file of an earlier release has none
                values[name] = store[name] if hasattr(self, name) else None
        self.look_again()
        for name, value in values.items():
            if value is not None:
                getattr(self, name).assign(value)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "initial_multiplier": self.initial_multiplier,
            "max_multiplier": self.max_multiplier,
        }


def check_start(value: Any) -> float | str | Share:
    """Returns `initial_multiplier` if it is one: see `MultiplierAscent`."""
    if isinstance(value, dict):  # of a file
        value = keras.saving.deserialize_keras_object(value)
    if isinstance(value, Share):
        return value
    if isinstance(value, str) and value == AUTO:
        return AUTO
    advice = (
        "Small values weigh the energy more: 1 is a start, 5 a gentler one. "
        "Or pass keras_lap.Share(0.3), the part that the energy has of the first "
        'objective. Or pass "auto", and the first training step chooses.'
    )
    number = finite_number("initial_multiplier", value, "> 0", advice)
    why = "λ is a float32 number, from 1e-38 to 1e38, and C/λ has to stay finite."
    return within("initial_multiplier", number, LEAST, GREATEST, why)


def shown(multiplier: float) -> float:
    """λ as a reader is told it: infinite where it switches the energy off."""
    return math.inf if multiplier >= np.float32(GREATEST) else multiplier


def _bound(value: Any, initial: float) -> float | None:
    """Returns `max_multiplier` if λ can rise from `initial` to it."""
    if value is None:
        return None
    advice = "Use None to let the multiplier rise without bound."
    bound = finite_number("max_multiplier", value, "> 0", advice)
    why = f"The multiplier starts at initial_multiplier={initial!r}. {advice}"
    return within("max_multiplier", bound, initial, GREATEST, why)
