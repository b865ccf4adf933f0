"""How a state reaches a later place in a graph: as it is, or through a shortcut."""

from __future__ import annotations

from collections.abc import Iterator

from keras_lap.blocks.graph import COPY, POINTWISE, PROJECTS, Call, Tensor


def copies(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor, and those that it is a mere copy of, the nearest first."""
    yield tensor
    while (source := _copied(tensor)) is not None:
        tensor = source
        yield tensor


def _copied(tensor: Tensor) -> Tensor | None:
    """What the call that makes a tensor hands on unchanged as that tensor."""
    call = tensor.producer
    if call is None:
        return None
    if COPY in call.roles and len(call.inputs) == 1:
        return call.inputs[0]
    if call.inside is None:
        return None
    # In training it may be no copy, as with a dropout of one's own.
    graphs = [call.inside, *([call.inside.training] if call.inside.training else [])]
    result = call.outputs.index(tensor)
    found = set()
    for graph in graphs:
        ends = list(copies(graph.outputs[result]))[-1]
        found.add(graph.inputs.index(ends) if ends in graph.inputs else None)
    (index, *others) = found
    return None if others or index is None else call.inputs[index]


def shortcut(tensor: Tensor) -> Iterator[Tensor]:
    """Tensors from which `tensor` comes through shortcut layers alone."""
    while (call := tensor.producer) and _may_project(call):
        (tensor,) = call.inputs
        yield tensor


def _may_project(call: Call) -> bool:
    """Whether a call may lie on a projection, as does what is a chain of such calls."""
    if len(call.inputs) != 1:
        return False
    if call.inside is not None and len(call.outputs) == 1:
        (source,) = call.inside.inputs
        if source in shortcut(call.inside.outputs[0]):
            return True
    return PROJECTS in call.roles


def projects(tensor: Tensor, source: Tensor) -> bool:
    """Whether a shortcut is a projection: changes the shape, or mixes features.

    A pooling or normalisation alone that keeps the shape is none.
    """
    return tensor.shape != source.shape or _mixes(tensor, source)


def _mixes(tensor: Tensor, source: Tensor) -> bool:
    """Whether a linear layer lies between the two ends of a shortcut."""
    while tensor is not source:
        call = tensor.producer
        assert call is not None  # as of each step of a shortcut
        inside = None if PROJECTS in call.roles else call.inside
        if POINTWISE in call.roles:
            return True
        if inside is not None and _mixes(inside.outputs[0], inside.inputs[0]):
            return True
        (tensor,) = call.inputs
    return False
