"""What docs/limits.md says does not work; a test fails once it does."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import build_dense_network, crossentropy

import keras_lap
from keras_lap import find_residual_blocks

BACKEND = keras.backend.backend()
L = keras.layers
once = pytest.mark.skipif(BACKEND != "torch", reason="the same graph on all backends")


def only(backend):
    return pytest.mark.skipif(backend != BACKEND, reason=f"a limit of {backend}")


def two_constants_in_a_row(x):
    return ((x + 1.0) + 2.0) + L.Dense(4)(x)


@once
@pytest.mark.parametrize("missed", [two_constants_in_a_row])
def test_blocks_that_are_not_found(missed):
    inputs = keras.Input((4,))
    found = find_residual_blocks(keras.Model(inputs, missed(inputs)))
    assert len(found) == 0


def test_thawing_a_network_as_a_whole():
    """Nothing of ours: TensorFlow thaws only what was frozen the same way."""
    network = build_dense_network(blocks=1)
    network.get_layer("b0_in").trainable = False
    network.trainable = True
    assert network.get_layer("b0_in").trainable == (BACKEND != "tensorflow")


@pytest.mark.parametrize("eagerly", [False, True])
def test_when_a_name_that_is_taken_is_found(digits, eagerly):
    """Before any weight changes, but for eager steps on TensorFlow."""
    model = keras_lap.LeastActionModel(build_dense_network())
    metric = keras.metrics.SparseCategoricalAccuracy(name="multiplier")
    model.compile("sgd", crossentropy(), metrics=[metric], run_eagerly=eagerly)
    before = model.network.get_weights()
    with pytest.raises(ValueError, match="logged as 'multiplier'"):
        model.fit(*digits, verbose=0)
    after = model.network.get_weights()
    changed = any((a != b).any() for a, b in zip(before, after, strict=True))
    assert changed == (eagerly and BACKEND == "tensorflow")


@only("jax")
def test_a_model_reached_past_the_callback(digits):
    """A plain network's too: Keras's JAX trainer holds its values while it trains."""
    network = build_dense_network()

    class Elsewhere(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            network.get_weights()

    network.compile("sgd", crossentropy())
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        network.fit(*digits, verbose=0, callbacks=[Elsewhere()])


@only("tensorflow")
def test_the_multiplier_of_a_strategy_is_no_number():
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = keras_lap.LeastActionModel(build_dense_network())
    with pytest.raises(TypeError):
        float(model.multiplier)
    assert np.asarray(keras.ops.convert_to_numpy(model.multiplier)) == 1.0


@only("tensorflow")
def test_layers_that_recompute_do_not_train(digits):
    """Nothing of ours: the network is a plain one."""
    inputs = keras.Input((64,))
    with keras.RematScope(mode="full"):
        layer = L.Dense(10)
    network = keras.Model(inputs, layer(inputs))
    network.compile("sgd", crossentropy())
    with pytest.raises(ValueError, match="custom_gradient"):
        network.fit(*digits, verbose=0)


@only("torch")
def test_a_numbered_processor():
    """Keras's: a parameter that goes from "cpu" to "cpu:0" becomes a plain tensor."""
    with keras.device("cpu:0"), pytest.raises(RuntimeError, match="require gradients"):
        keras.Sequential([keras.Input((3,)), L.Dropout(0.5)])
    with keras.device("cpu:0"), pytest.raises(RuntimeError, match="require gradients"):
        keras_lap.LeastActionModel(build_dense_network())
