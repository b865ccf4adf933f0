"""Callbacks: what sets the schedule of λ, and what watches transport and depth."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

from keras_lap._checks import choice, refusal, whole_number
from keras_lap._extras import tensorboard_writer
from keras_lap.blocks import layers_below
from keras_lap.depth import DepthMonitor
from keras_lap.training import (
    LeastActionModel,
    check_has_multiplier,
    check_schedule,
    read,
)
from keras_lap.transport import Measurement, NotFinite, TransportReport

__all__ = ["DepthMonitor", "MultiplierUpdate", "TransportMonitor"]

# Numbers of the stages, averaged over them.
_NUMBERS = (
    "path_ratio",
    "line_shape_score",
    "optimality",
    "own_partner_share",
    "optimal_transport_score",
)


class MultiplierUpdate(keras.callbacks.Callback):
    """Raises the multiplier: ``λ ← λ + τ·L`` every `every` optimizer steps.

    Steps are counted over the whole training, across epochs and across calls of
    `fit`. The update happens inside the compiled training step; this callback hands
    over the schedule when training begins and takes it back when it ends. If the task
    loss is not finite, or so negative that λ would not stay positive, the update is
    left out and one warning says so; so does one if an epoch ends in which no step has
    raised λ, as by a `train_step` of one's own: there
    `LeastActionModel.raise_multiplier` does.

    Source: the method of multipliers, Karkar et al., arXiv 2009.08372, section 4.

    Args:
        tau: Step size τ, from 0, which keeps λ constant, to 1e30. Defaults to 1.
        every: Optimizer steps between two updates, at least 1. Defaults to 1.
        loss: `"batch"`, the task loss of the batch at which the update is due, or
            `"mean"`, the mean over the batches since the last update. Defaults to
            `"batch"`.
        before_step: Which λ a step has in its objective at which an update is due.
            False: the old one, as in Uzawa's method and the slides of the paper. True:
            the new one, raised by the task loss of that very batch, as the authors'
            code does; on several devices the gradient then waits for the loss of all.
            In a loop of one's own this is the order in which one calls
            `raise_multiplier` and adds `model.losses` up. Defaults to False.

    Raises:
        ValueError: If an argument is outside the values above.
            When training begins, if the training has another `MultiplierUpdate`, or the
            model no energy.
        TypeError: When training begins, if the model is not a `LeastActionModel`.

    Examples:
        >>> update = keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)
        >>> history = model.fit(x, y, verbose=0, callbacks=[update])
    """

    def __init__(
        self,
        tau: float = 1.0,
        every: int = 1,
        loss: str = "batch",
        before_step: bool = False,
    ):
        super().__init__()
        schedule = check_schedule(tau, every, loss)
        self.tau, self.every, self.loss = schedule.tau, schedule.batches, loss
        if not isinstance(before_step, bool):
            raise refusal(
                "before_step",
                "be True or False",
                before_step,
                "True raises λ before the objective of a step is computed.",
            )
        self.before_step = before_step
        self._warned = self._begun = False

    def set_model(self, model: Any) -> None:
        """Checks the model; Keras calls this before training begins."""
        if not isinstance(model, LeastActionModel):
            raise TypeError(
                "MultiplierUpdate trains the multiplier of a "
                f"keras_lap.LeastActionModel. Received: a {type(model).__name__}. "
                + _advice(model)
            )
        check_has_multiplier(model)
        super().set_model(model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Hands the schedule to the model."""
        self._warned = self._begun = False
        self._skipped_before = read(self.model.ascent.skipped)
        if read(self.model.ascent.batches) > 0:
            raise ValueError(
                "Only one MultiplierUpdate can set the schedule of a training. "
                "Received: another one before this one, whose training has not ended. "
                "Leave one of them out of callbacks=[...]."
            )
        batches = self.every * _batches_per_step(self.model.optimizer)
        averaged = self.loss == "mean"
        ascent, order = self.model.ascent, self.model.ascent.is_before
        ascent.start(self.tau, batches, averaged, self.before_step)
        if ascent.is_before != order and self.model.train_function is not None:
            self.model.make_train_function(force=True)  # it was compiled for the other

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Notes the updates that an earlier training has skipped."""
        # Again: a callback after this one may have restored them as training began.
        if not self._begun:
            self._begun = True
            self._skipped_before = read(self.model.ascent.skipped)
        self._counted_before = read(self.model.ascent.counted)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Warns once if an update was skipped, or no step has raised λ."""
        self._warn_if_skipped()
        if self._warned or read(self.model.ascent.counted) > self._counted_before:
            return
        self._warned = True
        warnings.warn(
            "No step of this epoch has raised the multiplier: λ stays at "
            f"{float(read(self.model.multiplier)):g}. The train_step or compute_loss "
            f"of {type(self.model).__name__} does not take the loss of super()."
            "compute_loss(...) where λ can follow it. Call "
            "self.raise_multiplier(task_loss) in it once a step; in a train_step for "
            "JAX, non_trainable_variables = self.stateless_raise_multiplier("
            "non_trainable_variables, task_loss).",
            stacklevel=2,
        )

    def on_train_end(self, logs: dict | None = None) -> None:
        """Takes the schedule back."""
        self._warn_if_skipped()
        self.model.ascent.stop()

    def _warn_if_skipped(self) -> None:
        ascent = self.model.ascent
        if self._warned or read(ascent.skipped) <= self._skipped_before:
            return
        self._warned = True
        stays = float(read(ascent.multiplier))
        warnings.warn(
            "The task loss was not finite when an update of the multiplier was due, or "
            "so negative that λ would have lost its sign: the update was skipped and λ "
            f"stays at {stays:g}. Lower the learning rate, clip gradients or raise "
            "initial_multiplier; keras.callbacks.TerminateOnNaN stops such a run. Use "
            "a task loss that is zero where the task is solved.",
            stacklevel=2,
        )


