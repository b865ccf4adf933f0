"""Step time of least action over plain training, as a ratio measured in one process.

The same network twice (nine blocks, 32 filters, 28×28 images, batch 128), once plain
and once in a `LeastActionModel` with a `MultiplierUpdate`, fitted in turn on the same
four batches. Prints medians and the ratio pair by pair, with its quartiles.

    KERAS_BACKEND=torch python benchmarks/step_overhead.py [PAIRS]
"""

from __future__ import annotations

import functools
import sys

import keras
import numpy as np
import paired

import keras_lap

BATCHES, BATCH = 4, 128


def compiled(least_action: bool) -> keras.Model:
    """The network, ready for training."""
    model = keras_lap.networks.resnet9((28, 28, 1), 10, filters=32)
    if least_action:
        model = keras_lap.LeastActionModel(model, initial_multiplier=5.0)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def main(pairs: int) -> None:
    """Measures and prints."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCHES * BATCH, 28, 28, 1)).astype("float32")
    y = rng.integers(0, 10, BATCHES * BATCH)
    update = keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)
    options = {"x": x, "y": y, "batch_size": BATCH, "verbose": 0}
    plain = functools.partial(compiled(False).fit, **options)
    least_action = functools.partial(compiled(True).fit, callbacks=[update], **options)
    seconds, quartiles = paired.ratios(plain, least_action, pairs)
    plain_ms, least_ms = 1000 * seconds / BATCHES
    print(
        f"{keras.backend.backend()}: plain {plain_ms:.0f} ms, least action "
        f"{least_ms:.0f} ms a step; ratio {paired.text(quartiles)}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
