"""Random residual networks: what is found against the definition, by brute force."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import plain_graphs
from support.basics import as_numpy
from support.brute_force import Block, Key, Truth
from support.drawn_networks import networks, random_network
from support.graph_specs import ADDITIONS, Keras, Net, Op

from keras_lap import DisplacementRecorder, find_residual_blocks
from keras_lap.blocks.search import search as search_graph

# What is found does not depend on the backend, and building is slow on two of them.
THOROUGH = keras.backend.backend() == "torch"
COUNT = 60 if THOROUGH else 20
PLAIN, BATCH = 5_000, 50


def examples(count: int):
    # Only printed if it fails: large networks are slow to draw, which is no fault.
    checks = (HealthCheck.too_slow, HealthCheck.data_too_large)
    return settings(max_examples=count, suppress_health_check=checks)


def build(net: Net) -> Keras:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    return Keras(net)


def search(model: keras.Model, **options):
    return find_residual_blocks(model, include_projections=True, **options)


def name_of(built: Keras, key: Key) -> str:
    """What a report calls a sum."""
    path, number, _ = key
    net = path[-1].partition("#")[0] if path else built.net.name
    return "/".join((*path, built.names[net, number]))


def check_report(found, skipped, truth: Truth, name, seen: Counter) -> None:
    """Compares what a search returns with the definition.

    Args:
        found: The blocks, `ResidualBlock`s.
        skipped: What was left out.
        truth: What the definition says.
        name: Makes the name of a sum in the report from its key.
        seen: Counts what the definition found.
    """
    expected = {}
    for block in truth.blocks:
        shape = (None, *truth.values[block.after].shape)
        expected[name(block.total)] = (block.kind, shape)
        seen[block.kind] += 1
    assert {b.name: (b.kind, b.shape) for b in found} == expected
    assert len(found) == len(expected)

    outer = [name(block.total) for block in truth.outer]
    others = [name(key) for key in truth.others]
    assert sorted(s.name for s in skipped) == sorted(outer + others)
    for each, reason in ((s.name, s.reason) for s in skipped):
        assert ("lies on its branch" in reason) == (each in outer)
    seen["outer"] += len(outer)
    seen["no block"] += len(others)

    # Forward order: none before another that it is computed from.
    totals = {name(block.total): block.total for block in truth.blocks}
    order = [totals[block.name] for block in found]
    for n, key in enumerate(order):
        assert not truth.above[key] & set(order[n + 1 :])


def assert_enough(seen: Counter, count: int) -> None:
    """The networks held enough of everything for the agreement to mean something."""
    kinds = ("identity", "projection", "layer", "outer", "no block")
    assert min(seen[kind] for kind in kinds) >= count // 40


@pytest.mark.skipif(not THOROUGH, reason="no backend takes part")
def test_thousands_of_plain_graphs_are_searched_as_the_definition_says():
    seen: Counter = Counter()
    seeds = set()

    @examples(2 * PLAIN // BATCH)  # some are drawn twice
    @given(st.integers(0, 2**32))
    def check(first):
        for seed in range(first, first + BATCH if len(seeds) < PLAIN else first):
            net = random_network(seed)
            found, skipped = search_graph(plain_graphs.plain_graph(net))
            blocks = [each.block for each in found]
            name = functools.partial(plain_graphs.name_of, net)
            check_report(blocks, skipped, Truth(net), name, seen)
            seeds.add(seed)

    check()
    assert len(seeds) >= PLAIN
    assert_enough(seen, PLAIN)


def test_blocks_are_those_of_the_definition():
    seen: Counter = Counter()

    @examples(COUNT)
    @given(networks())
    def check(net):
        built = build(net)
        report = search(built.model)
        name = functools.partial(name_of, built)
        check_report(report, report.skipped, Truth(net), name, seen)

    check()
    assert_enough(seen, COUNT)


@examples(COUNT // 5)
@given(networks())
def test_displacements_are_state_after_minus_state_before(net):
    built, truth = build(net), Truth(net)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    report = search(built.model)
    _, displacements = DisplacementRecorder(built.model, report)(images)
    values = built.values(keras.ops.convert_to_tensor(images))
    blocks = {name_of(built, block.total): block for block in truth.blocks}
    for block, displacement in zip(report, displacements, strict=True):
        check_displacement(blocks[block.name], as_numpy(displacement), values)


def check_displacement(block: Block, displacement: np.ndarray, values: dict) -> None:
    before, after = (as_numpy(values[key]) for key in (block.before, block.after))
    # The recorder may take the branch itself; the difference of two float32 states is
    # only as exact as these are large.
    atol = 1e-5 * max(1.0, np.abs(before).max(), np.abs(after).max())
    np.testing.assert_allclose(displacement, after - before, rtol=1e-4, atol=atol)


@examples(COUNT // 5)
@given(networks())
def test_projections_left_out_are_those_found_with_them(net):
    model = build(net).model
    found = find_residual_blocks(model)
    everything = search(model)
    kept = [block for block in everything if block.kind != "projection"]
    assert list(found) == kept
    skipped = {s.name for s in found.skipped} - {s.name for s in everything.skipped}
    assert skipped == {b.name for b in everything if b.kind == "projection"}


def rebuilt(net: Net, change) -> Net:
    """A copy of a net, and of those in it, with every operation changed."""
    made: dict[str, Net] = {}

    def copy(net: Net) -> Net:
        if net.name not in made:
            ops = [nested(change(op)) for op in net.ops]
            made[net.name] = replace(net, ops=ops)
        return made[net.name]

    def nested(op: Op) -> Op:
        inner = op.options.get("net")
        return replace(op, options={"net": copy(inner)}) if inner else op

    return copy(net)


def renamed(op: Op) -> Op:
    # Neither what an operation is nor its place can be read off such a name.
    return replace(op, name=f"add_relu_{op.name[::-1]}")


def swapped(op: Op) -> Op:
    return replace(op, inputs=op.inputs[::-1]) if op.kind in ADDITIONS else op


@pytest.mark.parametrize("change", [renamed, swapped])
def test_names_and_the_order_of_terms_do_not_matter(change):
    @examples(COUNT // 10)
    @given(networks())
    def check(net):
        first = search(build(net).model)
        second = search(build(rebuilt(net, change)).model)
        # Sums side by side may be listed in another order.
        assert Counter((b.kind, b.shape) for b in first) == Counter(
            (b.kind, b.shape) for b in second
        )
        assert len(first.skipped) == len(second.skipped)

    check()


@examples(COUNT // 10)
@given(networks())
def test_a_model_around_it_changes_only_the_names(net):
    model = build(net).model
    inputs = keras.Input(model.input_shape[1:])
    around = keras.Model(inputs, model(inputs), name="around")
    inner = [(f"net/{b.name}", b.kind, b.shape) for b in search(model)]
    assert [(b.name, b.kind, b.shape) for b in search(around)] == inner
