"""Blocks inside the calls of layers and of subclassed models: found and recorded."""

from __future__ import annotations

import itertools
import threading
import zipfile

import keras
import numpy as np
import pytest
from support.basics import as_numpy

import keras_lap
from keras_lap import DisplacementRecorder, find_residual_blocks

L = keras.layers
ops = keras.ops
register = keras.saving.register_keras_serializable("test_calls")


@register
class Block(L.Layer):
    """One shortcut; returns a dictionary and takes keywords where asked to."""

    def __init__(self, context=False, **options):
        super().__init__(**options)
        self.context = context
        self.dense = L.Dense(4, "tanh")

    def build(self, *_, **__):
        self.dense.build((None, 4))

    def call(self, x, context=None, mask_me=None):
        if not self.context:
            return x + self.dense(x)
        return {"a_note": ops.mean(context), "state": x + self.dense(x * context)}


@register
class Narrowing(L.Layer):
    """A shortcut that changes the shape, and an activation after the sum."""

    def __init__(self, **options):
        super().__init__(**options)
        self.short, self.branch = L.Dense(3), L.Dense(3)

    def build(self, shape):
        self.short.build(shape)
        self.branch.build(shape)

    def call(self, x):
        return ops.relu(self.short(x) + ops.tanh(self.branch(x)))


@register
class Aside(L.Layer):
    """Calls a layer that it does not own, beside the stream."""

    def __init__(self, block=None, **options):
        super().__init__(**options)
        self.block = block

    def call(self, x):
        return 0.5 * self.block(x) + 0.1


@register
class Network(keras.Model):
    """Every kind of block that the call of a subclassed model may hold."""

    def __init__(self, **options):
        super().__init__(**options)
        self.stem, self.head = L.Dense(4), L.Dense(2)
        self.twice = Block(name="twice")
        self.aside = Aside(self.twice)
        self.cross = Block(context=True, name="cross")
        self.inline, self.drop = L.Dense(4, "tanh"), L.Dropout(0.5)
        inputs = keras.Input((4,))
        merged = L.ReLU()(L.Add(name="sum")([inputs, L.Dense(4)(inputs)]))
        self.nested = keras.Sequential([keras.Model(inputs, merged, name="inner")])
        self.narrowing = Narrowing(name="narrowing")

    def call(self, x, training=None):
        x = self.stem(x)
        x = self.twice(x)
        context = self.aside(0.5 * x)
        x = self.twice(x)
        x = self.cross(x, context=context)["state"]
        x = self.drop(self.inline(x)) + x
        return self.head(self.narrowing(self.nested(self.nested(x))))

    def states_by_hand(self, x):
        """The states before and after every block, written out again."""
        states = []

        def move(before, after):
            states.append((before, after))
            return after

        x = self.stem(x)
        x = move(x, x + self.twice.dense(x))
        half = 0.5 * x
        x = move(x, x + self.twice.dense(x))
        aside = 0.5 * move(half, half + self.twice.dense(half)) + 0.1
        x = move(x, x + self.cross.dense(x * aside))
        x = move(x, x + self.inline(x))
        dense = self.nested.layers[0].layers[1]
        for _ in range(2):
            x = move(x, ops.relu(x + dense(x)))
        short = self.narrowing.short(x)
        move(short, ops.relu(short + ops.tanh(self.narrowing.branch(x))))
        return states


NAMES = ["twice", "twice#2", "aside/twice", "cross", "add"]
NAMES += ["{0}/inner/sum", "{0}#2/inner/sum"]
KINDS = ["layer"] * 4 + ["identity"] * 3


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(16, 5)).astype("float32")


@pytest.fixture
def network(x):
    network = Network()
    network(x[:2])
    return network


def record(network, x, **options):
    report = find_residual_blocks(network, **options)
    return DisplacementRecorder(network, report)(x, training=False)


def test_every_block_of_a_subclassed_model_is_found(network):
    report = find_residual_blocks(network, include_projections=True)
    names = [name.format(network.nested.name) for name in NAMES]
    assert [block.name for block in report] == [*names, "narrowing"]
    assert [block.kind for block in report] == [*KINDS, "projection"]
    assert [block.shape for block in report] == [(None, 4)] * 7 + [(None, 3)]
    assert [s.name for s in find_residual_blocks(network).skipped] == ["narrowing"]


def test_displacements_equal_those_of_the_states_by_hand(network, x):
    outputs, displacements = record(network, x, include_projections=True)
    expected = network.states_by_hand(x)
    # 1e-6: both sum four products of order one in float32.
    np.testing.assert_allclose(as_numpy(outputs), as_numpy(network(x)), atol=1e-6)
    for displacement, (before, after) in zip(displacements, expected, strict=True):
        difference = as_numpy(after) - as_numpy(before)
        np.testing.assert_allclose(as_numpy(displacement), difference, atol=1e-6)


