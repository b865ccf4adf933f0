"""When is a sum in a graph the end of a residual block?

``x_out = act?(x_in ± r(x_in))``: `x_in` reaches the sum unchanged, or through a
shortcut that is a projection, and the rest of the sum depends on `x_in`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from keras_lap.blocks.graph import (
    ACTIVATION,
    DIFFERENCE,
    MIXES,
    MODEL,
    NORM,
    SUM,
    Call,
    Graph,
    Tensor,
    flows,
    used,
)
from keras_lap.blocks.shortcuts import copies, projects, shortcut

Kind = Literal["identity", "projection", "layer"]

PARALLEL = "sums parallel branches: no input is a shortcut past the others"
ALL_SHORTCUTS = "sums parallel branches: all of them look like shortcuts"
KEEPS_THE_SHAPE = (
    "its shortcut only normalises or pools and keeps the shape, so no state reaches it"
)
CENTRES = "takes a mean or the like from its input, which moves no state"
BROADCASTS = "the sum broadcasts its shortcut from {} to {}"


class Term(NamedTuple):
    """A tensor that is added, or taken away where `sign` is −1."""

    tensor: Tensor
    sign: int = 1


@dataclass(frozen=True, eq=False)
class Residual:
    """A sum as ``x_in ± r(x_in)``: the states of one residual block in a graph.

    Attributes:
        kind: What the shortcut is.
        before: The state before: `x_in`, or its projection.
        source: `x_in` itself.
        after: The state after: the sum, or the activation of the sum.
        branches: Terms in the graph that add up to the displacement; empty if there
            are none, or more than it takes to subtract one state from the other.
        later: The same sum with a later one of its terms as the state before.
        entering: Where the branch comes from the state outside of the graph alone:
            the inputs of the graph that it enters by.
    """

    kind: Kind
    before: Tensor
    source: Tensor
    after: Tensor
    branches: tuple[Term, ...] = ()
    later: tuple[Residual, ...] = ()
    entering: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class Sum:
    """A call that returns a sum, perhaps activated.

    Attributes:
        call: The call.
        terms: What is added up and taken away, or what its layer computes that from.
        unchanged: The tensors among them that are added as they are.
    """

    call: Call
    terms: Sequence[Term]
    unchanged: Sequence[Tensor]

    def besides(self, tensor: Tensor) -> list[Tensor]:
        """The other terms."""
        return [term.tensor for term in self.terms if term.tensor is not tensor]


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
        The sum of an addition, ``x + a - b`` being one sum of three; that of a layer
        which adds up its inputs; None for anything else, and for a part of a sum.
    """
    if len(call.inputs) < 2 or MODEL in call.roles or _is_part(call):
        return None
    if _adds(call):
        return _sum(call, _terms(call, _is_part))
    unchanged = _added_up(call, call.inside) if call.inside else []
    return Sum(call, list(map(Term, call.inputs)), unchanged) if unchanged else None


def _adds(call: Call) -> bool:
    return SUM in call.roles or DIFFERENCE in call.roles


def _sum(call: Call, terms: list[Term]) -> Sum:
    return Sum(call, terms, [term.tensor for term in terms if term.sign > 0])


def _added_up(call: Call, inside: Graph) -> list[Tensor]:
    """The inputs of a layer that are terms of a sum which it returns."""
    closing = inside.outputs[0].producer
    if closing is not None and ACTIVATION in closing.roles:
        closing = closing.inputs[0].producer
    if closing is None or not _adds(closing):
        return []
    total = _sum(closing, _terms(closing, _is_part))
    unchanged = []
    for outer, source in zip(call.inputs, inside.inputs, strict=True):
        # If the rest comes from it within the layer, the layer is a block, not a sum.
        if source in total.unchanged and not any(
            flows(source, term) for term in total.besides(source)
        ):
            unchanged.append(outer)
    return unchanged


def _is_part(call: Call) -> bool:
    """Whether an addition is only a part of the sum that alone takes it.

    ``(x + a(x)) + b(x)`` is one sum; in ``(y + b(y)) + x`` the inner one is a block of
    its own, for its state before is another, and so it is in ``x - (x + a(x))``.
    """
    whole = _enclosing_sum(call)
    if whole is None:
        return False
    own = _state_before(call)
    if own is None:
        return True
    if Term(call.outputs[0], -1) in _signed(whole):
        return False
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
    found, _ = _candidates(_sum(call, terms))
    return found[0][1] if found else None


def _enclosing_sum(call: Call) -> Call | None:
    """The addition that alone takes the result of an addition and goes on with it."""
    total = call.outputs[0]
    if not _adds(call) or len(total.consumers) != 1:
        return None
    (consumer,) = total.consumers
    within = _adds(consumer) and len(consumer.inputs) > 1
    return consumer if within and not total.leaves else None


def _signed(call: Call) -> list[Term]:
    """The inputs of an addition or subtraction as terms."""
    signs = call.signs or (1,) * len(call.inputs)
    return [Term(*each) for each in zip(call.inputs, signs, strict=True)]


