"""Trainers whose rate may be constant and whose gradients may be clipped."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from studies.defaults.capped import Capped, CappedModel
from studies.defaults.methods import Method
from studies.defaults.settings import Trained
from studies.defaults.training import OPTIMIZERS, Trainer, scalar
from studies.layers.data import Parts

BOUND = 5.0


class _Switched(keras.optimizers.schedules.LearningRateSchedule):
    """One rate throughout where a variable is above 0, else what a schedule says."""

    def __init__(self, falling: Any, rate: float, is_constant: keras.Variable):
        self.falling, self.rate, self.is_constant = falling, rate, is_constant

    def __call__(self, step: Any) -> Any:
        return ops.where(self.is_constant.value > 0, self.rate, self.falling(step))

    def get_config(self) -> dict[str, Any]:
        """Nothing: it is not saved."""
        return {}


def clipped(kind: type) -> type:
    """An optimizer class that keeps the norm of all gradients within a variable bound.

    As `global_clipnorm` of Keras, which is a number of the compiled step. It counts the
    steps whose norm is above `BOUND`, whether or not they are clipped.

    Args:
        kind: A class of Keras's optimizers.
    """

    class Clipped(kind):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.bound = scalar("bound", math.inf)
            self.above = scalar("above", 0.0)

        def apply(self, grads: Any, trainable_variables: Any = None) -> None:
            norm = ops.sqrt(sum(ops.sum(ops.square(each)) for each in grads))
            self.above.assign_add(ops.cast(norm > BOUND, "float32"))
            factor = ops.minimum(1.0, self.bound.value / ops.maximum(norm, 1e-12))
            super().apply([each * factor for each in grads], trainable_variables)

    return Clipped


class SwitchedTrainer(Trainer):
    """One compiled step for both rates, clipped or not.

    Args:
        setting: What is trained on what.
        data: Of the setting.
        method: One of those that it is to train by: plain, by least action, or
            `Capped`.
    """

    def __init__(self, setting: Trained, data: Parts, method: Method):
        self._is_capped = isinstance(method, Capped)
        self._switches = 0.0, math.inf
        super().__init__(setting, data, method.has_energy)

    def _with_energy(self) -> keras.Model:
        return CappedModel(self.network) if self._is_capped else super()._with_energy()

    def _optimizer(self) -> keras.optimizers.Optimizer:
        constant = scalar("is_constant", 0.0)
        kind, options = OPTIMIZERS[self.setting.optimizer]
        rate = _Switched(self._rate(), self.setting.rate, constant)
        optimizer = clipped(kind)(rate, **options)
        # The optimizer's, so that the compiled step takes it as one of its variables.
        optimizer.is_constant = constant
        return optimizer

    def train_in(
        self, method: Method, seed: int, is_constant: bool, is_clipped: bool
    ) -> dict[str, Any]:
        """Trains once.

        Args:
            method: How.
            seed: Of initial weights and order of batches.
            is_constant: Whether the rate is the peak of the schedule throughout.
            is_clipped: Whether the norm of the gradient is kept within `BOUND`.

        Returns:
            As `train`; `steep` is the part of the steps whose gradient has a norm above
            `BOUND` before it is clipped.
        """
        self._switches = float(is_constant), BOUND if is_clipped else math.inf
        result = self.train(method, seed)
        return result | {
            "steep": float(self.model.optimizer.above) / self.setting.steps
        }

    def _start(self, method: Method, seed: int) -> None:
        super()._start(method, seed)
        optimizer = self.model.optimizer
        for variable, value in zip(
            (optimizer.is_constant, optimizer.bound), self._switches, strict=True
        ):
            variable.assign(value)

    def _start_energy(self, method: Method) -> None:
        if not isinstance(method, Capped):
            return super()._start_energy(method)
        self.model.part.assign(method.share)
        self.model.loss_bound.assign(method.loss)

    def _multipliers(self, method: Method) -> dict[str, float | None]:
        if not isinstance(method, Capped):
            return super()._multipliers(method)
        model = self.model
        return {"start": float(model.greatest), "end": float(model.multiplier)}
