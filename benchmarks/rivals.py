"""Least action against what else a Keras user could reach for.

- `activity regulariser`: `activity_regularizer=L2(w)` on the last layer of each branch,
  the energy at a weight that never moves.
- `two passes`: a model in the style of `keras.distillation.Distiller`, which sees the
  branches by a feature extractor of its own; the same objective, so only its cost is
  measured.
- `weight decay` of the optimizer, and `dropout` at the end of each branch.

`cost`: time of a step over that of plain training, in one process. `accuracy`: MNIST
with 200 training images, from a bad start (normal kernels of standard deviation 1) and
from a good one (0.05). Each method has one knob and the same number of trials of it,
chosen by validation data; then all meet on fresh seeds, which decide training examples,
initial weights and the order of the batches. `gain` is the mean of the paired
differences to plain training with its 95 % Student-t interval. `collapsed` counts runs
that ended below twice the accuracy of guessing, which a mean hides.

    TFDS_DATA_DIR=... python benchmarks/rivals.py [--quick] [--backend torch]
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable
from typing import Any

import harness
import keras
import numpy as np
import subjects
import timing

import keras_lap
from keras_lap.datasets import Dataset
from studies.engine import Data, Initializer, Network, building
from studies.engine.statistics import mean_interval, paired_difference
from studies.engine.training import Batches

PLAIN, LEAST_ACTION, AUTOMATIC = "plain", "least action", "least action, auto"
ACTIVITY, TWO_PASSES = "activity regulariser", "two passes"
DECAY, DROPOUT = "weight decay", "dropout"
# Trials of each method's knob; where there is nothing to choose, one value.
KNOBS: dict[str, tuple[Any, ...]] = {
    PLAIN: (None,),
    AUTOMATIC: ("auto",),
    LEAST_ACTION: (0.2, 0.5, 5.0, 50.0),
    ACTIVITY: (3e-3, 1e-3, 1e-4, 1e-5),
    DECAY: (1e-3, 1e-2, 3e-2, 1e-1),
    DROPOUT: (0.1, 0.2, 0.3, 0.5),
}
COLLAPSED = 2 * 100 / subjects.CLASSES  # percent: twice what guessing gets
STARTS = {"normal 1": 1.0, "normal 0.05": 0.05}
Trial = tuple[str, str, Any]  # start, method, knob


class TwoPasses(keras.Model):
    """Adds the energy of the branches, which a second forward pass looks up."""

    def __init__(self, network: keras.Model, weight: float):
        super().__init__()
        self.network, self.weight = network, weight
        ends = [layer.output for layer in branch_ends(network)]
        self.extractor = keras.Model(network.inputs, ends)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The network's logits."""
        if training:
            for v in keras.tree.flatten(self.extractor(inputs, training=True)):
                self.add_loss(self.weight * keras.ops.mean(keras.ops.square(v)))
        return self.network(inputs, training=training)


def branch_ends(network: keras.Model) -> list[keras.Layer]:
    """The layers whose outputs the blocks of a ResNet9 add to their states."""
    return [
        layer
        for layer in network.layers
        if layer.name.startswith("block") and layer.name.endswith("_conv2")
    ]


def with_dropout(network: keras.Model, rate: float) -> keras.Model:
    """The network with the same weights and a dropout at the end of each branch."""
    ends = {layer.name for layer in branch_ends(network)}

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if layer.name not in ends:
            return outputs
        return keras.layers.Dropout(rate, name=f"{layer.name}_dropout")(outputs)

    clone = keras.models.clone_model(network, call_function=call)
    clone.set_weights(network.get_weights())
    return clone


def ready(
    network: keras.Model, method: str, knob: Any, rate: float
) -> tuple[keras.Model, list[Any]]:
    """The model to fit, compiled, and the callbacks that it needs."""
    model, callbacks, options = network, [], {}
    if method in (LEAST_ACTION, AUTOMATIC):
        model = keras_lap.LeastActionModel(network, initial_multiplier=knob)
        callbacks = [keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)]
    elif method == ACTIVITY:
        for layer in branch_ends(network):
            layer.activity_regularizer = keras.regularizers.L2(knob)
    elif method == TWO_PASSES:
        model = TwoPasses(network, knob)
    elif method == DROPOUT:
        model = with_dropout(network, knob)
    elif method == DECAY:
        options["weight_decay"] = knob
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, **options),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model, callbacks


def cost(
    methods: int,
    size: int,
    filters: int,
    blocks: int,
    batch: int,
    batches: int,
    rounds: int,
) -> list[harness.Row]:
    """Time of a step of each method over that of plain training."""
    knobs = {PLAIN: None, LEAST_ACTION: 5.0, TWO_PASSES: 0.2, ACTIVITY: 1e-4}
    knobs |= {DECAY: 1e-4, DROPOUT: 0.2}
    shape = (size, size, 1)
    things: dict[str, Callable[[], object]] = {}
    for method, knob in list(knobs.items())[:methods]:
        network = keras_lap.networks.one_representation_resnet(
            shape, subjects.CLASSES, filters=filters, num_blocks=blocks
        )
        data = subjects.Subject(network, shape, batch).data(batches)
        model, callbacks = ready(network, method, knob, rate=0.001)
        things[method] = timing.fit(model, data, callbacks)
    seconds = timing.alternate(things, rounds)
    return [
        {
            "method": method,
            "step_ms": timing.milliseconds(seconds[method], batches),
            "cost": timing.ratio(seconds[method], seconds[PLAIN]),
        }
        for method in things
    ]


