"""What `fit` says: how λ starts, what the energy weighs, and what became of both."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping
from typing import Any

import keras

from keras_lap._drawing import short
from keras_lap.blocks import BlockReport
from keras_lap.running_costs import RunningCost
from keras_lap.training.ascent import GREATEST
from keras_lap.training.measures import TASK_LOSS
from keras_lap.training.multiplier import MultiplierAscent
from keras_lap.training.replicas import read, writes_files
from keras_lap.trajectory import has_moving_statistics

# An energy of a smaller share of the objective does nothing that could be seen.
IDLE = 0.01


class Voice(keras.callbacks.Callback):
    """Says a line or two as training begins, and one as it ends.

    Values of the device are read after the first batch and at the ends of epochs, where
    Keras reads them itself.

    Args:
        network: What is trained.
        report: Its blocks.
        ascent: λ; None without an energy.
        running_costs: Further terms of the objective.
        together: How many batches Keras runs before it calls: `steps_per_execution`.
    """

    # Keras may call it beside the next step: it reads logs, which are its own copy.
    async_safe = True

    def __init__(
        self,
        network: keras.Model,
        report: BlockReport,
        ascent: MultiplierAscent | None,
        running_costs: tuple[RunningCost, ...] = (),
        together: int = 1,
    ):
        super().__init__()
        self._network, self._report, self._ascent = network, report, ascent
        self._costs, self._together = running_costs, together
        self._first: Mapping[str, Any] | None = None
        self._last: Mapping[str, Any] | None = None
        self._before = 0.0  # λ as the epoch began
        self._start: float | None = None  # λ_0 of this training
        self._every, self._tau, self._is_before = 0, 0.0, False  # as λ rises
        self._has_complained = self._chooses = self._is_late = False
        self._interactive = keras.config.is_interactive_logging_enabled()

    def _say(self, text: str) -> None:
        show_line(f"Least action: {text}.", self._interactive)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Says which blocks count, and where λ starts."""
        parts = [self._report.summary]
        if self._ascent is not None:
            self._before = _number(self._ascent)
            parts.append(self._beginning(self._ascent))
        if self._costs:
            costs = ", ".join(f"{each.name} ({each.weight:g})" for each in self._costs)
            parts.append(f"running costs (weight): {costs}")
        self._say("; ".join(parts))

    def _beginning(self, ascent: MultiplierAscent) -> str:
        # The schedule is set by a callback before this one.
        self._every, self._tau = int(read(ascent.batches)), float(read(ascent._tau))
        self._is_before = ascent.is_before
        if not self._before > 0:
            self._chooses = True
            return f"λ is chosen by the first batch, {ascent.initial_multiplier!r}"
        begins = "goes on" if int(read(ascent.counted)) > 0 else "starts"
        stays = "" if self._every else " and stays, without a MultiplierUpdate"
        at = "off" if is_off(self._before) else f"at {short(self._before)}"
        return f"λ {begins} {at}{stays}"

    def _numbers(self, logs: Mapping[str, Any]) -> dict[str, float]:
        """What of the logs is ours; a user's metric may be anything."""
        names = ["loss", TASK_LOSS, "transport_cost", "multiplier"]
        names += [each.name for each in self._costs]
        return {name: float(logs[name]) for name in names if name in logs}

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """After the first batch, says what share of the objective the terms are."""
        # Where Keras calls beside the next step, a later batch may come before.
        self._is_late |= batch >= self._together
        if self._first is not None or not logs or batch >= self._together:
            return
        self._first, count = self._numbers(logs), batch + 1
        self._start = self._first_multiplier(self._first, count)
        # The objective holds λ before its update, unless the schedule says not.
        after = self._is_before and count == 1
        at = self._first.get("multiplier", math.nan) if after else self._start
        shares = self._shares(self._first, at)
        if shares and self._is_late and self._interactive:
            print(flush=True)  # a bar may have begun
        if shares:
            which = "first batch" if count == 1 else f"first {count} batches"
            self._say(f"{which}: {shares}")

    def _first_multiplier(self, logs: Mapping[str, float], count: int) -> float:
        """λ_0, which the logs hold as it is after so many steps."""
        if self._before > 0 or self._ascent is None:
            return self._before
        after = logs.get("multiplier", math.nan)
        bound = self._ascent.max_multiplier
        if is_off(after) or (bound is not None and after >= 0.99 * bound):
            return after
        rises = count // self._every if self._every else 0
        if rises not in (0, count):  # by losses that the logs do not hold
            return math.nan
        chosen = after - rises * self._tau * logs.get(TASK_LOSS, math.nan)
        return chosen if chosen > 0 else math.nan

    def _shares(self, logs: Mapping[str, float], at: float) -> str:
        """The parts of an objective in words; empty if they cannot be told."""
        loss, parts = logs.get("loss", math.nan), []
        if "transport_cost" in logs:
            cost = logs["transport_cost"]
            said = f"transport cost C = {short(cost)}, λ {self._at(at, loss)}"
            part = percent(share(cost / at, loss))
            parts.append(said if is_off(at) else f"{said}; C/λ is {part}")
        for each in self._costs:
            if each.name in logs:
                part = percent(share(each.weight * logs[each.name], loss))
                parts.append(f"{each.name} is {part}")
        return f"{', '.join(parts)} of the objective, {short(loss)}" if parts else ""

    def _at(self, at: float, loss: float) -> str:
        if is_off(at) and self._chooses and not math.isfinite(loss):
            return "is not chosen yet"
        return "is off" if is_off(at) else f"= {short(at)}"

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Says once if the energy did nothing for an epoch, and what to change."""
        if not logs or "loss" not in logs:
            return
        self._last = self._numbers(logs)
        if self._ascent is None or "transport_cost" not in logs:
            return
        if self._chooses:  # by a later batch, if the numbers of the first were no use
            self._start = self._ascent.initial or self._start
        # By λ as the epoch began: as λ rises, the energy has weighed no more than that.
        at = self._before if self._before > 0 else self._start or math.nan
        self._before = float(logs.get("multiplier", math.nan))
        # Not earlier: after a batch, the device may be at work on the next.
        if self._chooses and not is_off(at):
            self._say(self._ascent.decision)
        self._chooses = False
        part = share(logs["transport_cost"] / at, logs["loss"])
        if self._has_complained or not part < IDLE:
            return
        self._has_complained = True
        self._say(self._complaint(self._ascent, self._last, epoch + 1, at))

    @staticmethod
    def _complaint(
        ascent: MultiplierAscent, logs: Mapping[str, float], epoch: int, at: float
    ) -> str:
        wanted = of_share(logs["transport_cost"], logs.get(TASK_LOSS, math.nan))
        number = f"initial_multiplier={short(wanted)}" if wanted > 0 else "another λ"
        if is_off(at):
            return (
                f"{ascent.decision}. This is plain training; to train by it pass "
                f"initial_multiplier=keras_lap.Share(0.3), or a number: {number} makes "
                "it 30 % of the objective now"
            )
        return (
            f"C/λ was under {percent(IDLE)} of the objective for all of epoch {epoch}, "
            f"and does next to nothing. Start from a smaller λ ({number} makes it 30 % "
            "now, Share(0.3) at the start), raise it less by a smaller tau of "
            "MultiplierUpdate, or bound it by max_multiplier"
        )

    def on_train_end(self, logs: dict | None = None) -> None:
        """Says where the costs and λ have come to."""
        first, last, parts = self._first, self._last, []
        if first is None or last is None:
            return
        names = ["transport_cost", *(each.name for each in self._costs)]
        for name in names:
            if name in first and name in last:
                said = name.replace("_", " ")
                parts.append(f"{said} {short(first[name])} → {short(last[name])}")
        if self._ascent is not None and parts:
            # Not that of the logs: another callback may have restored an earlier one.
            now, start = _number(self._ascent), self._start or math.nan
            if is_off(start) and is_off(now):
                parts.append("λ off")
            else:
                part = percent(share(last["transport_cost"] / now, last["loss"]))
                parts.append(f"λ {multiplier(start)} → {multiplier(now)}")
                parts.append(f"C/λ {part} of the objective")
        if parts:
            # Evaluation runs another network until the moving ones have settled.
            moving = has_moving_statistics(self._network)
            how = "batch statistics" if moving else "training batches"
            self._say(f"first batch → last epoch, {how}: {', '.join(parts)}")


def with_voice(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of Keras's `fit`, with a voice among its callbacks.

    Nothing is added with ``verbose=0``, in all processes but the first of several, and
    to a `keras.callbacks.CallbackList`, which says itself what is printed.

    Args:
        model: A `LeastActionModel`.
        args: What `fit` was given by position.
        kwargs: What it was given by name.

    Returns:
        The same pair.
    """
    verbose = argument(args, kwargs, 4, "verbose", "auto")
    given = argument(args, kwargs, 5, "callbacks", None)
    chosen = isinstance(given, keras.callbacks.CallbackList)
    if chosen or not verbose or not writes_files():
        return args, kwargs
    ascent = None if model.energy is None else model.ascent
    together = getattr(model, "steps_per_execution", None) or 1
    parts = (model.network, model.block_report, ascent, model.running_costs)
    voice = Voice(*parts, together)
    # After the user's own, which may set λ; before the progress bar, which Keras adds.
    callbacks = [*(keras.tree.flatten(given) if given else []), voice]
    if len(args) > 5:
        return (*args[:5], callbacks, *args[6:]), kwargs
    return args, {**kwargs, "callbacks": callbacks}


