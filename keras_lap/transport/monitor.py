"""`TransportMonitor`: how the transport changes while a network is trained."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import keras

from keras_lap._checks import whole_number
from keras_lap._extras import require
from keras_lap.training.model import LeastActionModel
from keras_lap.transport.measure import exponent_of, read
from keras_lap.transport.optimal import solver
from keras_lap.transport.report import TransportReport
from keras_lap.transport.states import StateReader
from keras_lap.transport.sums import NotFinite

# Numbers of the stages, averaged over them.
_NUMBERS = (
    "path_ratio",
    "line_shape_score",
    "optimality",
    "own_partner_share",
    "optimal_transport_score",
)


class TransportMonitor(keras.callbacks.Callback):
    """Measures after epochs how the network transports some data.

    Adds to the logs of each epoch, and so to the history:

    - `transport_total_cost`: transport cost of `x`;
    - `transport_path_ratio`, `transport_line_shape_score`, `transport_optimality`,
      `transport_own_partner_share`, `transport_optimal_transport_score`: the numbers
      of the report's stages, averaged with the number of blocks as weight;
    - `transport_cost_block0`, `transport_cost_block1`, …: mean energy of each block
      over the epoch's training batches, under the energy that the model is trained
      with. A `LeastActionModel` counts them in its training step, at no extra pass;
      other models do not have them.

    Epochs that are not measured, and those with states that are not finite, have NaN
    for the first two groups. Callbacks that read the logs, such as
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

    Attributes:
        report: The `TransportReport` of the last measurement, None before.
        records: For each measurement `{"epoch", **report.to_dict()}`.

    Raises:
        ValueError: If an argument is outside the values above.
        ImportError: When training begins, if POT is not installed, or tensorboardX for
            `log_dir`.

    Examples:
        >>> monitor = keras_lap.callbacks.TransportMonitor(data.test.x[:256])
        >>> history = model.fit(*data.train, callbacks=[monitor])
        >>> history.history["transport_optimality"]
    """

    def __init__(
        self,
        x: Any,
        every_n_epochs: int = 1,
        log_dir: str | Path | None = None,
        batch_size: int = 128,
        max_samples: int = 256,
    ):
        super().__init__()
        self.x = x
        self.every_n_epochs = whole_number(
            "every_n_epochs", every_n_epochs, 1, "Use 1 to measure after every epoch."
        )
        self.log_dir = log_dir
        self.batch_size = whole_number("batch_size", batch_size, 1, "Use e.g. 128.")
        self.max_samples = whole_number("max_samples", max_samples, 2, "Use e.g. 256.")
        self.report: TransportReport | None = None
        self.records: list[dict[str, Any]] = []
        self._reader: StateReader | None = None
        self._writer: Any = None
        self._costs: Any = None
        self._warned = False
        self._first: int | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Looks into the network and opens the log."""
        solver()
        self._reader = StateReader(self.model)
        self._warned, self._first = False, None
        if self.log_dir is not None:
            tensorboard = require(
                "tensorboardX", "tensorboardX", "tensorboard", "TransportMonitor's log"
            )
            self._writer = tensorboard.SummaryWriter(logdir=str(self.log_dir))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Forgets the costs of the epoch before."""
        self._costs = None

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
        values = {"transport_total_cost": report.total_cost if report else math.nan}
        for number in _NUMBERS:
            value = report.mean(number) if report else math.nan
            values[f"transport_{number}"] = value
        for index, cost in enumerate(() if self._costs is None else self._costs):
            values[f"transport_cost_block{index}"] = float(cost)
        if logs is not None:
            logs.update(values)
        self._write(values, epoch)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Closes the log."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    def _read_costs(self) -> None:
        # Outside an epoch of `fit` there is no reader: `evaluate` has no such costs.
        if self._reader is None or not isinstance(self.model, LeastActionModel):
            return
        costs = self.model.block_costs
        self._costs = self._costs if costs is None else costs

    def _measure(self, epoch: int) -> TransportReport | None:
        assert self._reader is not None
        p = exponent_of(self.model)
        try:
            report = read(
                self._reader, self.x, None, p, self.batch_size, self.max_samples
            )
        except NotFinite as error:
            if not self._warned:
                self._warned = True
                warnings.warn(f"No transport to measure: {error}", stacklevel=2)
            return None
        self.report = report
        self.records.append({"epoch": epoch, **report.to_dict()})
        return report

    def _write(self, values: dict[str, float], epoch: int) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            if math.isfinite(value):
                group, _, rest = name.partition("_")
                self._writer.add_scalar(f"{group}/{rest}", value, epoch)
        self._writer.flush()
