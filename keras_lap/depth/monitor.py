"""`DepthMonitor`: how many blocks a network needs, while it trains."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras

from keras_lap._checks import finite_number, whole_number
from keras_lap._extras import tensorboard_writer
from keras_lap.depth.analysis import Measurement
from keras_lap.depth.report import DepthReport


class DepthMonitor(keras.callbacks.Callback):
    """Measures after epochs how many of its blocks a network needs.

    Adds `layers_needed` to the logs of each epoch, and so to the history: the advice of
    `keras_lap.depth.analyze`, one number. Epochs that are not measured, and those with
    a loss that is not finite, have NaN. Callbacks that read the logs come after it in
    the list.

    Args:
        x: Validation data, as for `keras_lap.depth.analyze`.
        y: Their targets; None if `x` hands them out.
        tolerance: What a cut may cost. Defaults to 0.01.
        every: Measure after the first epoch and every so many from there. Defaults to
            1.
        log_dir: Where to write loss and accuracy of all exits for TensorBoard, by
            `tensorboardX`; None for not. Defaults to None.
        batch_size: Samples of a batch. Defaults to 128.
        loss: As for `keras_lap.depth.analyze`. Defaults to None, the compiled loss.

    Attributes:
        report: The `DepthReport` of the last measurement, None before.

    Raises:
        ValueError: If an argument is outside the values above.
            When training begins, if the exits of the model cannot be measured.
        ImportError: When training begins, if tensorboardX for `log_dir` is missing.

    Examples:
        >>> monitor = keras_lap.callbacks.DepthMonitor(*validation, tolerance=0.02)
        >>> history = model.fit(*data.train, callbacks=[monitor])
        >>> history.history["layers_needed"]
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        tolerance: float = 0.01,
        every: int = 1,
        log_dir: str | Path | None = None,
        batch_size: int = 128,
        loss: Any = None,
    ):
        super().__init__()
        self.x, self.y, self.loss, self.log_dir = x, y, loss, log_dir
        self.tolerance = finite_number("tolerance", tolerance, ">= 0", "Use e.g. 0.01.")
        advice = "Use 1 to measure after every epoch."
        self.every = whole_number("every", every, 1, advice)
        self.batch_size = whole_number("batch_size", batch_size, 1, "Use e.g. 128.")
        self.report: DepthReport | None = None
        self._measurement: Measurement | None = None
        self._writer: Any = None
        self._first: int | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Looks into the network and opens the log."""
        self._measurement = Measurement(self.model, self.loss)
        self._writer = tensorboard_writer(self.log_dir, "DepthMonitor's log")
        self._first = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measures, and adds to the logs."""
        assert self._measurement is not None
        self._first = epoch if self._first is None else self._first
        needed = math.nan
        if (epoch - self._first) % self.every == 0:
            seen = self._measurement.run(self.x, self.y, self.batch_size)
            if seen.is_finite:
                self.report = self._measurement.report(seen, self.tolerance)
                needed = float(self.report.layers_needed)
                self._write(self.report, epoch)
        if logs is not None:
            logs["layers_needed"] = needed

    def on_train_end(self, logs: dict | None = None) -> None:
        """Closes the log."""
        if self._writer is not None:
            self._writer.close()
        self._measurement = self._writer = None

    def _write(self, report: DepthReport, epoch: int) -> None:
        if self._writer is None:
            return
        values = {"layers_needed": float(report.layers_needed)}
        for exit in report.exits:
            values[f"loss_after_{exit.blocks}"] = exit.loss
            if exit.accuracy is not None:
                values[f"accuracy_after_{exit.blocks}"] = exit.accuracy
        for name, value in values.items():
            self._writer.add_scalar(f"depth/{name}", value, epoch)
        self._writer.flush()
