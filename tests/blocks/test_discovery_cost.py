"""The work of a search grows with the number of layers, and depth is no limit.

Work is counted as calls of Python functions, the same at every run; seconds are
measured by ``benchmarks/discovery.py``.
"""

from __future__ import annotations

import contextlib
import gc
import sys

import keras
import pytest
from support.basics import ON_ONE

from keras_lap import find_residual_blocks

pytestmark = ON_ONE

ops = keras.ops


@contextlib.contextmanager
def any_depth():
    """Keras itself builds the graph of a Functional model by recursion."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def model_of(build, count):
    x = inputs = keras.Input((4,))
    for _ in range(count):
        x = build(x)
    with any_depth():
        return keras.Model(inputs, x)


def calls_of(search):
    """What a search returns, and the number of Python functions called by it."""
    count = 0

    def on_event(frame, event, argument):
        nonlocal count
        count += event == "call"

    gc.disable()  # its callbacks come when they like
    sys.setprofile(on_event)
    try:
        result = search()
    finally:
        sys.setprofile(None)
        gc.enable()
    return result, count


def test_ten_thousand_layers_in_one_chain():
    """Five thousand blocks of two operations each: a ten times longer chain."""
    work = {}
    for layers in (1_000, 10_000):
        model = model_of(lambda x: x + ops.relu(x), layers // 2)
        report, work[layers] = calls_of(lambda m=model: find_residual_blocks(m))
        assert len(report) == layers // 2
        assert not report.skipped
    assert work[10_000] <= 12 * work[1_000]


def post_activated(x):
    return ops.relu(x + ops.sin(ops.cos(x)))


def parallel_branches(x):
    return ops.sin(x) + ops.cos(x)


def three_terms(x):
    return ops.add(x + ops.sin(x), ops.cos(x))


def long_skips(x):
    return x + post_activated(post_activated(x))


def nested_model():
    inputs = keras.Input((4,))
    return keras.Model(inputs, post_activated(post_activated(inputs)))


BUILDS = {
    "post-activated": lambda: post_activated,
    "parallel branches": lambda: parallel_branches,
    "three terms": lambda: three_terms,
    "long skips": lambda: long_skips,
    "one model used again": nested_model,
    "nested models": lambda: lambda x: nested_model()(x),
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_the_work_for_other_chains_is_linear(build):
    work = []
    for count in (10, 100):
        model = model_of(build(), count)
        work.append(calls_of(lambda m=model: find_residual_blocks(m))[1])
    assert work[1] <= 12 * work[0]
