"""Files that an earlier release wrote load, predict and train on.

`written/` holds a model, its weights and what they have to give, written on JAX by
commit 8a8a017, before the package had folders. There, `write` makes them anew:

    KERAS_BACKEND=jax python tests/training/test_written_before.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lap

WRITTEN = Path(__file__).parent / "written"
COUNTERS = ("multiplier", "steps", "loss_sum", "skipped")


@keras.saving.register_keras_serializable("written_before")
class Own(keras.layers.Layer):
    """A residual layer of a user."""

    def __init__(self, **options):
        super().__init__(**options)
        self.norm = keras.layers.LayerNormalization()
        self.dense = keras.layers.Dense(4, "tanh")

    def build(self, shape):
        self.norm.build(shape)
        self.dense.build(shape)

    def call(self, x):
        return x + self.dense(self.norm(x))


def build():
    """A merge layer, a nested model with an activation, a layer as a whole."""
    inputs = keras.Input((6,))
    x = keras.layers.Dense(4, activation="tanh", name="stem")(inputs)
    x = keras.layers.Add(name="sum")([x, keras.layers.Dense(4, name="branch")(x)])
    inner = keras.Input((4,))
    moved = keras.layers.ReLU()(inner + keras.layers.Dense(4, name="inside")(inner))
    x = Own(name="own")(keras.Model(inner, moved, name="inner")(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x), name="network")


def wrap(network):
    energy = keras_lap.energies.DisplacementEnergy(1.5, "euclidean", "sum", 0.5)
    model = keras_lap.LeastActionModel(
        network, energy, 3.0, blocks=["sum", "inner", "own"], max_multiplier=50.0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    return model


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 6)).astype("float32"), rng.integers(0, 3, 16)


def train(model):
    update = keras_lap.callbacks.MultiplierUpdate(0.5, 3, "mean")
    model.fit(*data(), batch_size=4, verbose=0, callbacks=[update])


def facts(model):
    ascent = {v.name: keras.ops.convert_to_numpy(v) for v in model.ascent.variables}
    logs = model.evaluate(*data(), return_dict=True, verbose=0)
    return {
        "predictions": keras.ops.convert_to_numpy(model(data()[0])),
        "blocks": [block.name for block in model.blocks],
        "logs": json.dumps({name: float(value) for name, value in logs.items()}),
        **{name: ascent[name] for name in COUNTERS},
    }


def write(folder):
    keras.utils.set_random_seed(0)
    model = wrap(build())
    train(model)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    np.savez(folder / "expected.npz", **facts(model))


def from_weights():
    model = wrap(build())
    model.load_weights(WRITTEN / "model.weights.h5")
    return model


def from_model():
    model = keras.saving.load_model(WRITTEN / "model.keras")
    # JAX wrote that it compiles, which takes PyTorch minutes.
    model.jit_compile = keras.backend.backend() != "torch"
    return model


@pytest.mark.parametrize("load", [from_model, from_weights])
def test_what_was_written_before_goes_on(load):
    model, expected = load(), np.load(WRITTEN / "expected.npz")
    actual = facts(model)
    assert actual["blocks"] == list(expected["blocks"])
    for name in COUNTERS:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
    # Backends add up in another order.
    np.testing.assert_allclose(
        actual["predictions"], expected["predictions"], rtol=1e-5, atol=1e-6
    )
    logs = json.loads(str(expected["logs"]))
    assert logs.pop("task_loss") == logs["loss"]  # now left out where it is the loss
    assert json.loads(actual["logs"]) == pytest.approx(logs, rel=1e-5)
    assert repr(model.energy) == (
        "DisplacementEnergy(p=1.5, norm='euclidean', reduction='sum', time_step=0.5)"
    )
    assert (model.ascent.initial_multiplier, model.ascent.max_multiplier) == (3, 50)
    train(model)
    # One step of three had passed; of four more, the second and the last are due.
    assert int(model.ascent.steps) == 2
    assert 50 >= float(model.multiplier) > float(expected["multiplier"])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
