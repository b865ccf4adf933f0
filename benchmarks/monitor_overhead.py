"""What a `TransportMonitor` adds to an epoch, as a ratio measured in one process.

A nine-block network (16 filters, 8×8 images) in a `LeastActionModel` trains for ten
epochs of 2 000 samples, with and without a monitor of 256 samples after each. Compiling
the monitor's forward pass, once for each `fit`, counts.

    KERAS_BACKEND=torch python benchmarks/monitor_overhead.py [PAIRS]
"""

from __future__ import annotations

import functools
import sys

import keras
import numpy as np
import paired

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
    seconds, quartiles = paired.ratios(fit, watched, pairs)
    seconds = seconds / EPOCHS
    print(
        f"{keras.backend.backend()}: an epoch takes {seconds[0]:.2f} s, with a monitor "
        f"{seconds[1]:.2f} s; ratio {paired.text(quartiles)}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
