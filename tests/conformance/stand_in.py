"""Least action models in the place of those of Keras's own tests.

Each has the layers and weights of the model that it stands for, and one block that does
not move its state. So its energy is zero, and whatever Keras expects of its own models
must hold of it.
"""

from __future__ import annotations

import keras

import keras_lap

BLOCK = "still"
OWN_LOGS = ("task_loss", "transport_cost", "multiplier")


def still(x):
    """A layer that counts as a block and hands its state on."""
    return keras.layers.Identity(name=BLOCK)(x)


def ones(units):
    return keras.layers.Dense(units, use_bias=False, kernel_initializer="ones")


@keras.saving.register_keras_serializable("conformance")
class StandIn(keras_lap.LeastActionModel):
    """Made as a Functional model is, also by a subclass; the block is at the end.

    Attributes:
        made: How many there have been.
        looks_plain: Whether its logs are Keras's own alone, and its layers and weights
            those of the network.
    """

    made = 0
    looks_plain = False

    def __init__(self, inputs=None, outputs=None, network=None, **options):
        if network is None:
            first, *others = keras.tree.flatten(outputs)
            outputs = keras.tree.pack_sequence_as(outputs, [still(first), *others])
            network = keras.Model(inputs, outputs)
        super().__init__(network, **{"blocks": [BLOCK]} | options)
        StandIn.made += 1

    def get_metrics_result(self):
        return self.shown(super().get_metrics_result())

    def evaluate(self, *args, **kwargs):
        result = super().evaluate(*args, **kwargs)
        return self.shown(result) if isinstance(result, dict) else result

    def shown(self, logs):
        if not self.looks_plain:
            return logs
        return {name: logs[name] for name in logs if name not in OWN_LOGS}

    def get_weights(self):
        return (self.network if self.looks_plain else super()).get_weights()

    @property
    def layers(self):
        if not self.looks_plain:
            return super().layers
        layers = self.network.layers
        hidden = keras.layers.InputLayer
        return [each for each in layers if not isinstance(each, hidden)]


class CustomSteps(StandIn):
    """Adds a log to what a step returns, on JAX beside the state."""

    def train_step(self, *args):
        return mark(super().train_step(*args), 10.0)

    def test_step(self, *args):
        return mark(super().test_step(*args), 5.0)


def mark(result, value):
    logs, *state = result if isinstance(result, tuple) else (result,)
    logs = {**logs, "my_custom_metric": value}
    return (logs, *state) if state else logs


class TrainingTesting(keras.layers.Layer):
    def call(self, x, training=False):
        return x if training else x * 0


class Makers:
    """What makes the models of one test, by the names that they have there.

    Args:
        shape: Shape of a sample that the test feeds: unlike Keras's own, a model of
            least action is built when it is made.
        sparse: Whether the inputs are sparse tensors, which Keras would fill else.
    """

    def __init__(self, shape, sparse=False):
        self.shape, self.sparse = shape, sparse

    def replaced(self):
        """The names in Keras's test modules, and what stands there instead."""
        return {
            "ExampleModel": self.example_model,
            "CustomTrainTestStepModel": self.custom_steps_model,
            "JaxCustomTrainTestStepModel": self.custom_steps_model,
            "StructModel": self.struct_model,
            "ListInputModel": self.list_input_model,
            "ListOutputModel": self.list_output_model,
            "TrainingTestingLayer": self.training_testing_layer,
            "Sequential": self.sequential,
            "Model": StandIn,
        }

    def example_model(self, units, cls=StandIn):
        inputs = keras.Input(self.shape, sparse=self.sparse)
        return cls(inputs, ones(units)(inputs))

    def custom_steps_model(self, units):
        return self.example_model(units, CustomSteps)

    def struct_model(self, units):
        inputs = {name: keras.Input((4,), name=name) for name in ("x_one", "x_two")}
        outputs = {
            "y_one": ones(units)(inputs["x_one"]),
            "y_two": ones(units)(inputs["x_two"]),
        }
        return StandIn(inputs, outputs)

    def list_input_model(self, units):
        inputs = [keras.Input((2,)), keras.Input((3,))]
        return StandIn(inputs, ones(units)(inputs[0]) + ones(units)(inputs[1]))

    def list_output_model(self, units):
        inputs = keras.Input(self.shape)
        return StandIn(inputs, [ones(units)(inputs), ones(units)(inputs)])

    def training_testing_layer(self, **options):
        # The layer's own precision is the model's, there and here.
        inputs = keras.Input((1,))
        return StandIn(inputs, TrainingTesting()(inputs), **options)

    def sequential(self, layers=()):
        x = inputs = keras.Input(self.shape)
        for layer in layers:
            if isinstance(layer, keras.layers.InputLayer):
                x = inputs = layer.output
            elif isinstance(layer, keras.KerasTensor):
                x = inputs = layer
            else:
                x = layer(x)
        return StandIn(inputs, x)
