"""Loss and accuracy of each sample, as the task of a model has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import losses, ops

from keras_lap._losses import (
    BINARY,
    BY_SHAPE,
    CATEGORICAL,
    SPARSE,
    SampleLoss,
    kind_by_shape,
)
from keras_lap.depth.confidence import largest_probability

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
        purpose = "The exits of a network are compared by one loss."
        self._loss_of_samples = SampleLoss(model, loss, purpose)
        self._loss = self._loss_of_samples.given
        self._metrics = _accuracies_of(model)

    def losses(self, y: np.ndarray, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """The loss of each position of each sample.

        Args:
            y: Targets, `(batch, ...)`.
            outputs: Those of each exit, `(batch, ...)`.

        Returns:
            Losses, `(exits, batch, ...)`.
        """
        # One call for all exits: most of its cost is that of starting operations.
        targets, together = np.concatenate([y] * len(outputs)), np.concatenate(outputs)
        values = self._loss_of_samples(targets, together)
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
        if self._loss in BY_SHAPE or self._metrics:
            return by_shape
        return by_shape if by_shape == SPARSE and y.dtype.kind in "iu" else None


def _takes_logits(loss: Any) -> bool | None:
    """Whether a loss takes logits, or probabilities; None if it does not say."""
    if isinstance(loss, losses.Loss):
        return getattr(loss, "from_logits", None)
    known = isinstance(loss, str) or any(loss is function for _, _, function in _KINDS)
    return False if known else None


def _accuracies_of(model: keras.Model) -> list[str]:
    """The names of accuracies among the metrics that a model was compiled with."""
    try:
        config = model.get_compile_config() or {}
    except (TypeError, ValueError):  # of a loss or metric that cannot be written
        return []
    metrics = [config.get(key) for key in ("metrics", "weighted_metrics")]
    names = [x.lower() for x in keras.tree.flatten(metrics) if isinstance(x, str)]
    return [name for name in names if name == "acc" or name.endswith("accuracy")]
