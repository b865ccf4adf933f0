"""Trains 20 steps on the backend of this process and saves what came of it.

Run by `test_backends.py`, once for each backend: weights and batches come from NumPy.
"""

import sys

import keras
import numpy as np

import keras_lap


def build_network():
    """A small residual network without kinks.

    Where a ReLU is close to zero, the rounding of one backend opens it and that of
    another closes it, and a deep network doubles such a difference with every step.
    """
    conv = {"kernel_size": 3, "padding": "same"}
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, **conv)(inputs)
    for _ in range(5):
        v = keras.layers.BatchNormalization()(x)
        v = keras.layers.Conv2D(8, **conv)(keras.activations.tanh(v))
        x = keras.layers.Add()([x, v])
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def main(path):
    """Trains and writes the logs of every step and the final weights to `path`."""
    rng = np.random.default_rng(0)
    data = keras_lap.datasets.load("digits", train_size=640)
    network = build_network()
    for variable in network.trainable_variables:
        if variable.path.endswith("kernel"):
            fan_in = np.prod(variable.shape[:-1])
            variable.assign(rng.normal(size=variable.shape) / np.sqrt(fan_in))
    model = keras_lap.LeastActionModel(network, energy=3.0, initial_multiplier=2.0)
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
