"""`training=False` given to a layer means what it means in plain Keras's `fit`.

There a model that is a graph hands its own `training` on to every layer, in the place
of what the layer was given; a layer's `call` hands on what it says, and what it said
last stays for the layers that are called after it.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

import keras_lap

L = keras.layers


class Block(L.Layer):
    """A residual block whose branch behaves otherwise in training."""

    def __init__(self, **options):
        super().__init__(**options)
        self.norm, self.dense = L.BatchNormalization(), L.Dense(4)

    def build(self, shape):
        self.norm.build(shape)
        self.dense.build(shape)

    def call(self, x, training=None):
        return x + self.dense(self.norm(x, training=training))


class Frozen(L.Layer):
    """Calls a block, or a model, as if it were not trained, and then other layers."""

    def __init__(self, first, **options):
        super().__init__(**options)
        self.first, self.norm = first, L.BatchNormalization()
        self.last = Block(name="last")

    def build(self, shape):
        for layer in (self.first, self.norm, self.last):
            if not layer.built:
                layer.build(shape)

    def call(self, x):
        return self.last(self.norm(self.first(x, training=False)))


class Subclassed(keras.Model):
    """The same in the call of a model."""

    def __init__(self):
        super().__init__()
        self.frozen, self.block = Frozen(Block(name="first")), Block(name="block")
        self.head = L.Dense(1)

    def call(self, x):
        return self.head(self.frozen(self.block(x, training=False)))


def inner():
    inputs = keras.Input((4,))
    branch = L.Dense(4)(L.BatchNormalization()(inputs))
    return keras.Model(inputs, L.Add()([inputs, branch]), name="inner")


def functional(*layers):
    inputs = state = keras.Input((4,))
    for layer, arguments in layers:
        state = layer(state, **arguments)
    return keras.Model(inputs, L.Dense(1)(state))


def subclassed():
    model = Subclassed()
    model(np.zeros((2, 4), "float32"))
    return model


AS_GIVEN, FALSE, TRUE = {}, {"training": False}, {"training": True}
BUILDS = {
    "layer": lambda: functional((Block(), FALSE), (Block(), AS_GIVEN), (Block(), TRUE)),
    "model": lambda: functional((inner(), FALSE), (Block(), AS_GIVEN)),
    "in a call": lambda: functional((Frozen(Block()), AS_GIVEN), (Block(), AS_GIVEN)),
    "model in a call": lambda: functional(
        (Frozen(inner()), AS_GIVEN), (Block(), FALSE)
    ),
    "subclassed": subclassed,
}


@pytest.fixture
def x():
    # Far from the moving statistics that a norm starts with.
    return 3 * np.random.default_rng(0).normal(size=(32, 4)).astype("float32") + 5


def trained(build, x, wrap):
    keras.utils.set_random_seed(0)
    network = build()
    # So large a multiplier that the energy is nothing beside the task.
    model = keras_lap.LeastActionModel(network, initial_multiplier=1e20)
    model = model if wrap else network
    model.compile(keras.optimizers.SGD(1e-4), "mse")
    history = model.fit(
        x, x[:, :1], batch_size=16, epochs=2, shuffle=False, verbose=0
    ).history
    return history["loss"], [as_numpy(each) for each in network.weights]


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_training_equals_that_of_plain_keras(build, x):
    losses, weights = trained(build, x, wrap=True)
    expected_losses, expected = trained(build, x, wrap=False)
    # Both run the same float32 operations, which compilers may put together otherwise.
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.parametrize("training", [None, False, True])
def test_a_recording_returns_what_the_network_returns(build, training, x):
    network = build()
    record = keras_lap.DisplacementRecorder(
        network, keras_lap.find_residual_blocks(network)
    )
    outputs, _ = record(x, training=training)
    expected = network(x, training=training)
    np.testing.assert_allclose(as_numpy(outputs), as_numpy(expected), rtol=1e-5)


class NoisyInTraining(L.Layer):
    """What goes into its sum is another tensor in training."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense, self.noise = L.Dense(4), L.GaussianDropout(0.5)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, training=False):
        branch = self.dense(x)
        return x + (self.noise(branch, training=True) if training else branch)


@pytest.mark.skipif(
    keras.version() >= "3.16", reason="from there on, what a layer was given stays"
)
def test_the_displacement_is_that_of_the_pass_in_training(x):
    """Also of a layer that was given False, and is run in training all the same."""
    network = functional((NoisyInTraining(), FALSE))
    report = keras_lap.find_residual_blocks(network)
    record = keras_lap.trajectory.Recorder(network, report, ["displacements", "states"])
    path = record(x, training=True)
    ((before, after),) = path.states[0]
    moved = as_numpy(after) - as_numpy(before)
    np.testing.assert_allclose(as_numpy(path.displacements[0]), moved, atol=1e-5)
    assert np.abs(moved - as_numpy(network.layers[1].dense(x))).max() > 0.1
