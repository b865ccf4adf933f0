"""What a training step measures beside Keras's own metrics, and under which names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops


class Latest(keras.metrics.Mean):
    """A metric that reports the last value instead of the mean.

    A `Mean` underneath, so that replicas of one value add up to that value.
    """

    def update_state(self, value: Any) -> None:
        """Replaces the value."""
        self.total.assign(ops.cast(value, self.dtype))
        self.count.assign(1.0)


class BlockCosts(keras.metrics.Metric):
    """The mean cost of every block, a vector; for those who ask, not in the logs.

    Args:
        count: How many blocks there are.
    """

    def __init__(self, count: int):
        super().__init__(name="block_costs")
        self.total = self.add_weight(shape=(count,), initializer="zeros", name="total")
        self.samples = self.add_weight(shape=(), initializer="zeros", name="samples")

    def update_state(self, costs: list[Any], sample_weight: Any) -> None:
        """Adds one batch; `sample_weight` is its size."""
        # A layer in a call that cannot be looked into may run any number of times.
        if len(costs) == self.total.shape[0]:
            weight = ops.cast(sample_weight, self.dtype)
            self.total.assign_add(weight * ops.cast(ops.stack(costs), self.dtype))
            self.samples.assign_add(weight)

    def result(self) -> Any:
        """The mean of each block, `(count,)`."""
        return ops.divide_no_nan(self.total.value, self.samples.value)


def check_names(metrics: Iterable[Any], own: Iterable[Any]) -> None:
    """Refuses metrics whose values the model's own would overwrite in the logs.

    Args:
        metrics: All metrics of a model, as far as Keras has built them.
        own: Those among them that belong to least action.

    Raises:
        ValueError: If another metric, or the loss of an output, has the name of one of
            `own`.
    """
    reserved = [metric.name for metric in own]
    for metric in metrics:
        if any(metric is each for each in own) or not getattr(metric, "built", True):
            continue
        # Keras's container of the compiled metrics is one metric with many names.
        many = isinstance(metric, keras.metrics.Metric) and hasattr(metric, "metrics")
        for name in metric.result() if many else [metric.name]:
            if name in reserved:
                raise ValueError(
                    f"The logs of a LeastActionModel keep {', '.join(reserved)} for "
                    "its own values. Received: a metric, or the loss of an output, "
                    f"that is logged as {name!r}. Give the metric another name=, or "
                    "the output another name or key: Keras logs the loss of an output "
                    "'task' as 'task_loss'."
                )
