"""Walks a graph and finds the residual blocks in it; of those that nest, the innermost.

A function of plain data: nothing here knows Keras, raises or catches anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from keras_lap.blocks.carried import states_carried
from keras_lap.blocks.definition import (
    PARALLEL,
    Residual,
    between,
    find_sum,
    judge,
)
from keras_lap.blocks.graph import (
    DECLARED,
    DIFFERENCE,
    MODEL,
    SUM,
    Call,
    Graph,
    Tensor,
    every_call,
    flows,
    used,
)
from keras_lap.blocks.report import (
    AROUND,
    CLOSED,
    CLOSED_WITHIN,
    OTHER_STATE,
    UNKNOWN,
    FoundBlock,
    ResidualBlock,
    Skipped,
)
from keras_lap.blocks.shortcuts import copies
from keras_lap.blocks.state import moved_input
from keras_lap.blocks.views import why_hidden

Found = tuple[list[FoundBlock], list[Skipped]]

IS_SUM = "it is a sum, and no state reaches it past a branch"
CHANGES_SHAPE = (
    "its input has shape {} and its output {}, so nothing is moved between them"
)

SEVERAL_STATES = (
    "several of its inputs have the shape {} of its output, and none of them is what "
    "the others are computed from, so its state is not known; one that is given alone "
    "as the first argument is taken for it"
)


def search(graph: Graph) -> Found:
    """Looks at every call of a graph, of the models nested in it and inside layers.

    Args:
        graph: The graph.

    Returns:
        The blocks in forward order, and what looked like one and was left out.
    """
    bare: set[Tensor] = set()
    found: list[FoundBlock] = []
    skipped: list[Skipped] = []
    for call in graph.calls:
        blocks, left_out = _look_at(graph, call, bare)
        found += blocks
        skipped += left_out
    found, strangers = _without_strangers(graph, found)
    found, around = _innermost(graph, found)
    return found, skipped + strangers + around


def whole(graph: Graph, call: Call) -> FoundBlock | Skipped:
    """A call as a block: displacement = output − input; or why it cannot be one."""
    if SUM in call.roles or DIFFERENCE in call.roles:
        return Skipped(call.name, IS_SUM)
    before, after = moved_input(call), call.outputs[0]
    if before is None:
        return Skipped(call.name, SEVERAL_STATES.format(after.shape))
    if before.shape != after.shape:
        return Skipped(call.name, CHANGES_SHAPE.format(before.shape, after.shape))
    return _seen(graph, call, Residual("layer", before, before, after), "")


def _look_at(graph: Graph, call: Call, bare: set[Tensor]) -> Found:
    """Looks at one call: a sum, a model, a layer that may hold sums, or neither."""
    if DECLARED in call.roles:
        return _sorted([whole(graph, call), *_missed(call)])
    if call.closed:
        return [], [Skipped(call.name, CLOSED.format(call.closed) + _unknown(call))]
    total = find_sum(call)
    if total is not None:
        verdict = judge(total, bare)
        if verdict.residual is None:
            return [], [Skipped(call.name, verdict.reason), *_missed(call)]
        block = _seen(graph, call, verdict.residual, call.name)
        return _sorted([block, *_missed(call)])
    if call.inside is None:
        return [], []
    found, skipped = search(call.inside)
    if MODEL in call.roles:
        return found, skipped
    layer = _as_layer(graph, call, call.inside, found)
    if layer is None:
        return _within_call(call, found, skipped)
    return _sorted([layer, *_other_states(call, call.inside, found), *_missed(call)])


def _other_states(
    call: Call, inside: Graph, found: list[FoundBlock]
) -> Iterator[Skipped]:
    """What a layer that is a block carries beside the state that it is measured by."""
    names = {block.residual: block.block.name for block in found}
    first, *others = states_carried(inside, _sums(inside, found))
    for each in others:
        if each.source != first.source:
            name, reason = names[each.passed[-1]], OTHER_STATE.format(call.name)
            yield Skipped(name, reason)


def _missed(call: Call) -> list[Skipped]:
    """What is closed inside a call that is taken as a whole: blocks may be in it."""
    return [
        Skipped(
            part.name, CLOSED_WITHIN.format(call.name, part.closed) + _unknown(part)
        )
        for part in every_call(call.inside)
        if part.closed and (part.has_state or part.used is None)
    ]


def _unknown(call: Call) -> str:
    return UNKNOWN if call.used is None else ""


def _as_layer(
    graph: Graph, call: Call, inside: Graph, found: list[FoundBlock]
) -> FoundBlock | Skipped | None:
    """The sums in a layer's call as one block, the layer, if it is one.

    It is if these sums carry one of its inputs to an output; what else is inside is
    part of it then. Layers with blocks of their own inside count in its place.
    """
    sums = _sums(inside, found)
    states = states_carried(inside, sums) if len(sums) == len(found) else iter(())
    carried = next(states, None)
    if carried is None:
        return None
    closing = found[-1].block.name
    first, *others = carried.passed
    after = inside.outputs[carried.result]
    outer = dict(zip(inside.inputs, call.inputs, strict=True))
    source = call.inputs[carried.source]
    moved = Residual("layer", source, source, call.outputs[carried.result])
    moved = replace(moved, entering=tuple(outer[each] for each in first.entering))
    can_be_seen = not (call.sealed or call.hidden)
    if all(residual.kind == "identity" for residual in carried.passed):
        branches = [term.tensor for term in carried.branches]
        if branches and can_be_seen and not why_hidden(inside, branches):
            start = inside.inputs[carried.source]
            moved = replace(moved, before=start, after=after, branches=carried.branches)
            return _block(inside, call, moved, closing)
        return _seen(graph, call, moved, closing)
    # Only where the projection is the first of them, the state goes on from there.
    later = any(each.kind == "projection" for each in others)
    if later or not can_be_seen or first.before.shape != after.shape:
        return None
    moved = replace(moved, kind="projection", before=first.before, after=after)
    return _seen(inside, call, moved, closing)


def _sums(graph: Graph, found: list[FoundBlock]) -> dict[Tensor, Residual]:
    """Those of some blocks that are sums in a graph, by their results."""
    return {
        block.call.outputs[0]: block.residual
        for block in found
        if block.graph is graph and block.residual and block.block.kind != "layer"
    }


def _without_strangers(graph: Graph, found: list[FoundBlock]) -> Found:
    """Leaves out sums of what entered a call from outside, off the way of a state.

    Where a state and its branch come from outside, the layer has to carry the state on
    to an output: in ``attend(x + positions)`` nothing is moved, wherever the positions
    came from.
    """
    sums = _sums(graph, found)
    if not any(residual.entering for residual in sums.values()):
        return found, []
    moved = {each for state in states_carried(graph, sums) for each in state.passed}
    strange = {each for each in sums.values() if each.entering} - moved
    strangers = [block for block in found if block.residual in strange]
    kept = [block for block in found if block not in strangers]
    return kept, [Skipped(block.block.name, PARALLEL) for block in strangers]


def _within_call(call: Call, found: list[FoundBlock], skipped: list[Skipped]) -> Found:
    """Keeps the blocks inside a layer's call if they can be seen there."""
    reason = call.sealed or call.hidden
    if not reason:
        return found, skipped
    return [], [*skipped, *(Skipped(block.block.name, reason) for block in found)]


