"""Masks of states: Keras's own, through sums, calls and models, and those of inputs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import ON_ONE, as_numpy, gradient

from keras_lap import find_residual_blocks
from keras_lap.energies import DisplacementEnergy
from keras_lap.trajectory import Recorder

L = keras.layers
ops = keras.ops


@pytest.fixture
def tokens():
    tokens = np.random.default_rng(0).integers(1, 20, (8, 6)).astype("int32")
    tokens[1, 4:] = 0  # shorter
    tokens[2] = 0  # empty
    tokens[3, 1] = 0  # left out in between
    return tokens


class Block(L.Layer):
    """A residual block of one's own, which says nothing of masks."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = L.Dense(4, "tanh")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return x + self.dense(x)


class Stack(L.Layer):
    """Blocks as sums in a call."""

    def __init__(self, **options):
        super().__init__(**options)
        self.parts = [L.Dense(4, "tanh") for _ in range(2)]
        self.scale = L.Rescaling(2.0)

    def build(self, shape):
        for part in self.parts:
            part.build(shape)

    def call(self, x):
        for part in self.parts:
            x = self.scale(part(x) + x)
        return x


class Embedded(L.Layer):
    """An embedding of tokens and positions, inside of a layer."""

    def __init__(self, **options):
        super().__init__(**options)
        self.embedding = L.Embedding(20, 4, mask_zero=True)

    def build(self, shape):
        self.embedding.build(shape)

    def call(self, tokens):
        return self.embedding(tokens) + 0.1 * ops.ones((tokens.shape[1], 4))


class Subclassed(keras.Model):
    """Embeds tokens in its call, and moves them by blocks of every kind."""

    def __init__(self, own_embedding=False):
        super().__init__()
        plain = L.Embedding(20, 4, mask_zero=True)
        self.embedding = Embedded() if own_embedding else plain
        self.blocks = [Block(), Stack(), Block()]
        self.inline, self.head = L.Dense(4, "tanh"), L.Dense(2)

    def call(self, tokens):
        x = self.embedding(tokens)
        x = x + self.inline(x)
        for block in self.blocks:
            x = block(x)
        return self.head(ops.mean(x, axis=1))


def subclassed(**options):
    model = Subclassed(**options)
    model(np.ones((2, 6), "int32"))
    return model


