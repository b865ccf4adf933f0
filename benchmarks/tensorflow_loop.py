"""Least action written by hand in raw TensorFlow: the loop of `torch_loop.py`.

It knows neither Keras nor the package. Channels are last, as TensorFlow's convolutions
on a processor take them in no other layout. λ is raised within the step.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

INITIAL_MULTIPLIER, TAU, EVERY = 5.0, 1.0, 5
RATE, MOMENTUM = 0.001, 0.9
AVERAGED, EPSILON = 0.99, 1e-3  # of Keras's batch normalisation


class Norm:
    """Batch normalisation of channels by TensorFlow's fused kernel.

    Args:
        width: How many channels.
    """

    def __init__(self, width: int):
        self.scale = tf.Variable(tf.ones(width))
        self.shift = tf.Variable(tf.zeros(width))
        self.mean = tf.Variable(tf.zeros(width), trainable=False)
        self.variance = tf.Variable(tf.ones(width), trainable=False)

    def __call__(self, x: Any) -> Any:
        """Normalises a batch, and moves the statistics."""
        flat = x.shape.rank == 2
        images = x[:, None, None, :] if flat else x
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            images, self.scale, self.shift, epsilon=EPSILON, is_training=True
        )
        for moving, seen in (self.mean, mean), (self.variance, variance):
            moving.assign(AVERAGED * moving + (1 - AVERAGED) * seen)
        return y[:, 0, 0, :] if flat else y


class Network(tf.Module):
    """A stem of two convolutions, blocks of one shape, a head of two dense layers.

    Args:
        size: Pixels of a side.
        filters: Of every block.
        classes: Logits.
        blocks: How many.
    """

    def __init__(self, size: int, filters: int, classes: int, blocks: int):
        super().__init__()

        def kernel(*shape: int) -> Any:
            fan_in = tf.cast(tf.reduce_prod(shape[:-1]), tf.float32)
            return tf.Variable(tf.random.normal(shape) / tf.sqrt(fan_in))

        self.stem = [
            (kernel(3, 3, 1, filters // 2), tf.Variable(tf.zeros(filters // 2))),
            (kernel(5, 5, filters // 2, filters), tf.Variable(tf.zeros(filters))),
        ]
        self.blocks = [
            (
                None if k == 0 else Norm(filters),
                kernel(3, 3, filters, filters),
                Norm(filters),
                (kernel(3, 3, filters, filters), tf.Variable(tf.zeros(filters))),
            )
            for k in range(blocks)
        ]
        self.first = kernel(filters * (size // 2) ** 2, 10 * classes)
        self.norm = Norm(10 * classes)
        self.last = kernel(10 * classes, classes), tf.Variable(tf.zeros(classes))

    def __call__(self, x: Any) -> tuple[Any, list[Any]]:
        """Logits, and the displacement of each block."""
        for stride, (kernel, bias) in enumerate(self.stem, start=1):
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, stride, "SAME") + bias)
        displacements = []
        for before, first, norm, (second, bias) in self.blocks:
            v = x if before is None else tf.nn.relu(before(x))
            v = tf.nn.relu(norm(tf.nn.conv2d(v, first, 1, "SAME")))
            v = tf.nn.conv2d(v, second, 1, "SAME") + bias
            x = x + v
            displacements.append(v)
        x = tf.reshape(x, (x.shape[0], -1))
        x = tf.nn.relu(self.norm(x @ self.first))
        return x @ self.last[0] + self.last[1], displacements


class Loop:
    """One network and its training, plain and by least action."""

    def __init__(self, network: Network):
        self.network = network
        self.multiplier = tf.Variable(INITIAL_MULTIPLIER)
        self.steps = tf.Variable(0)
        self.seen = tf.Variable(tf.zeros(3))  # losses, hits and samples
        self.trained: list[Any] = []
        self.velocity: list[Any] = []

    def begin(self, images: Any) -> None:
        """Finds what is trained, and makes its velocities."""
        with tf.GradientTape() as tape:
            self.network(images)
        self.trained = list(tape.watched_variables())
        self.velocity = [tf.Variable(tf.zeros_like(each)) for each in self.trained]

    def step_of(self, least_action: bool, jit: bool) -> Any:
        """One step of `(images, labels)` as a graph, by XLA or not."""

        def step(images: Any, labels: Any) -> None:
            self._step(least_action, images, labels)

        return tf.function(step, jit_compile=jit, autograph=False)

    def _step(self, least_action: bool, images: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            logits, displacements = self.network(images)
            task = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            )
            loss = task
            if least_action:
                energy = tf.add_n([tf.reduce_mean(v**2) for v in displacements])
                loss = task + energy / self.multiplier
        slopes = tape.gradient(loss, self.trained)
        for variable, velocity, slope in zip(
            self.trained, self.velocity, slopes, strict=True
        ):
            velocity.assign(MOMENTUM * velocity - RATE * slope)
            variable.assign_add(velocity)
        self.steps.assign_add(1)
        if least_action:
            due = tf.cast(self.steps % EVERY == 0, tf.float32)
            self.multiplier.assign_add(TAU * task * due)
        found = tf.argmax(logits, 1, labels.dtype) == labels
        hits, count = tf.reduce_sum(tf.cast(found, tf.float32)), labels.shape[0]
        self.seen.assign_add(tf.stack([loss * count, hits, float(count)]))

    def run(self, step: Any, batches: list[tuple[Any, Any]]) -> list[float]:
        """Trains on all batches; returns sums of losses and hits, and the samples."""
        self.seen.assign(tf.zeros(3))
        for images, labels in batches:
            step(images, labels)
        return [float(value) for value in self.seen.numpy()]
