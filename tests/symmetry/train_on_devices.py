"""Trains through the wrappers on the devices of this process, and saves the weights.

Run by `test_wrappers_devices.py`, once on one device and once on two.
"""

import argparse
from pathlib import Path

import jax
import keras
import numpy as np

from keras_lap.symmetry import DataAugmentation, FeatureAveraging, cyclic


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where the weights go, .npz")
    file = parser.parse_args().file
    if jax.device_count() > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 16, 4, 3)).astype("float32")
    x[::2, 2:] = 0  # masked
    found = {"devices": np.array(jax.device_count())}
    for name, make, options in (
        ("average", FeatureAveraging, {}),
        ("orbit", DataAugmentation, {}),
        ("random", DataAugmentation, {"elements": "random", "seed": 0}),
    ):
        keras.utils.set_random_seed(0)
        network = keras.Sequential(
            [
                keras.Input((4, 3)),
                keras.layers.Masking(),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(3, "tanh"),
            ]
        )
        model = make(network, cyclic(3), "vectors", "vectors", **options)
        model.compile(keras.optimizers.SGD(0.1), loss="mse", metrics=["mae"])
        fit = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        found |= {f"{name} {key}": value for key, value in fit.history.items()}
        for index, weight in enumerate(network.get_weights()):
            found[f"{name} {index}"] = weight
    np.savez(file, **found)


if __name__ == "__main__":
    main()
