"""Trains one subject for any number of seeds and strengths, compiled once.

On JAX, where the whole training of a small dense network is one compiled loop. A loop
of convolutions is many times slower there than a step at a time, so these go step by
step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import keras
import numpy as np

import keras_lap
from keras_lap.trajectory import has_moving_statistics, recalibrated
from studies.layers.data import Parts
from studies.layers.methods import Method
from studies.layers.settings import Setting

_BATCH = 1000


class Trainer:
    """One method on one setting, at one depth.

    Args:
        setting: What is trained on what.
        method: How.
        data: Of the setting.
        blocks: Number of blocks.
        decay: Weight decay of the optimizer, None for none.
    """

    def __init__(
        self,
        setting: Setting,
        method: Method,
        data: Parts,
        blocks: int,
        decay: float | None = None,
    ):
        self.setting, self.data, self.blocks = setting, data, blocks
        network = setting.network(blocks)
        # A network without blocks has neither exits nor another way of training.
        self.subject = method.make(network, setting.step * blocks) if blocks else None
        self.network = self.subject.network if self.subject else network
        self.model = self.subject.model if self.subject else network
        self.exits = self.subject.exits if self.subject else network
        self._compile(decay)
        self._first = [np.array(v) for v in self._variables()]
        self._cut: dict[int, keras.Model] = {}
        self._step: Any = None

    def _compile(self, decay: float | None) -> None:
        rate = keras.optimizers.schedules.CosineDecay(
            self.setting.rate, self.setting.steps
        )
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay)
        entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(optimizer, entropy)
        optimizer.build(self.model.trainable_variables)
        for schedule in self.subject.schedules if self.subject else ():
            schedule.set_model(self.model)
            schedule.on_train_begin()

    def _groups(self) -> list[list[keras.Variable]]:
        """The variables as `train_step` of JAX takes them."""
        model = self.model
        return [
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        ]

    def _variables(self) -> list[keras.Variable]:
        return [variable for group in self._groups() for variable in group]

    def run(self, seed: int, strength: float) -> dict[str, Any]:
        """Trains once, from the initial weights of the seed.

        Returns:
            `validation`, accuracies after 0 … K blocks, `test` likewise, `cut`: both
            with statistics of batch normalisation estimated anew, by the number of
            blocks, and `seconds` of processor time that the steps took.
        """
        self._begin(seed, strength)
        seconds = self._steps(seed)
        validation, test = self._accuracies(self.exits)
        again = {keep: self._recalibrated(keep) for keep in self._keeps()}
        return {
            "validation": validation,
            "test": test,
            "recalibrated": again,
            "seconds": seconds,
        }

    def _begin(self, seed: int, strength: float) -> None:
        for variable, value in zip(self._variables(), self._first, strict=True):
            variable.assign(value)
        keras.utils.set_random_seed(seed)
        for layer in self.setting.network(self.blocks).layers:
            if layer.weights:
                own = self.network.get_layer(layer.name)
                own.set_weights(layer.get_weights())
        if isinstance(self.model, keras.Model) and self.subject:
            if not self.subject.can_be_cut:
                self._copy_head()
            self.subject.set_strength(strength)

    def _copy_head(self) -> None:
        """Gives the heads of deep supervision the initial weights of the last one."""
        for layer in self.exits.layers:
            if isinstance(layer, keras.Model):
                for own in layer.layers:
                    if own.weights:
                        source = self.network.get_layer(own.name)
                        own.set_weights(source.get_weights())

    def _order(self, seed: int) -> np.ndarray:
        """Indices `(steps, batch)`, permutations one after the other."""
        setting, count = self.setting, len(self.data.train[1])
        generator = np.random.default_rng(seed)
        epochs = -(-setting.steps * setting.batch // count)
        order = np.concatenate([generator.permutation(count) for _ in range(epochs)])
        return order[: setting.steps * setting.batch].reshape(setting.steps, -1)

    def _labels(self) -> np.ndarray:
        """Those of the training examples, which a run may have of its own."""
        return self.data.train[1]

    def _steps(self, seed: int) -> float:
        """Runs all steps of a seed; returns the seconds that they took."""
        state = tuple([v.value for v in group] for group in self._groups())
        state, seconds = self._train(state, self._order(seed))
        for group, values in zip(self._groups(), state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return seconds

    def _train(self, state: Any, order: np.ndarray) -> tuple[Any, float]:
        x = jax.numpy.asarray(self.data.train[0])
        batches = order, self._labels()[order]

        def step(state: Any, batch: Any) -> tuple[Any, Any]:
            chosen, labels = batch
            logs, state = self.model.train_step(state, (x[chosen], labels))
            return tuple(map(list, state)), logs["loss"]

        if self.setting.in_one_loop:
            if self._step is None:
                whole = jax.jit(lambda state, all_: jax.lax.scan(step, state, all_))
                self._step = whole.lower(state, batches).compile()
            start = time.process_time()
            state, losses = self._step(state, batches)
            jax.block_until_ready(losses)
            return state, time.process_time() - start
        if self._step is None:
            first = order[0], batches[1][0]
            self._step = jax.jit(step).lower(state, first).compile()
        start = time.process_time()
        for batch in zip(*batches, strict=True):
            state, loss = self._step(state, batch)
        jax.block_until_ready(loss)
        return state, time.process_time() - start

    def _accuracies(self, exits: keras.Model) -> tuple[list[float], list[float]]:
        parts = self.data.validation, self.data.test
        x = np.concatenate([part[0] for part in parts])
        outputs = exits.predict(x, batch_size=_BATCH, verbose=0)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        first = len(parts[0][1])
        classes = [np.argmax(output, axis=-1) for output in outputs]
        validation = [float(np.mean(each[:first] == parts[0][1])) for each in classes]
        return validation, [
            float(np.mean(each[first:] == parts[1][1])) for each in classes
        ]

    def _keeps(self) -> Sequence[int]:
        """The cuts whose statistics of batch normalisation are estimated anew."""
        if not (self.subject and self.subject.can_be_cut):
            return ()
        if not has_moving_statistics(self.network):
            return ()
        return [keep for keep in self.setting.cuts if keep <= self.blocks]

    def _recalibrated(self, keep: int) -> dict[str, float]:
        if keep not in self._cut:
            self._cut[keep] = keras_lap.depth.prune(self.network, keep)
        with recalibrated(self._cut[keep], [self.data.train[0][:_BATCH]]):
            (validation,), (test,) = self._accuracies(self._cut[keep])
        return {"validation": validation, "test": test}
