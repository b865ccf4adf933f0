"""Least action on whatever devices are there, through Keras's own strategies.

Spreads every batch over the devices of this process or, on PyTorch, over processes;
prints who got what, and trains a ResNet9 on digits.

    python examples/distributed.py                          # all GPUs, or one processor
    python examples/distributed.py --virtual-devices 2      # processors made up of one
    torchrun --nproc_per_node 2 examples/distributed.py     # PyTorch, Keras >= 3.16
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
from collections.abc import Iterator
from typing import Any


def parse_arguments() -> argparse.Namespace:
    """Reads the options from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=5, help="of training")
    parser.add_argument("--batch-size", type=int, default=64, help="of all devices")
    parser.add_argument("--train-size", type=int, default=1024, help="images")
    parser.add_argument("--filters", type=int, default=16, help="width of the network")
    parser.add_argument(
        "--virtual-devices",
        type=int,
        default=0,
        help="split the processor into so many (JAX and TensorFlow)",
    )
    return parser.parse_args()


# Devices are made before a backend starts, which importing Keras does.
OPTIONS = parse_arguments()
if OPTIONS.virtual_devices:
    flag = f"--xla_force_host_platform_device_count={OPTIONS.virtual_devices}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"

import keras  # noqa: E402

import keras_lap  # noqa: E402

PROCESSES = int(os.environ.get("WORLD_SIZE", 1))
RANK = int(os.environ.get("RANK", 0))
LOGS = ("multiplier", "transport_cost", "accuracy")


def say(text: str) -> None:
    """Prints once, however many processes there are."""
    if RANK == 0:
        print(text, flush=True)


@contextlib.contextmanager
def all_devices(batch_size: int) -> Iterator[None]:
    """Within it, Keras spreads models and batches over all devices there are."""
    backend = keras.backend.backend()
    if backend == "jax":
        distribution = keras.distribution.DataParallel()
        devices = keras.distribution.list_devices()
        scope: Any = distribution.scope()
    elif backend == "tensorflow":
        import tensorflow as tf

        strategy = tf.distribute.MirroredStrategy(tensorflow_devices())
        devices = [f"replica {k}" for k in range(strategy.num_replicas_in_sync)]
        scope = strategy.scope()
    elif PROCESSES > 1:
        if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 16):
            raise SystemExit(
                f"Keras {keras.__version__} cannot join PyTorch processes. Install "
                "3.16 or later, or keras-nightly instead of keras."
            )
        keras.distribution.initialize()
        distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
        devices = [f"process {rank}" for rank in range(PROCESSES)]
        scope = distribution.scope()
    else:
        devices, scope = ["one device"], contextlib.nullcontext()
    if batch_size % len(devices):
        raise SystemExit(
            f"A batch of {batch_size} cannot be shared by {len(devices)} devices: "
            "choose a multiple by --batch-size."
        )
    say(
        f"Keras {keras.__version__} on {backend}, {len(devices)} device(s); of each "
        f"batch of {batch_size}:"
    )
    for device in devices:
        say(f"  {device}: {batch_size // len(devices)} samples")
    with scope:
        yield


def leave_processes() -> None:
    """Else PyTorch's threads may still run at exit, which now and then aborts.

    Models stand in cycles that hold the group: it ends its threads once they are gone.
    """
    import torch

    torch.distributed.destroy_process_group()
    gc.collect()


def tensorflow_devices() -> list[str]:
    """All GPUs, else the processor, split where virtual devices were asked for."""
    import tensorflow as tf

    if gpus := tf.config.list_logical_devices("GPU"):
        return [device.name for device in gpus]
    return [device.name for device in tf.config.list_logical_devices("CPU")]


def split_processor(parts: int) -> None:
    """Makes virtual devices on TensorFlow; on JAX a flag has done so."""
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * parts,
    )


def train() -> None:
    """Trains and reports."""
    keras.utils.set_random_seed(0)
    data = keras_lap.datasets.load("digits", OPTIONS.train_size)
    batch = OPTIONS.batch_size
    # Whole batches only: devices share a batch evenly.
    count = len(data.train.y) // batch * batch
    x, y = data.train.x[:count], data.train.y[:count]
    test_count = len(data.test.y) // batch * batch
    test = data.test.x[:test_count], data.test.y[:test_count]
    with all_devices(batch):
        network = keras_lap.networks.resnet9(
            data.input_shape, data.num_classes, filters=OPTIONS.filters
        )
        model = keras_lap.LeastActionModel(network, initial_multiplier=5.0)
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        # A process is given its own part of every batch; devices share it by Keras.
        history = model.fit(
            x[RANK::PROCESSES],
            y[RANK::PROCESSES],
            batch_size=batch // PROCESSES,
            epochs=OPTIONS.epochs,
            callbacks=[keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)],
            verbose=0,
        ).history
        for epoch, (multiplier, cost, accuracy) in enumerate(
            zip(*(history[name] for name in LOGS), strict=True), start=1
        ):
            say(
                f"epoch {epoch}: λ {multiplier:.3f}, transport cost {cost:.3g}, "
                f"training accuracy {100 * accuracy:.1f} %"
            )
        # Every process evaluates a part too; Keras adds up what they count.
        result = model.evaluate(
            *(part[RANK::PROCESSES] for part in test),
            batch_size=batch // PROCESSES,
            verbose=0,
            return_dict=True,
        )
        say(
            f"Test accuracy {100 * result['accuracy']:.1f} %, "
            f"λ {float(model.multiplier.numpy()):.3f}"
        )


def main() -> None:
    """Trains on what devices there are, and leaves them."""
    if OPTIONS.virtual_devices and keras.backend.backend() == "tensorflow":
        split_processor(OPTIONS.virtual_devices)
    train()
    if PROCESSES > 1:
        leave_processes()


if __name__ == "__main__":
    main()
