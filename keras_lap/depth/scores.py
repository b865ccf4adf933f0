"""Loss and accuracy of each sample, as the task of a model has them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import losses, ops

from keras_lap._checks import refusal
from keras_lap.depth.confidence import largest_probability

BINARY, SPARSE, CATEGORICAL = "binary", "sparse_categorical", "categorical"
# The losses of a classification, each as a class and as a function.
_KINDS: tuple[tuple[str, type, Any], ...] = (
    (BINARY, losses.BinaryCrossentropy, losses.binary_crossentropy),
    (BINARY, losses.BinaryFocalCrossentropy, losses.binary_focal_crossentropy),
    (
        SPARSE,
        losses.SparseCategoricalCrossentropy,
        losses.sparse_categorical_crossentropy,
    ),
    (CATEGORICAL, losses.CategoricalCrossentropy, losses.categorical_crossentropy),
    (
        CATEGORICAL,
        losses.CategoricalFocalCrossentropy,
        losses.categorical_focal_crossentropy,
    ),
)
# Names of a loss that Keras completes by the shapes of targets and outputs.
_BY_SHAPE = ("crossentropy", "ce")


class Scores:
    """Says of each sample how good the outputs of a network are.

    Args:
        model: What was compiled, for its loss and the names of its metrics.
        loss: Another loss: a name, a `keras.losses.Loss` or a function of targets and
            outputs; None for the model's own.

    Raises:
        ValueError: If there is no loss, several, or an unknown one.
        TypeError: If the loss is none of the above.
    """

    def __init__(self, model: keras.Model, loss: Any = None):
        self._loss = _loss_of(model, loss)
        self._metrics = _accuracies_of(model)

    def losses(self, y: np.ndarray, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """The loss of each position of each sample.

        Args:
            y: Targets, `(batch, ...)`.
            outputs: Those of each exit, `(batch, ...)`.

        Returns:
            Losses, `(exits, batch, ...)`.
        """
        loss = _without_mean(self._loss, y, outputs[0])
        # One call for all exits: most of its cost is that of starting operations.
        targets = np.concatenate([y] * len(outputs))
        together = np.concatenate(outputs)
        values = _values(loss, targets, together)
        if values.ndim == 0:  # a mean; that of one sample is the sample's own
            each = [slice(i, i + 1) for i in range(len(targets))]
            values = np.array([_values(loss, targets[i], together[i]) for i in each])
        return values.reshape(len(outputs), len(y), *values.shape[1:])

    def hits(self, y: np.ndarray, outputs: Sequence[np.ndarray]) -> np.ndarray | None:
        """Whether each position of each sample is classified rightly.

        Args:
            y: As in `losses`.
            outputs: Likewise.

        Returns:
            Numbers from 0 to 1, `(exits, batch, ...)`; None if nothing says that the
            task is a classification.
        """
        kind = self._kind(y, outputs[0])
        if kind == BINARY:
            edge = 0.0 if getattr(self._loss, "from_logits", False) else 0.5
            truth = y.reshape(outputs[0].shape) > 0.5
            return np.stack([np.mean((p > edge) == truth, axis=-1) for p in outputs])
        if kind is None:
            return None
        truth = y.argmax(axis=-1) if kind == CATEGORICAL else y
        truth = truth.reshape(outputs[0].shape[:-1])
        return np.stack([(p.argmax(axis=-1) == truth).astype(float) for p in outputs])

    def confidences(
        self, y: np.ndarray, outputs: Sequence[np.ndarray]
    ) -> np.ndarray | None:
        """The probability of the class that is chosen, of each sample.

        Args:
            y: As in `losses`.
            outputs: Likewise.

        Returns:
            Probabilities, `(exits, batch)`; None if the task is not to choose one class
            for a sample, or the loss does not say what the outputs are.
        """
        kind, shape = self._kind(y, outputs[0]), outputs[0].shape
        of_one_class = len(shape) == 2 and (kind != BINARY or shape[-1] == 1)
        are_logits = _takes_logits(self._loss)
        if kind is None or not of_one_class or are_logits is None:
            return None
        together = largest_probability(np.concatenate(outputs), are_logits)
        return np.asarray(ops.convert_to_numpy(together)).reshape(len(outputs), len(y))

    def _kind(self, y: np.ndarray, output: np.ndarray) -> str | None:
        if output.ndim < 2:
            return None
        for kind, loss, function in _KINDS:
            if isinstance(self._loss, loss) or self._loss is function:
                return kind
        if any("binary" in name for name in self._metrics):
            return BINARY
        by_shape = kind_by_shape(y, output)
        if self._loss in _BY_SHAPE or self._metrics:
            return by_shape
        return by_shape if by_shape == SPARSE and y.dtype.kind in "iu" else None


class OfFunction(keras.losses.Loss):
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


def _takes_logits(loss: Any) -> bool | None:
    """Whether a loss takes logits, or probabilities; None if it does not say."""
    if isinstance(loss, losses.Loss):
        return getattr(loss, "from_logits", None)
    known = isinstance(loss, str) or any(loss is function for _, _, function in _KINDS)
    return False if known else None


def kind_by_shape(y: np.ndarray, output: np.ndarray) -> str:
    """Which classification Keras takes targets and outputs for, by their shapes.

    Args:
        y: Targets, `(batch, ...)`.
        output: `(batch, ..., classes)`.
    """
    if output.shape[-1] == 1:
        return BINARY
    return SPARSE if y.ndim < output.ndim or y.shape[-1] == 1 else CATEGORICAL


def _loss_of(model: keras.Model, loss: Any) -> Any:
    """The one loss that counts: a `Loss`, a function, or a name as in `_BY_SHAPE`."""
    given = getattr(model, "loss", None) if loss is None else loss
    parts = [each for each in keras.tree.flatten(given) if each is not None]
    if len(parts) != 1:
        received = f"loss={given!r}" if parts else f"{model.name!r}, which has none"
        raise ValueError(
            f"The exits of a network are compared by one loss. Received: {received}. "
            "Pass the compiled model, or loss=..., a name, a keras.losses.Loss or a "
            "function of targets and outputs."
        )
    (found,) = parts
    if isinstance(found, str) and found not in _BY_SHAPE:
        found = losses.get(found)
    if isinstance(found, str | losses.Loss) or callable(found):
        return found
    accepted = "be a name, a keras.losses.Loss or a function"
    raise refusal("loss", accepted, found, error=TypeError)


def _without_mean(loss: Any, y: np.ndarray, output: np.ndarray) -> losses.Loss:
    """The loss as one that keeps its samples apart."""
    if isinstance(loss, str):
        loss = losses.get(f"{kind_by_shape(y, output)}_crossentropy")
    if not isinstance(loss, losses.Loss):
        return OfFunction(loss)
    loss = copy.copy(loss)  # the model keeps its own as it is
    loss.reduction = None
    return loss


def _values(loss: losses.Loss, y: np.ndarray, output: np.ndarray) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(loss(y, output)), float)


def _accuracies_of(model: keras.Model) -> list[str]:
    """The names of accuracies among the metrics that a model was compiled with."""
    try:
        config = model.get_compile_config() or {}
    except (TypeError, ValueError):  # of a loss or metric that cannot be written
        return []
    metrics = [config.get(key) for key in ("metrics", "weighted_metrics")]
    names = [x.lower() for x in keras.tree.flatten(metrics) if isinstance(x, str)]
    return [name for name in names if name == "acc" or name.endswith("accuracy")]
