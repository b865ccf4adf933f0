"""The whole algorithm a second time, as a plain loop in raw PyTorch.

It knows nothing of the package: functions on tensors, autograd, the mathematics of
the method. Both run in double precision, as far as Keras keeps to it, so that what is
compared is the algorithm and not the growth of rounding errors over 30 steps.
"""

from __future__ import annotations

import contextlib

import keras
import numpy as np
import pytest

import keras_lap

torch = pytest.importorskip("torch")

STEPS, BATCH, BLOCKS, CHANNELS = 30, 8, 3, 4
RATE, MOMENTUM, TAU, EVERY, FIRST_MULTIPLIER = 0.01, 0.9, 0.7, 4, 2.0
EPSILON = 1e-5


@contextlib.contextmanager
def double_precision():
    """float64 in Keras, and on JAX, which has it switched off, in JAX as well."""
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "jax":
            import jax

            stack.enter_context(jax.enable_x64(True))
        keras.config.set_floatx("float64")
        try:
            yield
        finally:
            keras.config.set_floatx("float32")


def build_network():
    """Convolutions, batch norm and pre-activation blocks, as in the paper's nets."""
    conv = {"kernel_size": 3, "padding": "same"}
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(CHANNELS, **conv)(inputs)
    for _ in range(BLOCKS):
        v = keras.layers.BatchNormalization(epsilon=EPSILON)(x)
        v = keras.layers.Conv2D(CHANNELS, **conv)(keras.layers.ReLU()(v))
        x = keras.layers.Add()([x, v])
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def reference_run(weights, batches):
    """Trains by least action; returns (loss, energy, λ after the step) of each step."""
    parameters = [torch.tensor(w, requires_grad=True) for w in weights]
    velocities = [torch.zeros_like(w) for w in parameters]
    multiplier, record = FIRST_MULTIPLIER, []
    for step, (images, labels) in enumerate(batches, start=1):
        remaining = iter(parameters)

        def convolve(x, remaining=remaining):
            kernel, bias = next(remaining), next(remaining)
            kernel = kernel.permute(3, 2, 0, 1)
            return torch.nn.functional.conv2d(x, kernel, bias, padding=1)

        x = convolve(torch.tensor(images).permute(0, 3, 1, 2))
        energy = 0.0
        for _ in range(BLOCKS):
            gamma, beta = next(remaining), next(remaining)
            mean = x.mean((0, 2, 3), keepdim=True)
            variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
            normal = (x - mean) / torch.sqrt(variance + EPSILON)
            normal = normal * gamma[:, None, None] + beta[:, None, None]
            moved = x + convolve(torch.relu(normal))
            energy = energy + ((moved - x) ** 2).mean()
            x = moved
        logits = x.permute(0, 2, 3, 1).reshape(len(x), -1) @ next(remaining)
        log_probabilities = torch.log_softmax(logits + next(remaining), 1)
        task = -log_probabilities[range(len(labels)), labels].mean()

        objective = task + energy / multiplier
        gradients = torch.autograd.grad(objective, parameters)
        with torch.no_grad():
            for w, v, g in zip(parameters, velocities, gradients, strict=True):
                v.mul_(MOMENTUM).sub_(RATE * g)
                w.add_(v)
        if step % EVERY == 0:
            multiplier += TAU * task.item()
        record.append((objective.item(), energy.item(), multiplier))
    return np.array(record), [w.detach().numpy() for w in parameters]


class Recorder(keras.callbacks.Callback):
    """Collects the logs of single batches: metrics are reset before each."""

    def __init__(self):
        super().__init__()
        self.record = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        names = ("loss", "transport_cost", "multiplier")
        self.record.append([float(logs[name]) for name in names])


def test_thirty_steps_agree_with_a_plain_loop():
    data = keras_lap.datasets.load("digits", train_size=STEPS * BATCH)
    images = data.train.x.astype("float64")
    batches = [
        (images[i : i + BATCH], data.train.y[i : i + BATCH])
        for i in range(0, STEPS * BATCH, BATCH)
    ]
    with double_precision():
        network = build_network()
        weights = [np.array(v.numpy()) for v in network.trainable_variables]
        model = keras_lap.LeastActionModel(network, 2.0, FIRST_MULTIPLIER)
        model.compile(
            keras.optimizers.SGD(RATE, momentum=MOMENTUM),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        recorder = Recorder()
        update = keras_lap.callbacks.MultiplierUpdate(tau=TAU, every=EVERY)
        model.fit(
            images,
            data.train.y,
            batch_size=BATCH,
            shuffle=False,
            verbose=0,
            callbacks=[recorder, update],
        )
        trained = [v.numpy() for v in network.trainable_variables]
    expected, expected_weights = reference_run(weights, batches)
    assert expected[-1, 2] > FIRST_MULTIPLIER + 1
    np.testing.assert_allclose(recorder.record, expected, rtol=1e-5)
    for ours, theirs in zip(trained, expected_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
