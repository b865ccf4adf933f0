"""What a `TransportMonitor` adds to an epoch, as a ratio measured in one process.

A nine-block network (16 filters, 8×8 images) in a `LeastActionModel` trains for ten
epochs of 2 000 samples, with and without a monitor of 256 samples after each. Compiling
the monitor's forward pass, once for each `fit`, counts.

    KERAS_BACKEND=torch python benchmarks/monitor_overhead.py [PAIRS]
"""

from __future__ import annotations

import argparse
import functools

import keras
import numpy as np
import timing

import keras_lap

SAMPLES, MONITORED, EPOCHS = 2000, 256, 10


def main(pairs: int) -> None:
    """Measures and prints."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 8, 8, 1)).astype("float32")
    y = rng.integers(0, 10, SAMPLES)
    network = keras_lap.networks.resnet9((8, 8, 1), 10, filters=16)
    model = keras_lap.LeastActionModel(network, initial_multiplier=5.0)
    model.compile(
        keras.optimizers.SGD(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    monitor = keras_lap.callbacks.TransportMonitor(x[:MONITORED])
    fit = functools.partial(model.fit, x, y, batch_size=50, epochs=EPOCHS, verbose=0)
    watched = functools.partial(fit, callbacks=[monitor])
    seconds = timing.alternate({"without": fit, "with": watched}, pairs)
    without, watching = (timing.milliseconds(s, EPOCHS) for s in seconds.values())
    over = timing.ratio(seconds["with"], seconds["without"])
    print(
        f"{keras.backend.backend()}: an epoch takes {without:.0f} ms, with a monitor "
        f"{watching:.0f} ms; ratio {over['median']:.3f} "
        f"[{over['low']:.3f}, {over['high']:.3f}]"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="What a TransportMonitor adds to an epoch.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("pairs", type=int, nargs="?", default=5, help="of trainings")
    main(parser.parse_args().pairs)
