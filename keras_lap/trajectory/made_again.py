"""What models of calls that are made again consist of beside the network's layers."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lap.blocks import take_handed_on


class Parts(keras.layers.Layer):
    """Splits the axis of the batch into equal parts, that of a mask too.

    Args:
        number: How many.
    """

    def __init__(self, number: int):
        super().__init__(autocast=False)
        self.number = number
        self.supports_masking = True

    def call(self, x: Any) -> list[Any]:
        """The parts."""
        return ops.split(x, self.number, axis=0)

    def compute_mask(self, x: Any, previous_mask: Any) -> Any:
        """The parts of the mask."""
        return None if previous_mask is None else self.call(previous_mask)

    def compute_output_spec(self, x: Any) -> list[keras.KerasTensor]:
        """Parts of the batch, whose size is not known."""
        return [keras.KerasTensor(x.shape, x.dtype) for _ in range(self.number)]


class Again(keras.Operation):
    """An operation under another name, which leaves no trace on it.

    Layers of different models may have one name, and those of one model may not.

    Args:
        operation: The operation.
        name: The other name.
    """

    def __init__(self, operation: keras.Operation, name: str):
        super().__init__(name=name)
        self.operation = operation
        take_handed_on(self, operation)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it."""
        return self.operation(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """As it."""
        return self.operation.compute_output_spec(*args, **kwargs)


class HandlingMasks(keras.Model):
    """A model that is a graph whose layers hand masks on, and warns of none."""

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Leaves the masks of its outputs to its layers."""


class Rows(keras.layers.Layer):
    """Takes some samples of a batch, and of its mask."""

    def __init__(self) -> None:
        super().__init__(autocast=False)
        self.supports_masking = True
        # Before every batch, Keras on JAX runs a model with a layer that is not built
        # once as it is written, which compiles all its branches anew.
        self.built = True

    def call(self, x_and_rows: Any) -> Any:
        """Some samples.

        Args:
            x_and_rows: A tensor `(batch, ...)` and the indices of its samples.
        """
        x, rows = x_and_rows
        return ops.take(x, rows, axis=0)

    def compute_mask(self, x_and_rows: Any, previous_mask: Any) -> Any:
        """Those of the mask."""
        mask, rows = previous_mask[0], x_and_rows[1]
        return None if mask is None else ops.take(mask, rows, axis=0)
