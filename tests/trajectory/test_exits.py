"""The exits of a network against networks built at each depth with the same weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.basics import as_numpy

import keras_lap
from keras_lap.trajectory import Recorder

# Float32 at sums of some ten numbers near 1; a batch is added up in another order than
# its parts.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}
RNG = np.random.default_rng(0)


def dense(x, k):
    """A pre-activation block of a dense layer with batch normalisation."""
    r = layers.BatchNormalization(name=f"norm{k}")(x)
    r = layers.Dense(x.shape[-1], activation="tanh", name=f"dense{k}")(r)
    return layers.Add(name=f"add{k}")([x, r])


def one_stage(depth):
    inputs = x = keras.Input((4,))
    x = layers.Dense(6, name="stem")(x)
    for k in range(depth):
        x = dense(x, k)
    x = layers.BatchNormalization(name="norm_head")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def stages(depth):
    """Two stages of post-activation blocks, and a projection block between them."""
    inputs = x = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3, padding="same", name="stem")(x)
    for k in range(4):
        if k == 2:
            r = layers.Conv2D(5, 3, 2, padding="same", name="down")(x)
            r = layers.BatchNormalization(name="norm_down")(r)
            x = layers.Conv2D(5, 1, 2, name="shortcut")(x)
            x = layers.ReLU(name="relu_down")(layers.Add(name="add_down")([x, r]))
        if k < depth:
            r = layers.Conv2D(x.shape[-1], 3, padding="same", name=f"conv{k}")(x)
            x = layers.Add(name=f"add{k}")([x, r])
            x = layers.ReLU(name=f"relu{k}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def nested(depth):
    """Blocks in a Functional model within a Sequential one, and a plain nested head."""
    inner = [keras.Input((6,), name="inner")]
    for k in range(min(depth, 2)):
        inner.append(dense(inner[-1], k))
    stage = keras.Model(inner[0], inner[-1] if depth else inner[0] + 0.0, name="stage")
    inputs = x = keras.Input((4,))
    x = layers.Dense(6, name="stem")(x)
    x = keras.Sequential([keras.Input((6,)), stage], name="body")(x)
    for k in range(2, depth):
        x = dense(x, k)
    hidden = layers.Dense(5, activation="relu", name="hidden")
    last = layers.Dense(3, name="last")
    x = keras.Sequential([keras.Input((6,)), hidden, last], name="head")(x)
    return keras.Model(inputs, x)


def around(depth):
    """A long skip from the input and from the stem, and two outputs by name."""
    inputs = keras.Input((6,))
    x = first = layers.Dense(6, name="stem")(inputs)
    for k in range(min(depth, 2)):
        x = dense(x, k)
    early = layers.Dense(2, name="early")(ops.concatenate([x, inputs], axis=-1))
    for k in range(2, depth):
        x = dense(x, k)
    late = layers.Dense(3, name="late")(layers.Concatenate(name="skip")([x, first]))
    return keras.Model(inputs, {"late": late, "early": early})


def without_head(depth):
    """Whose output is the state itself."""
    inputs = x = keras.Input((6,))
    for k in range(depth):
        x = dense(x, k)
    return keras.Model(inputs, x if depth else layers.Identity()(x))


class Block(layers.Layer):
    """A block whose state and branch are in its call."""

    def __init__(self, name):
        super().__init__(name=name)
        self.norm, self.mix = layers.LayerNormalization(), layers.Dense(6)
        self.supports_masking = True

    def build(self, shape):
        self.norm.build(shape)
        self.mix.build(shape)

    def call(self, x):
        return x + self.mix(ops.tanh(self.norm(x)))


def tokens(depth):
    """Layers that are blocks, a mask, positions, and the first token at the end."""
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 6, mask_zero=True, name="embedding")(inputs)
    for k in range(depth):
        x = Block(f"block{k}")(x)
    pooled = layers.GlobalAveragePooling1D(name="pool")(x)
    x = layers.Concatenate(name="both")([pooled, x[:, 0]])
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def drawn(shape):
    return RNG.normal(size=(3, *shape[1:])).astype("float32")


BUILDERS = {
    "one stage": (one_stage, 3),
    "stages": (stages, 4),
    "nested": (nested, 4),
    "around": (around, 3),
    "without head": (without_head, 3),
    "tokens": (tokens, 3),
}


def leaves(model):
    """The layers at the bottom by their names."""
    found = {}
    for layer in model.layers:
        inner = leaves(layer) if isinstance(layer, keras.Model) else {layer.name: layer}
        found.update(inner)
    return found


def with_random_weights(net):
    """Moving statistics and biases too, so that none is left out unseen."""
    net.set_weights([RNG.uniform(0.2, 1.0, w.shape) for w in net.get_weights()])
    return net


def at_depth(build, depth, net):
    """The network of that depth, with the weights of the full one."""
    small, own = build(depth), leaves(net)
    for name, layer in leaves(small).items():
        if layer.weights:
            layer.set_weights(own[name].get_weights())
    return small


def data(net):
    if net.input.dtype == "int32":
        return np.array([[1, 2, 3, 0, 0], [4, 5, 6, 1, 2], [3, 0, 0, 0, 0]])
    return drawn(net.input.shape)


def assert_alike(ours, theirs):
    assert type(ours) is type(theirs)
    pairs = zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(as_numpy(one), as_numpy(other), **CLOSE)


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


class InCall(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.stem, self.head = layers.Dense(6), layers.Dense(2)
        self.block = Block("block")

    def call(self, x):
        return self.head(self.block(self.stem(x)))


class Several(layers.Layer):
    """Blocks of its own, one of them with a projection."""

    def __init__(self):
        super().__init__(name="several")
        self.up, self.one, self.two = (layers.Dense(8) for _ in range(3))

    def call(self, x):
        x = ops.relu(self.up(x))
        x = x + self.one(x)
        return x + self.two(x)


def test_blocks_that_cannot_be_left_out_are_named_with_the_reason():
    net = InCall()
    net(np.zeros((1, 4), "float32"))
    report = keras_lap.find_residual_blocks(net)
    assert len(report) == 1
    message = (
        r"block 'block' cannot be left out: it lies inside the call\(\) of "
        r"'subclassed' \(InCall\).*keras.Model\(inputs, outputs\)"
    )
    with pytest.raises(ValueError, match=message):
        Recorder(net, report, ["exits"])
    net = keras.Sequential([keras.Input((4,)), Several(), layers.Dense(2)])
    report = keras_lap.find_residual_blocks(net)
    with pytest.raises(ValueError, match=r"call\(\) of 'several' \(Several\)"):
        Recorder(net, report, ["exits"])
    Recorder(net, report, ["states"])


def test_exits_that_are_none():
    net = one_stage(2)
    report = keras_lap.find_residual_blocks(net)
    with pytest.raises(ValueError, match=r"exits must be whole numbers from 0 to 2"):
        Recorder(net, report, ["exits"], exits=[0, 3])
    net = one_stage(0)
    report = keras_lap.find_residual_blocks(net)
    with pytest.raises(ValueError, match="no residual block that could be left out"):
        Recorder(net, report, ["exits"])