def _seen(
    graph: Graph, call: Call, moved: Residual, closing: str
) -> FoundBlock | Skipped:
    """A block if its displacement can be seen while the call around it runs."""
    reason = why_hidden(graph, (moved.before, moved.after))
    branches = [term.tensor for term in moved.branches]
    if reason and not (branches and not why_hidden(graph, branches)):
        return Skipped(call.name, reason)
    return _block(graph, call, moved, closing)


def _block(graph: Graph, call: Call, moved: Residual, closing: str) -> FoundBlock:
    block = ResidualBlock(call.name, moved.kind, moved.after.shape, closing)
    return FoundBlock(block, call, graph, moved)


def _sorted(looked_at: list[FoundBlock | Skipped]) -> Found:
    """Blocks apart from what is left out."""
    found = [each for each in looked_at if isinstance(each, FoundBlock)]
    return found, [each for each in looked_at if isinstance(each, Skipped)]


def _innermost(graph: Graph, found: list[FoundBlock]) -> Found:
    """Leaves out the blocks of a graph that have another one on their branch.

    A long skip around other blocks is a residual sum as well, but its displacement is
    the sum of theirs: counted too, the same way would be paid for twice.

    Args:
        graph: The graph.
        found: Its blocks, and those of the models and layers that it calls.
    """
    kept, skipped = [], []
    depth = len(graph.calls[0].path) if graph.calls else 0
    by_call: dict[Call, list[FoundBlock]] = defaultdict(list)
    for block in found:
        by_call[(*block.path, block.call)[depth]].append(block)
    for block in found:
        inner: list[FoundBlock] = []
        if block.graph is graph and block.block.kind != "layer":
            block, inner = _first_clear(block, by_call)
        elif block.residual and block.residual.entering:
            inner = _outside(block, depth, by_call)
        if not inner:
            kept.append(block)
            continue
        outer = replace(block, around=frozenset(each.block.name for each in inner))
        reason = AROUND.format(inner[0].block.name)
        skipped.append(Skipped(block.block.name, reason, outer))
    return kept, skipped


