"""What one training step takes, counted and not timed: no noise reaches it.

- **JAX**: XLA's own account of the compiled step: floating point operations, bytes
  read and written, and the memory of what it needs in between.
- **TensorFlow**: the graph of the step, before anything is optimised but without what
  nothing depends on, which TensorFlow never runs: its operations, the bytes of what
  they make, and the bytes that what follows the forward pass takes from it; floating
  point operations as TensorFlow's profiler counts them in the whole graph.
- **PyTorch**: every operation that a step runs, the bytes that it makes anew, floating
  point operations of products and convolutions, and the bytes that are kept for the
  backward pass, each storage once, without parameters and data.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

Counts = dict[str, float]


def step_counts(model: keras.Model, data: dict[str, Any]) -> Counts:
    """Counts one training step of a model.

    Args:
        model: Compiled. It is fitted on one batch first, so that all is built.
        data: Arguments of `fit`, as `Subject.data` returns them.

    Returns:
        `flops`, `operations`, `bytes` and `memory`; JAX tells no operations.
    """
    batch = _begun(model, data)
    counters = {"jax": _of_jax, "tensorflow": _of_tensorflow, "torch": _of_torch}
    return counters[keras.backend.backend()](model, batch)


def _begun(model: keras.Model, data: dict[str, Any]) -> tuple[Any, Any]:
    """Fits a model on the first batch of data, and returns that."""
    size = data["batch_size"]
    x, y = data["x"][:size], data["y"][:size]
    model.fit(**{**data, "x": x, "y": y})
    return ops.convert_to_tensor(x), ops.convert_to_tensor(y)


def lowered_step(model: keras.Model, data: dict[str, Any]) -> Any:
    """The step of JAX as XLA gets it, with `compile()` for what it makes of it.

    Args:
        model: As in `step_counts`.
        data: Likewise.
    """
    return _lowered(model, _begun(model, data))


def jax_state(model: keras.Model) -> list[list[Any]]:
    """The values that a step of JAX takes, in Keras's order."""
    kinds = (
        *(model.trainable_variables, model.non_trainable_variables),
        *(model.optimizer.variables, model.metrics_variables),
    )
    return [[variable.value for variable in kind] for kind in kinds]


def of_compiled(compiled: Any) -> Counts:
    """XLA's account of a compiled program of JAX."""
    cost = compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return {
        "flops": cost["flops"],
        "bytes": cost["bytes accessed"],
        "memory": compiled.memory_analysis().temp_size_in_bytes,
    }


def _lowered(model: keras.Model, batch: Any) -> Any:
    import jax

    # The old values go to the step, as in Keras's own.
    step = jax.jit(model.train_step, donate_argnums=0)
    return step.lower(jax_state(model), batch)


def _of_jax(model: keras.Model, batch: Any) -> Counts:
    return of_compiled(_lowered(model, batch).compile())


def _of_tensorflow(model: keras.Model, batch: Any) -> Counts:
    import tensorflow as tf

    step = tf.function(lambda x, y: model.train_step((x, y)), autograph=False)
    graph = step.get_concrete_function(*batch).graph
    # The operations of functions that the graph calls are those functions' own.
    inner = {each.name: each for each in graph._functions.values()}
    graphs = [graph, *(function.graph for function in inner.values())]
    operations = [each for one in graphs for each in _needed(one)]
    ours = [each for each in operations if each.type not in _NO_WORK]
    # In the order in which they are made: all from the first gradient on comes after.
    order = {each.name: place for place, each in enumerate(graph.get_operations())}
    first = min(place for name, place in order.items() if name.startswith(_GRADIENT))
    after = [each for each in _needed(graph) if order[each.name] >= first]
    read = [_source(tensor) for each in after for tensor in each.inputs]
    kept = {
        tensor.ref(): tensor
        for tensor in read
        if order[tensor.op.name] < first and tensor.op.type not in _NO_WORK
    }
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    profile = tf.compat.v1.profiler.profile(
        graph, options={**options, "output": "none"}
    )
    return {
        "flops": profile.total_float_ops,
        "operations": len(ours),
        "bytes": sum(_size(tensor) for each in ours for tensor in each.outputs),
        "memory": sum(map(_size, kept.values())),
    }


_GRADIENT = "gradient_tape/"
# What names or reads something and computes nothing.
_SAME = {"Identity", "IdentityN"}
_NO_WORK = {*_SAME, "Const", "NoOp", "Placeholder", "ReadVariableOp"}


def _needed(graph: Any) -> list[Any]:
    """The operations that what a graph returns, or does, depends on."""
    found: dict[str, Any] = {}
    ends = [*(each.op for each in graph.outputs), *graph.control_outputs]
    while ends:
        operation = ends.pop()
        if operation.name not in found:
            found[operation.name] = operation
            ends += [each.op for each in operation.inputs] + operation.control_inputs
    return [*found.values()]


def _source(tensor: Any) -> Any:
    """The tensor that this one only names anew."""
    while tensor.op.type in _SAME:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def _size(tensor: Any) -> int:
    shape = tensor.shape.as_list() if tensor.shape.rank is not None else [0]
    if None in shape or not tensor.dtype.size:
        return 0
    return math.prod(shape) * tensor.dtype.size


def _of_torch(model: keras.Model, batch: Any) -> Counts:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    known = {each.untyped_storage().data_ptr() for each in [*batch, *_values(model)]}
    kept: dict[int, Any] = {}
    made = {"operations": 0, "bytes": 0}

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = function(*args, **(kwargs or {}))
            own = {id(each) for each in _tensors((args, kwargs), torch)}
            stored = {
                each.untyped_storage().data_ptr()
                for each in _tensors((args, kwargs), torch)
            }
            made["operations"] += 1
            for each in _tensors(result, torch):
                storage = each.untyped_storage()
                if id(each) not in own and storage.data_ptr() not in stored:
                    made["bytes"] += storage.nbytes()
            return result

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = (
                storage  # alive, so that no other takes its place
            )
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    flops = FlopCounterMode(display=False)
    with flops, Counting():
        model.train_step(batch)
    with hooks:  # another step, as hooks make operations of their own
        model.train_step(batch)
    memory = sum(storage.nbytes() for storage in kept.values())
    return {"flops": flops.get_total_flops(), **made, "memory": memory}


def _tensors(values: Any, torch: Any) -> list[Any]:
    return [each for each in keras.tree.flatten(values) if torch.is_tensor(each)]


def _values(model: keras.Model) -> list[Any]:
    return [variable.value for variable in [*model.variables, *model.metrics_variables]]
