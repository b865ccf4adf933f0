"""The recipes: every way is timed, and the loops by hand are what Keras trains."""

from __future__ import annotations

import importlib
import itertools
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from support.basics import crossentropy

import keras_lap

BACKEND = keras.backend.backend()
FOLDER = Path(__file__).parents[2] / "benchmarks"
SHAPE = {"size": 8, "filters": 4, "blocks": 3}
STEPS = 6  # λ is raised after five
OWN = ("plain by hand", "least action by hand")


@pytest.fixture
def find(monkeypatch):
    """Imports a module of the benchmarks, which are no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def rows(find):
    """Those of the smallest case, measured here and not in a process of its own."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    benchmark = find("recipe").BENCHMARK
    [case] = [each for each in benchmark.cases(True) if each["backend"] == BACKEND]
    del case["backend"], case["environment"]
    yield benchmark.measure(**case)
    torch.set_num_threads(threads)


@pytest.mark.skipif(BACKEND != "torch", reason="compiles long: a quick run does so")
def test_every_way_is_timed_beside_its_loop(rows):
    layouts = "channels_last", "channels_first"
    ways = itertools.product(("Keras", "least action", *OWN), layouts)
    assert {(row["way"], row["layout"]) for row in rows} == {*ways}
    for row in rows:
        assert row["step_ms"] > 0
        assert row["operations"] > 0
        if row["way"] in OWN:
            assert row["over_by_hand"]["median"] == 1
        shares = list(row.values())[list(row).index("operations") + 1 :]
        # Each is rounded to a tenth of a percent.
        assert math.isclose(sum(shares), 100, abs_tol=0.05 * len(shares))


def jax_parameters(network):
    """Keras's variables, in the tree of `jax_loop.Network`."""
    values = iter(np.array(each.numpy()) for each in network.trainable_variables)

    def take(*names):
        return {name: next(values) for name in names}

    stem = [take("kernel", "bias") for _ in range(2)]
    blocks = []
    for k in range(SHAPE["blocks"]):
        norms = [take("scale", "shift")] if k else []
        convs = [take("kernel")]
        norms.append(take("scale", "shift"))
        convs.append(take("kernel", "bias"))
        blocks.append({"norms": norms, "convs": convs})
    head = [take("kernel"), take("scale", "shift"), take("kernel", "bias")]
    return {"stem": stem, "blocks": blocks, "head": head}


def loop_by_hand(find, network, batch, least_action):
    """Trains one step of the loop, from the weights of a network of Keras."""
    if BACKEND == "jax":
        raw = find("jax_loop")
        loop = raw.Loop(raw.Network(**SHAPE, classes=10, layout="channels_last"))
        # Arrays of JAX: the step is given what it may write into.
        loop.state["parameters"] = keras.tree.map_structure(
            keras.ops.convert_to_tensor, jax_parameters(network)
        )
        step = loop.step_of(least_action)
    else:
        raw = find("tensorflow_loop")
        loop = raw.Loop(raw.Network(**SHAPE, classes=10))
        loop.begin(batch[0])
        for mine, theirs in zip(loop.trained, network.trainable_variables, strict=True):
            mine.assign(theirs.numpy())
        step = loop.step_of(least_action, jit=False)
    return lambda: loop.run(step, [batch])


@pytest.mark.skipif(BACKEND == "torch", reason="by_hand.py compares that loop")
@pytest.mark.parametrize("least_action", [False, True])
def test_the_loop_by_hand_trains_as_keras_does(find, least_action):
    network = find("recipe").network("channels_last", **SHAPE)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 8, 8, 1)).astype("float32")
    y = rng.integers(0, 10, 16)
    by_hand = loop_by_hand(find, network, (x, y), least_action)
    model, callbacks = network, []
    if least_action:
        model = keras_lap.LeastActionModel(network, 2.0, 5.0)
        callbacks = [keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)]
    optimizer = keras.optimizers.SGD(0.001, momentum=0.9)
    model.compile(optimizer, loss=crossentropy(), metrics=["accuracy"])
    for _ in range(STEPS):
        history = model.fit(x, y, batch_size=16, verbose=0, callbacks=callbacks).history
        losses, hits, count = by_hand()
        # A step of float32 in another order of sums; a wrong one is off by a tenth.
        np.testing.assert_allclose(losses / count, history["loss"][0], rtol=2e-4)
        np.testing.assert_allclose(hits / count, history["accuracy"][0], atol=1e-6)
