"""What a training step measures beside Keras's own metrics, and under which names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap.training import replicas

NAMES = ("task_loss", "transport_cost", "multiplier")
# Where each sum lies in the vector: λ, L and C, then what each of the three is divided
# by, then what the costs of the blocks are, and these.
_LAMBDA, _TASK, _COST, _REPLICAS, _SAMPLES, _TRAINED, _COUNTED, _BLOCKS = range(8)


class Measures(keras.metrics.Metric):
    """What least action logs: means of L and C, and the last λ; beside, every block's.

    All lies in one vector. Every variable of a metric goes into a compiled step and out
    of it again, and joined processes of PyTorch add each up by itself after every step.

    Args:
        blocks: How many there are.
    """

    def __init__(self, blocks: int):
        super().__init__(name="least_action")
        self.sums = self.add_weight(
            shape=(_BLOCKS + blocks,), initializer="zeros", name="sums"
        )
        # Of λ the last is kept; all else adds up, in proportion to the samples.
        # Replicas of one λ add up to a multiple of it, by their number.
        self._adds_up = np.ones(_BLOCKS + blocks, "float32")
        self._adds_up[[_LAMBDA, _REPLICAS]] = 0.0

    def update_state(
        self,
        samples: Any,
        task_loss: Any,
        cost: Any = None,
        block_costs: Any = None,
        multiplier: Any = None,
    ) -> None:
        """Adds one batch.

        Args:
            samples: Its size.
            task_loss: Its L, scalar.
            cost: Its C, scalar; None where the batch was not trained on.
            block_costs: The parts of C, `(blocks,)`.
            multiplier: λ after the step.
        """
        trained, before = cost is not None, self.sums.value
        # A layer in a call that cannot be looked into may run any number of times.
        blocks = len(self._adds_up) - _BLOCKS
        counted = trained and block_costs.shape[0] == blocks
        means = [multiplier, task_loss, cost] if trained else [0.0, task_loss, 0.0]
        counts = np.array([trained, True, trained, counted], self.dtype)
        parts = block_costs if counted else np.zeros(blocks, self.dtype)
        added = ops.concatenate(
            [
                ops.stack([self._number(mean) for mean in means]),
                self._number(counts),
                self._number(parts),
            ]
        )
        adds_up = ops.convert_to_tensor(self._adds_up, self.dtype)
        samples = ops.cast(samples, self.dtype)
        if trained:
            before = before * adds_up
        # The samples, or 1 for λ.
        weights = adds_up * samples + (1.0 - adds_up)
        self.sums.assign(before + added * weights)

    def _number(self, value: Any) -> Any:
        return ops.cast(ops.stop_gradient(ops.convert_to_tensor(value)), self.dtype)

    def result(self) -> dict[str, Any]:
        """L, C and λ by the names of the logs; C and λ are 0 without training."""
        sums = self.sums.value
        means = ops.divide_no_nan(sums[:_REPLICAS], sums[_REPLICAS:_COUNTED])
        multiplier, task_loss, cost = means[_LAMBDA], means[_TASK], means[_COST]
        return dict(zip(NAMES, (task_loss, cost, multiplier), strict=True))

    def has_trained(self) -> bool:
        """Whether a training step was measured since the last reset."""
        return bool(replicas.read(self.sums)[_TRAINED] > 0)

    def block_costs(self) -> np.ndarray | None:
        """The mean cost of every block, `(blocks,)`; None if nothing was counted."""
        sums = replicas.read(self.sums)
        return sums[_BLOCKS:] / sums[_COUNTED] if sums[_COUNTED] else None


def check_names(metrics: Iterable[Any]) -> None:
    """Refuses metrics whose values the model's own would overwrite in the logs.

    Args:
        metrics: All metrics of a model, as far as Keras has built them.

    Raises:
        ValueError: If a metric, or the loss of an output, has one of `NAMES`.
    """
    for metric in metrics:
        if isinstance(metric, Measures) or not getattr(metric, "built", True):
            continue
        # Keras's container of the compiled metrics is one metric with many names.
        many = isinstance(metric, keras.metrics.Metric) and hasattr(metric, "metrics")
        for name in metric.result() if many else [metric.name]:
            if name in NAMES:
                raise ValueError(
                    f"The logs of a LeastActionModel keep {', '.join(NAMES)} for "
                    "its own values. Received: a metric, or the loss of an output, "
                    f"that is logged as {name!r}. Give the metric another name=, or "
                    "the output another name or key: Keras logs the loss of an output "
                    "'task' as 'task_loss'."
                )
