"""What a training step measures beside Keras's own metrics, and under which names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap.training import replicas
from keras_lap.training.ascent import GREATEST
from keras_lap.training.terms import Price, Term

TASK_LOSS = "task_loss"


class Measures(keras.metrics.Metric):
    """What is logged of L and of the terms of the objective; beside, each block's part.

    All lies in one vector. Every variable of a metric goes into a compiled step and out
    of it again, and joined processes of PyTorch add each up by itself after every step.
    In it are a value for each name, what each of them is divided by, what the parts of
    the blocks are divided by, and these.

    Args:
        terms: What is logged beside L.

    Attributes:
        names: In the order of the values: means over samples first, then what only the
            last value counts of.
    """

    def __init__(self, terms: Sequence[Term]):
        super().__init__(name="least_action")
        means = [TASK_LOSS, *(name for term in terms for name in term.means)]
        lasts = [name for term in terms for name in term.lasts]
        self.names = [*means, *lasts]
        # What only its last value counts of is a λ: none, or one that switches its term
        # off, is infinite for the reader.
        within = [(-np.inf, np.inf)] * len(means) + [(0.0, GREATEST)] * len(lasts)
        self._within = np.array(within, "float32")
        self._blocks = sum(term.blocks for term in terms)
        # All adds up, in proportion to the samples, but what has a last value. That is
        # kept; replicas of one λ add up to a multiple of it, by their number.
        adds_up = [True] * len(means) + [False] * len(lasts)
        self._adds_up = np.array(
            [*adds_up, *adds_up, True, *[True] * self._blocks], "float32"
        )
        self.sums = self.add_weight(
            shape=self._adds_up.shape, initializer="zeros", name="sums"
        )

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the model counts.

        A `train_step` of one's own updates every metric by targets and predictions.
        """

    def add(
        self,
        samples: Any,
        task_loss: Any,
        prices: Sequence[Price] = (),
        lasts: Sequence[Any] = (),
    ) -> None:
        """Adds one batch.

        Args:
            samples: Its size.
            task_loss: Its L, scalar.
            prices: Those of all terms; none where the batch was not trained on.
            lasts: What the terms return when they settle, scalars.
        """
        trained, before, others = bool(prices), self.sums.value, len(self.names) - 1
        values = [mean for price in prices for mean in price.means] + [*lasts]
        parts = [price.blocks for price in prices if price.blocks is not None]
        # A layer in a call that cannot be looked into may run any number of times.
        counted = trained and sum(part.shape[0] for part in parts) == self._blocks
        counts = np.array([True, *[trained] * others, counted], self.dtype)
        if not trained:
            values = [0.0] * others
        if not counted:
            parts = [np.zeros(self._blocks, self.dtype)]
        values = ops.stack([self._number(value) for value in (task_loss, *values)])
        added = ops.concatenate([values, *map(self._number, (counts, *parts))])
        adds_up = ops.convert_to_tensor(self._adds_up, self.dtype)
        samples = ops.cast(samples, self.dtype)
        if trained:
            before = before * adds_up
        # The samples, or 1 for a last value.
        weights = adds_up * samples + (1.0 - adds_up)
        self.sums.assign(before + added * weights)

    def _number(self, value: Any) -> Any:
        return ops.cast(ops.stop_gradient(ops.convert_to_tensor(value)), self.dtype)

    def result(self) -> dict[str, Any]:
        """The values by the names of the logs; NaN for what was not measured."""
        sums, many = self.sums.value, len(self.names)
        counts = sums[many : 2 * many]
        means = ops.where(counts > 0, ops.divide_no_nan(sums[:many], counts), np.nan)
        limits = ops.convert_to_tensor(self._within, self.dtype)
        is_off = (means <= limits[:, 0]) | (means >= limits[:, 1])
        means = ops.where(is_off, np.inf, means)
        return {name: means[index] for index, name in enumerate(self.names)}

    def task_loss(self) -> float | None:
        """The mean of L since the last reset; None if no step was measured."""
        sums, many = replicas.read(self.sums), len(self.names)
        return float(sums[0] / sums[many]) if sums[many] > 0 else None

    def has_trained(self) -> bool:
        """Whether a training step was measured since the last reset."""
        return bool(replicas.read(self.sums)[len(self.names) + 1] > 0)

    def block_costs(self) -> np.ndarray | None:
        """The mean part of every block, `(blocks,)`; None if nothing was counted."""
        sums, counted = replicas.read(self.sums), 2 * len(self.names)
        if not self._blocks or not sums[counted]:
            return None
        return sums[counted + 1 :] / sums[counted]


def check_names(metrics: Iterable[Any], names: Sequence[str]) -> None:
    """Refuses metrics whose values the model's own would overwrite in the logs.

    Args:
        metrics: All metrics of a model, as far as Keras has built them.
        names: Of the model's own values.

    Raises:
        ValueError: If a metric, or the loss of an output, has one of `names`.
    """
    for metric in metrics:
        if isinstance(metric, Measures) or not getattr(metric, "built", True):
            continue
        # Keras's container of the compiled metrics is one metric with many names.
        many = isinstance(metric, keras.metrics.Metric) and hasattr(metric, "metrics")
        for name in metric.result() if many else [metric.name]:
            if name in names:
                raise ValueError(
                    f"The logs of a LeastActionModel keep {', '.join(names)} for "
                    "its own values. Received: a metric, or the loss of an output, "
                    f"that is logged as {name!r}. Give the metric another name=, or "
                    "the output another name or key: Keras logs the loss of an output "
                    "'task' as 'task_loss'."
                )
