"""What a training step counts beside Keras's own metrics."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


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
