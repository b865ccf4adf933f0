"""Least action models in the place of those of Keras's own tests.

Each stands for a model of `trainer_test.py` or for a `Sequential`: the same layers and
weights behind one block that does not move its state. So its energy is zero, and
whatever Keras expects of its own models must hold.
"""

from __future__ import annotations

import functools
import importlib
import types
import unittest

import keras
import pytest

import keras_lap

BLOCK = "still"


def still(x):
    """A layer that counts as a block and hands its state on."""
    return keras.layers.Identity(name=BLOCK)(x)


def ones(units):
    return keras.layers.Dense(units, use_bias=False, kernel_initializer="ones")


class StandIns:
    """Makes the models of one test and counts how often it did.

    Args:
        features: Size of the inputs that the test feeds: unlike Keras's own, a model of
            least action is built when it is made.
    """

    def __init__(self, features):
        self.features = features
        self.made = 0

    def _wrap(self, inputs, outputs, cls=keras_lap.LeastActionModel, **options):
        self.made += 1
        return cls(keras.Model(inputs, outputs), blocks=[BLOCK], **options)

    def example_model(self, units, cls=keras_lap.LeastActionModel):
        inputs = keras.Input((self.features,))
        return self._wrap(inputs, ones(units)(still(inputs)), cls)

    def custom_steps_model(self, units):
        return self.example_model(units, CustomSteps)

    def struct_model(self, units):
        inputs = {name: keras.Input((self.features,), name=name) for name in ("x_one", "x_two")}
        outputs = {
            "y_one": ones(units)(still(inputs["x_one"])),
            "y_two": ones(units)(inputs["x_two"]),
        }
        return self._wrap(inputs, outputs)

    def list_input_model(self, units):
        inputs = [keras.Input((2,)), keras.Input((3,))]
        return self._wrap(inputs, ones(units)(still(inputs[0])) + ones(units)(inputs[1]))

    def list_output_model(self, units):
        inputs = keras.Input((self.features,))
        x = still(inputs)
        return self._wrap(inputs, [ones(units)(x), ones(units)(x)])

    def training_testing_layer(self, **options):
        # The layer's own precision is the model's, there and here.
        inputs = keras.Input((1,))
        return self._wrap(inputs, TrainingTesting()(still(inputs)), **options)

    def sequential(self, layers):
        first, *others = layers
        if isinstance(first, keras.KerasTensor):
            inputs, layers = first, others
        else:
            inputs = keras.Input((self.features,))
        x = still(inputs)
        for layer in layers:
            x = layer(x)
        return self._wrap(inputs, x)


class TrainingTesting(keras.layers.Layer):
    def call(self, x, training=False):
        return x if training else x * 0


def _marking(value):
    """Adds a log to what a step returns, on JAX beside the state."""

    def mark(result):
        logs, *state = result if isinstance(result, tuple) else (result,)
        logs = {**logs, "my_custom_metric": value}
        return (logs, *state) if state else logs

    return mark


class CustomSteps(keras_lap.LeastActionModel):
    def train_step(self, *args):
        return _marking(10.0)(super().train_step(*args))

    def test_step(self, *args):
        return _marking(5.0)(super().test_step(*args))


REPLACED = {
    "ExampleModel": "example_model",
    "CustomTrainTestStepModel": "custom_steps_model",
    "JaxCustomTrainTestStepModel": "custom_steps_model",
    "StructModel": "struct_model",
    "ListInputModel": "list_input_model",
    "ListOutputModel": "list_output_model",
    "TrainingTestingLayer": "training_testing_layer",
    "Sequential": "sequential",
}


def conforming(module, case, features, left_out):
    """A test case of Keras with stand-ins for its models.

    Args:
        module: Where the test case is, below `keras.src`.
        case: Its name.
        features: Size of the inputs: of each test by its name, and `""` for the others.
        left_out: Why a test cannot pass, by the start of its name. It is run all the
            same, and fails once it passes. A reason that starts with "slow:" skips it.

    Returns:
        A class for pytest to collect.
    """
    module = importlib.import_module(f"keras.src.{module}")
    base = getattr(module, case)

    class Conforming(base):
        def setUp(self):
            name = self._testMethodName
            sizes = [size for start, size in features.items() if name.startswith(start)]
            self.stand_ins = StandIns(sizes[-1])  # "" comes first and fits all
            patch = pytest.MonkeyPatch()
            self.addCleanup(patch.undo)
            _replace(module, self.stand_ins, patch)
            super().setUp()  # some make their model here

    unused = set(left_out)
    for name in unittest.defaultTestLoader.getTestCaseNames(base):
        starts = [start for start in left_out if name.startswith(start)]
        unused -= set(starts)
        reason = left_out[starts[0]] if starts else None
        setattr(Conforming, name, _checked(getattr(base, name), reason))
    if unused:
        raise ValueError(f"{case} has no tests that start with {sorted(unused)}.")
    Conforming.__name__ = Conforming.__qualname__ = case
    return Conforming


def _replace(module, stand_ins, patch):
    for name, method in REPLACED.items():
        if hasattr(module, name):
            patch.setattr(module, name, getattr(stand_ins, method))
    if hasattr(module, "models"):
        models = types.SimpleNamespace(**vars(module.models))
        models.Sequential = stand_ins.sequential
        patch.setattr(module, "models", models)


def _checked(test, reason):
    """The test, which must have used a stand-in; marked if it is left out."""

    @functools.wraps(test)
    def run(self, *args, **kwargs):
        test(self, *args, **kwargs)
        self.assertGreater(self.stand_ins.made, 0, "the test has a model of its own")

    if reason is None:
        return run
    if reason.startswith("slow:"):
        return pytest.mark.skip(reason=reason)(run)
    return pytest.mark.xfail(strict=True, reason=reason)(run)
