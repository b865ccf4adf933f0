"""When is a sum in a graph the end of a residual block, and a layer a block as a whole?

``x_out = act?(x_in + r(x_in))``: `x_in` reaches the sum unchanged, or through a
shortcut that only changes its shape, and the rest of the sum depends on `x_in`. A layer
is a block if such sums carry one of its inputs to an output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from keras_lap.blocks.graph import (
    ACTIVATION,
    COPY,
    KEEPS_STATE,
    LAYER,
    MIXES,
    MODEL,
    NORM,
    OWN,
    PROJECTS,
    SUM,
    Call,
    Graph,
    Tensor,
    flows,
    used,
)

Kind = Literal["identity", "projection", "layer"]

PARALLEL = "sums parallel branches: no input is a shortcut past the others"
ALL_SHORTCUTS = "sums parallel branches: all of them look like shortcuts"
KEEPS_THE_SHAPE = "its shortcut is a layer that keeps the shape, so no state reaches it"
BROADCASTS = "the sum broadcasts its shortcut from {} to {}"


@dataclass(frozen=True, eq=False)
class Residual:
    """A sum as ``x_in + r(x_in)``: the states of one residual block in a graph.

    Attributes:
        kind: What the shortcut is.
        before: The state before: `x_in`, or its projection.
        source: `x_in` itself.
        after: The state after: the sum, or the activation of the sum.
        branches: Tensors of the graph that add up to the displacement; empty if there
            are none, or more than it takes to subtract one state from the other.
        later: The same sum with a later one of its terms as the state before.
    """

    kind: Kind
    before: Tensor
    source: Tensor
    after: Tensor
    branches: tuple[Tensor, ...] = ()
    later: tuple[Residual, ...] = ()


@dataclass(frozen=True, eq=False)
class Sum:
    """A call that returns a sum, perhaps activated.

    Attributes:
        call: The call.
        terms: The tensors that are added up, or that its layer computes them from.
        unchanged: Those of them that are terms as they are.
    """

    call: Call
    terms: Sequence[Tensor]
    unchanged: Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the definition says of a sum: the block that it closes, or why none."""

    residual: Residual | None
    reason: str = ""


def find_sum(call: Call) -> Sum | None:
    """A call as a sum of two terms or more.

    Args:
        call: Any call.

    Returns:
        The sum of an addition, ``x + a + b`` being one sum of three; that of a layer
        which adds up its inputs; None for anything else, and for a part of a sum.
    """
    if len(call.inputs) < 2 or MODEL in call.roles or _is_part(call):
        return None
    if SUM in call.roles:
        terms = _terms(call, _is_part)
        return Sum(call, terms, terms)
    unchanged = _added_up(call, call.inside) if call.inside else []
    return Sum(call, call.inputs, unchanged) if unchanged else None


def _added_up(call: Call, inside: Graph) -> list[Tensor]:
    """The inputs of a layer that are terms of a sum which it returns."""
    closing = inside.outputs[0].producer
    if closing is not None and ACTIVATION in closing.roles:
        closing = closing.inputs[0].producer
    if closing is None or SUM not in closing.roles:
        return []
    unchanged = []
    for outer, source in zip(call.inputs, inside.inputs, strict=True):
        rest = [term for term in closing.inputs if term is not source]
        # If the rest comes from it within the layer, the layer is a block, not a sum.
        if len(rest) < len(closing.inputs) and not any(
            flows(source, term) for term in rest
        ):
            unchanged.append(outer)
    return unchanged


def _is_part(call: Call) -> bool:
    """Whether an addition is only a part of the sum that alone takes it.

    ``(x + a(x)) + b(x)`` is one sum; in ``(y + b(y)) + x`` the inner one is a block of
    its own, for its state before is another.
    """
    whole = _enclosing_sum(call)
    if whole is None:
        return False
    own = _state_before(call)
    if own is None:
        return True
    parts = (tensor.producer for tensor in whole.inputs)
    states = [
        _state_before(part)
        for part in parts
        if part is not None and _enclosing_sum(part) is whole
    ]
    same = all(state is None or state is own for state in states)
    return same and _state_before(whole) is own


