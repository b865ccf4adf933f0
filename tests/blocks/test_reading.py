"""Blocks whose residual connection is inside a layer's call."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

import keras_lap
from keras_lap import DisplacementRecorder, find_residual_blocks
from keras_lap.trajectory import Recorder

L = keras.layers
ops = keras.ops


class Block(L.Layer):
    """Dense layers with a shortcut inside or, if `plain`, without one."""

    def __init__(self, plain=False, norm_after=False, **options):
        super().__init__(**options)
        self.plain = plain
        self.first, self.second = L.Dense(16, "relu"), L.Dense(4)
        self.norm = L.LayerNormalization() if norm_after else None

    def call(self, x):
        r = self.second(self.first(x))
        x = r if self.plain else x + r
        return self.norm(x) if self.norm else x


class TwoMerges(L.Layer):
    """As a transformer layer: two shortcuts one after the other, and a side input."""

    def __init__(self, **options):
        super().__init__(**options)
        self.mix, self.feed = L.Dense(4), L.Dense(4)
        self.norm = L.LayerNormalization()

    def call(self, x, context=None, training=None):
        y = x + self.mix(context if context is not None else x) + self.mix(x)
        return self.norm(y + self.feed(y)), ops.mean(y)


class ScaledSum(L.Layer):
    """A merge of two inputs of its own."""

    def call(self, inputs):
        return inputs[0] + 0.1 * inputs[1]


class Positions(L.Layer):
    """Takes the shape of its input and none of its values."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, x):
        return ops.broadcast_to(self.table.value, ops.shape(x))


class Closed(L.Layer):
    """Its call does not run on symbolic tensors."""

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise RuntimeError("no symbols\nplease")
        return x

    def compute_output_shape(self, shape):
        return shape


class ElsewhereInside(L.Layer):
    """Merges inside, but the state neither comes from its input nor goes out."""

    def __init__(self, **options):
        super().__init__(**options)
        self.enter, self.branch, self.leave = L.Dense(4), L.Dense(4), L.Dense(4)

    def call(self, x):
        y = self.enter(x)
        return self.leave(y + self.branch(y))


class Holder(L.Layer):
    """Holds a block one level further in."""

    def __init__(self, **options):
        super().__init__(**options)
        self.block = Block(name="held")

    def call(self, x):
        return self.block(x)


def model_of(build):
    inputs = keras.Input((4,))
    return keras.Model(inputs, build(inputs))


def found(build):
    report = find_residual_blocks(model_of(build))
    return [(block.name, block.kind) for block in report]


def reasons(build):
    return [s.reason for s in find_residual_blocks(model_of(build)).skipped]


def test_one_class_may_hold_residual_and_plain_layers():
    def build(x):
        x = Block(plain=True, name="plain")(x)
        return Block(name="residual")(x)

    assert found(build) == [("residual", "layer")]


def test_state_normalised_after_the_merge():
    build = Block(norm_after=True, name="block")
    assert found(build) == [("block", "layer")]


def test_two_merges_a_side_input_and_a_second_output():
    def build(x):
        layer = TwoMerges(name="block")
        x, _ = layer(x)
        return layer(x, context=L.Dense(4)(x))[0]

    assert found(build) == [("block", "layer"), ("block#2", "layer")]


def test_a_merge_layer_of_ones_own():
    def build(x):
        return ScaledSum(name="sum")([x, L.Dense(4)(x)])

    assert found(build) == [("sum", "identity")]
    parallel = "sums parallel"
    assert parallel in reasons(lambda x: ScaledSum()([L.Dense(4)(x), L.Dense(4)(x)]))[0]


@pytest.mark.parametrize("positions", [Positions(), ops.ones_like, ops.zeros_like])
def test_the_value_must_flow_and_not_only_the_shape(positions):
    assert found(lambda x: x + positions(x)) == []
    assert len(found(lambda x: x + L.Dense(4)(positions(x) + 2 * x))) == 1


def test_merges_that_do_not_carry_the_input_to_the_output_count_themselves():
    assert found(ElsewhereInside(name="outer")) == [("outer/add", "identity")]


def test_layers_that_cannot_be_opened_are_not_counted_but_can_be_named():
    build = Closed(name="closed")
    assert found(build) == []
    assert "RuntimeError: no symbols)" in reasons(build)[0]
    report = find_residual_blocks(model_of(Closed(name="closed")), blocks=["closed"])
    assert [block.kind for block in report] == ["layer"]


