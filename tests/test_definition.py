"""The edges of the definition: each test fails if one of its conditions is dropped."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from conftest import as_numpy

from keras_lap import DisplacementRecorder, find_residual_blocks

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
    states = [(s.merge.shortcut, s.merge.output) for s in search(build).sites]
    return [tuple(t._keras_history.operation.name for t in pair) for pair in states]


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