def _state_before(call: Call) -> Tensor | None:
    """The state before an addition, taken with all additions that it alone takes."""
    terms = _terms(call, lambda part: _enclosing_sum(part) is not None)
    found, _ = _candidates(Sum(call, terms, terms))
    return found[0][1] if found else None


def _enclosing_sum(call: Call) -> Call | None:
    """The addition that alone takes the result of an addition and goes on with it."""
    total = call.outputs[0]
    if SUM not in call.roles or len(total.consumers) != 1:
        return None
    (consumer,) = total.consumers
    within = SUM in consumer.roles and len(consumer.inputs) > 1
    return consumer if within and not total.leaves else None


def _terms(call: Call, opens: Callable[[Call], bool]) -> list[Tensor]:
    """The terms of an addition, those of the additions it opens in their places."""
    terms: list[Tensor] = []
    stack = list(call.inputs[::-1])
    while stack:
        tensor = stack.pop()
        part = tensor.producer
        if part is not None and opens(part):
            stack.extend(part.inputs[::-1])
        else:
            terms.append(tensor)
    return terms


def judge(total: Sum, bare: set[Tensor]) -> Verdict:
    """Decides whether a sum closes a residual block.

    Args:
        total: The sum.
        bare: The sums that closed a block without an activation, so far; extended by
            this one if it does so too.

    Returns:
        The block, or the reason why there is none.
    """
    found, reasons = _candidates(total)
    if not found:
        return Verdict(None, [*reasons, PARALLEL][0])
    first, *later = (_residual(total, bare, *candidate) for candidate in found)
    if first.after is total.call.outputs[0]:
        bare.add(first.after)
    return Verdict(replace(first, later=tuple(later)))


def _residual(
    total: Sum, bare: set[Tensor], kind: Kind, before: Tensor, source: Tensor
) -> Residual:
    result = total.call.outputs[0]
    rest = [term for term in total.terms if term is not before]
    is_state = before in bare or _starts_with_activation(source, rest)
    after = result if is_state else _activated(result)
    plain = after is result and SUM in total.call.roles
    branches = _others(total.call, before) if plain else ()
    return Residual(kind, before, source, after, branches)


def _candidates(total: Sum) -> tuple[list[tuple[Kind, Tensor, Tensor]], list[str]]:
    """Every way to read a sum as a block: kind, state before, where that comes from.

    If several of its terms are states of the others, the earliest comes first. Also the
    reasons why what looks like one is none.
    """
    shape = total.call.outputs[0].shape

    def others_use(term: Tensor, source: Tensor) -> bool:
        rest = (other for other in total.terms if other is not term)
        return any(flows(source, other) for other in rest)

    found: list[tuple[Kind, Tensor, Tensor]] = []
    reasons = []
    unchanged = list(dict.fromkeys(total.unchanged))
    for term in sorted(unchanged, key=lambda t: min(s.position for s in _copies(t))):
        source = next((s for s in _copies(term) if others_use(term, s)), None)
        if source is not None and term.shape == shape:
            found.append(("identity", term, source))
        elif source is not None:
            reasons.append(BROADCASTS.format(term.shape, shape))
    if found:
        return found, reasons
    chains = [list(_shortcut(term)) for term in total.terms]
    for term in unchanged:
        source = next((s for s in _shortcut(term) if others_use(term, s)), None)
        if source is None:
            continue
        if sum(source in chain for chain in chains) > 1:
            reasons.append(ALL_SHORTCUTS)
        elif term.shape == source.shape:
            reasons.append(KEEPS_THE_SHAPE)
        else:
            found.append(("projection", term, source))
    return found, reasons


