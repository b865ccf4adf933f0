"""Training loops written by hand for each backend, as Keras's guides write them.

A loop trains any Keras model on batches by ``task loss + sum(model.losses)`` and hands
the task loss of every step to `raises`, if that is given.
"""

from __future__ import annotations

import keras

from support.basics import crossentropy

BACKEND = keras.backend.backend()


def loop(model, optimizer, batches, raises=None, compiled=True):
    """Trains and returns the objective of every step.

    Args:
        model: What is trained.
        optimizer: Its optimizer.
        batches: Pairs of inputs and targets.
        raises: A `LeastActionModel` whose λ rises by the task loss; None for none.
        compiled: Whether steps are compiled, where the backend can.
    """
    return _LOOPS[BACKEND](model, optimizer, batches, raises, compiled)


def _tensorflow(model, optimizer, batches, raises, compiled):
    import tensorflow as tf

    def step(x, y):
        with tf.GradientTape() as tape:
            task_loss = crossentropy()(y, model(x, training=True))
            objective = task_loss + sum(model.losses)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(objective, variables), variables)
        if raises is not None:
            raises.raise_multiplier(task_loss)
        return objective

    optimizer.build(model.trainable_variables)
    run = tf.function(step) if compiled else step
    return [float(run(tf.constant(x), tf.constant(y))) for x, y in batches]


def _torch(model, optimizer, batches, raises, compiled):
    import torch

    objectives = []
    for x, y in batches:
        model.zero_grad()
        task_loss = crossentropy()(y, model(x, training=True))
        objective = task_loss + sum(model.losses)
        objective.backward()
        with torch.no_grad():
            gradients = [variable.value.grad for variable in model.trainable_variables]
            optimizer.apply(gradients, model.trainable_variables)
        if raises is not None:
            raises.raise_multiplier(task_loss)
        objectives.append(objective.item())
    return objectives


def _jax(model, optimizer, batches, raises, compiled):
    import jax

    optimizer.build(model.trainable_variables)

    def objective_of(trainable, others, x, y):
        y_pred, others, losses = model.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        task_loss = crossentropy()(y, y_pred)
        return task_loss + sum(losses), (task_loss, others)

    def step(state, x, y):
        trainable, others, slots = state
        of = jax.value_and_grad(objective_of, has_aux=True)
        (objective, (task_loss, others)), gradients = of(trainable, others, x, y)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        if raises is not None:
            others = _raised(model, others, raises, task_loss)
        return (trainable, others, slots), objective

    run = jax.jit(step) if compiled else step
    lists = model.trainable_variables, model.non_trainable_variables
    lists = (*lists, optimizer.variables)
    state = tuple([variable.value for variable in each] for each in lists)
    objectives = []
    for x, y in batches:
        state, objective = run(state, x, y)
        objectives.append(float(objective))
    for variables, values in zip(lists, state, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return objectives


def _raised(model, values, raises, task_loss):
    """The non-trainable variables of a model after λ of one within it has risen."""
    if raises is model:
        return model.stateless_raise_multiplier(values, task_loss)
    variables = model.non_trainable_variables
    mapping = list(zip(variables, values, strict=True))
    with keras.StatelessScope(state_mapping=mapping) as scope:
        raises.raise_multiplier(task_loss)
        return [scope.get_current_value(variable) for variable in variables]


_LOOPS = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}