def test_inside_a_layer_of_a_functional_model(network, x):
    inputs = keras.Input((5,))
    around = keras.Model(inputs, network(inputs) + network(2 * inputs))
    displacements = record(around, x, include_projections=True)[1]
    alone = [d for z in (x, 2 * x) for d in record(network, z)[1]]
    narrow = [record(network, z, include_projections=True)[1][-1] for z in (x, 2 * x)]
    expected = [*alone[:7], narrow[0], *alone[7:], narrow[1]]
    for one, other in zip(displacements, expected, strict=True):
        np.testing.assert_allclose(as_numpy(one), as_numpy(other), atol=1e-6)


def traces(network):
    return [layer.name for layer in network._flatten_layers() if "call" in vars(layer)]


def test_nothing_stays_on_the_layers(network, x, monkeypatch):
    seen = []
    monkeypatch.setattr(Aside, "call", lambda self, x: seen.extend(traces(network)))
    with pytest.raises((ValueError, TypeError, AttributeError)):
        record(network, x)
    monkeypatch.undo()
    assert traces(network) == []
    model = keras_lap.LeastActionModel(network)
    model.compile("sgd", "mse")
    model.fit(x, x[:, :2], verbose=0)
    model.evaluate(x, x[:, :2], verbose=0)
    assert traces(network) == []


def test_a_call_of_the_users_own_is_run_and_put_back(network, x):
    def doubled(*args, **kwargs):
        return 2 * type(network.inline).call(network.inline, *args, **kwargs)

    _, plain = record(network, x)
    vars(network.inline)["call"] = doubled
    _, displacements = record(network, x)
    assert vars(network.inline)["call"] is doubled
    np.testing.assert_allclose(
        as_numpy(displacements[4]), 2 * as_numpy(plain[4]), atol=1e-6
    )


def test_other_threads_run_as_if_nothing_were_there(network, x):
    """One thread stops in the middle of recording while another uses the layers."""
    report = find_residual_blocks(network)
    recorder = DisplacementRecorder(network, report)
    expected = [as_numpy(d) for d in recorder(x, training=False)[1]]
    outputs = as_numpy(network(x, training=False))
    middle, go_on = threading.Event(), threading.Event()
    slow = threading.Thread(target=lambda: None)
    results = {}

    def stop(*args, **kwargs):
        if threading.current_thread() is slow:
            middle.set()
            assert go_on.wait(60)
        return type(network.drop).call(network.drop, *args, **kwargs)

    vars(network.drop)["call"] = stop
    slow = threading.Thread(
        target=lambda: results.update(slow=recorder(x, training=False)[1])
    )
    slow.start()
    assert middle.wait(60)
    assert traces(network)
    np.testing.assert_allclose(as_numpy(network(x, training=False)), outputs)
    other = [as_numpy(d) for d in recorder(x, training=False)[1]]
    go_on.set()
    slow.join()
    for one, two, three in zip(expected, other, results["slow"], strict=True):
        np.testing.assert_allclose(two, one)
        np.testing.assert_allclose(as_numpy(three), one)
    assert traces(network) == ["drop"] or traces(network) == [network.drop.name]


def test_recording_calls_every_layer_once(network, x):
    model = keras_lap.LeastActionModel(network)
    model.compile("sgd", "mse", run_eagerly=True)
    counts = dict.fromkeys(("cross", "narrowing", "stem"), 0)

    def counting(name):
        layer = getattr(network, name)

        def call(*args, **kwargs):
            counts[name] += 1
            return type(layer).call(layer, *args, **kwargs)

        vars(layer)["call"] = call

    model.train_on_batch(x, x[:, :2])  # Keras builds what it needs
    for name in counts:
        counting(name)
    model.train_on_batch(x, x[:, :2])
    assert set(counts.values()) == {1}


def test_a_saved_model_comes_back_with_its_blocks_and_no_trace(network, x, tmp_path):
    blocks = ["twice#1", "twice#2", "cross"]
    chosen = keras_lap.LeastActionModel(network, blocks=blocks)
    chosen.compile("sgd", "mse")
    chosen.fit(x, x[:, :2], verbose=0)
    chosen.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [block.kind for block in loaded.blocks] == ["layer"] * 3
    np.testing.assert_allclose(
        as_numpy(loaded(x, training=False)), as_numpy(chosen(x, training=False))
    )
    one, two = (
        as_numpy(m._record(x, training=False).displacements[2])
        for m in (loaded, chosen)
    )
    np.testing.assert_allclose(one, two)
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = archive.read("config.json").decode()
    assert "tap" not in config


class Changing(keras.Model):
    """Calls its block twice when looked into and once afterwards."""

    def __init__(self):
        super().__init__()
        self.block = Block(name="block")

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            x = self.block(x)
        return self.block(x)


def test_a_call_that_goes_another_way_is_an_error():
    network = Changing()
    network(np.ones((2, 4)))
    with pytest.raises(RuntimeError, match=r"'block#2'.* called 0 times instead of 1"):
        record(network, np.ones((2, 4), "float32"))


def test_states_of_layers_that_recompute_are_not_to_be_had():
    with keras.RematScope(mode="full"):
        network = Changing()
    network(np.ones((2, 4)))
    with pytest.raises(ValueError, match="RematScope"):
        keras_lap.LeastActionModel(network)


