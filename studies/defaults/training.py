"""Trains one network on one setting, for any seed and strength, compiled once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_lap
from studies.defaults.methods import Method
from studies.defaults.settings import Trained
from studies.layers import training
from studies.layers.data import Parts

_BATCH = 500
_ADAM_RATE = 3e-3
OPTIMIZERS: dict[str, tuple[type, dict[str, float]]] = {
    "adamw": (keras.optimizers.AdamW, {}),
    "sgd": (keras.optimizers.SGD, {"momentum": 0.9}),
}


class Trainer(training.Trainer):
    """Plain training, or least action, on one setting.

    What the strengths are is held by variables, in the place of numbers, so that all
    methods with an energy share one compiled step.

    Args:
        setting: What is trained on what.
        data: Of the setting.
        has_energy: Whether it trains by least action.
    """

    def __init__(self, setting: Trained, data: Parts, has_energy: bool):
        self.setting: Trained = setting
        self.data, self.blocks = data, setting.blocks
        self.has_energy = has_energy
        self.network = self._built()
        self.model = self._with_energy() if has_energy else self.network
        self._compile(None)
        self._first = [np.array(v) for v in self._variables()]
        self._probe = probe(self.network)
        self._step: Any = None

    def _built(self) -> keras.Model:
        return self.setting.network(self.blocks)

    def _with_energy(self) -> keras.Model:
        """The model that trains the network by least action."""
        share = keras_lap.Share(0.5)
        model = keras_lap.LeastActionModel(self.network, initial_multiplier=share)
        # The model's, so that its compiled step takes it as one of its variables.
        model.part = share.part = scalar("part", 0.5)
        return model

    def _rate(self) -> keras.optimizers.schedules.LearningRateSchedule:
        setting, warm_up = self.setting, self.setting.steps // 10
        return keras.optimizers.schedules.CosineDecay(
            setting.rate / 20,
            setting.steps - warm_up,
            warmup_target=setting.rate,
            warmup_steps=warm_up,
        )

    def _optimizer(self) -> keras.optimizers.Optimizer:
        kind, options = OPTIMIZERS[self.setting.optimizer]
        return kind(self._rate(), **options)

    def _compile(self, decay: float | None) -> None:
        optimizer = self._optimizer()
        entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(optimizer, entropy)
        optimizer.build(self.model.trainable_variables)
        self.decay = optimizer.weight_decay = scalar("decay", 0.0)

    def train(self, method: Method, seed: int) -> dict[str, Any]:
        """Trains once, from the initial weights of the seed.

        Args:
            method: How; with an energy, if the trainer was made so.
            seed: Of initial weights and order of batches.

        Returns:
            `validation` and `test`, accuracies; `validation_cost` and `cost`, C on
            the data of either, under moving statistics; `relative`, of each block
            ``mean ‖v‖/‖x‖`` on the test data; `start` and `end`, λ; and `seconds` of
            processor time that the steps took.
        """
        self._start(method, seed)
        seconds = self._steps(seed)
        result = {**self._measured(), "seconds": seconds}
        return result | (self._multipliers(method) if self.has_energy else {})

    def _start(self, method: Method, seed: int) -> None:
        for variable, value in zip(self._variables(), self._first, strict=True):
            variable.assign(value)
        for name, weights in _start_of(self.setting, seed).items():
            self.network.get_layer(name).set_weights(weights)
        # At the peak, a step of every setting takes as much off the weights.
        self.decay.assign(method.decay * _ADAM_RATE / self.setting.rate)
        if self.has_energy:
            self._start_energy(method)

    def _start_energy(self, method: Method) -> None:
        self.model.part.assign(method.share or 0.5)
        self.model.ascent.multiplier.assign(method.multiplier or 0.0)
        # As MultiplierUpdate sets it, at every step.
        self.model.ascent.start(method.tau, 1, averaged=False)

    def _multipliers(self, method: Method) -> dict[str, float | None]:
        ascent = self.model.ascent
        first = method.multiplier or ascent.initial
        return {"start": first, "end": float(ascent.multiplier)}

    def _measured(self) -> dict[str, Any]:
        parts = self.data.validation, self.data.test
        x = np.concatenate([part[0] for part in parts])
        logits, costs, relative = self._probe.predict(x, batch_size=_BATCH, verbose=0)
        count = len(parts[0][1])
        classes = logits.argmax(axis=-1)
        return {
            "validation": float(np.mean(classes[:count] == parts[0][1])),
            "test": float(np.mean(classes[count:] == parts[1][1])),
            "validation_cost": float(costs[:count].sum(axis=1).mean()),
            "cost": float(costs[count:].sum(axis=1).mean()),
            "relative": [float(each) for each in relative[count:].mean(axis=0)],
        }


@functools.lru_cache(maxsize=16)
def _start_of(setting: Trained, seed: int) -> dict[str, list[np.ndarray]]:
    """The initial weights of a seed by layers, which many methods share."""
    keras.utils.set_random_seed(seed)
    layers = setting.network(setting.blocks).layers
    return {layer.name: layer.get_weights() for layer in layers if layer.weights}


def probe(network: keras.Model) -> keras.Model:
    """The logits of a network, and what its blocks do to each sample.

    Args:
        network: Whose blocks are `Add` layers of ``[state, branch]``.

    Returns:
        A model to logits, mean squares of the displacements `(batch, blocks)`, and
        ``‖v‖/‖x‖`` `(batch, blocks)`.
    """
    squares, relative = movement(network)
    return keras.Model(network.input, [network.output, squares, ops.sqrt(relative)])


def movement(network: keras.Model) -> tuple[Any, Any]:
    """Mean squares of the displacements, and ``‖v‖²/‖x‖²``, each `(batch, blocks)`."""
    found = keras_lap.find_residual_blocks(network)
    sums = [network.get_layer(block.name) for block in found]
    squares, relative = [], []
    for layer in sums:
        before = ops.reshape(layer.input[0], (-1, _size(layer)))
        moved = ops.reshape(layer.output, (-1, _size(layer))) - before
        square, of_state = (ops.mean(ops.square(v), axis=1) for v in (moved, before))
        squares.append(square)
        relative.append(square / (of_state + 1e-12))
    return ops.stack(squares, axis=1), ops.stack(relative, axis=1)


def _size(layer: keras.Layer) -> int:
    shape: Sequence[int] = layer.output.shape[1:]
    return int(np.prod(shape))


def scalar(name: str, value: float) -> keras.Variable:
    """A number that a compiled step takes as a variable, and that is not trained."""
    return keras.Variable(value, trainable=False, dtype="float32", name=name)
