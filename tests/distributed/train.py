"""Trains a few steps on the devices of this process and saves what came of it.

Run by `test_distributed.py`, once for each way of spreading the batch: weights and
batches come from NumPy and are the same every time.
"""

import argparse
import contextlib
import functools
import gc
import os
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

import keras_lap

WIDTH, BATCH, STEPS = 8, 16, 8


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", nargs="+", help="way:case")
    return parser.parse_args()


@dataclass
class Case:
    """What one run differs in."""

    batch_norm: bool = False
    plain: bool = False
    last_batch: int = BATCH
    steps_per_fit: int = 1
    steps_per_execution: int = 1
    spoilt_sample: bool = False
    automatic: bool = False
    within: bool = False
    costs: bool = False
    before: bool = False
    share: float = 0.0


CASES = {
    "usual": Case(),
    "one-fit": Case(steps_per_fit=STEPS),
    "batch-norm": Case(batch_norm=True),
    "uneven": Case(steps_per_fit=STEPS, last_batch=9),
    "uneven-plain": Case(steps_per_fit=STEPS, last_batch=9, plain=True),
    "two-at-once": Case(steps_per_fit=STEPS, steps_per_execution=2),
    "two-at-once-plain": Case(steps_per_fit=STEPS, steps_per_execution=2, plain=True),
    "spoilt": Case(spoilt_sample=True),
    # λ_0 is chosen, statistics are gathered, and both lie before the losses are read.
    "automatic": Case(batch_norm=True, automatic=True),
    "within": Case(within=True),
    "costs": Case(costs=True),
    "before": Case(before=True, steps_per_fit=4),
    "share": Case(share=0.3, costs=True),
    "share-within": Case(share=0.3, within=True),
}


@contextlib.contextmanager
def one_device():
    yield lambda value: [value]


@contextlib.contextmanager
def jax_data_parallel():
    with keras.distribution.DataParallel().scope():
        yield jax_copies


@contextlib.contextmanager
def jax_model_parallel():
    """Half of the devices share the batch, two share every kernel of the blocks."""
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // 2, 2), ("batch", "model"), devices
    )
    layout = keras.distribution.LayoutMap(mesh)
    layout["branch.*/kernel"] = (None, "model")
    layout["merge.*/kernel"] = ("model", None)
    with keras.distribution.ModelParallel(
        layout_map=layout, batch_dim_name="batch"
    ).scope():
        yield jax_copies


def jax_copies(value):
    return [np.asarray(shard.data) for shard in value.addressable_shards]


@functools.cache
def mirrored_strategy():
    """One for all runs: the replicas of a second one cannot find each other."""
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@contextlib.contextmanager
def tensorflow_mirrored():
    with mirrored_strategy().scope():
        yield mirrored_strategy().experimental_local_results


@contextlib.contextmanager
def torch_data_parallel():
    import torch

    keras.distribution.initialize()  # does nothing the second time
    with keras.distribution.DataParallel(auto_shard_dataset=False).scope():

        def copies(value):
            gathered = [torch.zeros_like(value.detach()) for _ in range(processes())]
            torch.distributed.all_gather(gathered, value.detach())
            return gathered

        yield copies


WAYS = {
    "one": one_device,
    "data": jax_data_parallel,
    "model": jax_model_parallel,
    "mirrored": tensorflow_mirrored,
    "processes": torch_data_parallel,
}


def rank():
    return int(os.environ.get("RANK", 0))


def processes():
    return int(os.environ.get("WORLD_SIZE", 1))


def build_network(batch_norm):
    """Dense residual blocks without kinks, for the reason given in `twenty_steps`."""
    options = {}
    if keras.backend.backend() == "tensorflow":
        options["synchronized"] = True  # elsewhere it is so already, or cannot be
    inputs = keras.Input((WIDTH,))
    x = keras.layers.Dense(WIDTH, name="stem")(inputs)
    for k in range(3):
        v = keras.layers.BatchNormalization(**options)(x) if batch_norm else x
        v = keras.layers.Dense(2 * WIDTH, activation="tanh", name=f"branch{k}")(v)
        v = keras.layers.Dense(WIDTH, name=f"merge{k}")(v)
        x = keras.layers.Add()([x, v])
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(x), name="net")


