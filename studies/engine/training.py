"""Trains one run and measures it."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np

import keras_lap
from keras_lap.datasets import Dataset
from studies.engine.augmentation import crop_and_flip
from studies.engine.building import build_network, load_data
from studies.engine.environment import gpu
from studies.engine.methods import FIXED_WEIGHT, LEAST_ACTION, Method
from studies.engine.optimisation import CoupledSGD, OneCycle
from studies.engine.study import Run, Training, regularised

# Keeps the draw of the half of the test examples apart from the other draws.
_HALF_STREAM = 2
_EVALUATION_BATCH = 100
# A small batch leaves it waiting; 1000 images of 32x32 pixels were too many for the
# memory of one, with 13 runs side by side.
_EVALUATION_BATCH_OF_GPU = 250


def train(run: Run) -> dict[str, Any]:
    """Trains what a run describes and measures it.

    Training examples, initial weights and the order of the batches depend on the seed
    and on nothing else: runs that differ in their method alone are paired.

    Args:
        run: What to train.

    Returns:
        Measurements as plain data. Per epoch: `test_accuracy`, `half_accuracy` (on a
        half of the test examples that the seed draws) and `validation_accuracy`
        (fractions), `task_loss` (on the training data),
        `transport_cost` and `multiplier` (least action only). At the end:
        `block_costs`, for each block the kinetic energy (p = 2, mean over elements) of
        its displacements of the test examples, whatever p was trained with;
        `epoch_seconds`, the median time of an epoch without its evaluation and without
        the first epoch, which compiles; `seconds`, all in all; and `states` if the run
        asks for them.
    """
    start = time.perf_counter()
    data = load_data(run.data, run.seed)
    watch = _Watch(data, run.seed)
    network = fit(run, data, watch)
    result = {
        **watch.measured,
        "epoch_seconds": float(np.median(watch.seconds[1:] or watch.seconds)),
        "block_costs": _block_costs(network, data.test.x),
    }
    if run.keep_states is not None:
        result["states"] = _states(network, data.test, run.keep_states)
    return {**result, "seconds": time.perf_counter() - start}


def fit(
    run: Run, data: Dataset, watch: keras.callbacks.Callback | None = None
) -> keras.Model:
    """Trains what a run describes.

    Args:
        run: What to train.
        data: What the run's description loads.
        watch: A callback that measures. It comes last: what others do at the end of an
            epoch is training.

    Returns:
        The bare network, trained.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(run.seed)
    described, training = regularised(run.network, run.training, run.method)
    network = build_network(described, data.input_shape, data.num_classes, run.seed)
    model, callbacks = _wrap(network, run.method)
    batches = Batches(
        *data.train, training.batch_size, run.seed, training.crop_and_flip
    )
    steps = training.epochs * len(batches)
    model.compile(_optimizer(training, steps), training.loss or _cross_entropy())
    if training.drop_epochs:
        schedule = keras.callbacks.LearningRateScheduler(lambda e, _: training.rate(e))
        callbacks.append(schedule)
    model.fit(
        batches,
        epochs=training.epochs,
        callbacks=[_Order(batches), *callbacks, *([watch] if watch else [])],
        shuffle=False,
        verbose=0,
    )
    return network


class Batches(keras.utils.PyDataset):
    """Batches in an order that the seed and the epoch decide, on every backend.

    Args:
        x: Inputs, `(n, ...)`.
        y: Labels, `(n,)`.
        batch_size: Examples of a batch; the last of an epoch may be smaller.
        seed: Seed of the order.
        crop_and_flip: Whether images are cropped and flipped at random.

    Attributes:
        epoch: The epoch whose batches are handed out; whoever trains sets it.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int,
        seed: int,
        crop_and_flip: bool = False,
    ):
        super().__init__()
        self._x, self._y, self._batch_size, self._seed = x, y, batch_size, seed
        self._crop_and_flip = crop_and_flip
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self._y) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order()[index * self._batch_size :][: self._batch_size]
        if self._crop_and_flip:
            x = crop_and_flip(self._x, chosen, self._seed, self.epoch)
            return x, self._y[chosen]
        return self._x[chosen], self._y[chosen]

    def order(self) -> np.ndarray:
        """The examples' indices in the order of this epoch."""
        generator = np.random.default_rng((self._seed, self.epoch))
        return generator.permutation(len(self._y))


