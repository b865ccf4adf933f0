"""A network without some of its blocks, as models over the same layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import keras

from keras_lap.blocks import (
    BlockReport,
    Call,
    Script,
    Tensor,
    require_blocks,
)
from keras_lap.trajectory.cuts import refused, states_of
from keras_lap.trajectory.model_tap import replay, structure
from keras_lap.trajectory.recorder import Recorder

# The states of a block, and the calls around the graph that holds them.
_End = tuple[Tensor, Tensor, tuple[Call, ...]]


def without(report: BlockReport, skipped: Collection[int], name: str) -> keras.Model:
    """A network without some of its blocks, ``x_{k+1} := x_k``.

    Args:
        report: What was found in it.
        skipped: Indices of the blocks.
        name: Name of the new model.

    Returns:
        A Functional model over the same layers; models nested in it that hold such a
        block are new ones too.

    Raises:
        ValueError: If there is no block, or one that cannot be left out.
    """
    require_blocks(report, "that could be left out")
    script = Script()
    ends = [states_of(report.root, found, script) for found in report.found]
    checked: set[Call] = set()
    for found, (_, _, path) in zip(report.found, ends, strict=True):
        for around in {report.root, *path} - checked:
            if reason := script.why_not_trained(around):
                raise refused(found, around, reason)
            checked.add(around)
    left_out = [ends[index] for index in skipped]
    return _rebuilt(report.root, script, left_out, 0, name)


def _rebuilt(
    around: Call, script: Script, ends: list[_End], depth: int, name: str
) -> keras.Model:
    graph = around.inside
    assert graph is not None  # as of what holds a block
    same = {after: before for before, after, path in ends if len(path) == depth}
    within: dict[Call, list[_End]] = {}
    for end in ends:
        for call in end[2][depth : depth + 1]:
            within.setdefault(call, []).append(end)
    instead = {
        call: _Rebuilt(call, script, within_it, depth)
        for call, within_it in within.items()
    }
    inputs, outputs, starts = _structure(around, script, depth)
    values, _ = replay(graph, starts, instead, same, script)
    symbols = {id(symbol) for symbol in keras.tree.flatten(inputs)}
    ends_at = [values[tensor] for tensor in graph.outputs]
    # A model that returns its very input is none to Keras.
    copied = [keras.layers.Identity()(x) if id(x) in symbols else x for x in ends_at]
    return keras.Model(inputs, keras.tree.pack_sequence_as(outputs, copied), name=name)


def _structure(
    around: Call, script: Script, depth: int
) -> tuple[Any, Any, dict[Tensor, Any]]:
    """Symbolic inputs, outputs and the values to begin with, as a call nests them."""
    graph, operation = around.inside, around.operation
    assert graph is not None  # as of what holds a block
    if not graph.is_call:
        inputs, outputs = structure(operation)
        return inputs, outputs, {tensor: tensor.symbol for tensor in graph.inputs}
    starts = {tensor: _input(script.symbol(tensor)) for tensor in graph.inputs}
    if depth:  # what calls it takes the tensors alone
        return list(starts.values()), graph.outputs, starts
    inputs = _root_inputs(around)
    outputs = around.operation.compute_output_spec(inputs)
    own = keras.tree.pack_sequence_as(inputs, list(starts.values()))
    return own, outputs, starts


def _root_inputs(root: Call) -> Any:
    """What a network with a `call` of its own takes, in symbolic tensors.

    Raises:
        ValueError: If that are several arguments.
    """
    args, kwargs = root.arguments.args, root.arguments.kwargs
    if len(args) == 1 and not kwargs:
        return args[0]
    raise ValueError(
        f"The network {root.label!r} cannot be cut: its call() takes several "
        f"arguments. Received: {', '.join(kwargs) or len(args)}. Let it take one "
        "dictionary of them."
    )


def _input(symbol: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(batch_shape=symbol.shape, dtype=symbol.dtype)


class _Rebuilt:
    """What to call in the place of a nested model or layer, as `replay` takes it."""

    def __init__(self, call: Call, script: Script, ends: list[_End], depth: int):
        name = f"{call.label}.use{call.use + 1}" if call.use else call.label
        self._model = _rebuilt(call, script, ends, depth + 1, name)
        self._is_call = call.inside is not None and call.inside.is_call

    def __call__(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
        if self._is_call:
            flat = keras.tree.flatten((args, kwargs))
            tensors = [x for x in flat if isinstance(x, keras.KerasTensor)]
            return {"outputs": self._model(tensors), "seen": []}
        return {"outputs": self._model(*args, **kwargs), "seen": []}


def all_exits(report: BlockReport) -> keras.Model:
    """A model of the K + 1 exits of a network; see `Trajectory.exits`.

    Args:
        report: What was found in it.

    Raises:
        ValueError: If there is no block, or one that cannot be left out.
    """
    require_blocks(report, "that could be left out")
    network = report.root.operation
    record = Recorder(network, report, ["exits"])
    if report.root.inside is not None and report.root.inside.is_call:
        inputs = keras.tree.map_structure(_input, _root_inputs(report.root))
    else:
        inputs, _ = structure(network)
    return keras.Model(inputs, record(inputs).exits, name=f"{network.name}.exits")


def output_structure(report: BlockReport) -> Any:
    """The symbolic outputs of a network, as it nests them.

    Args:
        report: What was found in it.

    Raises:
        ValueError: If its `call` takes several arguments.
    """
    root = report.root
    if root.inside is not None and root.inside.is_call:
        return root.operation.compute_output_spec(_root_inputs(root))
    return structure(root.operation)[1]
