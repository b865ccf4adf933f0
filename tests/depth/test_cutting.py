"""`depth.exits` and `depth.prune` against networks built without some blocks."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
from support.basics import as_numpy
from support.by_depth import (
    BUILDERS,
    assert_alike,
    at_depth,
    data,
    one_stage,
    stages,
    with_random_weights,
)

import keras_lap
from keras_lap import find_residual_blocks
from keras_lap.depth import early_exit, exits, prune


@pytest.mark.parametrize("name", BUILDERS)
def test_a_network_cut_after_each_block(name):
    build, blocks = BUILDERS[name]
    net = with_random_weights(build(blocks))
    x = data(net)
    outputs = exits(net)(x)
    assert len(outputs) == blocks + 1
    assert_alike(outputs[-1], net(x))
    for k in range(blocks + 1):
        expected = at_depth(build, k, net)(x)
        small = prune(net, k)
        assert_alike(outputs[k], expected)
        assert_alike(small(x), expected)
        assert len(keras_lap.find_residual_blocks(small)) == k
        assert small.count_params() == at_depth(build, k, net).count_params()
    assert_alike(net(x), at_depth(build, blocks, net)(x))
    assert len(keras_lap.find_residual_blocks(net)) == blocks


def test_holes():
    """The branch of a block that is left out vanishes if its last weights are zero."""
    net = with_random_weights(one_stage(4))
    x = data(net)
    holes = prune(net, ["add3", "add1"])
    assert [b.name for b in keras_lap.find_residual_blocks(holes)] == ["add1", "add3"]
    result = as_numpy(holes(x))
    for k in (0, 2):
        dense = net.get_layer(f"dense{k}")
        dense.set_weights([np.zeros_like(w) for w in dense.get_weights()])
    assert_alike(result, as_numpy(net(x)))


def test_of_some_blocks_and_of_a_model_in_training():
    net = with_random_weights(one_stage(3))
    x = data(net)
    small = prune(net, 0, blocks=["add2"])
    assert_alike(small(x), at_depth(one_stage, 2, net)(x))
    model = keras_lap.LeastActionModel(net)
    assert_alike(prune(model, 1)(x), at_depth(one_stage, 1, net)(x))
    assert len(exits(model, ["add0", "add2"])(x)) == 3


def test_training_the_exits_moves_statistics_once():
    net = with_random_weights(one_stage(3))
    kept, x = net.get_weights(), data(net)
    exits(net)(x, training=True)
    after = net.get_weights()
    net.set_weights(kept)
    net(x, training=True)
    for ours, theirs in zip(after, net.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["one stage", "nested", "twins"])
@pytest.mark.parametrize("some", [False, True])
def test_the_exits_are_saved(name, some, tmp_path):
    build, blocks = BUILDERS[name]
    net = with_random_weights(build(blocks))
    names = [found.exact_name for found in find_residual_blocks(net).found]
    every = exits(net, names[1:]) if some else exits(net)
    every.save(tmp_path / "exits.keras")
    every.save_weights(tmp_path / "exits.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "exits.keras")
    other = exits(build(blocks), names[1:]) if some else exits(build(blocks))
    other.load_weights(tmp_path / "exits.weights.h5")
    x = data(net)
    for again in (loaded, other):
        for one, two in zip(every(x), again(x), strict=True):
            assert_alike(one, two)


def test_cut_networks_are_saved_without_this_package(tmp_path):
    names, expected = ["one stage", "nested", "twins"], {}
    for name in names:
        build, blocks = BUILDERS[name]
        net = with_random_weights(build(blocks))
        x = data(net)
        small = prune(net, blocks - 1)
        small.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}-x.npy", x)
        expected[name] = as_numpy(small(x))
    code = (
        "import sys, keras, numpy as np\n"
        "for name in sys.argv[1:]:\n"
        "    net = keras.saving.load_model(f'{name}.keras')\n"
        "    net.compile('sgd', 'mse')\n"
        "    x = np.load(f'{name}-x.npy')\n"
        "    y = net.predict(x, verbose=0)\n"
        "    np.save(f'{name}-y.npy', y)\n"
        "    net.fit(x, y, verbose=0)\n"
        "assert 'keras_lap' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, *names], cwd=tmp_path, check=True)
    for name in names:
        assert_alike(np.load(tmp_path / f"{name}-y.npy"), expected[name])


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (True, "keep must be a whole number of blocks from 0 to 3, or a list of names"),
        (2.0, "Received: keep=2.0"),
        (-1, "Received: keep=-1"),
        (4, "from 0 to 3.*Received: keep=4"),
        ("add1", "or a list of names. Received: keep='add1'"),
        (None, "Received: keep=None"),
        ([1, 2], r"Received: keep=\[1, 2\]"),
        (["add1", "ad2"], "keep names 'ad2', which is no block.*Close names: add2"),
    ],
)
def test_what_cannot_be_kept(keep, message):
    with pytest.raises(ValueError, match=message):
        prune(one_stage(3), keep)


def test_networks_without_blocks():
    for cut in (exits, lambda net: early_exit(net, 0.5), lambda net: prune(net, 0)):
        with pytest.raises(ValueError, match="has no residual block that could be l"):
            cut(stages(0))
