"""The edges of the definition: each test fails if one of its conditions is dropped."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import ON_ONE, as_numpy

from keras_lap import DisplacementRecorder, find_residual_blocks

pytestmark = ON_ONE

L = keras.layers
ops = keras.ops


def conv(x, filters=4, size=3, **options):
    return L.Conv2D(filters, size, padding="same", **options)(x)


def model_of(build):
    inputs = keras.Input((8, 8, 4))
    return keras.Model(inputs, build(inputs))


def search(build):
    return find_residual_blocks(model_of(build), include_projections=True)


def moves(build):
    """For each block, the names of the operations that make its two states."""
    states = [(f.residual.before, f.residual.after) for f in search(build).found]
    return [tuple(t.producer.label for t in pair) for pair in states]


@pytest.mark.parametrize("softmax", [L.Activation("softmax"), ops.softmax, L.Softmax()])
def test_a_softmax_after_the_sum_moves_no_state(softmax):
    def build(x):
        x = conv(x, name="before")
        return softmax(L.Add(name="sum")([x, conv(x)]))

    assert moves(build) == [("before", "sum")]


@pytest.mark.parametrize("layer", [L.Conv2D(8, 1, name="short"), L.Dense(8)])
def test_an_activated_shortcut_is_a_branch(layer):
    """A linear 1×1 convolution projects the state; an activated one computes."""
    relu = type(layer).from_config({**layer.get_config(), "activation": "relu"})
    assert len(search(lambda x: layer(x) + conv(conv(x), 8))) == 1
    assert len(search(lambda x: relu(x) + conv(conv(x), 8))) == 0


def test_a_sum_that_the_model_returns_is_itself_the_state():
    def build(x):
        x = conv(x, name="before")
        total = L.Add(name="sum")([x, conv(x)])
        return L.ReLU()(total), total

    assert moves(build) == [("before", "sum")]


def test_a_part_that_the_model_returns_is_a_sum_of_its_own():
    def build(x):
        x = conv(x, name="before")
        inner = L.Add(name="inner")([x, conv(x)])
        return L.Add(name="outer")([inner, conv(x)]), inner

    assert moves(build) == [("before", "inner")]
    assert [skipped.name for skipped in search(build).skipped] == ["outer"]
    # Read by the outer sum alone, it is a part of it.
    assert moves(lambda x: build(x)[0]) == [("before", "outer")]


def test_a_shortcut_that_the_sum_broadcasts_is_no_state():
    def build(x):
        gate = L.GlobalAveragePooling2D(keepdims=True)(x)
        return gate + gate * conv(x)

    report = search(build)
    assert len(report) == 0
    assert "broadcasts its shortcut" in report.skipped[0].reason


def test_the_displacement_by_a_broadcast_branch_has_the_shape_of_the_state():
    """Each pixel moves: a branch of one pixel alone would cost too little."""
    pooled = L.GlobalAveragePooling2D(keepdims=True)
    model = model_of(lambda x: x + pooled(x))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype("float32")
    record = DisplacementRecorder(model, find_residual_blocks(model))
    _, (displacement,) = record(images)
    assert as_numpy(displacement).shape == images.shape


def two_streams(x, swap):
    """Each ends in a block; what joins them has no shortcut."""
    x, y = conv(x, name="x"), conv(x, name="y")
    ends = L.Add(name="a")([x, conv(x)]), L.Add(name="b")([y, conv(y)])
    return L.Add(name="joined")(ends[::-1] if swap else ends)


def input_at_every_block(x, swap):
    """Of two states that a sum adds, the one that no other block lies after."""
    x = first = conv(x, name="first")
    for name in ("a", "b"):
        terms = [x, conv(x), first] if x is not first else [x, conv(x)]
        x = L.Add(name=name)(terms[::-1] if swap else terms)
    return x


def broadcast_gate(x, swap):
    """The earlier of two terms that others use is too small to be the state."""
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    y = L.Multiply(name="y")([conv(x), gate])
    terms = [y, gate, conv(y)]
    return L.Add(name="a")(terms[::-1] if swap else terms)


def pooled_shortcut(x, swap):
    """A pooled state beside a pointwise convolution that keeps the shape."""
    y = conv(x, strides=2)
    terms = [conv(y, size=1), conv(y), L.AveragePooling2D(2, name="pool")(x)]
    return L.Add(name="a")(terms[::-1] if swap else terms)


def copied(x, swap):
    """A layer that hands its input on unchanged."""
    terms = [L.Identity(name="copy")(x), conv(x)]
    return L.Add(name="a")(terms[::-1] if swap else terms)


def projecting_model(x, swap):
    """A projection written as a model of its own."""
    layers = [L.Conv2D(8, 1, strides=2), L.BatchNormalization()]
    short = keras.Sequential([keras.Input((8, 8, 4)), *layers], name="short")
    terms = [short(x), conv(conv(x), 8, strides=2)]
    return L.Add(name="a")(terms[::-1] if swap else terms)


def second_head(x, swap):
    """Another reader of the state before, which begins with an activation."""
    x = conv(x, name="x")
    terms = [x, conv(x)]
    total = L.Add(name="a")(terms[::-1] if swap else terms)
    return L.ReLU(name="after")(total), conv(L.ReLU()(x))


STATES = {
    two_streams: {("x", "a"), ("y", "b")},
    input_at_every_block: {("first", "a"), ("a", "b")},
    broadcast_gate: {("y", "a")},
    pooled_shortcut: {("pool", "a")},
    copied: {("copy", "a")},
    projecting_model: {("short", "a")},
    second_head: {("x", "after")},
}


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("build", STATES, ids=lambda build: build.__name__)
def test_states_before_and_after(build, swap):
    assert set(moves(lambda x: build(x, swap))) == STATES[build]


def normalised(x):
    return L.BatchNormalization()(L.Conv2D(4, 1, name="p")(x))


def pooled(x):
    x = L.AveragePooling2D(1, strides=1, padding="same")(x)
    return L.Conv2D(4, 1, name="p")(x)


class OwnChain(L.Layer):
    """A projection in a layer of one's own."""

    def build(self, shape):
        self.steps = [L.Conv2D(4, 1), L.BatchNormalization()]
        for step in self.steps:
            step.build(shape)

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x


@pytest.mark.parametrize(
    "short", [L.Conv2D(4, 1, name="p"), L.Dense(4), normalised, pooled, OwnChain()]
)
def test_a_projection_may_keep_the_shape(short):
    model = model_of(lambda x: L.Add(name="sum")([short(x), conv(conv(x))]))
    without = find_residual_blocks(model)
    assert not without
    assert "include_projections" in without.skipped[0].reason
    report = find_residual_blocks(model, include_projections=True)
    assert [(b.name, b.kind) for b in report] == [("sum", "projection")]
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    _, [displacement] = DisplacementRecorder(model, report)(images)
    _, branch = report.found[0].call.inputs
    expected = keras.Model(model.inputs, branch.symbol)(images)
    np.testing.assert_allclose(
        as_numpy(displacement), as_numpy(expected), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    "short",
    [
        L.BatchNormalization(),
        L.MaxPooling2D(3, strides=1, padding="same"),
        L.Conv2D(4, 1, activation="relu", name="p"),
        L.Conv2D(4, 3, padding="same", name="p"),
    ],
)
def test_what_keeps_the_shape_and_projects_nothing_is_no_shortcut(short):
    assert not search(lambda x: short(x) + conv(conv(x)))