def _terms(call: Call, opens: Callable[[Call], bool]) -> list[Term]:
    """The terms of an addition, those of the additions it opens in their places."""
    terms: list[Term] = []
    stack = _signed(call)[::-1]
    while stack:
        tensor, sign = stack.pop()
        part = tensor.producer
        if part is not None and opens(part):
            inner = _signed(part)[::-1]
            stack.extend(Term(each.tensor, sign * each.sign) for each in inner)
        else:
            terms.append(Term(tensor, sign))
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
    rest = total.besides(before)
    is_state = before in bare or _starts_with_activation(source, rest)
    after = result if is_state else _activated(result)
    plain = after is result and _adds(total.call)
    branches = _others(total.call, before) if plain else ()
    within = any(flows(source, each) for each in rest)
    entering = () if within else tuple(_entering(total.call, source, rest))
    return Residual(kind, before, source, after, branches, entering=entering)


def _candidates(total: Sum) -> tuple[list[tuple[Kind, Tensor, Tensor]], list[str]]:
    """Every way to read a sum as a block: kind, state before, where that comes from.

    If several of its terms are states of the others, the earliest comes first, and a
    shortcut that changes the shape before one that keeps it. Also the reasons why what
    looks like one is none.
    """
    shape = total.call.outputs[0].shape

    found: list[tuple[Kind, Tensor, Tensor]] = []
    reasons: list[str] = []

    def others_use(term: Tensor, source: Tensor) -> bool:
        rest = total.besides(term)
        using = [other for other in rest if flows(source, other)]
        if not using:
            return bool(_entering(total.call, source, rest))
        centres = all(_centres(total, source, other) for other in using)
        reasons.extend([CENTRES] * centres)
        return not centres

    unchanged = list(dict.fromkeys(total.unchanged))
    for term in sorted(unchanged, key=lambda t: min(s.position for s in copies(t))):
        source = next((s for s in copies(term) if others_use(term, s)), None)
        if source is not None and term.shape == shape:
            found.append(("identity", term, source))
        elif source is not None:
            reasons.append(BROADCASTS.format(term.shape, shape))
    if found or CENTRES in reasons:
        return found, reasons
    chains = [[term.tensor, *shortcut(term.tensor)] for term in total.terms]
    for term in unchanged:
        source = next((s for s in shortcut(term) if others_use(term, s)), None)
        if source is None:
            continue
        if sum(source in chain for chain in chains) > 1:
            reasons.append(ALL_SHORTCUTS)
        elif not projects(term, source):
            reasons.append(KEEPS_THE_SHAPE)
        elif term.shape != shape:
            reasons.append(BROADCASTS.format(term.shape, shape))
        else:
            found.append(("projection", term, source))
    found.sort(key=lambda each: (each[1].shape == each[2].shape, each[2].position))
    return found, reasons


def _centres(total: Sum, source: Tensor, other: Tensor) -> bool:
    """Whether a term takes from a state a statistic of that state, as norms do."""
    if Term(other, -1) not in total.terms:
        return False
    if other.shape == total.call.outputs[0].shape:
        return False
    made = (tensor.producer for tensor in between(source, source, [other]))
    return not any(MIXES in call.roles for call in made if call is not None)


def _entering(call: Call, source: Tensor, rest: Sequence[Tensor]) -> list[Tensor]:
    """Inputs of a call's graph that bring what is computed from `source` into `rest`.

    As with a layer that takes a state and what attends to it: they were computed from
    that state, which is another input of the graph, before the layer was called.
    """
    around = call.path[-1] if call.path else None
    if around is None or around.inside is None or source not in around.inside.inputs:
        return []
    outer = dict(zip(around.inside.inputs, around.inputs, strict=True))
    state = outer.pop(source)
    entering = []
    for inner, tensor in outer.items():
        used_here = any(flows(inner, each) for each in rest)
        if used_here and any(_comes(around, each, tensor) for each in copies(state)):
            entering.append(inner)
    return entering


def _comes(call: Call, source: Tensor, tensor: Tensor) -> bool:
    return flows(source, tensor) or bool(_entering(call, source, [tensor]))


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


def _others(call: Call, before: Tensor) -> tuple[Term, ...]:
    """The other terms of an addition, whose own sum then is ``x_out − x_in``.

    None if there are more than two, one is broadcast, or the shortcut is no term itself
    but that of an addition which is; that one may add a constant, which is no tensor.
    """
    terms = _signed(call)
    if Term(before) not in terms:
        return ()
    terms.remove(Term(before))  # once and no more: ``x + x`` moves x by x
    return few(terms, before)


def few(branches: list[Term], state: Tensor) -> tuple[Term, ...]:
    """The branches, if adding them up costs no more than subtracting two states."""
    alike = all(each.tensor.shape == state.shape for each in branches)
    return tuple(branches) if alike and len(branches) <= 2 else ()


def between(source: Tensor, before: Tensor, ends: Sequence[Tensor]) -> list[Tensor]:
    """What some tensors are computed from, after `source`, past the shortcut."""
    oldest = source.position
    stack = list(ends)
    found: set[Tensor] = set()
    while stack:
        tensor = stack.pop()
        new = tensor is not before and tensor not in found
        if new and tensor.position > oldest:
            found.add(tensor)
            stack += used(tensor)
    return sorted(found, key=lambda tensor: tensor.position)
