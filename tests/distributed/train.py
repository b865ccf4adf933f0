"""Trains a few steps on the devices of this process and saves what came of it.

Run by `test_distributed.py`, once for each way of spreading the batch: weights and
batches come from NumPy and are the same every time.
"""

import argparse
import contextlib
import os
from pathlib import Path

import keras
import numpy as np

import keras_lap

WIDTH, BATCH, STEPS = 8, 16, 12


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=sorted(WAYS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--batch-norm", action="store_true")
    parser.add_argument("--plain", action="store_true", help="no least action")
    parser.add_argument("--last-batch", type=int, default=BATCH)
    parser.add_argument("--steps-per-fit", type=int, default=1)
    parser.add_argument("--steps-per-execution", type=int, default=1)
    parser.add_argument("--spoilt-sample", action="store_true")
    return parser.parse_args()


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


@contextlib.contextmanager
def tensorflow_mirrored():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        yield strategy.experimental_local_results


@contextlib.contextmanager
def torch_data_parallel():
    import torch

    keras.distribution.initialize()
    with keras.distribution.DataParallel(auto_shard_dataset=False).scope():

        def copies(value):
            gathered = [torch.zeros_like(value.detach()) for _ in range(processes())]
            torch.distributed.all_gather(gathered, value.detach())
            return gathered

        yield copies
    torch.distributed.destroy_process_group()


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


def build_model(options, rng):
    network = build_network(options.batch_norm)
    for variable in network.trainable_variables:
        if variable.path.endswith("kernel"):
            variable.assign(rng.normal(size=variable.shape) / np.sqrt(WIDTH))
    model = network
    if not options.plain:
        model = keras_lap.LeastActionModel(network, energy=3.0, initial_multiplier=2.0)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=options.steps_per_execution,
    )
    return network, model


def main():
    options = parse_arguments()
    rng = np.random.default_rng(0)
    with WAYS[options.way]() as copies:
        network, model = build_model(options, rng)
        samples = BATCH * (STEPS - 1) + options.last_batch
        x = rng.normal(size=(samples, WIDTH)).astype("float32")
        y = rng.integers(4, size=samples)
        if options.spoilt_sample:
            x[3 * BATCH - 1] = np.nan  # in the second half of the third batch
        save = keras.callbacks.ModelCheckpoint(
            options.out.with_name(f"{options.out.stem}-{rank()}.keras"),
        )
        callbacks = [save]
        if not options.plain:
            callbacks += [
                keras_lap.callbacks.MultiplierUpdate(tau=0.5, every=3, loss="mean")
            ]
        logs, multipliers = [], []
        stride = BATCH * options.steps_per_fit
        for start in range(0, samples, stride):
            part = slice(start, start + stride)
            part_x, part_y, batch = x[part], y[part], BATCH
            if processes() > 1:  # each process is given its part of every batch
                part_x, part_y = part_x[rank() :: processes()], part_y[rank() :: 2]
                batch = BATCH // processes()
            history = model.fit(
                part_x,
                part_y,
                batch_size=batch,
                shuffle=False,
                verbose=0,
                callbacks=callbacks,
            ).history
            logs.append([history[name][0] for name in sorted(history)])
            if not options.plain:
                value = copies(model.multiplier.value)
                multipliers.append([float(np.asarray(v)) for v in value])
        weights = {f"weight{i}": w for i, w in enumerate(network.get_weights())}
        if rank() == 0:
            np.savez(
                options.out,
                logs=logs,
                names=sorted(history),
                multipliers=multipliers,
                **weights,
            )


if __name__ == "__main__":
    main()
