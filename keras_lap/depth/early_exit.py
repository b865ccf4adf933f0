"""`early_exit`: a network that stops at the first exit that is sure of its answer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import refusal, whole_number
from keras_lap.blocks import Selection, find_residual_blocks
from keras_lap.depth.confidence import (
    check_threshold,
    check_thresholds,
    early_exits,
    largest_probability,
)
from keras_lap.trajectory import Rows, Segments, batches, output_structure

Confidence = str | Callable[[Any], Any]

_CONFIDENCES = ("logits", "probabilities")


def early_exit(
    net: keras.Model,
    threshold: float,
    *,
    blocks: Selection = "auto",
    confidence: Confidence = "logits",
) -> EarlyExit:
    """A network that runs only as many blocks as it takes to be sure.

    Exit k is what the network returns if only its first k blocks run, as in
    `keras_lap.depth.exits`; the answer is the first exit whose confidence exceeds
    `threshold`, or the last. Blocks that are not needed are not computed; each exit
    that is tried costs what follows the blocks, the head and later transitions. So a
    network whose heads are dear, or whose samples are seldom sure, gets slower.

    Args:
        net: As in `keras_lap.depth.exits`, with one output of shape
            `(batch, classes)`, or `(batch, 1)` for two classes.
        threshold: A number >= 0. If the confidence is a probability, the answer is exit
            0 with 0, and that of the network itself with 1 or more.
        blocks: Which blocks count; the others always run. Defaults to `"auto"`, all.
        confidence: `"logits"` or `"probabilities"`, what the network returns: then the
            confidence is the largest probability. Or a function from the outputs,
            nested as the network nests them, to numbers of shape `(batch,)`. Defaults
            to `"logits"`.

    Returns:
        A model. Called, or in `predict` and `evaluate`, it stops once all samples of
        the batch are sure; `EarlyExit.predict_each` stops for each by itself.

    Raises:
        ValueError: If `threshold` or `confidence` is none of these, the output has
            another shape and `confidence` is no function; and as
            `keras_lap.depth.exits`.
        TypeError: As `keras_lap.depth.exits`.

    Examples:
        >>> quick = keras_lap.depth.early_exit(network, 0.9)
        >>> logits, blocks = quick.predict_each(images)
    """
    return EarlyExit(net, threshold, blocks=blocks, confidence=confidence)


@keras.saving.register_keras_serializable("keras_lap")
class EarlyExit(keras.Model):
    """What `keras_lap.depth.early_exit` returns; its arguments are the same.

    It holds the network, and computes with its weights as they are. It is for
    inference: train the network itself.

    Attributes:
        network: The network.
        threshold: As given.
        blocks: The number K of blocks.
    """

    def __init__(
        self,
        net: keras.Model,
        threshold: float,
        *,
        blocks: Selection = "auto",
        confidence: Confidence = "logits",
    ):
        self._check(threshold, confidence)
        report = find_residual_blocks(net, blocks)
        segments, outputs = Segments(report), output_structure(report)
        shapes = tuple(tuple(x.shape) for x in keras.tree.flatten(outputs))
        if not callable(confidence):
            _check_output(report.model_name, shapes)
        network = report.root.operation
        super().__init__(name=f"{network.name}.early_exit")
        self.network, self.threshold = network, float(threshold)
        self.blocks = segments.blocks
        self._segments, self._confidence = segments, confidence
        self._selection = tuple(report.selection)
        # Keras would take a dictionary for one of layers.
        self._packed = functools.partial(keras.tree.pack_sequence_as, outputs)
        self._shapes, self._rows = shapes, Rows()
        self.built = True

    @staticmethod
    def _check(threshold: Any, confidence: Any) -> None:
        check_threshold("threshold", threshold)
        if not callable(confidence) and confidence not in _CONFIDENCES:
            accepted = "be 'logits', 'probabilities' or a function from the outputs to "
            raise refusal("confidence", accepted + "shape `(batch,)`", confidence)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The first exit of which all samples of the batch are sure.

        Args:
            inputs: As the network takes them, `(batch, ...)`.
            training: Must not be true.

        Returns:
            What the network returns, `(batch, ...)`.
        """
        return self.with_blocks(inputs, training)[0]

    def with_blocks(self, inputs: Any, training: bool | None = None) -> tuple[Any, Any]:
        """As a call, and how many blocks ran: a whole number from 0 to K, int32.

        Args:
            inputs: As the network takes them, `(batch, ...)`.
            training: Must not be true.

        Raises:
            ValueError: If `training` is true.
        """
        if training:
            raise self._untrainable("training=True")
        flat, ran = self._from(0, self._begin(inputs))
        return self._packed(flat), ran

    def make_train_function(self, force: bool = False) -> None:
        """Refuses `fit` before it begins: on JAX a step that fails costs the weights.

        Args:
            force: Of no account.

        Raises:
            ValueError: Always.
        """
        raise self._untrainable("fit() or train_on_batch()")

    def _untrainable(self, received: str) -> ValueError:
        return ValueError(
            f"{self.name!r} is for inference. Received: {received}. Train "
            f"{self.network.name!r} itself; this model has the same weights."
        )

    def predict_each(self, x: Any, batch_size: int = 32) -> tuple[Any, np.ndarray]:
        """Predicts, and stops for every sample by itself.

        A loop in Python: after each block those samples of a batch that are sure leave
        it, and the others run on. JAX compiles anew for each number that is left, so
        that it is slow there until these numbers have been seen.

        Args:
            x: Arrays as the network takes them, `(samples, ...)`, or batches of them,
                as `x` of `keras_lap.depth.analyze`.
            batch_size: Samples of a batch, for arrays. Defaults to 32.

        Returns:
            The outputs as arrays of NumPy, `(samples, ...)`, and how many blocks each
            sample took, from 0 to K, `(samples,)`.

        Raises:
            ValueError: If `batch_size` is no whole number > 0, or there is no sample.
            TypeError: If `x` is neither arrays nor batches.
        """
        outputs, ran = _by_batch(self._each, x, batch_size)
        flat = [np.concatenate(parts) for parts in zip(*outputs, strict=True)]
        return self._packed(flat), np.concatenate(ran)

    def curve(
        self, x: Any, y: Any, thresholds: Sequence[float], batch_size: int = 32
    ) -> list[dict[str, float]]:
        """Accuracy against mean depth, where every sample stops by itself.

        All exits of every sample are computed once, for all thresholds.

        Args:
            x: As in `predict_each`.
            y: Classes, `(samples,)` or `(samples, 1)`, or one-hot,
                `(samples, classes)`.
            thresholds: Numbers >= 0.
            batch_size: Samples of a batch. Defaults to 32.

        Returns:
            For each threshold a dictionary: `threshold`; `accuracy`, the share of
            samples whose class is right; `blocks`, the mean number of blocks that a
            sample takes.

        Raises:
            ValueError: If a threshold is none, `y` has another number of samples, or
                the output does not tell a class: it has another shape than
                `(batch, classes)`, or is one number beside a `confidence` that does not
                say what it is; and as `predict_each`.
            TypeError: As `predict_each`.
        """
        check_thresholds(thresholds)
        _check_output(self.network.name, self._shapes, callable(self._confidence))
        parts = _by_batch(self._every_exit, x, batch_size)
        sure, chosen = (np.concatenate(part) for part in parts)
        classes = _classes(y)
        if len(classes) != len(chosen):
            accepted = f"have as many samples as x, {len(chosen)}"
            raise refusal("y", accepted, f"{len(classes)} samples")
        right = chosen == classes[:, None]
        return early_exits(sure, right, thresholds)

    def _every_exit(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        """The confidence and the class of every exit, `(batch, K + 1)` each."""
        values, sure, chosen = self._begin(inputs), [], []
        for k in range(self.blocks + 1):
            values = self._segments.step(k, values)
            flat = self._segments.exit(k, values)
            sure.append(_array(self._sure(flat)))
            chosen.append(_chosen(_array(flat[0]), self._cut))
        return np.stack(sure, 1), np.stack(chosen, 1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        serialize = keras.saving.serialize_keras_object
        return {
            "net": serialize(self.network),
            "threshold": self.threshold,
            "blocks": list(self._selection),
            "confidence": serialize(self._confidence),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> EarlyExit:
        """Rebuilds the model from what `get_config` returned."""
        read = {
            name: keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
            for name in ("net", "confidence")
        }
        return cls(**{**config, **read})

    @property
    def _cut(self) -> float:
        """What two classes in one output are told apart by."""
        return 0.5 if self._confidence == "probabilities" else 0.0

    def _begin(self, inputs: Any) -> Any:
        flat = keras.tree.flatten(inputs)
        return self._segments.begin([ops.convert_to_tensor(each) for each in flat])

    def _from(self, k: int, values: Any) -> tuple[list[Any], Any]:
        """The outputs and the number of blocks, where k of them ran without success."""
        values = self._segments.step(k, values)
        flat = self._segments.exit(k, values)
        if k == self.blocks:
            return flat, ops.convert_to_tensor(k, "int32")
        sure = ops.all(self._sure(flat) > self.threshold)
        return ops.cond(
            sure,
            lambda: (flat, ops.convert_to_tensor(k, "int32")),
            lambda: self._from(k + 1, values),
        )

    def _each(self, inputs: Any) -> tuple[list[np.ndarray], np.ndarray]:
        """The outputs of one batch, and the number of blocks of every sample."""
        values = self._begin(inputs)
        left = np.arange(len(keras.tree.flatten(inputs)[0]))
        outputs: list[np.ndarray] = []
        ran = np.full(len(left), self.blocks)
        for k in range(self.blocks + 1):
            values = self._segments.step(k, values)
            tensors = self._segments.exit(k, values)
            flat = [_array(each) for each in tensors]
            if not outputs:
                outputs = [np.empty((len(left), *x.shape[1:]), x.dtype) for x in flat]
            sure = np.full(len(left), True)
            if k < self.blocks:
                sure = _array(self._sure(tensors)) > self.threshold
            for whole, part in zip(outputs, flat, strict=True):
                whole[left[sure]] = part[sure]
            ran[left[sure]] = k
            if sure.all():
                break
            if sure.any():
                going = np.flatnonzero(~sure)
                rows = ops.convert_to_tensor(going, "int32")
                values = {x: self._rows([v, rows]) for x, v in values.items()}
                left = left[going]
        return outputs, ran

    def _sure(self, flat: list[Any]) -> Any:
        """The confidence of every sample, `(batch,)`."""
        if callable(self._confidence):
            outputs = self._packed(flat)
            return ops.reshape(self._confidence(outputs), (-1,))
        (output,) = flat
        return largest_probability(output, self._confidence == "logits")


def _check_output(name: str, shapes: Sequence[Any], by_function: bool = False) -> None:
    """Refuses a network whose output does not tell a class and how sure it is."""
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            "A class and its probability are read from one output of shape (batch, "
            f"classes). Received: the network {name!r} with outputs of shapes "
            f"{', '.join(map(str, shapes))}. Stop by confidence=function, from the "
            "outputs to numbers of shape (batch,), and score what predict_each returns."
        )
    if by_function and shapes[0][-1] == 1:
        raise ValueError(
            "One number tells two classes apart if it is known to be a logit or a "
            f"probability. Received: the network {name!r} with an output of shape "
            f"{shapes[0]}, and confidence=function. Pass confidence='logits' or "
            "'probabilities' for a curve."
        )


def _by_batch(run: Callable[[Any], tuple[Any, Any]], x: Any, batch_size: Any) -> Any:
    """What a function of a batch returns for all of them: two tuples."""
    parts, _ = batches(x, None, whole_number("batch_size", batch_size, 1))
    found = [run(part) for part, _ in parts]
    if not found:
        raise refusal("x", "hold one sample at least", x)
    return zip(*found, strict=True)


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def _classes(y: Any) -> np.ndarray:
    """Classes as whole numbers, `(samples,)`."""
    y = _array(y)
    if y.ndim == 0:
        raise refusal("y", "hold classes, `(samples,)`, or be one-hot", y)
    one_hot = y.ndim > 1 and y.shape[-1] > 1
    return y.argmax(-1) if one_hot else y.reshape(len(y))


def _chosen(output: np.ndarray, cut: float) -> np.ndarray:
    """The class that an output chooses, `(batch,)`."""
    return output.argmax(-1) if output.shape[-1] > 1 else output[:, 0] > cut
