"""The exits of a network against networks built at each depth with the same weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.basics import as_numpy
from support.by_depth import (
    BUILDERS,
    Block,
    assert_alike,
    at_depth,
    data,
    dense,
    one_stage,
    stages,
    with_random_weights,
)

import keras_lap
from keras_lap.trajectory import Recorder


@pytest.mark.parametrize("name", BUILDERS)
def test_exits_are_the_networks_of_each_depth(name):
    build, blocks = BUILDERS[name]
    net = with_random_weights(build(blocks))
    x = data(net)
    report = keras_lap.find_residual_blocks(net)
    assert len(report) == blocks
    exits = Recorder(net, report, ["exits"])(x, training=False).exits
    assert len(exits) == blocks + 1
    for k, ours in enumerate(exits):
        assert_alike(ours, at_depth(build, k, net)(x, training=False))


@pytest.mark.parametrize("wanted", [[0, 2, 4], [1], [4], [0, 1, 2, 3, 4]])
def test_only_the_exits_that_are_wanted(wanted):
    net = with_random_weights(stages(4))
    report, x = keras_lap.find_residual_blocks(net), data(net)
    every = Recorder(net, report, ["exits"])(x, training=False).exits
    some = Recorder(net, report, ["exits"], exits=wanted)(x, training=False).exits
    assert [k for k, each in enumerate(some) if each is not None] == wanted
    for k in wanted:
        assert_alike(some[k], every[k])


def test_what_follows_runs_in_inference_and_what_came_before_in_training():
    net = with_random_weights(one_stage(3))
    report, x = keras_lap.find_residual_blocks(net), data(net)
    kept = net.get_weights()
    record = Recorder(net, report, ["exits", "states"])
    seen = record(x, training=True)
    ours = [as_numpy(each) for each in seen.exits]
    states = [pairs[0][0] for pairs in seen.states]
    # The head's norm runs after the pass has moved its statistics, as Keras's would.
    for state, exit in zip(states, ours, strict=False):
        normed = net.get_layer("norm_head")(state, training=False)
        assert_alike(exit, as_numpy(net.get_layer("head")(normed)))
    after = net.get_weights()
    net.set_weights(kept)
    assert_alike(ours[-1], as_numpy(net(x, training=True)))
    for once, with_exits in zip(net.get_weights(), after, strict=True):
        np.testing.assert_array_equal(once, with_exits)


def test_one_call_of_a_head_for_all_exits():
    net = stages(4)
    report, x = keras_lap.find_residual_blocks(net), data(net)
    record = Recorder(net, report, ["exits"])
    seen = {name: [] for name in ("head", "down", "conv3")}
    for name, sizes in seen.items():
        layer = net.get_layer(name)

        def call(x, *args, layer=layer, sizes=sizes, **kwargs):
            sizes.append(x.shape[0])
            return type(layer).call(layer, x, *args, **kwargs)

        vars(layer)["call"] = call
    record(x, training=True)
    # 3 images: the pass itself, then exits 0 and 1 at the transition (exit 2 cuts
    # after it), and exits 0 to 3 at the head; no block runs again.
    assert seen == {"head": [3, 12], "down": [3, 6], "conv3": [3]}


def test_code_of_ones_own_runs_exit_by_exit():
    """It may look at the whole batch."""

    class Centred(layers.Layer):
        def call(self, x):
            return x - ops.mean(x, axis=0, keepdims=True)

    def build(depth):
        inputs = x = keras.Input((6,))
        for k in range(depth):
            x = dense(x, k)
        return keras.Model(inputs, layers.Dense(3, name="head")(Centred()(x)))

    net = with_random_weights(build(3))
    report, x = keras_lap.find_residual_blocks(net), data(net)
    exits = Recorder(net, report, ["exits"])(x).exits
    for k, ours in enumerate(exits):
        assert_alike(ours, at_depth(build, k, net)(x))


def test_masks_of_outputs_are_those_of_the_network():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 6, mask_zero=True)(inputs)
    for k in range(2):
        x = Block(f"block{k}")(x)
    net = keras.Model(inputs, layers.Dense(3)(x))
    report = keras_lap.find_residual_blocks(net)
    x = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 1, 2]])
    reader = keras_lap.trajectory.masks.MaskReader()
    for exit in Recorder(net, report, ["exits"])(x).exits:
        np.testing.assert_array_equal(as_numpy(reader(exit)), x != 0)


def test_losses_of_a_head_are_added_once():
    inputs = x = keras.Input((6,))
    for k in range(3):
        x = dense(x, k)
    head = layers.Dense(3, activity_regularizer=keras.regularizers.L2(1.0))
    net = keras.Model(inputs, head(x))
    report, x = keras_lap.find_residual_blocks(net), data(net)
    y = net(x)
    expected = float(as_numpy(ops.sum(y**2))) / len(x)
    record = Recorder(net, report, ["exits"])
    record(x)
    assert [float(as_numpy(loss)) for loss in net.losses] == pytest.approx([expected])


class Told(layers.Layer):
    def call(self, x, training=None):
        self.told = training
        return x * 1.0


def test_layers_that_are_called_later_still_train():
    net = one_stage(2)
    record = Recorder(net, keras_lap.find_residual_blocks(net), ["exits"])

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.told = Told()

        def call(self, x, training=None):
            return self.told(record(x, training=training).exits[0])

    outer = Outer()
    for training in (True, False):
        outer(data(net), training=training)
        assert outer.told.told is training


class Weighing(layers.Layer):
    """Whose state a weight of its own multiplies after the block."""

    def __init__(self):
        super().__init__(name="weighing")
        self.first, self.mix = layers.Dense(4), layers.Dense(4)

    def build(self, shape):
        self.first.build(shape)
        self.mix.build(shape)
        self.scale = self.add_weight(shape=(4,), name="scale")

    def call(self, x):
        x = self.first(x)
        return (x + self.mix(x)) * self.scale


def test_blocks_that_cannot_be_left_out_are_named_with_the_reason():
    net = keras.Sequential([keras.Input((4,)), Weighing(), layers.Dense(2)])
    report = keras_lap.find_residual_blocks(net)
    assert len(report) == 1
    message = (
        r"call\(\) of 'weighing' cannot be left out: 'multiply' is called with a "
        r"weight.*keras.Model\(inputs, outputs\)"
    )
    with pytest.raises(ValueError, match=message):
        Recorder(net, report, ["exits"])


def test_exits_that_are_none():
    net = one_stage(2)
    report = keras_lap.find_residual_blocks(net)
    with pytest.raises(ValueError, match=r"exits must be whole numbers from 0 to 2"):
        Recorder(net, report, ["exits"], exits=[0, 3])
    net = one_stage(0)
    report = keras_lap.find_residual_blocks(net)
    with pytest.raises(ValueError, match="no residual block that could be left out"):
        Recorder(net, report, ["exits"])
