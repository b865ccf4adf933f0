"""Plain Keras training on a task loss and running costs, without our own training."""

from __future__ import annotations

import keras

import keras_lap
from keras_lap.running_costs import Path
from support.basics import as_numpy


def priced_path(net, x, y=None, sample_weight=None, horizon=None, blocks="auto"):
    """The path of one pass in inference."""
    report = keras_lap.find_residual_blocks(net, blocks)
    record = keras_lap.trajectory.Recorder(net, report, ["states"])
    trajectory = record(x, training=False)
    return Path(trajectory, net, x, y, sample_weight, report=report, horizon=horizon)


class Priced(keras.Model):
    """Minimises ``task · MSE + Σ weight · cost``, one more pass a step."""

    def __init__(self, net, costs, horizon, task=1.0):
        super().__init__()
        self.net, self.costs, self.horizon, self.task = net, costs, horizon, task
        self.report = keras_lap.find_residual_blocks(net)
        self.record = keras_lap.trajectory.Recorder(net, self.report, ["states"])

    def call(self, x, training=None):
        return self.net(x, training=training)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        trajectory = self.record(x, training=training)
        path = Path(
            trajectory, self.net, x, y, sample_weight, self.report, self.horizon
        )
        error = keras.losses.MeanSquaredError()
        loss = self.task * error(y, trajectory.outputs, sample_weight)
        return loss + sum(cost.weight * cost(path) for cost in self.costs)


def loss_and_gradients(net, costs, horizon, x, y, sample_weight=None, task=1.0):
    """The objective and its gradients by the names of the layers, frozen ones 0.

    A step of gradient descent at rate 1 changes every weight by its gradient.
    """
    model = Priced(net, costs, horizon, task)
    model.compile(keras.optimizers.SGD(1.0))
    layers = [layer for layer in net.layers if layer.weights]
    before = [layer.get_weights() for layer in layers]
    loss = model.train_on_batch(x, y, sample_weight=sample_weight)
    found = {}
    for layer, old in zip(layers, before, strict=True):
        pairs = zip(old, layer.get_weights(), strict=True)
        found[layer.name] = [one.astype("float64") - other for one, other in pairs]
        layer.set_weights(old)
    return float(as_numpy(loss)), found