class Outer(keras.Model):
    """Holds a `LeastActionModel` and raises its λ as the callback does elsewhere."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.built = True

    def call(self, x, training=None):
        return self.inner(x, training=training)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training:
            task_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            self.inner.raise_multiplier(task_loss(y, y_pred), 0.5, 3, "mean")
        return loss


def build_model(case, rng):
    network = build_network(case.batch_norm)
    # A start that wastes action: an automatic λ_0 switches the energy off elsewhere.
    scale, rate = (3.0, 1e-3) if case.automatic else (1.0, 0.05)
    for variable in network.trainable_variables:
        if variable.path.endswith("kernel"):
            kernel = scale * rng.normal(size=variable.shape) / np.sqrt(WIDTH)
            variable.assign(kernel)
    first = "auto" if case.automatic else 2.0
    if case.share:
        first = keras_lap.Share(case.share)
    model = keras_lap.LeastActionModel(
        network,
        energy=3.0,
        initial_multiplier=first,
        running_costs=[
            keras_lap.running_costs.PathLoss(0.3),
            keras_lap.running_costs.ControlCost(0.1),
            keras_lap.running_costs.TrackingCost(0.1, rng.normal(size=(4, WIDTH))),
        ]
        if case.costs
        else (),
        horizon=2.0,
    )
    trained = network if case.plain else Outer(model) if case.within else model
    trained.compile(
        keras.optimizers.SGD(rate, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=case.steps_per_execution,
    )
    return network, model, trained


def build_data(case, rng):
    """All batches; several processes are given their part of every one."""
    samples = BATCH * (STEPS - 1) + case.last_batch
    x = rng.normal(size=(samples, WIDTH)).astype("float32")
    y = rng.integers(4, size=samples)
    if case.spoilt_sample:
        x[3 * BATCH - 1] = np.nan  # the last part of the third batch
    part = slice(rank(), None, processes())
    return x[part], y[part], BATCH // processes()


def train(case, copies, path):
    """Trains and writes logs, λ on every device and final weights to `path`."""
    rng = np.random.default_rng(0)
    network, model, trained = build_model(case, rng)
    x, y, batch = build_data(case, rng)
    saved = path.with_name(f"{path.stem}-{rank()}.keras")
    callbacks = [] if case.within else [keras.callbacks.ModelCheckpoint(saved)]
    if trained is model:
        update = keras_lap.callbacks.MultiplierUpdate(
            tau=0.5, every=3, loss="mean", before_step=case.before
        )
        callbacks.append(update)
    logs, multipliers = [], []
    for start in range(0, len(x), batch * case.steps_per_fit):
        part = slice(start, start + batch * case.steps_per_fit)
        history = trained.fit(
            x[part],
            y[part],
            batch_size=batch,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        ).history
        logs.append([history[name][0] for name in sorted(history)])
        if not case.plain:
            value = copies(model.multiplier.value)
            multipliers.append([float(np.asarray(v)) for v in value])
    weights = {f"weight{i}": w for i, w in enumerate(network.get_weights())}
    results = {"logs": logs, "names": sorted(history), "multipliers": multipliers}
    if rank() == 0:
        np.savez(path, **results, **weights)


def main():
    options = parse_arguments()
    for run in options.runs:
        way, case = run.split(":")
        # The same names in every run; not later, it would end the distribution.
        keras.utils.clear_session(free_memory=False)
        with WAYS[way]() as copies:
            train(CASES[case], copies, options.folder / f"{way}-{case}.npz")
    if processes() > 1:
        leave_processes()


def leave_processes():
    """Else PyTorch's threads may still run at exit, which now and then aborts.

    Models stand in cycles that hold the group: it ends its threads once they are gone.
    """
    import torch

    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    gc.collect()
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in thread for thread in threads), threads


if __name__ == "__main__":
    main()
