"""What PyTorch trains with and Keras lacks: coupled decay, one cycle, smoothing."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_lap_studies")
class CoupledSGD(keras.optimizers.Optimizer):
    """Gradient descent with momentum and L2 decay, as `torch.optim.SGD` does it.

    With gradient g (bounded before, if `global_clipnorm` is given), weights w, decay
    d, momentum m and rate r: ``v ← m v + g + d w``, ``w ← w - r v``. Keras's own `SGD`
    decays beside the momentum, ten times more weakly at m = 0.9, and keeps the rate in
    its velocity, so that a drop of the rate acts late.

    Args:
        learning_rate: The rate, or a schedule of it.
        momentum: Momentum; 0 for none.
        decay: Decay of all trainable weights, biases and normalisation included.
        **options: Any other option of `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.9,
        decay: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **options)
        self.momentum = momentum
        self.decay = decay

    def build(self, variables: list[keras.Variable]) -> None:
        """Makes one velocity, zero, for each variable."""
        if self.built:
            return
        super().build(variables)
        self._velocities = [
            self.add_variable_from_reference(variable, name="velocity")
            for variable in variables
        ]

    def update_step(
        self, gradient: Any, variable: keras.Variable, learning_rate: Any
    ) -> None:
        """Moves one variable and its velocity."""
        velocity = self._velocities[self._get_variable_index(variable)]
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        moved = self.momentum * velocity + gradient + self.decay * variable
        self.assign(velocity, moved)
        self.assign_sub(variable, rate * moved)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        own = {"momentum": self.momentum, "decay": self.decay}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_lap_studies")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises and falls by half cosines, as torch's `OneCycleLR`.

    It begins at a 25th of the peak, is at the peak after 30 % of the steps, and ends
    at a 250 000th. The momentum stays as it is.

    Args:
        peak: Highest rate.
        steps: Optimizer steps of the whole training.
    """

    def __init__(self, peak: float, steps: int) -> None:
        super().__init__()
        self.peak = peak
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        """The rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        top, last = 0.3 * self.steps - 1, self.steps - 1.0
        # Of a few steps none may rise: the top then lies before the first.
        rising = self._between(self.peak / 25, self.peak, step / max(top, 1e-9))
        part = (step - top) / (last - top)
        falling = self._between(self.peak, self.peak / 25e4, part)
        return ops.where(step <= top, rising, falling)

    @staticmethod
    def _between(start: float, end: float, part: Any) -> Any:
        return end + (start - end) / 2 * (1 + ops.cos(math.pi * ops.clip(part, 0, 1)))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"peak": self.peak, "steps": self.steps}


@keras.saving.register_keras_serializable("keras_lap_studies")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of logits with labels of which a part is spread over all classes.

    ``(1 - s) · CE(y) + s · mean over classes c of CE(c)``, as
    `torch.nn.CrossEntropyLoss(label_smoothing=s)`. Keras smooths one-hot labels alone.

    Args:
        smoothing: The part s.
        **options: Any other option of `keras.losses.Loss`.
    """

    def __init__(self, smoothing: float, **options: Any) -> None:
        super().__init__(**options)
        self.smoothing = smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """One loss for each example, `(batch,)`."""
        classes = y_pred.shape[-1]
        labels = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        true = (1 - self.smoothing) * ops.one_hot(labels, classes)
        true = true + self.smoothing / classes
        return -ops.sum(true * ops.log_softmax(y_pred), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "smoothing": self.smoothing}
