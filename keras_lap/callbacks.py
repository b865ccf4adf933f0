"""Callbacks of least action training."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from keras_lap._checks import choice, finite_number, whole_number, within
from keras_lap.training import replicas
from keras_lap.training.model import LeastActionModel
from keras_lap.transport.monitor import TransportMonitor

__all__ = ["MultiplierUpdate", "TransportMonitor"]


class MultiplierUpdate(keras.callbacks.Callback):
    """Raises the multiplier: ``λ ← λ + τ·L`` every `every` optimizer steps.

    Steps are counted over the whole training, across epochs and across calls of
    `fit`. The update happens inside the compiled training step, after the objective
    of that step was computed with the old λ; this callback hands over the schedule
    when training begins and takes it back when it ends. If the task loss is not
    finite, or so negative that λ would not stay positive, the update is left out and
    one warning says so.

    Source: the method of multipliers, Karkar et al., arXiv 2009.08372, section 4.

    Args:
        tau: Step size τ, from 0, which keeps λ constant, to 1e30. Defaults to 1.
        every: Optimizer steps between two updates, at least 1. Defaults to 1.
        loss: `"batch"`, the task loss of the batch at which the update is due, or
            `"mean"`, the mean over the batches since the last update. Defaults to
            `"batch"`.

    Raises:
        ValueError: If an argument is outside the values above.
            When training begins, if the training has another `MultiplierUpdate`.
        TypeError: When training begins, if the model is not a `LeastActionModel`.

    Examples:
        >>> update = keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)
        >>> history = model.fit(x, y, verbose=0, callbacks=[update])
    """

    def __init__(self, tau: float = 1.0, every: int = 1, loss: str = "batch"):
        super().__init__()
        advice = "Use 0 to keep the multiplier constant."
        self.tau = finite_number("tau", tau, ">= 0", advice)
        within("tau", self.tau, 0.0, 1e30, f"λ is a float32 number. {advice}")
        self.every = whole_number(
            "every", every, 1, "Use 1 to update λ at every optimizer step."
        )
        self.loss = choice("loss", loss, ("batch", "mean"))
        self._warned = self._begun = False

    def set_model(self, model: Any) -> None:
        """Checks the model; Keras calls this before training begins."""
        if not isinstance(model, LeastActionModel):
            raise TypeError(
                "MultiplierUpdate trains the multiplier of a "
                f"keras_lap.LeastActionModel. Received: a {type(model).__name__}. "
                "Wrap the network first: "
                "model = keras_lap.LeastActionModel(network); model.compile(...)."
            )
        super().set_model(model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Hands the schedule to the model."""
        self._warned = self._begun = False
        self._skipped_before = replicas.read(self.model.ascent.skipped)
        if replicas.read(self.model.ascent.batches) > 0:
            raise ValueError(
                "Only one MultiplierUpdate can set the schedule of a training. "
                "Received: another one before this one, whose training has not ended. "
                "Leave one of them out of callbacks=[...]."
            )
        batches = self.every * _batches_per_step(self.model.optimizer)
        self.model.ascent.start(self.tau, batches, averaged=self.loss == "mean")

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Notes the updates that an earlier training has skipped."""
        # Again: a callback after this one may have restored them as training began.
        if not self._begun:
            self._begun = True
            self._skipped_before = replicas.read(self.model.ascent.skipped)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Warns once if an update was skipped."""
        self._warn_if_skipped()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Takes the schedule back."""
        self._warn_if_skipped()
        self.model.ascent.stop()

    def _warn_if_skipped(self) -> None:
        ascent = self.model.ascent
        if self._warned or replicas.read(ascent.skipped) <= self._skipped_before:
            return
        self._warned = True
        stays = float(replicas.read(ascent.multiplier))
        warnings.warn(
            "The task loss was not finite when an update of the multiplier was due, or "
            "so negative that λ would have lost its sign: the update was skipped and λ "
            f"stays at {stays:g}. Lower the learning rate, clip gradients or raise "
            "initial_multiplier; keras.callbacks.TerminateOnNaN stops such a run. Use "
            "a task loss that is zero where the task is solved.",
            stacklevel=2,
        )


def _batches_per_step(optimizer: Any) -> int:
    """How many batches the optimizer gathers for one step."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # a loss scaler's
    return getattr(optimizer, "gradient_accumulation_steps", None) or 1
