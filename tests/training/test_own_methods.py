"""What a network's own methods become once it is wrapped: taken over, or refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import build_dense_network, crossentropy

import keras_lap

STEPS = ["train_step", "test_step", "predict_step", "compute_loss", "compute_metrics"]
FEEDS = ["fit", "evaluate", "predict", "train_on_batch", "test_on_batch"]
FUNCTIONS = ["make_train_function", "make_test_function", "get_metrics_result"]
RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (8, 4)).astype("float32")
Y = RNG.integers(0, 3, 8)


def dense():
    """A plain residual network of two blocks."""
    return build_dense_network(blocks=2, width=4, features=4, classes=3)


def network_of(kind):
    """A residual network, as an instance of a class of one's own."""
    plain = dense()
    return kind(plain.input, plain.output)


def own(*names):
    """A class with methods of its own that do what Keras's do."""

    def method(name):
        return lambda self, *args, **kwargs: getattr(keras.Model, name)(
            self, *args, **kwargs
        )

    return type("Own", (keras.Model,), {name: method(name) for name in names})


@pytest.mark.parametrize("name", [*STEPS, *FEEDS, *FUNCTIONS, "predict_on_batch"])
def test_a_method_that_would_not_be_used_is_refused(name):
    network = network_of(own(name))
    with pytest.raises(ValueError, match=rf"Own with {name}\(\) of its own"):
        keras_lap.LeastActionModel(network)


def test_a_method_of_the_object_or_of_a_base_is_refused():
    network = dense()
    network.compute_loss = lambda *args, **kwargs: 0.0
    with pytest.raises(ValueError, match=r"compute_loss\(\) of its own"):
        keras_lap.LeastActionModel(network)
    derived = type("Derived", (own("train_step", "predict"),), {})
    with pytest.raises(ValueError, match=r"train_step\(\), predict\(\) of its own"):
        keras_lap.LeastActionModel(network_of(derived))


def test_a_distiller_is_refused_and_its_student_taken():
    teacher, student = dense(), dense()
    losses = [keras.distillation.LogitsDistillation()]

    def distiller(student):
        return keras.distillation.Distiller(teacher, student, losses)

    with pytest.raises(ValueError, match=r"Distiller with .*compute_loss\(\)") as info:
        keras_lap.LeastActionModel(distiller(student))
    assert "Distiller(teacher, LeastActionModel(student))" in str(info.value)
    distiller(keras_lap.LeastActionModel(student))


def test_the_layers_alone_are_taken():
    network = network_of(own("compute_loss"))
    layers = keras.Model(network.input, network.output)
    assert len(keras_lap.LeastActionModel(layers).blocks) == 2


@pytest.mark.parametrize("wrapped", [0, 1])
def test_a_wrapped_network_is_not_wrapped_again(wrapped):
    kinds = keras_lap.LeastActionModel, type("Own", (keras_lap.LeastActionModel,), {})
    model = kinds[wrapped](dense())
    with pytest.raises(ValueError, match="a LeastActionModel already"):
        keras_lap.LeastActionModel(model)


class Sequence(keras.Sequential):
    """A class of one's own that changes nothing of training."""

    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)


class Called(keras.Model):
    """A network with a `call` of its own."""

    def __init__(self):
        super().__init__()
        self.branch = keras.layers.Dense(4)

    def call(self, x):
        return x + self.branch(x)


def test_other_methods_are_the_networks_own_affair():
    inner = network_of(own("train_step"))
    sequence = Sequence([keras.Input((4,)), inner])
    sequence.compile("sgd", "mse")
    assert len(keras_lap.LeastActionModel(sequence).blocks) == 2
    called = Called()
    called(X)
    assert len(keras_lap.LeastActionModel(called).blocks) == 1


class Scaled(keras.Model):
    """Prepares its data as KerasHub's tasks do."""

    def preprocess_samples(self, x):
        return x / self.scale

    def fit(self, x, y, **kwargs):
        return super().fit(self.preprocess_samples(x), y, **kwargs)

    def predict(self, x, **kwargs):
        return super().predict(self.preprocess_samples(x), **kwargs)


class ScaledTwice(Scaled):
    def predict(self, x, **kwargs):
        return super().predict(x / 2, **kwargs)


def test_data_are_prepared_by_the_class_of_the_network():
    network, plain = network_of(ScaledTwice), dense()
    network.set_weights(plain.get_weights())
    network.scale = 100.0
    reference = keras_lap.LeastActionModel(plain)
    model = keras_lap.LeastActionModel(network)
    network.scale = 255.0  # what holds is what the network has now
    logs = {}
    for each, x in (reference, X / 255), (model, X):
        each.compile("sgd", crossentropy())
        history = each.fit(x, y=Y, epochs=2, shuffle=False, verbose=0)
        logs[each] = history.history
    assert logs[model] == logs[reference]
    seen = model.predict(X, verbose=0)
    np.testing.assert_array_equal(seen, reference.predict(X / 255 / 2, verbose=0))
    with pytest.raises(TypeError, match="'y'"):  # its fit requires them
        model.fit(X)