def argument(
    args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, default: Any
) -> Any:
    """An argument of a method of Keras, by position or by name.

    Args:
        args: What the method was given by position.
        kwargs: What it was given by name.
        place: Which one of its arguments it is, from 0.
        name: Its name.
        default: What holds if it was not given.
    """
    return args[place] if len(args) > place else kwargs.get(name, default)


def show_line(text: str, interactive: bool | None = None) -> None:
    """Prints where Keras prints its own, whatever characters can be shown there.

    Args:
        text: A line.
        interactive: Whether Keras's interactive logging is on; None to ask it, which
            knows in the main thread alone.
    """
    if interactive is None:
        interactive = keras.config.is_interactive_logging_enabled()
    if not interactive:
        logging.getLogger("keras_lap").info(text)
        return
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def share(part: float, objective: float) -> float:
    """Which part of a positive objective something is; NaN of any other."""
    return part / objective if objective > 0 else math.nan


def is_off(value: float) -> bool:
    """Whether a λ says that the energy is off."""
    return value >= 0.99 * GREATEST  # a float32 may be a little less


def percent(part: float) -> str:
    """A share in percent, for a reader."""
    if math.isnan(part):
        return "an unknown part"
    return "under 0.1 %" if 0 <= part < 0.001 else f"{100 * part:.2g} %"


def multiplier(value: float) -> str:
    """λ for a reader."""
    return "off" if is_off(value) else short(value)


def of_share(cost: float, task_loss: float, part: float = 0.3) -> float:
    """The λ at which C/λ is such a part of C/λ + L; NaN if there is none."""
    if not (task_loss > 0 and cost > 0):
        return math.nan
    return cost * (1 - part) / (part * task_loss)


def _number(ascent: MultiplierAscent) -> float:
    return float(read(ascent.multiplier))