class _Order(keras.callbacks.Callback):
    """Sets the epoch of the batches."""

    def __init__(self, batches: Batches):
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.epoch = epoch


class _Watch(keras.callbacks.Callback):
    """Measures after every epoch."""

    def __init__(self, data: Dataset, seed: int):
        super().__init__()
        order = np.random.default_rng((seed, 0, _HALF_STREAM))
        count = len(data.test.y)
        self._half = order.permutation(count)[: max(count // 2, 1)]
        splits = {"test_accuracy": data.test}
        if data.validation is not None:
            splits["validation_accuracy"] = data.validation
        # One call for all splits: a call costs as much as some hundred examples.
        self._x = np.concatenate([split.x for split in splits.values()])
        self._labels = {name: split.y for name, split in splits.items()}
        self.measured: dict[str, Any] = {}
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = dict(logs or {})
        self.seconds.append(time.perf_counter() - self._start)
        self._note("task_loss", logs.get("task_loss", logs["loss"]))
        for name in ("transport_cost", "multiplier"):
            if name in logs:
                self._note(name, logs[name])
        logits = self.model.predict(self._x, batch_size=_batch(), verbose=0)
        predicted = np.argmax(logits, axis=-1)
        first = 0
        for name, labels in self._labels.items():
            right = predicted[first : first + len(labels)] == labels
            self._note(name, np.mean(right))
            if name == "test_accuracy":
                self._note("half_accuracy", np.mean(right[self._half]))
            first += len(labels)

    def _note(self, name: str, value: Any) -> None:
        self.measured.setdefault(name, []).append(float(value))


def _wrap(network: keras.Model, method: Method) -> tuple[keras.Model, list[Any]]:
    """The model to fit, and the callbacks that its method needs."""
    if method.kind not in (LEAST_ACTION, FIXED_WEIGHT):
        return network, []
    options: dict[str, Any] = {
        "energy": method.p,
        "initial_multiplier": method.initial_multiplier,
        "include_projections": method.include_projections,
    }
    model = keras_lap.LeastActionModel(network, **options)
    if method.kind != LEAST_ACTION:
        return model, []
    schedule: dict[str, Any] = {"tau": method.tau, "every": method.every}
    if method.before_step:
        schedule["before_step"] = True
    return model, [keras_lap.callbacks.MultiplierUpdate(**schedule)]


def _optimizer(training: Training, steps: int) -> keras.optimizers.Optimizer:
    """A new one, for so many steps: two runs share no momentum."""
    if training.optimizer is not None:
        return training.optimizer.make()
    rate: Any = training.learning_rate
    if training.schedule == "one cycle":
        rate = OneCycle(rate, steps)
    elif training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    bound = training.clip_norm
    if training.coupled_decay is not None:
        return CoupledSGD(
            rate, training.momentum, training.coupled_decay, global_clipnorm=bound
        )
    return keras.optimizers.SGD(
        rate,
        training.momentum,
        weight_decay=training.weight_decay,
        global_clipnorm=bound,
    )


def _cross_entropy() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _batch() -> int:
    """Examples that are evaluated at once."""
    return _EVALUATION_BATCH_OF_GPU if gpu() else _EVALUATION_BATCH


def recorder_of(network: keras.Model) -> keras_lap.DisplacementRecorder:
    """Records every block of a network, those with a projection too."""
    return keras_lap.DisplacementRecorder(
        network, keras_lap.find_residual_blocks(network, include_projections=True)
    )


def _block_costs(network: keras.Model, x: np.ndarray) -> list[float]:
    """Kinetic energy of every block on `x`, whatever the network was trained by."""
    recorder = recorder_of(network)
    energy = keras_lap.energies.DisplacementEnergy()
    costs = np.zeros(())
    for first in range(0, len(x), _batch()):
        batch = x[first : first + _batch()]
        _, moved = recorder(batch, training=False)
        costs = costs + len(batch) * np.array(
            [keras.ops.convert_to_numpy(energy(d)) for d in moved]
        )
    return (costs / len(x)).tolist()


def _states(network: keras.Model, test: Any, count: int) -> dict[str, Any]:
    """Positions of the first test points before and after every block."""
    x = test.x[:count]
    _, moved = recorder_of(network)(x, training=False)
    steps = [keras.ops.convert_to_numpy(displacement) for displacement in moved]
    return {
        "labels": test.y[:count].tolist(),
        "positions": np.cumsum([x, *steps], axis=0).tolist(),
    }