def test_a_layer_and_a_part_of_it_cannot_both_be_asked_for():
    model = model_of(lambda x: TwoMerges(name="two")(x)[0])
    (part,) = find_residual_blocks(model, [model.layers[-1].mix])[:1]
    with pytest.raises(ValueError, match=rf"'two' and '{part.name}', which lies"):
        find_residual_blocks(model, ["two", part.name])


def test_the_innermost_layer_counts():
    assert found(Holder(name="outer")) == [("outer/held", "layer")]


def test_displacement_is_output_minus_input():
    layer = TwoMerges()
    model = model_of(lambda x: layer(x)[0])
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    record = DisplacementRecorder(model, find_residual_blocks(model))
    _, (displacement,) = record(x)
    np.testing.assert_allclose(as_numpy(displacement), as_numpy(layer(x)[0]) - x, 1e-5)


def test_opening_leaves_no_trace():
    class Losing(Block):
        def build(self, shape):
            self.count = self.add_weight(shape=(), initializer="zeros", name="count")
            self.seeds = keras.random.SeedGenerator(1)

        def call(self, x):
            self.add_loss(ops.sum(x))
            self.count.assign(self.count + 1)
            return super().call(x) + keras.random.normal((4,), seed=self.seeds)

    layer = Losing()
    model = model_of(layer)
    state = [as_numpy(layer.count.value), as_numpy(layer.seeds.state.value)]
    layers = model._flatten_layers()
    before = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in layers]
    assert len(find_residual_blocks(model)) == 1
    after = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in layers]
    assert after == before
    assert model.losses == []
    assert "add_loss" not in vars(layer)
    np.testing.assert_array_equal(state[0], as_numpy(layer.count.value))
    np.testing.assert_array_equal(state[1], as_numpy(layer.seeds.state.value))


def test_training_and_saving_with_layers_as_blocks(tmp_path):
    register = keras.saving.register_keras_serializable("tests")
    model = keras_lap.LeastActionModel(model_of(register(Block)(name="block")), 2.0)
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    logs = model.train_on_batch(x, 0 * x, return_dict=True)
    assert float(logs["transport_cost"]) > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(
        tmp_path / "model.keras", custom_objects={"Block": Block}
    )
    assert loaded.blocks == model.blocks


class PreNorm(L.Layer):
    """As a transformer layer that normalises first: two branches add up."""

    def __init__(self, width=4, step=1.0, **options):
        super().__init__(**options)
        self.norms = [L.LayerNormalization() for _ in range(2)]
        self.dense = [L.Dense(width, use_bias=False) for _ in range(2)]
        self.scale = L.Rescaling(step)

    def build(self, shape):
        for part in (*self.norms, *self.dense):
            part.build(shape)

    def call(self, x):
        x = x + self.scale(self.dense[0](self.norms[0](x)))
        return x + self.scale(self.dense[1](self.norms[1](x)))


def test_branches_are_added_up_instead_of_subtracting_large_states():
    # Beside states of a million a float32 difference is off by a sixteenth, and the
    # branches add some millionths.
    model = model_of(PreNorm(step=1e-6, name="block"))
    report = find_residual_blocks(model)
    assert [(b.name, b.kind, b.shape) for b in report] == [
        ("block", "layer", (None, 4))
    ]
    x = np.random.default_rng(0).normal(1e6, 1.0, (8, 4)).astype("float32")
    _, [displacement] = DisplacementRecorder(model, report)(x)
    block = model.layers[-1]
    branch = [d(n(x)) for d, n in zip(block.dense, block.norms, strict=True)]
    expected = 1e-6 * sum(as_numpy(b).astype("float64") for b in branch)
    # x itself did not change in float32, so both branches see the same input.
    np.testing.assert_allclose(as_numpy(displacement), expected, rtol=1e-4, atol=1e-12)


def test_states_of_a_layer_that_is_seen_by_its_branches():
    model = model_of(PreNorm(name="block"))
    record = Recorder(model, find_residual_blocks(model), ["states"])
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    trajectory = record(x)
    outputs, [[(before, after)]] = trajectory.outputs, trajectory.states
    np.testing.assert_allclose(as_numpy(before), x)
    np.testing.assert_allclose(as_numpy(after), as_numpy(outputs), rtol=1e-6)


class OtherwiseInTraining(L.Layer):
    """Calls one of its layers in training alone, as many do with dropout."""

    def __init__(self, width=4, **options):
        super().__init__(**options)
        self.dense, self.triple = L.Dense(width), L.Rescaling(3.0)

    def call(self, x, training=None):
        r = self.dense(x)
        if training:
            r = self.triple(r)
        return x + r


