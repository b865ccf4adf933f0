"""Trains 20 steps on the backend of this process and saves what came of it.

Run by `test_backends.py`, once for each backend: weights and batches come from NumPy.
"""

import sys

import keras
import numpy as np

import keras_lap


def main(path):
    """Trains and writes the logs of every step and the final weights to `path`."""
    rng = np.random.default_rng(0)
    data = keras_lap.datasets.load("digits", train_size=640)
    network = keras_lap.networks.resnet9((8, 8, 1), 10, filters=8)
    scale = [0.5 * np.sqrt(2 / max(np.prod(v.shape[:-1]), 1)) for v in network.weights]
    for variable, s in zip(network.weights, scale, strict=True):
        if variable.path.endswith("kernel"):
            variable.assign(s * rng.normal(size=variable.shape))
    model = keras_lap.LeastActionModel(network, energy=1.5, initial_multiplier=2.0)
    model.compile(
        keras.optimizers.SGD(0.005, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    update = keras_lap.callbacks.MultiplierUpdate(tau=0.5, every=3, loss="mean")
    logs = []
    for step in range(20):  # one batch to an epoch: its logs are those of the batch
        batch = slice(32 * step, 32 * step + 32)
        history = model.fit(
            data.train.x[batch], data.train.y[batch], verbose=0, callbacks=[update]
        ).history
        logs.append([history[name][0] for name in sorted(history)])
    weights = {f"weight{i}": w for i, w in enumerate(network.get_weights())}
    np.savez(path, logs=logs, names=sorted(history), **weights)


if __name__ == "__main__":
    main(sys.argv[1])
