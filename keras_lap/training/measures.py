"""What a training step measures beside Keras's own metrics, and under which names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_lap.training import replicas
from keras_lap.training.ascent import GREATEST
from keras_lap.training.scalars import concatenate, constant, number, stack, where
from keras_lap.training.terms import Price, Term

TASK_LOSS = "task_loss"


class Measures(keras.metrics.Metric):
    """What is logged of L and of the terms of the objective; beside, each block's part.

    All lies in one vector. Every variable of a metric goes into a compiled step and out
    of it again, and joined processes of PyTorch add each up by itself after every step.
    It begins with sums over samples: of the values, of the samples for which each was
    measured, of those for which the blocks' parts were, and of these parts. Then come
    the last values, and how many they are the sum of: replicas of one λ add up to a
    multiple of it, by their number.

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
        self._means = len(means)
        self._blocks = sum(term.blocks for term in terms)
        self._added = 2 * self._means + 1 + self._blocks
        size = self._added + len(lasts) + 1
        self.sums = self.add_weight(shape=(size,), initializer="zeros", name="sums")

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the model counts.

        A `train_step` of one's own updates every metric by targets and predictions.
        """

    def of_batch(
        self, samples: Any, task_loss: Any, prices: Sequence[Price] = ()
    ) -> Any:
        """What one batch adds, or a replica's part of it.

        Args:
            samples: Its size.
            task_loss: Its L, scalar.
            prices: Those of all terms; none where the batch was not trained on.
        """
        trained, others = bool(prices), self._means - 1
        values = [mean for price in prices for mean in price.means]
        parts = [price.blocks for price in prices if price.blocks is not None]
        # A layer in a call that cannot be looked into may run any number of times.
        counted = trained and sum(part.shape[0] for part in parts) == self._blocks
        counts = np.array([True, *[trained] * others, counted], self.dtype)
        if not trained:
            values = [0.0] * others
        if not counted:
            parts = [np.zeros(self._blocks, self.dtype)]
        values = stack([number(each, self.dtype) for each in (task_loss, *values)])
        parts = [number(each, self.dtype) for each in parts]
        added = concatenate([values, constant(counts, values), *parts])
        known = isinstance(samples, int)
        return added * (samples if known else number(samples, self.dtype))

    def add(self, added: Any, lasts: Sequence[Any] = ()) -> None:
        """Adds one batch.

        Args:
            added: What `of_batch` returned, or the sum of it over all replicas.
            lasts: What the terms return when they settle, scalars; none where the batch
                was not trained on.
        """
        before = self.sums.value
        ends = [before[self._added :]]
        if lasts:
            ends = [stack([number(each, self.dtype) for each in lasts])]
            ends.append(constant(np.ones(1, self.dtype), before))
        self.sums.assign(concatenate([before[: self._added] + added, *ends]))

    def result(self) -> dict[str, Any]:
        """The values by the names of the logs; NaN for what was not measured."""
        sums, many, choose = self.sums.value, self._means, where
        if replicas.is_known_to_jax(sums):  # or each number is an operation of its own
            sums, choose = np.asarray(sums), np.where
        # 0 / 0 is NaN, on every backend.
        with np.errstate(divide="ignore", invalid="ignore"):
            means = sums[:many] / sums[many : 2 * many]
            lasts = sums[self._added : -1] / sums[-1]
        # What only its last value counts of is a λ: none, or one that switches its term
        # off, is infinite for the reader.
        lasts = choose((lasts <= 0) | (lasts >= GREATEST), np.inf, lasts)
        values = [
            *(means[index] for index in range(many)),
            *(lasts[index] for index in range(len(self.names) - many)),
        ]
        return dict(zip(self.names, values, strict=True))

    def task_loss(self) -> float | None:
        """The mean of L since the last reset; None if no step was measured."""
        sums, many = replicas.read(self.sums), self._means
        return float(sums[0] / sums[many]) if sums[many] > 0 else None

    def has_trained(self) -> bool:
        """Whether a training step was measured since the last reset."""
        return bool(replicas.read(self.sums)[self._means + 1] > 0)

    def block_costs(self) -> np.ndarray | None:
        """The mean part of every block, `(blocks,)`; None if nothing was counted."""
        sums, counted = replicas.read(self.sums), 2 * self._means
        if not self._blocks or not sums[counted]:
            return None
        return sums[counted + 1 : self._added] / sums[counted]


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
