"""When is a layer a residual block as a whole? If residual sums carry an input through.

``x_out = norm?(x_in + r_1(x_in) + …)``: followed from its outputs back to an input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from keras_lap.blocks.definition import Residual, Term, few
from keras_lap.blocks.graph import KEEPS_STATE, LAYER, MIXES, OWN, Call, Graph, Tensor
from keras_lap.blocks.shortcuts import copies


@dataclass(frozen=True, eq=False)
class Carried:
    """A state that a layer carries from an input to an output by residual sums.

    Attributes:
        source: Index of the input.
        result: Index of the output.
        passed: The sums between them, the first one first.
        branches: What they add to the state or take away; empty where that is not the
            displacement.
    """

    source: int
    result: int
    passed: tuple[Residual, ...]
    branches: tuple[Term, ...] = ()


def states_carried(inside: Graph, sums: Mapping[Tensor, Residual]) -> Iterator[Carried]:
    """Follows the shortcuts inside a layer from its outputs back to an input.

    Args:
        inside: The graph inside the layer.
        sums: Its residual sums, by their results.

    Yields:
        Each output that comes from an input by residual sums alone, normalised or
        activated after them at the most.
    """
    for result, tensor in enumerate(inside.outputs):
        passed: list[Residual] = []
        while True:
            if passed and tensor in inside.inputs:
                source = inside.inputs.index(tensor)
                carried = Carried(source, result, tuple(passed[::-1]))
                yield replace(carried, branches=_added(inside, carried))
                break
            if tensor in sums:
                passed.append(sums[tensor])
                tensor = passed[-1].source
            elif (call := tensor.producer) and _keeps_state(call):
                (tensor,) = call.inputs
            elif (source_of := list(copies(tensor))[-1]) is not tensor:
                tensor = source_of
            else:
                break


def _keeps_state(call: Call) -> bool:
    """Whether a call after a sum still hands on the state: norm, act, constant."""
    if len(call.inputs) != 1:
        return False
    if KEEPS_STATE in call.roles:
        return True
    # A norm of one's own: it keeps the shape, and mixes the features by no weights.
    return (
        LAYER in call.roles
        and OWN in call.roles
        and call.inside is not None
        and call.keeps_shape
        and not any(MIXES in step.roles for step in call.inside.calls)
    )


def _added(inside: Graph, carried: Carried) -> tuple[Term, ...]:
    """What sums in a row add to a state, if nothing else changes it on the way."""
    state = inside.inputs[carried.source]
    branches: list[Term] = []
    for residual in carried.passed:
        if residual.before is not state or not residual.branches:
            return ()
        state = residual.after
        branches += residual.branches
    return few(branches, state) if state is inside.outputs[carried.result] else ()
