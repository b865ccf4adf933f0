"""Cutting networks whose blocks lie inside calls, against layers called by hand."""

from __future__ import annotations

import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.basics import as_numpy
from support.by_depth import Block, assert_alike

import keras_lap
from keras_lap.depth import early_exit, exits, prune

RNG = np.random.default_rng(0)
ON_ONE = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


class Encoder(layers.Layer):
    """As KerasHub's ViT encoder: dropout, a loop over blocks, and a norm."""

    def __init__(self, kind, blocks, **options):
        super().__init__(**options)
        self.drop, self.norm = layers.Dropout(0.5), layers.LayerNormalization()
        self.up = layers.Dense(6)
        if kind == "layers":
            self.blocks = [Block(f"block{k}") for k in range(blocks)]
        else:
            self.blocks = [layers.Dense(6, "tanh") for k in range(blocks)]
        self.kind = kind

    def build(self, shape):
        for each in [self.up, *self.blocks, self.norm]:
            each.build(shape)

    def one(self, k, x):
        r = self.blocks[k](x)
        return r if self.kind == "layers" else x + r

    def call(self, x):
        x = self.drop(self.up(x))
        for k in range(len(self.blocks)):
            x = self.one(k, x)
        return self.norm(x)

    def by_hand(self, x, kept):
        x = self.up(x)
        for k in kept:
            x = self.one(k, x)
        return self.norm(x)


def in_functional(kind):
    inputs = keras.Input((5, 6))
    encoder = Encoder(kind, 3, name="encoder")
    x = layers.GlobalAveragePooling1D()(encoder(inputs))
    net = keras.Model(inputs, layers.Dense(3, name="head")(x))
    by_hand = lambda x, kept: net.layers[-1](  # noqa: E731
        net.layers[-2](encoder.by_hand(x, kept))
    )
    return net, by_hand


class Subclassed(keras.Model):
    def __init__(self, kind):
        super().__init__(name="subclassed")
        self.encoder = Encoder(kind, 3, name="encoder")
        self.stem, self.head = layers.Dense(6), layers.Dense(3)

    def call(self, inputs, training=None):
        x = self.encoder(self.stem(inputs["tokens"]), training=training)
        return {"logits": self.head(x[:, 0]), "state": x}

    def by_hand(self, inputs, kept):
        x = self.encoder.by_hand(self.stem(inputs["tokens"]), kept)
        return {"logits": self.head(x[:, 0]), "state": x}


def subclassed(kind):
    net = Subclassed(kind)
    net(data("subclassed"))
    return net, net.by_hand


def data(build):
    x = np.random.default_rng(1).normal(size=(4, 5, 6)).astype("float32")
    return {"tokens": x} if build == "subclassed" else x


BUILDERS = {"functional": in_functional, "subclassed": subclassed}


def close(ours, theirs, policy):
    """Half precision keeps three digits; its sums of ten lose one of them."""
    if policy == "float32":
        return assert_alike(ours, theirs)
    pairs = zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(as_numpy(one), as_numpy(other), rtol=2e-2, atol=2e-2)
        assert ops.dtype(one) == ops.dtype(other)


CASES = [*itertools.product(BUILDERS, ("layers", "sums"), ("float32", "mixed_float16"))]
# A network has a dozen cuts, which the other backends compile: there each builder, each
# kind and each precision comes up, and not with all the others.
FEW = [(build, "sums", "float32") for build in BUILDERS]
FEW += [("subclassed", "layers", "mixed_float16")]


@pytest.mark.parametrize(
    ("build", "kind", "policy"),
    [pytest.param(*case, marks=[ON_ONE] * (case not in FEW)) for case in CASES],
    indirect=["policy"],
)
def test_exits_and_cuts_are_the_layers_called_by_hand(build, kind, policy):
    net, by_hand = BUILDERS[build](kind)
    x = data(build)
    found = keras_lap.find_residual_blocks(net)
    names = [block.name for block in found]
    assert len(names) == 3
    every = exits(net)(x)
    for k in range(4):
        close(every[k], by_hand(x, range(k)), policy)
        close(prune(net, k)(x), by_hand(x, range(k)), policy)
    holes = prune(net, [names[2], names[0]])
    close(holes(x), by_hand(x, [0, 2]), policy)
    assert len(keras_lap.find_residual_blocks(holes)) == 2
    assert keras_lap.find_residual_blocks(net).to_dict() == found.to_dict()
    quick = early_exit(net, 0.0, confidence=lambda y: ops.zeros(len(data_of(y))) + 0.5)
    close(quick(x), by_hand(x, []), policy)


