"""Writes a trained model to a file and reads those of the other backends.

Run by `test_files.py` in a process for each backend.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

import keras_lap


@keras.saving.register_keras_serializable("exchange")
class Absolute(keras_lap.energies.Energy):
    """An energy of a user, with an argument."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def __call__(self, displacement):
        return self.factor * keras.ops.mean(keras.ops.abs(displacement))

    def get_config(self):
        return {"factor": self.factor}


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 6)).astype("float32")
    return x, rng.integers(0, 3, len(x)).astype("int64")


def compile(model):
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,  # compiling takes longer
    )


def write(folder):
    """Trains with λ between two updates, saves and notes what the model predicts."""
    inputs = keras.Input((6,))
    state = keras.layers.Dense(4, activation="tanh")(inputs)
    state = keras.layers.Add()([state, keras.layers.Dense(4)(state)])
    network = keras.Model(inputs, keras.layers.Dense(3)(state))
    model = keras_lap.LeastActionModel(network, Absolute(0.5), 3.0, max_multiplier=50)
    compile(model)
    update = keras_lap.callbacks.MultiplierUpdate(tau=0.5, every=3, loss="mean")
    model.fit(*data(), batch_size=4, verbose=0, callbacks=[update])
    name = folder / keras.backend.backend()
    model.save(f"{name}.keras")
    model.save_weights(f"{name}.weights.h5")
    model.network.save(f"{name}-network.keras")
    np.savez(name, **facts(model))


def facts(model):
    ascent = {
        v.name: keras.ops.convert_to_numpy(v.value) for v in model.ascent.variables
    }
    kept = {name: ascent[name] for name in ("multiplier", "steps", "loss_sum")}
    return {"predictions": keras.ops.convert_to_numpy(model(data()[0])), **kept}


def read(folder, backend):
    """Checks a file and goes on training from it."""
    expected = np.load(folder / f"{backend}.npz")
    model = keras.saving.load_model(folder / f"{backend}.keras")
    assert repr(model.energy) == "Absolute(factor=0.5)"
    assert model.ascent.max_multiplier == 50
    assert int(model.optimizer.iterations) == 4
    compare(model, expected)
    weights = keras.saving.load_model(folder / f"{backend}.keras")
    for variable in weights.variables:
        variable.assign(keras.ops.zeros_like(variable.value))
    weights.load_weights(folder / f"{backend}.weights.h5")
    compare(weights, expected)
    if backend == "torch" != keras.backend.backend():
        # Keras 3.15.1 saves the class of PyTorch's optimizer: it trains nowhere else.
        assert "torch" in type(model.optimizer).__module__
        compile(model)
    update = keras_lap.callbacks.MultiplierUpdate(tau=0.5, every=3, loss="mean")
    model.fit(*data(), batch_size=4, verbose=0, callbacks=[update])
    assert float(model.multiplier) > expected["multiplier"] > 3.0


def compare(model, expected):
    """λ and its counters to the last bit; predictions round as the backend does."""
    actual = facts(model)
    assert int(actual["steps"]) == 1
    np.testing.assert_allclose(
        actual.pop("predictions"), expected["predictions"], rtol=1e-5, atol=1e-6
    )
    for name, value in actual.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--read", nargs="*", default=())
    options = parser.parse_args()
    if options.write:
        write(options.folder)
    for backend in options.read:
        read(options.folder, backend)


if __name__ == "__main__":
    main()