def _first_clear(
    block: FoundBlock, by_call: dict[Call, list[FoundBlock]]
) -> tuple[FoundBlock, list[FoundBlock]]:
    """The first way to read a block's sum that has no other block on the branch.

    ``h + f(h) + h_0`` moves ``h``, not ``h_0``, if a block lies between the two.
    """
    inner = _on_branch(block, by_call)
    later = block.residual.later if inner and block.residual else ()
    for residual in later:
        clear = replace(block, residual=residual)
        if not _on_branch(clear, by_call):
            by_call[block.call] = [clear]
            return clear, []
    return block, inner


def _outside(
    block: FoundBlock, depth: int, by_call: dict[Call, list[FoundBlock]]
) -> list[FoundBlock]:
    """The same of a block within a call whose branch enters that call from outside."""
    assert block.residual is not None
    state, ends = block.residual.source, list(block.residual.entering)
    for call in reversed(block.call.path[depth:]):
        assert call.inside is not None
        outer = dict(zip(call.inside.inputs, call.inputs, strict=True))
        state = next((each for each in copies(state) if each in outer), state)
        if state not in outer:
            return []
        inputs = (each for each in outer if any(flows(each, end) for end in ends))
        ends = [outer[each] for each in inputs if each is not state]
        state = outer[state]
    return _among(list(copies(state))[-1], state, ends, depth, by_call)


def _on_branch(
    block: FoundBlock, by_call: dict[Call, list[FoundBlock]]
) -> list[FoundBlock]:
    """The blocks that move a state which comes from that of `block`, before its sum."""
    assert block.residual is not None  # as of every block that a search finds
    source, before = block.residual.source, block.residual.before
    return _among(source, before, block.call.inputs, len(block.path), by_call)


def _among(
    source: Tensor,
    before: Tensor,
    ends: Sequence[Tensor],
    depth: int,
    by_call: dict[Call, list[FoundBlock]],
) -> list[FoundBlock]:
    """The blocks between a state and some tensors; see `between`."""
    reached = {source}
    inner: dict[FoundBlock, None] = {}
    for tensor in between(source, before, ends):
        call = tensor.producer
        if call is None or reached.isdisjoint(used(tensor)):
            continue
        reached.add(tensor)
        for other in by_call.get(call, ()):
            assert other.residual is not None
            # The state too, and not only the branch, must come from there.
            if other.call is call:
                lies_there = other.residual.source in reached
            else:
                starts = [each for each in call.inputs if each in reached]
                lies_there = _lies_between(other, starts, tensor, depth)
            if lies_there:
                inner[other] = None
    return list(inner)


def _lies_between(
    block: FoundBlock, starts: Sequence[Tensor], end: Tensor, depth: int
) -> bool:
    """Whether a block moves a state that comes from a tensor and goes into another.

    Args:
        block: A block at any depth within the graph of these tensors.
        starts: Any of these may be where the state comes from.
        end: What has to be computed from it.
        depth: How many calls are around that graph.
    """
    call = (*block.path, block.call)[depth]
    if call is block.call and block.residual is not None:
        source = block.residual.source
        comes = any(flows(start, source) for start in starts)
        return comes and any(flows(output, end) for output in call.outputs)
    if call.inside is None:
        return False
    inputs = zip(call.inputs, call.inside.inputs, strict=True)
    outputs = zip(call.outputs, call.inside.outputs, strict=True)
    within = [
        inner for outer, inner in inputs if any(flows(start, outer) for start in starts)
    ]
    ends = [inner for outer, inner in outputs if flows(outer, end)]
    return any(_lies_between(block, within, each, depth + 1) for each in ends)
