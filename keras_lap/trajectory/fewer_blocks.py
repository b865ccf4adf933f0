"""A network without some of its blocks, as models over the same layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import keras

from keras_lap.blocks import BlockReport, Call, Graph, Tensor, require_blocks
from keras_lap.trajectory.cuts import states_of
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
    ends = [states_of(report.root, found) for found in report.found]
    left_out = [ends[index] for index in skipped]
    assert report.root.inside is not None  # as of a network whose blocks are found
    return _rebuilt(report.root.operation, report.root.inside, left_out, 0, name)


def _rebuilt(
    model: keras.Model, graph: Graph, ends: list[_End], depth: int, name: str
) -> keras.Model:
    same = {after: before for before, after, path in ends if len(path) == depth}
    within: dict[Call, list[_End]] = {}
    for end in ends:
        for call in end[2][depth : depth + 1]:
            within.setdefault(call, []).append(end)
    instead = {
        call: _Rebuilt(call, within_it, depth) for call, within_it in within.items()
    }
    inputs, outputs = structure(model)
    values, _ = replay(graph, instead, same)
    starts = {id(symbol) for symbol in keras.tree.flatten(inputs)}
    ends_at = [values[tensor] for tensor in graph.outputs]
    # A model that returns its very input is none to Keras.
    copied = [keras.layers.Identity()(x) if id(x) in starts else x for x in ends_at]
    return keras.Model(inputs, keras.tree.pack_sequence_as(outputs, copied), name=name)


class _Rebuilt:
    """What to call in the place of a nested model, as `replay` takes it."""

    def __init__(self, call: Call, ends: list[_End], depth: int):
        assert call.inside is not None  # as of every model
        name = f"{call.label}.use{call.use + 1}" if call.use else call.label
        self._model = _rebuilt(call.operation, call.inside, ends, depth + 1, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
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
    inputs, _ = structure(network)
    return keras.Model(inputs, record(inputs).exits, name=f"{network.name}.exits")
