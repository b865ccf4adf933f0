"""Networks that can be built at every depth, whose layers are told by their names."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from support.basics import as_numpy

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


def twins(depth):
    """Nested stages whose layers have the same names."""
    inputs = x = keras.Input((4,))
    for stage in range(3):
        y = first = keras.Input(x.shape[1:])
        y = layers.Dense(5 + stage, name="down")(y)
        for k in range(min(2, depth - 2 * stage)):
            y = dense(y, k)
        x = keras.Model(first, y, name=f"stage{stage}")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


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
    "twins": (twins, 5),
    "around": (around, 3),
    "without head": (without_head, 3),
    "tokens": (tokens, 3),
}


def leaves(model):
    """The layers at the bottom by their names, after those of the models around."""
    found = {}
    for layer in model.layers:
        inner = leaves(layer) if isinstance(layer, keras.Model) else {"": layer}
        found.update({f"{layer.name}/{name}": each for name, each in inner.items()})
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
