"""Replicas: the copies of one model that Keras's strategies train side by side.

On JAX a step sees the whole batch whatever the devices are, and XLA adds what they have
to tell each other. A replica of TensorFlow's strategies and a process of PyTorch see
their own part of the batch: what is one number for the whole batch, as the loss that
raises λ, has to be gathered there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap.training.scalars import number

_BACKEND = keras.backend.backend()
_FIRST_KERAS_WITH_TORCH = (3, 16)

if _BACKEND == "tensorflow":
    import tensorflow as tf
elif _BACKEND == "torch":
    import torch


def own_mean(loss: Any) -> Any:
    """Undoes the division by the number of replicas that Keras does on TensorFlow.

    Args:
        loss: What `keras.Model.compute_loss` returns in a step, scalar, or of
            ``reduction="none"`` with an axis of samples.

    Returns:
        The loss of this replica's part of the batch; the mean of one that has a value
        for each sample, which nobody has divided.
    """
    if len(loss.shape) > 0:
        return ops.mean(loss)
    replicas = _tensorflow_replicas()
    return loss if replicas == 1 else loss * ops.cast(replicas, loss.dtype)


def objective(task_loss: Any, added: list[Any]) -> Any:
    """The task loss and what is added to it, as `keras.Model.compute_loss` adds up.

    Of ``reduction="none"`` TensorFlow minimises the sum over samples. Each of them then
    bears what is added, so that it weighs as much as beside the mean.

    Args:
        task_loss: As that method returns it, scalar or with an axis of samples.
        added: Scalars, divided by the number of replicas.
    """
    if not added:
        return task_loss
    if len(task_loss.shape) > 0:
        return task_loss + own_mean(sum(added))
    return sum(added, start=task_loss)


def batch_mean(loss: Any, size: Any) -> Any:
    """The loss of the whole batch, the same number on every replica; or several.

    Replicas count by their part of the batch, as in the losses that Keras logs. One
    whose part is empty does not count.

    Args:
        loss: Loss of this replica's part, scalar; or a tensor `(numbers,)` of means.
        size: How many samples that part has.

    Returns:
        A float32 tensor of the same shape without gradient.
    """
    return batch_mean_and_sums(loss, size)[0]


def batch_mean_and_sums(
    loss: Any, size: Any, sums: Callable[[], Any] | None = None
) -> tuple[Any, Any]:
    """As `batch_mean`, and on PyTorch sums over the whole batch, by the same call.

    Replicas wait for each other at every call. Keras's processes of PyTorch would make
    another one for what is logged, after the step.

    Args:
        loss: As for `batch_mean`.
        size: As for `batch_mean`.
        sums: Returns a tensor `(any,)` of this replica's part, if it is asked for.
            Defaults to None, no sums.

    Returns:
        The means; and the sums, or None where nobody has added them up.
    """
    loss = number(loss)
    add_up = _sum_over_replicas()
    if add_up is None:
        return loss, None
    size = number(size)
    means = ops.reshape(ops.where(size > 0, loss * size, 0.0), (-1,))
    sent = [means, ops.reshape(size, (1,))]
    joins = sums is not None and _BACKEND == "torch"
    if sums is not None and joins:
        sent.append(number(sums()))
    many, known = means.shape[0], add_up(ops.concatenate(sent))
    means = ops.reshape(known[:many] / known[many], loss.shape)
    return means, known[many + 1 :] if joins else None


def read(variable: keras.Variable) -> np.ndarray:
    """The value of a variable outside of any step.

    `float(variable)` fails for the variables of TensorFlow's strategies, and so does
    any reading while Keras builds the model of a strategy in a graph.
    """
    if _BACKEND == "tensorflow":
        with tf.init_scope():
            return np.asarray(ops.convert_to_numpy(variable))
    return np.asarray(ops.convert_to_numpy(variable))


def runs_as_written() -> bool:
    """Whether a step runs line by line, so that it may read a value on its way."""
    return _BACKEND == "torch" and not torch.compiler.is_compiling()


def is_known_to_jax(value: Any) -> bool:
    """Whether an array of JAX has its numbers, outside of what is compiled."""
    if _BACKEND != "jax":
        return False
    import jax

    return not isinstance(value, jax.core.Tracer)


def writes_files() -> bool:
    """Whether this process is the one of several that writes files."""
    if _BACKEND == "jax":
        import jax

        return jax.process_index() == 0
    group = _torch_group()
    return group is None or group.rank() == 0


def check_processes() -> None:
    """Refuses PyTorch processes that would train side by side, each for itself.

    Raises:
        RuntimeError: If there are several processes and this release of Keras cannot
            join them, or they have not been joined.
    """
    if _BACKEND != "torch" or _world_size() == 1:
        return
    major, minor = map(int, keras.__version__.split(".")[:2])
    if (major, minor) < _FIRST_KERAS_WITH_TORCH:
        raise RuntimeError(
            f"{_world_size()} PyTorch processes run this script, and Keras "
            f"{keras.__version__} cannot join them: each would train a network of its "
            "own. Install Keras 3.16 or later: pip install 'keras>=3.16' or, until it "
            "is released, pip uninstall keras; pip install keras-nightly. Or start "
            "one process."
        )
    if not _torch_is_joined():
        raise RuntimeError(
            f"WORLD_SIZE says that {_world_size()} PyTorch processes run this script, "
            "but they have not been joined: each would train a network of its own. "
            "Before building the model, call keras.distribution.initialize() and "
            "keras.distribution.set_distribution(keras.distribution.DataParallel("
            "auto_shard_dataset=False)). Or start one process."
        )


def _sum_over_replicas() -> Any:
    """What adds a tensor up over all replicas; None where there is one."""
    if _tensorflow_replicas() > 1:
        context = tf.distribute.get_replica_context()
        return lambda values: context.all_reduce(tf.distribute.ReduceOp.SUM, values)
    group, distribution = _torch_group(), keras.distribution.distribution()
    # The tensors of the latter are the whole batch's.
    if group is None or isinstance(distribution, keras.distribution.ModelParallel):
        return None

    def add_up(values: Any) -> Any:
        torch.distributed.all_reduce(values, group=group)
        return values

    return add_up


def _tensorflow_replicas() -> int:
    if _BACKEND != "tensorflow":
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def _torch_group() -> Any:
    """The processes that share a batch; None where there is one."""
    if _BACKEND != "torch" or not _torch_is_joined():
        return None
    distribution = keras.distribution.distribution()
    if distribution is None:
        return torch.distributed.group.WORLD
    # As Keras does it, for its gradients and its metrics.
    return distribution.device_mesh.backend_mesh.get_group(distribution.batch_dim_name)


def _torch_is_joined() -> bool:
    available = torch.distributed.is_available()
    return available and torch.distributed.is_initialized()


def _world_size() -> int:
    if _torch_is_joined():
        return torch.distributed.get_world_size()
    return int(os.environ.get("WORLD_SIZE", 1))
