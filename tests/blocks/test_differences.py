"""``x − r(x)`` is a residual block, and moves by ``−r(x)``."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

from keras_lap import find_residual_blocks
from keras_lap.trajectory import Recorder

L = keras.layers
ops = keras.ops


class Inside(L.Layer):
    """Takes away inside its call, between operations."""

    def __init__(self, dense, **options):
        super().__init__(**options)
        self.dense = dense

    def call(self, x):
        return x - self.dense(x)


class Outside(L.Layer):
    """A merge that takes away."""

    def call(self, x, y):
        return x - 0.5 * y


def chain(x, f, g):
    return x - f(x) + g(x)


def nested(x, f, g):
    return x - (f(x) - g(x))


FORMS = {
    "layer": (lambda x, f, g: L.Subtract()([x, f(x)]), (-1, 0)),
    "operator": (lambda x, f, g: x - f(x), (-1, 0)),
    "function": (lambda x, f, g: ops.subtract(x, f(x)), (-1, 0)),
    "by name": (lambda x, f, g: ops.subtract(x2=f(x), x1=x), (-1, 0)),
    "inside": (lambda x, f, g: Inside(f)(x), (-1, 0)),
    "merge": (lambda x, f, g: Outside()(x, f(x)), (-0.5, 0)),
    "chain": (chain, (-1, 1)),
    "nested": (nested, (-1, 1)),
    "shifted": (lambda x, f, g: (x - 1.0) - f(x), (-1, 0, -1.0)),
}


@pytest.mark.parametrize(("form", "signs"), FORMS.values(), ids=FORMS)
def test_displacements_and_states_have_the_right_sign(form, signs):
    f, g = L.Dense(4, "tanh"), L.Dense(4, "tanh")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, form(inputs, f, g))
    report = find_residual_blocks(model)
    assert len(report) == 1, report
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    path = Recorder(model, report, ["displacements", "states"])(x)
    terms = [as_numpy(layer(x)) if layer.built else 0 for layer in (f, g)]
    moved = sum(s * t for s, t in zip(signs, [*terms, 1.0], strict=False))
    [displacement], [[(before, after)]] = path.displacements, path.states
    close = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(as_numpy(displacement), moved, **close)
    np.testing.assert_allclose(as_numpy(after) - as_numpy(before), moved, **close)


def centred(x):
    h = L.Dense(4)(x)
    return h - ops.mean(h, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: L.Subtract()([L.Dense(4, "tanh")(x), x]),
        lambda x: L.Dense(4, "tanh")(x) - x,
        lambda x: L.Dense(4)(x) - x,
        lambda x: (1.0 - x) + L.Dense(4, "tanh")(x),
        centred,
    ],
)
def test_a_state_that_is_taken_away_is_none(build):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, build(inputs))
    assert not find_residual_blocks(model, include_projections=True)
    assert find_residual_blocks(model, include_projections=True).skipped


def test_a_block_that_is_taken_from_its_own_state_stays_a_block():
    """``x − (x + f(x))`` goes around the block ``x + f(x)``."""
    inputs = keras.Input((4,))
    inner = L.Add(name="inner")([inputs, L.Dense(4)(inputs)])
    model = keras.Model(inputs, L.Subtract(name="outer")([inputs, inner]))
    report = find_residual_blocks(model)
    assert [block.name for block in report] == ["inner"]
    assert [skipped.name for skipped in report.skipped] == ["outer"]