def accuracy(
    data: str,
    starts: int,
    test_size: int | None,
    epochs: int,
    filters: int,
    trials: int,
    tuning: int,
    seeds: int,
) -> list[harness.Row]:
    """Accuracy of each method at equal budget, in two processes side by side."""
    run = functools.partial(_seed, Data(data, 200, 500, test_size), epochs, filters)
    knobs = {name: values[:trials] for name, values in KNOBS.items()}
    tried = [
        (start, name, value)
        for start in list(STARTS)[:starts]
        for name, values in knobs.items()
        if len(values) > 1
        for value in values
    ]
    with multiprocessing.get_context("spawn").Pool(2, _one_thread) as pool:
        results = pool.starmap(
            run, [(7000 + k, False, tried) for k in range(tuning)], 1
        )
        chosen = [
            (start, name, _best(results, start, name, values))
            for start in list(STARTS)[:starts]
            for name, values in knobs.items()
        ]
        results = pool.starmap(run, [(8000 + k, True, chosen) for k in range(seeds)], 1)
    return [_accuracy_row(results, trial, chosen) for trial in chosen]


def _one_thread() -> None:
    """Several processes of many threads each would be in each other's way."""
    import torch

    torch.set_num_threads(1)


Results = list[dict[Trial, float]]  # of each seed, the accuracy of each trial


def _seed(
    data: Data, epochs: int, filters: int, seed: int, final: bool, trials: list[Trial]
) -> dict[Trial, float]:
    """Trains all trials of one seed, which share data, weights and batches."""
    dataset = building.load_data(data, seed)
    judge = dataset.test if final else dataset.validation
    return {
        trial: _train(dataset, judge, epochs, filters, seed, *trial) for trial in trials
    }


def _train(
    data: Dataset,
    judge: Any,
    epochs: int,
    filters: int,
    seed: int,
    start: str,
    name: str,
    knob: Any,
) -> float:
    """Accuracy on `judge` after the last epoch, in percent."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    initializer = Initializer("normal", STARTS[start])
    network = building.build_network(
        Network(filters=filters, initializer=initializer),
        data.input_shape,
        data.num_classes,
        seed,
    )
    model, callbacks = ready(network, name, knob, rate=0.1)
    batches = Batches(*data.train, 50, seed)
    order = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch)
    )
    options = {"shuffle": False, "verbose": 0, "callbacks": [*callbacks, order]}
    model.fit(batches, epochs=epochs, **options)
    logits = model.predict(judge.x, batch_size=500, verbose=0)
    return 100 * float(np.mean(np.argmax(logits, -1) == judge.y))


def _best(results: Results, start: str, name: str, values: tuple[Any, ...]) -> Any:
    if len(values) == 1:
        return values[0]
    return max(
        values,
        key=lambda value: np.mean([each[start, name, value] for each in results]),
    )


def _accuracy_row(results: Results, trial: Trial, chosen: list[Trial]) -> harness.Row:
    start, name, knob = trial
    reference = next(each for each in chosen if each[:2] == (start, PLAIN))
    own = [each[trial] for each in results]
    interval = mean_interval(own)
    row: harness.Row = {
        "start": start,
        "method": name,
        "knob": "" if knob is None else str(knob),
        "seeds": len(own),
        "accuracy": round(interval.mean, 2),
        "accuracy_sd": round(interval.deviation, 2),
        "median": round(float(np.median(own)), 2),
        "collapsed": sum(value < COLLAPSED for value in own),
    }
    if name == PLAIN:
        return row
    gain, p = paired_difference([each[reference] for each in results], own)
    ends = {"low": gain.low, "median": gain.mean, "high": gain.high}
    return {
        **row,
        "gain": {key: round(value, 2) for key, value in ends.items()},
        "p": float(f"{p:.2g}"),
    }


def measure(part: str, **options: Any) -> list[harness.Row]:
    """Measures one part."""
    rows = cost(**options) if part == "cost" else accuracy(**options)
    return [{"part": part, **row} for row in rows]


def cases(quick: bool) -> list[harness.Case]:
    """Cost on each backend, accuracy on the one that compiles nothing."""
    step = {"size": 28, "filters": 32, "blocks": 9, "batch": 32}
    step |= {"batches": 4, "rounds": 8, "methods": 6}
    runs: harness.Case = {"data": "mnist", "starts": 2, "test_size": 2000}
    runs |= {"epochs": 20, "filters": 8}
    runs |= {"trials": 4, "tuning": 2, "seeds": 10}
    if quick:
        step = {"size": 8, "filters": 2, "blocks": 1, "batch": 4}
        step |= {"batches": 1, "rounds": 1, "methods": 3}
        runs = {"data": "digits", "starts": 1, "test_size": None}
        runs |= {"epochs": 1, "filters": 2}
        runs |= {"trials": 2, "tuning": 1, "seeds": 2}
    backends = ["torch"] if quick else harness.BACKENDS
    costs = [{"backend": each, "part": "cost", **step} for each in backends]
    return [*costs, {"backend": "torch", "part": "accuracy", **runs}]


if __name__ == "__main__":
    labels = ("backend", "part", "start", "method")
    harness.main(harness.Benchmark("rivals", cases, measure, labels, limit=900.0))
