"""The loss of each sample, as a model or its user has it."""

from __future__ import annotations

import copy
from typing import Any

import keras
import numpy as np
from keras import losses, ops

from keras_lap._checks import refusal

BINARY, SPARSE, CATEGORICAL = "binary", "sparse_categorical", "categorical"
# Names of a loss that Keras completes by the shapes of targets and outputs.
BY_SHAPE = ("crossentropy", "ce")


class SampleLoss:
    """A loss that keeps samples apart, and positions where it can.

    Args:
        model: What was compiled, for its loss.
        loss: Another loss: a name, a `keras.losses.Loss` or a function of targets and
            outputs; None for the model's own.
        purpose: What the loss is for, a sentence, for errors.

    Attributes:
        given: The loss: a `Loss`, a function, or a name of `BY_SHAPE`.

    Raises:
        ValueError: If there is no loss, several, or an unknown one.
        TypeError: If the loss is none of the above.
    """

    def __init__(self, model: Any, loss: Any, purpose: str):
        self.given = _one_loss(model, loss, purpose)

    def __call__(self, y: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """The loss of each position of each sample.

        Args:
            y: Targets, `(batch, ...)`.
            outputs: `(batch, ...)`.

        Returns:
            Losses, `(batch, ...)`. A loss that only returns a mean is called for each
            sample by itself.
        """
        loss = self._without_mean(y, outputs)
        values = _values(loss, y, outputs)
        if values.ndim == 0:  # a mean; that of one sample is the sample's own
            each = [slice(i, i + 1) for i in range(len(outputs))]
            values = np.array([_values(loss, y[i], outputs[i]) for i in each])
        return values

    def _without_mean(self, y: np.ndarray, output: np.ndarray) -> losses.Loss:
        loss = self.given
        if isinstance(loss, str):
            loss = losses.get(f"{kind_by_shape(y, output)}_crossentropy")
        if not isinstance(loss, losses.Loss):
            return _OfFunction(loss)
        loss = copy.copy(loss)  # the model keeps its own as it is
        loss.reduction = None
        return loss


class _OfFunction(losses.Loss):
    """The loss that a function of targets and outputs is.

    Args:
        function: It returns the losses of samples, or their mean.
    """

    def __init__(self, function: Any):
        super().__init__(name="of_function", reduction=None)
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Calls the function on targets and outputs of one rank, as Keras does."""
        pair = [y_true, y_pred]
        ranks = [len(each.shape) for each in pair]
        small, large = (0, 1) if ranks[0] < ranks[1] else (1, 0)
        if ranks[large] == ranks[small] + 1 and pair[large].shape[-1] == 1:
            if ranks[small] == 1:
                pair[small] = ops.expand_dims(pair[small], -1)
            else:
                pair[large] = ops.squeeze(pair[large], -1)
        return self.function(*pair)


def kind_by_shape(y: np.ndarray, output: np.ndarray) -> str:
    """Which classification Keras takes targets and outputs for, by their shapes.

    Args:
        y: Targets, `(batch, ...)`.
        output: `(batch, ..., classes)`.
    """
    if output.shape[-1] == 1:
        return BINARY
    return SPARSE if y.ndim < output.ndim or y.shape[-1] == 1 else CATEGORICAL


def _one_loss(model: Any, loss: Any, purpose: str) -> Any:
    """The one loss that counts: a `Loss`, a function, or a name as in `BY_SHAPE`."""
    given = getattr(model, "loss", None) if loss is None else loss
    parts = [each for each in keras.tree.flatten(given) if each is not None]
    if len(parts) != 1:
        name = getattr(model, "name", type(model).__name__)
        received = f"loss={given!r}" if parts else f"{name!r}, which has none"
        raise ValueError(
            f"{purpose} Received: {received}. Pass the compiled model, or loss=..., a "
            "name, a keras.losses.Loss or a function of targets and outputs."
        )
    (found,) = parts
    accepted = "be a name, a keras.losses.Loss or a function"
    if isinstance(found, str) and found not in BY_SHAPE:
        try:
            return losses.get(found)
        except ValueError:
            raise refusal("loss", accepted, found, "Pass e.g. loss='mse'.") from None
    if isinstance(found, str | losses.Loss) or callable(found):
        return found
    raise refusal("loss", accepted, found, error=TypeError)


def _values(loss: losses.Loss, y: np.ndarray, output: np.ndarray) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(loss(y, output)), float)