def functional(*parts, length=None, embed=None):
    inputs = keras.Input((length,), dtype="int32")
    x = (embed or L.Embedding(20, 4, mask_zero=True))(inputs)
    for part in parts:
        x = part(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


def plus(x):
    return x + L.Dense(4, "tanh")(x)


def added(x):
    return L.Add()([L.Dense(4, "tanh")(x), x])


def convolved(x):
    return ops.add(L.Conv1D(4, 3, padding="same")(x), x)


def recurrent(x):
    return x + L.LSTM(4, return_sequences=True)(x)


def attended(x):
    return L.LayerNormalization()(x + L.MultiHeadAttention(2, 2)(x, x))


def nested(x):
    inputs = keras.Input((None, 4))
    return keras.Model(inputs, plus(plus(inputs)))(x)


def embedding_model():
    inputs = keras.Input((None,), dtype="int32")
    return keras.Model(inputs, plus(L.Embedding(20, 4, mask_zero=True)(inputs)))


BUILDS = {
    "sums": lambda: functional(plus, plus, plus),
    "layers": lambda: functional(added, added),
    "convolutions": lambda: functional(convolved, plus),
    "recurrent": lambda: functional(recurrent, recurrent),
    "attention": lambda: functional(attended, plus, length=6),
    "nested": lambda: functional(nested, plus, nested),
    "nested embedding": lambda: functional(plus, embed=embedding_model()),
    "own layers": lambda: functional(Block(), Stack(), Block(), plus, length=6),
    "own embedding": lambda: functional(plus, Block(), length=6, embed=Embedded()),
    "subclassed": subclassed,
    "subclassed, own embedding": lambda: subclassed(own_embedding=True),
}
# Keras 3.16, which is not released, hands masks to layers of several inputs otherwise.
not_yet_on_3_16 = pytest.mark.skipif(
    keras.version() >= "3.16", reason="masks of several inputs on Keras 3.16"
)
every_build = pytest.mark.parametrize(
    "build",
    [
        pytest.param(build, id=name, marks=[not_yet_on_3_16] * (name == "attention"))
        for name, build in BUILDS.items()
    ],
)
WANTED = ["displacements", "masks"]


def recorder(network, wanted=WANTED, **options):
    return Recorder(network, find_residual_blocks(network), wanted, **options)


def masked_cost(path, energy=None):
    """The sum over the blocks, with the weights of the masks."""
    energy = energy or DisplacementEnergy()
    pairs = zip(path.displacements, path.masks, strict=True)
    weights = [energy.weights_for(each, mask, None) for each, mask in pairs]
    return ops.sum(energy.of_blocks(path.displacements, weights))


@every_build
def test_every_block_has_the_mask_of_its_tokens(build, tokens):
    network = build()
    path = recorder(network)(tokens, training=True)
    assert len(path.masks) == len(path.displacements) >= 2
    for mask in path.masks:
        np.testing.assert_array_equal(as_numpy(mask).astype(bool), tokens != 0)
    valid = [as_numpy(each)[tokens != 0] for each in path.displacements]
    expected = sum((each.astype("float64") ** 2).mean() for each in valid)
    assert float(as_numpy(masked_cost(path))) == pytest.approx(expected, rel=1e-5)
    # Masks and displacements change nothing, and are seen in one pass.
    plain = recorder(network, ["displacements"])(tokens, training=True)
    assert plain.masks is None
    for one, other in zip(path.displacements, plain.displacements, strict=True):
        np.testing.assert_array_equal(as_numpy(one), as_numpy(other))
    states = recorder(network, ["states", "masks"])(tokens, training=True)
    for mask in states.masks:
        np.testing.assert_array_equal(as_numpy(mask).astype(bool), tokens != 0)


@pytest.mark.parametrize("p", [1.5, *(pytest.param(p, marks=ON_ONE) for p in (2, 3))])
@pytest.mark.parametrize("norm", ["elementwise", "euclidean"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_padding_changes_nothing(p, norm, reduction, tokens):
    """Six tokens, padded to 12 and 60: neither the cost nor its gradient."""
    network = functional(plus, added, Block())
    table = network.layers[1].embeddings
    energy = DisplacementEnergy(p, norm, reduction)
    record = recorder(network)

    def cost(values, tokens):
        with keras.StatelessScope([(table, values)]):
            return masked_cost(record(tokens, training=True), energy)

    rows = as_numpy(table)
    padded = [np.pad(tokens, ((0, 0), (0, n))) for n in (0, 6, 54)]
    results = [gradient(lambda v, t=each: cost(v, t), rows) for each in padded]
    for slope in results:
        assert (slope[0] == 0).all()
        np.testing.assert_allclose(slope, results[0], rtol=1e-4, atol=1e-7)
    assert np.abs(results[0]).max() > 1e-3


def test_a_mask_of_real_values():
    """`Masking`, with one step left out."""
    x = np.random.default_rng(1).normal(size=(3, 5, 4)).astype("float32")
    x[1, 2] = 0
    inputs = keras.Input((5, 4))
    network = keras.Model(inputs, L.Dense(2)(plus(plus(L.Masking()(inputs)))))
    path = recorder(network)(x)
    for mask in path.masks:
        np.testing.assert_array_equal(as_numpy(mask), (x != 0).any(-1))


def test_states_of_other_positions_have_no_mask(tokens):
    """Also where another length is not known, and where it is that of the features."""
    inputs = keras.Input((None,), dtype="int32")
    x = plus(L.Embedding(20, 4, mask_zero=True)(inputs))
    half = L.Conv1D(4, 3, strides=2, padding="same")(x)
    pooled = L.Dense(6)(L.GlobalAveragePooling1D()(plus(half)))
    pooled = L.Add()([pooled, L.Dense(6, "tanh")(pooled)])
    path = recorder(keras.Model(inputs, pooled))(tokens)
    assert [mask is None for mask in path.masks] == [False, True, True]


@not_yet_on_3_16
def test_two_sequences_of_one_length_keep_their_masks(tokens):
    """A decoder's states are its own, whatever they attend to."""
    first, second = (keras.Input((6,), dtype="int32", name=n) for n in "ab")
    embedding = L.Embedding(20, 4, mask_zero=True)
    source, x = plus(embedding(first)), embedding(second)
    for _ in range(2):
        x = L.MultiHeadAttention(2, 2)(x, source) + x
        x = x + L.Dense(4, "tanh")(x)
    network = keras.Model({"a": first, "b": second}, x)
    other = tokens[::-1]
    path = recorder(network)({"a": tokens, "b": other})
    for mask, expected in zip(path.masks, [tokens, *[other] * 4], strict=True):
        np.testing.assert_array_equal(as_numpy(mask), expected != 0)


def test_networks_without_masks_are_recorded_as_before():
    network = functional(plus, embed=L.Embedding(20, 4))
    tokens = np.ones((2, 6), "int32")
    record, plain = recorder(network), recorder(network, ["displacements"])
    assert record(tokens).masks == [None]
    assert len(record._tap.layers) == len(plain._tap.layers)


class Counting(L.Dense):
    """Counts its calls."""

    calls = 0

    def call(self, x):
        type(self).calls += 1
        return super().call(x)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="says the same")
def test_masks_cost_no_call(tokens):
    network = functional(lambda x: x + Counting(4)(x))
    record = recorder(network)
    Counting.calls = 0
    record(tokens)
    assert Counting.calls == 1


def by_name(as_dict=True):
    tokens, keep = (keras.Input((6,), dtype="int32", name=n) for n in ("ids", "keep"))
    x = plus(L.Embedding(20, 4)(tokens))
    x = plus(x * ops.cast(ops.expand_dims(keep, -1), "float32"))
    pooled = L.GlobalAveragePooling1D()(x)
    pooled = L.Add()([pooled, L.Dense(4)(pooled)])
    inputs = {"ids": tokens, "keep": keep} if as_dict else [tokens, keep]
    return keras.Model(inputs, pooled)


@pytest.mark.parametrize("mask", ["keep", lambda inputs: inputs["keep"] > 0])
def test_masks_that_are_inputs(mask, tokens):
    keep = (tokens > 5).astype("int32")
    path = recorder(by_name(), mask=mask)({"ids": tokens, "keep": keep})
    *masks, last = path.masks
    assert last is None
    for each in masks:
        np.testing.assert_array_equal(as_numpy(each) != 0, keep != 0)


def test_masks_that_are_inputs_of_a_list_and_of_a_call(tokens):
    keep = (tokens > 5).astype("int32")
    path = recorder(by_name(as_dict=False), mask="keep")([tokens, keep])
    np.testing.assert_array_equal(as_numpy(path.masks[1]), keep)

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding, self.dense = L.Embedding(20, 4), L.Dense(4)

        def call(self, inputs):
            x = self.embedding(inputs["ids"])
            return x + self.dense(x)

    network = Own()
    inputs = {"ids": tokens, "keep": keep}
    network(inputs)
    path = recorder(network, mask="keep")(inputs)
    np.testing.assert_array_equal(as_numpy(path.masks[0]), keep)
    with pytest.raises(ValueError, match=r"mask='kept'.*'ids', 'keep'"):
        recorder(network, mask="kept")(inputs)


def test_bad_masks_say_what_there_is():
    network = by_name()
    with pytest.raises(ValueError, match=r"mask='padding'.*inputs are 'ids', 'keep'"):
        recorder(network, mask="padding")
    with pytest.raises(TypeError, match=r"mask=3 \(of type int\)"):
        recorder(network, mask=3)
    with pytest.raises(ValueError, match="Add 'displacements' or 'states'"):
        recorder(network, ["masks"])
