"""One pass of a model over the orbits of a sample, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import refusal, whole_number
from keras_lap._losses import SampleLoss
from keras_lap.symmetry.actions import Action, Images, Linear, Trivial
from keras_lap.symmetry.batches import moved, undone

_map = keras.tree.map_structure


@dataclass(frozen=True)
class Element:
    """An element of a group, and how it acts.

    Attributes:
        inputs: Its group's action on inputs.
        outputs: That on outputs and targets.
        index: Which element it is.
    """

    inputs: Action
    outputs: Action
    index: int

    @property
    def key(self) -> Any:
        """Equal for elements that do the same."""
        return self._does(self.inputs), self._does(self.outputs)

    def _does(self, action: Action) -> Any:
        if self.index == 0 or isinstance(action, Trivial):
            return "nothing"
        if isinstance(action, Linear):
            matrix = action.matrices[self.index]
            return "matrix", action.axis, (np.round(matrix, 9) + 0.0).tobytes()
        if isinstance(action, Images):
            return "image", action.group.elements[self.index].tobytes()
        return id(action), self.index  # an action of the user's own may do anything


@dataclass(frozen=True)
class Pass:
    """What a pass has measured.

    Attributes:
        count: How many samples.
        errors: ``rms_i |ρ̂_g⁻¹ f(ρ_g x_i) − f(x_i)|``, of each element.
        spread: ``rms_i |f(x_i) − mean f|``.
        agreement: The share of samples with the same greatest output, or None.
        losses: Of each sample and element, or None.
    """

    count: int
    errors: np.ndarray
    spread: float
    agreement: np.ndarray | None
    losses: np.ndarray | None


def run(
    model: Any,
    x: Any,
    y: Any,
    loss: Any,
    elements: list[Element],
    batch_size: int,
    verbose: int,
) -> Pass:
    """Runs a model once for each element, batch by batch.

    Args:
        model: A model or function of a batch.
        x: Samples.
        y: Their targets, or None.
        loss: What compares them, or None for the model's own.
        elements: The first of them does nothing.
        batch_size: Samples of one run.
        verbose: Whether there is a progress bar.

    Raises:
        ValueError: If samples and targets differ in number, or what the model or loss
            returns is of no use.
    """
    whole_number("batch_size", batch_size, 1)
    x, y = _arrays(x, y)
    count = _count(x, y)
    purpose = "A group is judged by one loss."
    price = None if y is None else SampleLoss(model, loss, purpose)
    measured = _Sums(len(elements))
    losses = None if y is None else np.empty((count, len(elements)))
    starts = range(0, count, batch_size)
    bar = keras.utils.Progbar(len(starts), verbose=verbose, unit_name="batch")
    for number, start in enumerate(starts):
        part = slice(start, start + batch_size)
        batch = _map(lambda each, part=part: each[part], x)
        first = None
        for column, element in enumerate(elements):
            index = element.index
            returned = _predict(model, moved(element.inputs, index, batch))
            back = undone(element.outputs, index, returned)
            first = back if first is None else first
            measured.add(column, back, first)
            if price is not None and losses is not None:
                target = moved(element.outputs, index, y[part])
                losses[part, column] = _losses_of(price, target, returned)
        bar.update(number + 1)
    return measured.result(count, losses)


class _Sums:
    """Sums over the samples, in double precision."""

    def __init__(self, order: int):
        self.squares = np.zeros(order)
        self.same: np.ndarray | None = np.zeros(order)
        self.shift: Any = None  # near the mean, or its square would hide the spread
        self.sum: Any = 0.0
        self.sum_of_squares = 0.0

    def add(self, column: int, outputs: np.ndarray, first: np.ndarray) -> None:
        """Adds what the model returned on a batch, and on that untouched."""
        outputs, first = outputs.astype("float64"), first.astype("float64")
        self.squares[column] += np.sum((outputs - first) ** 2)
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            self.same = None
        if self.same is not None:
            self.same[column] += np.sum(outputs.argmax(1) == first.argmax(1))
        if column == 0:
            self.shift = first.mean(0) if self.shift is None else self.shift
            self.sum += np.sum(first - self.shift, 0)
            self.sum_of_squares += np.sum((first - self.shift) ** 2)

    def result(self, count: int, losses: np.ndarray | None) -> Pass:
        """The means."""
        variance = self.sum_of_squares / count - np.sum((self.sum / count) ** 2)
        return Pass(
            count=count,
            errors=np.sqrt(self.squares / count),
            spread=float(np.sqrt(max(variance, 0.0))),
            agreement=None if self.same is None else self.same / count,
            losses=losses,
        )


def _predict(model: Any, x: Any) -> np.ndarray:
    """What the model returns on a batch, in inference."""
    returned = getattr(model, "predict_on_batch", model)(x)
    if keras.tree.is_nested(returned):
        raise ValueError(
            "model must have one output. Received: a model that returns "
            f"{type(returned).__name__}. Pass keras.Model(model.input, the_output)."
        )
    found = np.asarray(ops.convert_to_numpy(returned))
    rows = len(keras.tree.flatten(x)[0])
    if found.ndim == 0 or len(found) != rows:
        raise ValueError(
            "model must return one output for each sample. Received: outputs of shape "
            f"{found.shape} for {rows} samples."
        )
    return found


def _arrays(x: Any, y: Any) -> tuple[Any, Any]:
    """Samples and targets as arrays, or the errors that say what to do."""
    for name, given in (("x", x), ("y", y)):
        for each in keras.tree.flatten(given):
            is_array = hasattr(each, "__array__") or isinstance(each, str)
            if hasattr(each, "__iter__") and not is_array:
                raise refusal(
                    name,
                    "be arrays (samples, ...), or a structure of such",
                    type(each).__name__,
                    "Put the batches of a data set together, e.g. by np.concatenate.",
                )
    x, y = _map(np.asarray, x), None if y is None else np.asarray(y)
    if y is not None and y.dtype.kind not in "biufc":
        advice = "Number classes by np.unique(y, return_inverse=True)[1]."
        raise refusal("y", "hold numbers", y.dtype, advice)
    return x, y


def _count(x: Any, y: Any) -> int:
    arrays = [each for each in keras.tree.flatten((x, y)) if each is not None]
    if not all(each.ndim for each in arrays):
        raise ValueError(
            "x and y must be arrays (samples, ...), or x a structure of such. "
            "Received: single numbers among them. Pass lists of numbers as "
            "np.asarray(...)."
        )
    sizes = {len(each) for each in arrays}
    if len(sizes) == 1 and min(sizes) > 0:
        return sizes.pop()
    raise ValueError(
        "x and y must hold as many samples, at least one. Received: "
        f"{', '.join(map(str, sorted(sizes))) or 'no'} samples."
    )


def _losses_of(price: SampleLoss, y: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The loss of each sample, `(batch,)`."""
    try:
        each = price(y, outputs)
    except Exception as error:  # each backend has its own
        raise ValueError(
            "loss must be able to compare outputs and targets. Received: loss="
            f"{price.given!r}, outputs of shape {outputs.shape} and targets of shape "
            f"{y.shape}. Pass the loss that the model was trained with. ({error})"
        ) from error
    if each.ndim == 0 or len(each) != len(outputs):
        raise ValueError(
            "loss must return one value for each sample, (batch, ...). Received: "
            f"{each.shape} for {len(outputs)} samples."
        )
    if not np.isfinite(each).all():
        raise ValueError(
            "The loss must be finite on every sample. Received: NaN or infinity. "
            "Look for such values in x, y and what the model returns."
        )
    return each.reshape(len(each), -1).mean(1)
