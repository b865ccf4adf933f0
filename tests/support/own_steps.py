"""Training steps of one's own, as Keras's guides write them, and a distiller."""

from __future__ import annotations

import keras

import keras_lap


class Student(keras.Model):
    """Distils a teacher into a student, and adds the losses of the student."""

    def __init__(self, teacher, student):
        super().__init__()
        self.teacher, self.student = teacher, student
        self.teacher.trainable = False
        self.built = True

    def call(self, x, training=None):
        return self.student(x, training=training)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        wanted = self.teacher(x, training=False)
        return loss + keras.ops.mean((y_pred - wanted) ** 2)


def update_metrics(metrics, loss, y, y_pred):
    """What the guides do with every metric of a model."""
    for metric in metrics:
        if metric.name == "loss":
            metric.update_state(loss)
        else:
            metric.update_state(y, y_pred)
    return {metric.name: metric.result() for metric in metrics}


class TensorFlow(keras_lap.LeastActionModel):
    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return update_metrics(self.metrics, loss, y, y_pred)


class Torch(keras_lap.LeastActionModel):
    def train_step(self, data):
        import torch

        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        loss.backward()
        with torch.no_grad():
            gradients = [each.value.grad for each in self.trainable_weights]
            self.optimizer.apply(gradients, self.trainable_weights)
        return update_metrics(self.metrics, loss, y, y_pred)


class Jax(keras_lap.LeastActionModel):
    raises = False

    def objective(self, trainable, others, x, y):
        y_pred, others = self.stateless_call(trainable, others, x, training=True)
        return self.compute_loss(x, y, y_pred), (y_pred, others)

    def train_step(self, state, data):
        import jax

        trainable, others, slots, values = state
        x, y = data
        of = jax.value_and_grad(self.objective, has_aux=True)
        (loss, (y_pred, others)), gradients = of(trainable, others, x, y)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        if self.raises:
            task_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            others = self.stateless_raise_multiplier(others, task_loss(y, y_pred))
        new, logs = [], {}
        for metric in self.metrics:
            own, values = (
                values[: len(metric.variables)],
                values[len(metric.variables) :],
            )
            arguments = (loss,) if metric.name == "loss" else (y, y_pred)
            own = metric.stateless_update_state(own, *arguments)
            logs[metric.name] = metric.stateless_result(own)
            new += own
        return logs, (trainable, others, slots, new)


def guide_of(backend):
    """The subclass with the `train_step` of a backend's guide."""
    return {"tensorflow": TensorFlow, "torch": Torch, "jax": Jax}[backend]


class Tests(keras_lap.LeastActionModel):
    def test_step(self, data):
        x, y = data
        y_pred = self(x, training=False)
        return update_metrics(
            self.metrics, self.compute_loss(y=y, y_pred=y_pred), y, y_pred
        )


class TestsOnJax(keras_lap.LeastActionModel):
    def test_step(self, state, data):
        x, y = data
        trainable, others, values = state
        y_pred, others = self.stateless_call(trainable, others, x, training=False)
        loss = self.compute_loss(x, y, y_pred)
        logs, new = {}, []
        for metric in self.metrics:
            many = len(metric.variables)
            own, values = values[:many], values[many:]
            arguments = (loss,) if metric.name == "loss" else (y, y_pred)
            own = metric.stateless_update_state(own, *arguments)
            logs[metric.name] = metric.stateless_result(own)
            new += own
        return logs, (trainable, others, new)


def with_test_step(backend):
    """The subclass with the `test_step` of a backend's guide."""
    return TestsOnJax if backend == "jax" else Tests