class OtherwiseInTrainingWithin(keras.Model):
    """The same in the call of a model."""

    def __init__(self):
        super().__init__()
        self.block = OtherwiseInTraining()
        self.enter, self.leave = L.Rescaling(3.0), L.Rescaling(3.0)

    def call(self, x, training=None):
        x = self.enter(x)
        r = self.block.dense(x)
        if training:
            r = self.block.triple(r)
        return self.leave(x + r)


@pytest.mark.parametrize("training", [False, True])
def test_a_call_that_goes_another_way_in_training(training):
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    around = model_of(OtherwiseInTraining(name="block"))
    within = OtherwiseInTrainingWithin()
    within(x)
    for model, inputs in ((around, x), (within, 3 * x)):
        report = find_residual_blocks(model)
        _, [displacement] = DisplacementRecorder(model, report)(x, training=training)
        block = model.layers[-1] if model is around else model.block
        r = as_numpy(block.dense(inputs))
        np.testing.assert_allclose(
            as_numpy(displacement), 3 * r if training else r, rtol=1e-5, atol=1e-6
        )


class NoisyState(OtherwiseInTrainingWithin):
    """Changes the state itself, and its branch, in training alone."""

    def call(self, x, training=None):
        x = self.enter(x)
        if training:
            x = -x
        r = self.block.dense(x)
        if training:
            r = self.block.triple(r)
        return self.leave(x + r)


def test_a_state_that_is_read_otherwise_in_training():
    model = NoisyState()
    model(np.ones((2, 4), "float32"))
    report = find_residual_blocks(model)
    assert not report
    assert [s.reason for s in report.skipped] == [
        "its states are read in another way in training"
    ]


class ClosedAndNarrow(Closed):
    """Its call cannot be looked into, and it changes the shape."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = L.Dense(3)

    def call(self, x):
        return self.dense(super().call(x))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 3)


class Keeping(L.Layer):
    """A block as a whole, on whose branch lies a layer that is closed."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner, self.back = ClosedAndNarrow(name="inner"), L.Dense(4)

    def call(self, x):
        return x + self.back(self.inner(x))


class ClosedTerm(L.Layer):
    """Adds up its inputs, one of them through a layer that is closed."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner, self.back = ClosedAndNarrow(name="inner"), L.Dense(4)

    def call(self, x):
        x, y = x
        return x + self.back(self.inner(y))


class DeclaredAround(Keeping):
    """Says itself that it is a block, so that nothing in it is looked at."""

    is_residual_block = True
    runs = 0

    def call(self, x):
        type(self).runs += isinstance(x, keras.KerasTensor)
        return super().call(x)


class ClosedWithoutState(Closed):
    """Holds nothing that has weights."""

    def call(self, x):
        return super().call(x)[:, :2]

    def compute_output_shape(self, shape):
        return (shape[0], 2)


CLOSED = {
    "without weights": (ClosedWithoutState, "", []),
    "within a sum": (
        lambda name: lambda x: ClosedTerm(name=name)([x, L.Dense(4)(x)]),
        "/inner",
        ["identity"],
    ),
    "that changes the shape": (ClosedAndNarrow, "", []),
    "within a block": (Keeping, "/inner", ["layer"]),
    "within a model": (
        lambda name: keras.Sequential(
            [keras.Input((4,)), ClosedAndNarrow(name="inner")], name=name
        ),
        "/inner",
        [],
    ),
}


@pytest.mark.parametrize(("make", "below", "kinds"), CLOSED.values(), ids=CLOSED)
def test_nothing_closed_vanishes_from_the_report(make, below, kinds):
    report = find_residual_blocks(model_of(make(name="outer")))
    assert [block.kind for block in report] == kinds
    (skipped,) = report.skipped
    assert skipped.name == f"outer{below}"
    assert "cannot be looked into" in skipped.reason
    assert "RuntimeError: no symbols)" in skipped.reason


def test_layers_on_the_branch_of_a_block():
    dense = [L.Dense(4, name=f"d{k}") for k in range(4)]
    block = Block(name="block")

    def build(x):
        x = dense[0](x)
        x = x + dense[2](ops.relu(dense[1](x)))
        return dense[3](block(x))

    one, other = find_residual_blocks(model_of(build)).found
    assert one.layers == (dense[1], dense[2])
    assert other.layers == (block,)


def test_a_declared_layer_is_looked_into_only_for_what_is_named_in_it():
    model = model_of(DeclaredAround(name="outer"))
    DeclaredAround.runs = 0
    assert len(find_residual_blocks(model)) == 1
    assert DeclaredAround.runs == 0
    report = find_residual_blocks(model, ["outer"])
    assert DeclaredAround.runs > 0
    assert [skipped.name for skipped in report.skipped] == ["outer/inner"]
