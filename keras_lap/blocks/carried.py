"""States that a layer carries from its input to its output, merge by merge."""

from __future__ import annotations

from keras_lap.blocks.definition import Merge, few
from keras_lap.blocks.graph import Graph, Tensor
from keras_lap.blocks.operations import keeps_state


def find_carried(
    inner: Graph, merges: dict[int, Merge]
) -> tuple[int, int, list[Merge]] | None:
    """Follows the shortcuts inside a layer from its outputs back to an input.

    Args:
        inner: The graph inside the layer.
        merges: Its merges, by the id of the sum.

    Returns:
        The index of the input and of the output between which the state is carried
        by residual merges alone, normalised or activated after them at the most, and
        these merges, the first one first; None if there is no such path.
    """
    for output_index, tensor in enumerate(inner.outputs):
        passed: list[Merge] = []
        while True:
            for input_index, source in enumerate(inner.inputs):
                if passed and tensor is source:
                    return input_index, output_index, passed[::-1]
            node = inner.producer(tensor)
            if id(tensor) in merges:
                passed.append(merges[id(tensor)])
                tensor = passed[-1].source
            elif node is not None and keeps_state(inner, node):
                tensor = node.inputs[0]
            else:
                break
    return None


def carried_branches(
    inner: Graph, source: int, result: int, passed: list[Merge]
) -> tuple[Tensor, ...]:
    """What merges in a row add to a state, if nothing else changes it on the way.

    Args:
        inner: The graph inside the layer.
        source: Index of the input that carries the state; see `find_carried`.
        result: Index of the output.
        passed: The merges between them, the first one first.

    Returns:
        The branches of all; empty where their sum is not the displacement.
    """
    state = inner.inputs[source]
    branches: list[Tensor] = []
    for merge in passed:
        if merge.shortcut is not state or not merge.branches:
            return ()
        state = merge.output
        branches += merge.branches
    return few(branches, state) if state is inner.outputs[result] else ()