def data_of(outputs):
    return keras.tree.flatten(outputs)[0]


def test_a_cut_network_drops_out_where_it_trains():
    net, _ = in_functional("sums")
    small, x = prune(net, 1), data("functional")
    assert not np.allclose(as_numpy(small(x, training=True)), as_numpy(small(x)))


@ON_ONE
def test_it_is_plain_keras(tmp_path):
    """Neither this package nor the class of the layer around is needed to load it."""
    net, by_hand = in_functional("sums")
    small, x = prune(net, 2), data("functional")
    expected = as_numpy(by_hand(x, [0, 1]))
    small.save(tmp_path / "small.keras")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys; sys.modules['keras_lap'] = None\n"
        "import keras, numpy as np\n"
        "net = keras.saving.load_model('small.keras')\n"
        "x = np.load('x.npy')\n"
        "np.save('y.npy', net.predict(x, verbose=0))\n"
        "net.compile('sgd', 'mse')\n"
        "before = net.get_weights()\n"
        "net.fit(x, np.zeros((4, 3)), verbose=0)\n"
        "assert any((a != b).any() for a, b in zip(before, net.get_weights()))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert_alike(np.load(tmp_path / "y.npy"), expected)


class Around(layers.Layer):
    """A block in a call, with something beside it."""

    def __init__(self, beside, **options):
        super().__init__(name="around", **options)
        self.mix, self.drop, self.beside = layers.Dense(6), layers.Dropout(0.5), beside
        self.first, self.last = layers.Dense(6), layers.Dense(6)

    def build(self, shape):
        for each in (self.first, self.mix, self.last):
            each.build(shape)
        self.scale = self.add_weight(shape=(6,), name="scale")

    def call(self, x, training=None):
        x = self.first(x)
        x = self.last(x + self.mix(x))
        return self.beside(self, x, training)


def weight(layer, x, training):
    return x * layer.scale


def fixed(layer, x, training):
    return layer.drop(x, training=False)


def of_the_batch(layer, x, training):
    return ops.reshape(x, (x.shape[0] * x.shape[1], x.shape[2]))


def otherwise(layer, x, training):
    return layer.last(x) if training else x


REASONS = {
    weight: ([exits, lambda net: prune(net, 0)], "'multiply' is called with a weight"),
    of_the_batch: ([exits, lambda net: prune(net, 0)], "size of a batch is not known"),
    fixed: ([lambda net: prune(net, 0)], "calls 'dropout.*' with training=False"),
    otherwise: ([lambda net: prune(net, 0)], "other layers or functions in training"),
}


@ON_ONE
@pytest.mark.parametrize("beside", REASONS, ids=lambda f: f.__name__)
def test_what_cannot_be_called_again(beside):
    net = keras.Sequential([keras.Input((5, 6)), Around(beside), layers.Dense(2)])
    cuts, reason = REASONS[beside]
    assert len(keras_lap.find_residual_blocks(net)) == 1
    for cut in cuts:
        with pytest.raises(ValueError, match=rf"'around'.*{reason}.*blocks=\[...\]"):
            cut(net)


class Two(keras.Model):
    def __init__(self):
        super().__init__(name="two")
        self.mix = layers.Dense(4)

    def build(self, x_shape, y_shape):
        self.mix.build(x_shape)

    def call(self, x, y):
        return x + self.mix(x) + y


@ON_ONE
def test_a_call_of_several_arguments():
    net, x = Two(), np.zeros((2, 4), "float32")
    net(x, x)
    for cut in (exits, lambda net: prune(net, 0), lambda net: early_exit(net, 0.5)):
        with pytest.raises(ValueError, match=r"'two' cannot be cut.*dictionary"):
            cut(net)