def _copies(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor, and those that it is a mere copy of."""
    yield tensor
    while (call := tensor.producer) and COPY in call.roles and len(call.inputs) == 1:
        (tensor,) = call.inputs
        yield tensor


def _shortcut(tensor: Tensor) -> Iterator[Tensor]:
    """Tensors from which `tensor` comes through shortcut layers alone."""
    while (call := tensor.producer) and _may_project(call):
        (tensor,) = call.inputs
        yield tensor


def _may_project(call: Call) -> bool:
    """Whether a call may lie on a projection; a model may that is a chain of such."""
    if len(call.inputs) != 1:
        return False
    if MODEL in call.roles and call.inside is not None:
        (source,) = call.inside.inputs
        return source in _shortcut(call.inside.outputs[0])
    return PROJECTS in call.roles


def _activated(total: Tensor) -> Tensor:
    """The activation of a sum if nothing else takes the sum, else the sum."""
    if len(total.consumers) != 1 or total.leaves:
        return total
    (call,) = total.consumers
    return call.outputs[0] if ACTIVATION in call.roles else total


def _starts_with_activation(source: Tensor, rest: list[Tensor]) -> bool:
    """Whether a branch of a state begins by normalising or activating it.

    In such a pre-activation network the states are the sums themselves, and an
    activation after the last of them belongs to the head. Other consumers of the state,
    such as a head of its own, say nothing about the block.
    """
    return any(
        flows(call.outputs[0], term)
        for call in source.consumers
        if ACTIVATION in call.roles or NORM in call.roles
        for term in rest
    )


def _others(call: Call, before: Tensor) -> tuple[Tensor, ...]:
    """The other terms of an addition, whose own sum then is ``x_out − x_in``.

    None if there are more than two, one is broadcast, or the shortcut is no term itself
    but that of an addition which is; that one may add a constant, which is no tensor.
    """
    terms = list(call.inputs)
    if before not in terms:
        return ()
    terms.remove(before)  # once and no more: ``x + x`` moves x by x
    return _few(terms, before)


def _few(branches: list[Tensor], state: Tensor) -> tuple[Tensor, ...]:
    """The branches, if adding them up costs no more than subtracting two states."""
    alike = all(each.shape == state.shape for each in branches)
    return tuple(branches) if alike and len(branches) <= 2 else ()


def between(residual: Residual, total: Call) -> list[Tensor]:
    """What the sum of a block is computed from, after its source, past the shortcut."""
    oldest = residual.source.position
    stack = list(total.inputs)
    found: set[Tensor] = set()
    while stack:
        tensor = stack.pop()
        new = tensor is not residual.before and tensor not in found
        if new and tensor.position > oldest:
            found.add(tensor)
            stack += used(tensor)
    return sorted(found, key=lambda tensor: tensor.position)


@dataclass(frozen=True, eq=False)
class Carried:
    """A state that a layer carries from an input to an output by residual sums.

    Attributes:
        source: Index of the input.
        result: Index of the output.
        passed: The sums between them, the first one first.
        branches: What they add to the state; empty where their sum is not the
            displacement.
    """

    source: int
    result: int
    passed: tuple[Residual, ...]
    branches: tuple[Tensor, ...] = ()


def find_carried(inside: Graph, sums: Mapping[Tensor, Residual]) -> Carried | None:
    """Follows the shortcuts inside a layer from its outputs back to an input.

    Args:
        inside: The graph inside the layer.
        sums: Its residual sums, by their results.

    Returns:
        The first output that comes from an input by residual sums alone, normalised or
        activated after them at the most; None if there is none.
    """
    for result, tensor in enumerate(inside.outputs):
        passed: list[Residual] = []
        while True:
            if passed and tensor in inside.inputs:
                source = inside.inputs.index(tensor)
                carried = Carried(source, result, tuple(passed[::-1]))
                return replace(carried, branches=_added(inside, carried))
            if tensor in sums:
                passed.append(sums[tensor])
                tensor = passed[-1].source
            elif (call := tensor.producer) and _keeps_state(call):
                (tensor,) = call.inputs
            else:
                break
    return None


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


def _added(inside: Graph, carried: Carried) -> tuple[Tensor, ...]:
    """What sums in a row add to a state, if nothing else changes it on the way."""
    state = inside.inputs[carried.source]
    branches: list[Tensor] = []
    for residual in carried.passed:
        if residual.before is not state or not residual.branches:
            return ()
        state = residual.after
        branches += residual.branches
    return _few(branches, state) if state is inside.outputs[carried.result] else ()