def _advice(model: Any) -> str:
    """What to do where a model that trains is no `LeastActionModel`."""
    below = layers_below(model) if isinstance(model, keras.Layer) else []
    inner = [each for each in below if isinstance(each, LeastActionModel)]
    if not inner:
        return (
            "Wrap the network first: "
            "model = keras_lap.LeastActionModel(network); model.compile(...)."
        )
    return (
        f"It trains the LeastActionModel {inner[0].name!r} within it by a step of its "
        "own. Leave this callback out, and raise the multiplier in that step, e.g. in "
        "compute_loss(..., training) of the outer model: if training: "
        "inner.raise_multiplier(task_loss, tau=1.0)."
    )


def _batches_per_step(optimizer: Any) -> int:
    """How many batches the optimizer gathers for one step."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # a loss scaler's
    return getattr(optimizer, "gradient_accumulation_steps", None) or 1


class TransportMonitor(keras.callbacks.Callback):
    """Measures after epochs how the network transports some data.

    Adds `transport_total_cost` to the logs of each epoch, and so to the history and the
    progress line. All numbers are in `records`, in TensorBoard's log where there is
    one, and with ``logs="all"`` in the logs too:

    - `transport_total_cost`: transport cost of `x`;
    - `transport_path_ratio`, `transport_line_shape_score`, `transport_optimality`,
      `transport_own_partner_share`, `transport_optimal_transport_score`: the numbers
      of the report's stages, averaged with the number of blocks as weight;
    - `transport_relative_displacement`: mean of ``‖v‖/‖x‖`` over the blocks, beside
      which a cost should be read: a cost alone can fall because states shrink;
    - `transport_cost_block0`, `transport_cost_block1`, …: mean energy of each block
      over the epoch's training batches, under the energy that the model is trained
      with. A `LeastActionModel` counts them in its training step, at no extra pass;
      other models do not have them.

    All but the last group are measured as in inference, under the moving statistics of
    batch normalisation, unless ``statistics="batch"``; the costs of the last, and the
    `transport_cost` of the logs, under the statistics of each batch. While the moving
    ones have not settled, they may differ by powers of ten; see
    `keras_lap.transport.analyze`, which warns of that too.

    Epochs that are not measured, and those with states that are not finite, have NaN
    for all but the last group. Callbacks that read the logs, such as
    `keras.callbacks.CSVLogger`, `TensorBoard` and `EarlyStopping`, come after this one
    in the list.

    Args:
        x: The data, arrays as the model takes them; a few hundred samples say enough.
        every_n_epochs: Measure after the first epoch and every so many from there.
            Defaults to 1.
        log_dir: Where to write these numbers for TensorBoard, by `tensorboardX`, which
            needs no particular backend; None for not. Defaults to None.
        batch_size: Samples of a batch. Defaults to 128.
        max_samples: As for `analyze`. Defaults to 256.
        logs: What enters the logs: `"total"`, the total cost alone, or `"all"`.
            Defaults to `"total"`.
        statistics: As for `analyze`. Defaults to `"moving"`.

    Attributes:
        report: The `TransportReport` of the last measurement, None before.
        records: For each measurement `{"epoch", **report.to_dict()}` with
            `"statistics"`, `"relative_displacement"`, and `"training_block_costs"`, the
            last group, empty of a plain network.

    Raises:
        ValueError: If an argument is outside the values above.
        ImportError: When training begins, if POT is not installed, or tensorboardX for
            `log_dir`.

    Examples:
        >>> monitor = keras_lap.callbacks.TransportMonitor(data.test.x[:256])
        >>> history = model.fit(*data.train, callbacks=[monitor])
        >>> history.history["transport_total_cost"]
    """

    def __init__(
        self,
        x: Any,
        every_n_epochs: int = 1,
        log_dir: str | Path | None = None,
        batch_size: int = 128,
        max_samples: int = 256,
        logs: str = "total",
        statistics: str = "moving",
    ):
        super().__init__()
        self.x = x
        self.every_n_epochs = whole_number(
            "every_n_epochs", every_n_epochs, 1, "Use 1 to measure after every epoch."
        )
        self.log_dir = log_dir
        self.batch_size = whole_number("batch_size", batch_size, 1, "Use e.g. 128.")
        self.max_samples = whole_number("max_samples", max_samples, 2, "Use e.g. 256.")
        self.logs = choice("logs", logs, ("total", "all"))
        self.statistics = choice("statistics", statistics, ("moving", "batch"))
        self.report: TransportReport | None = None
        self.records: list[dict[str, Any]] = []
        self._measurement: Measurement | None = None
        self._writer: Any = None
        self._costs: Iterable[float] = ()
        self._warned = False
        self._first: int | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Looks into the network and opens the log."""
        self._measurement = Measurement(self.model, statistics=self.statistics)
        self._warned, self._first = False, None
        self._writer = tensorboard_writer(self.log_dir, "TransportMonitor's log")

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Forgets the costs of the epoch before."""
        self._costs = ()

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Reads the costs of the training batches before validation resets them."""
        self._read_costs()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measures, and adds to the logs."""
        self._read_costs()
        if self._first is None:
            self._first = epoch
        due = (epoch - self._first) % self.every_n_epochs == 0
        report = self._measure(epoch) if due else None
        total = {"transport_total_cost": report.total_cost if report else math.nan}
        relative = report.relative_displacement if report else None
        values = dict(total)
        values["transport_relative_displacement"] = (
            math.nan if relative is None else relative
        )
        for number in _NUMBERS:
            value = report.mean(number) if report else math.nan
            values[f"transport_{number}"] = value
        for index, cost in enumerate(self._costs):
            values[f"transport_cost_block{index}"] = float(cost)
        if logs is not None:
            logs.update(values if self.logs == "all" else total)
        self._write(values, epoch)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Closes the log."""
        if self._writer is not None:
            self._writer.close()
        self._measurement = self._writer = None

    def _read_costs(self) -> None:
        # Outside an epoch of `fit`, as in `evaluate`, there are no such costs.
        if self._measurement is not None and isinstance(self.model, LeastActionModel):
            costs = self.model.block_costs
            self._costs = self._costs if costs is None else costs

    def _measure(self, epoch: int) -> TransportReport | None:
        assert self._measurement is not None
        try:
            report = self._measurement(
                self.x, None, None, self.batch_size, self.max_samples
            )
        except NotFinite as error:
            if not self._warned:
                self._warned = True
                warnings.warn(f"No transport to measure: {error}", stacklevel=2)
            return None
        self.report = report
        costs = [float(cost) for cost in self._costs]
        record = {"epoch": epoch, **report.to_dict()}
        record["statistics"] = report.statistics
        record["relative_displacement"] = report.relative_displacement
        self.records.append({**record, "training_block_costs": costs})
        return report

    def _write(self, values: dict[str, float], epoch: int) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            if math.isfinite(value):
                group, _, rest = name.partition("_")
                self._writer.add_scalar(f"{group}/{rest}", value, epoch)
        self._writer.flush()
