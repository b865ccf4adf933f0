"""Step time of least action over plain training, as a ratio measured in one process.

The same network twice (nine blocks, 32 filters, 28×28 images, batch 128), once plain
and once in a `LeastActionModel` with a `MultiplierUpdate`, fitted in turn on the same
four batches; the order changes from pair to pair. Prints medians and the ratio pair by
pair.

    KERAS_BACKEND=torch python benchmarks/step_overhead.py [PAIRS]
"""

from __future__ import annotations

import sys
import time

import keras
import numpy as np

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
    models = [compiled(least_action) for least_action in (False, True)]
    update = keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)
    callbacks: list[list[keras.callbacks.Callback]] = [[], [update]]

    def step_time(which: int) -> float:
        start = time.perf_counter()
        models[which].fit(x, y, batch_size=BATCH, verbose=0, callbacks=callbacks[which])
        return (time.perf_counter() - start) / BATCHES

    for which in (0, 1):
        step_time(which)  # compiles
    times = np.zeros((pairs, 2))
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            times[pair, which] = step_time(which)
    plain, least = 1000 * np.median(times, axis=0)
    quartiles = np.percentile(times[:, 1] / times[:, 0], [25, 50, 75])
    print(
        f"{keras.backend.backend()}: plain {plain:.0f} ms, least action {least:.0f} ms "
        f"a step; ratio {quartiles[1]:.3f} [{quartiles[0]:.3f}, {quartiles[2]:.3f}]"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