class Closed(keras.Model):
    """Its call cannot be looked into; the layers in it repeat."""

    def __init__(self, **options):
        super().__init__(**options)
        self.blocks = [Block(name=f"block_{k}") for k in range(2)]
        self.stem, self.head = L.Dense(4, name="stem"), L.Dense(2)

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise RuntimeError("no symbols")
        x = self.stem(x)
        for block in (*self.blocks, self.blocks[0]):
            x = block(x=x)
        return self.head(x)

    def compute_output_shape(self, shape):
        return (shape[0], 2)


@pytest.fixture
def closed(x):
    network = Closed(name="closed")
    network(x[:2])
    return network


def test_auto_says_that_it_cannot_look_inside(closed):
    with pytest.raises(ValueError, match=r"no symbols.*blocks=\[\.\.\.\]"):
        find_residual_blocks(closed)


@pytest.mark.parametrize(
    "blocks",
    [["block_0", "block_1"], lambda layer: isinstance(layer, Block)],
    ids=["names", "function"],
)
def test_every_call_of_a_named_layer_counts_where_none_can_look(closed, x, blocks):
    report = find_residual_blocks(closed, blocks)
    assert [(b.name, b.kind) for b in report] == [
        ("block_0", "layer"),
        ("block_1", "layer"),
    ]
    again = find_residual_blocks(closed, report.selection)
    assert list(again) == list(report)
    _, displacements = DisplacementRecorder(closed, report)(x)
    states = [closed.stem(x)]
    for k in (0, 1, 0):
        states.append(states[-1] + closed.blocks[k].dense(states[-1]))
    moves = [as_numpy(b) - as_numpy(a) for a, b in itertools.pairwise(states)]
    for displacement, k in zip(displacements, (0, 2, 1), strict=True):
        np.testing.assert_allclose(as_numpy(displacement), moves[k], atol=1e-6)
    model = keras_lap.LeastActionModel(closed, blocks=report.selection)
    model.compile("sgd", "mse")
    logs = model.train_on_batch(x, x[:, :2], return_dict=True)
    assert float(logs["transport_cost"]) > 0
    assert traces(closed) == []


def test_a_layer_that_changes_the_shape_there_is_an_error(closed, x):
    recorder = DisplacementRecorder(closed, find_residual_blocks(closed, ["stem"]))
    with pytest.raises(ValueError, match=r"\(16, 5\).*\(16, 4\)"):
        recorder(x)


class Declared(L.Layer):
    """Says itself that it is a block, and cannot be looked into."""

    is_residual_block = True

    def __init__(self, **options):
        super().__init__(**options)
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        assert not isinstance(x, keras.KerasTensor)
        return x * (1 + self.scale)

    def compute_output_shape(self, shape):
        return shape


def test_a_class_can_declare_itself_a_block(x):
    model = keras.Sequential([keras.Input((5,)), Declared(name="own"), L.Dense(2)])
    report = find_residual_blocks(model)
    assert list(report) == [keras_lap.ResidualBlock("own", "layer", (None, 5))]
    _, (displacement,) = DisplacementRecorder(model, report)(x)
    np.testing.assert_allclose(as_numpy(displacement), x)


class ClosedLayer(L.Layer):
    """Its call cannot be looked into; two layers are below it, one below the other."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = Holding(name="holding")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        assert not isinstance(x, keras.KerasTensor)
        return 0.5 * self.inner(x)

    def compute_output_shape(self, shape):
        return shape


class Holding(L.Layer):
    """Calls a block, and is called itself where nobody can look."""

    def __init__(self, **options):
        super().__init__(**options)
        self.block = Block(name="part")

    def build(self, shape):
        self.block.build(shape)

    def call(self, x):
        return self.block(x)


@pytest.mark.parametrize("blocks", [["part"], ["holding"], ["closed/holding/part"]])
@pytest.mark.parametrize("nested", [False, True])
def test_layers_below_a_closed_one_in_a_functional_model(x, blocks, nested):
    inputs = keras.Input((5,))
    state = L.Dense(4, name="stem")(inputs)
    layer = ClosedLayer(name="closed")
    if nested:
        inner = keras.Input((4,))
        state = keras.Model(inner, layer(inner), name="inner")(state)
        blocks = [f"inner/{name}" if "/" in name else name for name in blocks]
    else:
        state = layer(state)
    network = keras.Model(inputs, L.Dense(2)(state))
    report = find_residual_blocks(network, blocks)
    _, [displacement] = DisplacementRecorder(network, report)(x)
    before = network.get_layer("stem")(x)
    moved = as_numpy(layer.inner.block.dense(before))
    np.testing.assert_allclose(as_numpy(displacement), moved, atol=1e-6)
    again = find_residual_blocks(network, report.selection)
    assert list(again) == list(report)
    model = keras_lap.LeastActionModel(network, blocks=report.selection)
    model.compile("sgd", "mse")
    logs = model.train_on_batch(x, x[:, :2], return_dict=True)
    # Kinetic energy is the mean square; of the batch before the step.
    assert float(logs["transport_cost"]) == pytest.approx(np.mean(moved**2), rel=1e-5)
