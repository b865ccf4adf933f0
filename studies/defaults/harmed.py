"""Trains with dropout or wrong labels, and measures what harm does to the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from studies.defaults.harm import Harm, wrong_labels
from studies.defaults.methods import Method
from studies.defaults.settings import Trained
from studies.defaults.training import Trainer, scalar
from studies.layers.data import Parts

# What the branches of the networks have in their middle.
_MIDDLE = ("_dense1", "_relu2")


@dataclass(frozen=True)
class Dropped(Method):
    """Training with dropout in the middle of each branch.

    Attributes:
        dropout: Its rate.
    """

    dropout: float = 0.0


class Drop(keras.layers.Layer):
    """Dropout whose rate is a variable, so that one compiled step serves all rates.

    Args:
        rate: 0 leaves everything as it is.
        **kwargs: As in Keras.
    """

    def __init__(self, rate: keras.Variable, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate, self.generator = rate, keras.random.SeedGenerator(0)

    def call(self, x: Any, training: bool | None = None) -> Any:
        """As in Keras.

        Args:
            x: `(batch, ...)`.
            training: Whether anything is dropped.
        """
        if not training:
            return x
        rate = self.rate.value
        kept = keras.random.uniform(ops.shape(x), seed=self.generator) >= rate
        return ops.where(kept, x / (1 - rate), 0.0)


def with_dropout(network: keras.Model, rate: keras.Variable) -> keras.Model:
    """A new network with `Drop` between the two layers of each branch.

    Args:
        network: An MLP or a ResNet9 of `studies.defaults.settings`.
        rate: Of all of them.
    """

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        output = layer(*args, **kwargs)
        if not (layer.name.startswith("block") and layer.name.endswith(_MIDDLE)):
            return output
        return Drop(rate, name=f"{layer.name}_drop")(output)

    return keras.models.clone_model(network, call_function=call)


class HarmedTrainer(Trainer):
    """Trains by any `Method`, from labels of which a part may be wrong.

    Args:
        setting: What is trained on what.
        data: Of the setting.
        has_energy: Whether by least action, which is without dropout.
    """

    def __init__(self, setting: Trained, data: Parts, has_energy: bool):
        self.rate = scalar("dropout", 0.0)
        self._wrong = data.train[1]
        super().__init__(setting, data, has_energy)
        x = data.train[0]
        self._harm = Harm(self.network, data.test, (float(x.min()), float(x.max())))

    def _built(self) -> keras.Model:
        network = super()._built()
        return network if self.has_energy else with_dropout(network, self.rate)

    def train_from(
        self, method: Method, seed: int, part: float, is_trial: bool
    ) -> dict[str, Any]:
        """Trains once.

        Args:
            method: How.
            seed: Of initial weights, batches, wrong labels, what is dropped and noise.
            part: Of the training labels that are wrong.
            is_trial: Whether validation data alone are looked at.

        Returns:
            As `train`, and what `Harm.measure` says; of a trial `validation` and
            `seconds`.
        """
        right = self.data.train[1]
        self._wrong = wrong_labels(right, self.data.classes, part, seed)
        result = self.train(method, seed)
        if is_trial:
            return {name: result[name] for name in ("validation", "seconds")}
        return result | self._harm.measure(seed)

    def _labels(self) -> np.ndarray:
        return self._wrong

    def _start(self, method: Method, seed: int) -> None:
        super()._start(method, seed)
        self.rate.assign(method.dropout if isinstance(method, Dropped) else 0.0)
        dropped = [each for each in self.network.layers if isinstance(each, Drop)]
        for index, layer in enumerate(dropped):
            layer.generator.state.assign([seed, index])
