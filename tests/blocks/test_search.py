"""Which sums are residual blocks, on networks whose answer is known."""

from __future__ import annotations

import re

import keras
import pytest
from support.basics import ON_ONE

import keras_lap
from keras_lap import find_residual_blocks

pytestmark = ON_ONE

L = keras.layers


def conv(x, filters=4, size=3, **options):
    return L.Conv2D(filters, size, padding="same", **options)(x)


def kinds(model, **options):
    return [block.kind for block in find_residual_blocks(model, **options)]


def image_model(build):
    inputs = keras.Input((8, 8, 4))
    return keras.Model(inputs, build(inputs))


MERGES = {
    "layers.Add": lambda x, r: L.Add()([x, r]),
    "layers.add, branch first": lambda x, r: L.add([r, x]),
    "plus": lambda x, r: x + r,
    "ops.add": lambda x, r: keras.ops.add(r, x),
    "activation layer after": lambda x, r: L.ReLU()(L.Add()([x, r])),
    "activation op after": lambda x, r: keras.ops.relu(x + r),
    "three summands": lambda x, r: L.Add()([x, r, conv(x)]),
    "three summands, two by two": lambda x, r: x + r + conv(x),
    "the branches first": lambda x, r: x + (r + conv(x)),
    "a constant in between": lambda x, r: (r + 1.0) + x,
}


@pytest.mark.parametrize("merge", MERGES.values(), ids=MERGES)
def test_every_way_of_merging_is_found(merge):
    def build(x):
        x = merge(x, conv(x))
        return merge(x, L.Dropout(0.1)(conv(conv(x))))

    report = find_residual_blocks(image_model(build))
    assert [block.kind for block in report] == ["identity"] * 2
    assert {block.shape for block in report} == {(None, 8, 8, 4)}
    assert not report.skipped


# Sums that are no residual blocks, with a part of the reason that must be given.
NO_BLOCKS = {
    "parallel branches": (lambda x: conv(x) + conv(x), "parallel"),
    "parallel pooling": (
        lambda x: L.AveragePooling2D(2)(x) + L.MaxPooling2D(2)(x),
        "parallel",
    ),
    "parallel 1x1 convolutions": (
        lambda x: conv(x, 8, 1) + conv(x, 8, 1),
        "parallel",
    ),
    "shortcut through a 3x3 convolution": (
        lambda x: conv(x, 8) + conv(conv(x), 8),
        "parallel",
    ),
    "shortcut that keeps the shape": (
        lambda x: L.BatchNormalization()(x) + conv(conv(x)),
        "keeps the shape",
    ),
    "broadcast shortcut": (
        lambda x: L.GlobalAveragePooling2D(keepdims=True)(x) + conv(x),
        "parallel",
    ),
}


@pytest.mark.parametrize(("build", "reason"), NO_BLOCKS.values(), ids=NO_BLOCKS)
def test_other_sums_are_skipped_with_the_reason(build, reason):
    report = find_residual_blocks(image_model(build), include_projections=True)
    assert len(report) == 0
    assert len(report.skipped) == 1
    assert reason in report.skipped[0].reason
    assert report.skipped[0].name in str(report)


def test_a_constant_added_is_not_even_a_candidate():
    report = find_residual_blocks(image_model(lambda x: conv(x) + 1.0))
    assert len(report) == 0
    assert not report.skipped


PROJECTIONS = {
    "1x1 convolution": lambda x: conv(x, 8, 1, strides=2),
    "1x1 convolution and norm": lambda x: L.BatchNormalization()(
        conv(x, 8, 1, strides=2)
    ),
    "pooling, then 1x1 convolution": lambda x: conv(L.MaxPooling2D(2)(x), 8, 1),
}


@pytest.mark.parametrize("shortcut", PROJECTIONS.values(), ids=PROJECTIONS)
def test_projections_count_only_if_asked_for(shortcut):
    model = image_model(lambda x: L.Add()([conv(conv(x), 8, strides=2), shortcut(x)]))
    assert kinds(model) == []
    assert "include_projections" in find_residual_blocks(model).skipped[0].reason
    assert kinds(model, include_projections=True) == ["projection"]


# Counts from the architectures' definitions:
# ResNet v1 (He et al. 2015, table 1): 3 + 4 + 6 + 3 blocks, the first of each stage
# with a projection. ResNet v2 in Keras: also the last of the first three stages, which
# strides and pools its shortcut. MobileNetV2 (Sandler et al. 2018, table 2): a residual
# in each of the repeats after the first of its rows, 0+1+2+3+2+2+0. Inception-ResNet-v2
# in Keras (after Szegedy et al. 2016): 10 + 20 + 10 blocks, merged by a layer of two
# inputs that scales the branch.
APPLICATIONS = {
    "ResNet50": (12, 4),
    "ResNet50V2": (9, 7),
    "MobileNetV2": (10, 0),
    "InceptionResNetV2": (40, 0),
    "VGG16": (0, 0),
}


@pytest.mark.parametrize(("name", "expected"), APPLICATIONS.items(), ids=APPLICATIONS)
def test_published_networks(name, expected):
    build = getattr(keras.applications, name)
    side = 96 if name.startswith("Inception") else 32
    with keras.StatelessScope(initialize_variables=False):  # the graph is enough
        model = build(weights=None, input_shape=(side, side, 3), include_top=False)
    found = kinds(model, include_projections=True)
    assert (found.count("identity"), found.count("projection")) == expected
    assert len(find_residual_blocks(model)) == expected[0]


PAPER = {
    "resnet9": (9, 0),
    "resnet": (27, 0),
    "avgpool_resnet": (27, 0),
    "wide_resnet": (12, 0),
    "resnext29": (6, 3),
    "resnext50": (12, 4),
}


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(("name", "expected"), PAPER.items(), ids=PAPER)
def test_the_papers_networks(name, expected, batch_norm):
    small = {"filters": 4, "kernel_initializer": "zeros", "batch_norm": batch_norm}
    if "resnext" in name:
        small |= {"cardinality": 2, "group_width": 2}
    model = getattr(keras_lap.networks, name)((16, 16, 3), 10, **small)
    found = kinds(model, include_projections=True)
    assert (found.count("identity"), found.count("projection")) == expected


def nested_model():
    """Two uses of one inner model with two blocks, and one block outside."""
    inner_inputs = keras.Input((8, 8, 4))
    y = L.Add(name="first")([inner_inputs, conv(inner_inputs)])
    y = L.Add(name="second")([y, conv(y)])
    inner = keras.Model(inner_inputs, y, name="inner")

    def build(x):
        x = inner(x)
        x = L.Add(name="outer")([x, conv(x)])
        return inner(x)

    return image_model(build)


def test_nested_and_shared_models_give_a_block_for_every_use():
    names = [block.name for block in find_residual_blocks(nested_model())]
    assert names == [
        "inner/first",
        "inner/second",
        "outer",
        "inner#2/first",
        "inner#2/second",
    ]


def test_a_shared_merge_layer_gives_a_block_for_every_use():
    add = L.Add(name="add")

    def build(x):
        x = add([x, conv(x)])
        return add([x, conv(x)])

    names = [block.name for block in find_residual_blocks(image_model(build))]
    assert names == ["add", "add#2"]


def test_sequential_models_of_residual_models():
    def stage():
        return image_model(lambda x: x + conv(x))

    model = keras.Sequential([keras.Input((8, 8, 4)), stage(), stage()])
    assert kinds(model) == ["identity"] * 2


def test_a_long_skip_over_blocks_does_not_swallow_them():
    def build(x):
        start = x = conv(x)
        x = L.Add(name="first")([x, conv(x)])
        x = L.Add(name="second")([x, conv(x)])
        return L.Add(name="long")([x, start])

    report = find_residual_blocks(image_model(build))
    assert [block.name for block in report] == ["first", "second"]
    (long,) = report.skipped
    assert long.name == "long"
    assert "'first' lies on its branch; the innermost counts" in long.reason


def test_the_heads_activation_after_a_single_preactivation_block():
    def build(x):
        x = conv(x)
        x = L.Add(name="block")([x, conv(L.ReLU()(x))])
        return conv(L.ReLU()(x))

    (found,) = find_residual_blocks(image_model(build)).found
    assert found.residual.after is found.call.outputs[0]


def test_a_single_block_with_an_activation_of_its_own():
    def build(x):
        x = conv(x)
        x = L.Add(name="block")([x, conv(L.ReLU()(conv(x)))])
        return conv(L.ReLU(name="act")(x))

    (found,) = find_residual_blocks(image_model(build)).found
    assert found.residual.after.producer.label == "act"


def test_the_same_name_at_two_depths():
    inner_inputs = keras.Input((8, 8, 4))
    y = L.Add(name="add")([inner_inputs, conv(inner_inputs)])
    inner = keras.Model(inner_inputs, y, name="inner")

    def build(x):
        x = inner(x)
        return L.Add(name="add")([x, conv(x)])

    model = image_model(build)
    for chosen in (["add"], ["inner/add"], ["inner/add", "add"]):
        report = find_residual_blocks(model, blocks=chosen)
        assert [block.name for block in report] == chosen
        again = find_residual_blocks(model, blocks=report.selection)
        assert list(again) == list(report)


def test_one_use_of_a_shared_layer_can_be_saved():
    add = L.Add(name="add")

    def build(x):
        x = add([x, conv(x)])
        return add([x, conv(x)])

    model = image_model(build)
    assert len(find_residual_blocks(model, blocks=["add"])) == 2
    report = find_residual_blocks(model, blocks=["add#1"])
    assert [block.name for block in report] == ["add"]
    assert report.selection == ["add#1"]


def test_a_projection_that_is_named_needs_the_option():
    model = image_model(
        lambda x: L.Add(name="down")(
            [conv(conv(x), 8, strides=2), conv(x, 8, 1, strides=2)]
        )
    )
    with pytest.raises(ValueError, match="'down', but its shortcut is a projection"):
        find_residual_blocks(model, blocks=["down"])
    assert len(find_residual_blocks(model, ["down"], include_projections=True)) == 1


def test_an_activation_read_by_the_head_alone_is_not_the_blocks():
    """A stream whose sums are states stays so, though relu alone reads the last."""

    def build(x):
        x = x + conv(x)
        x = x + conv(L.ReLU()(x))
        return conv(L.ReLU()(x))

    report = find_residual_blocks(image_model(build))
    outputs = [found.residual.after for found in report.found]
    assert all("add" in tensor.producer.label for tensor in outputs)


SELECTIONS = {
    "names": (["outer", "inner/second"], ["inner/second", "outer"]),
    "a nested model": (["inner"], ["inner/first", "inner/second"] * 2),
    "one use of it": (["inner#2"], ["inner/first", "inner/second"]),
    "a function": (lambda layer: layer.name == "first", ["inner/first"] * 2),
    "a function of all": (
        lambda layer: True,
        ["inner/first", "inner/second", "outer", "inner/first", "inner/second"],
    ),
}


@pytest.mark.parametrize(("blocks", "expected"), SELECTIONS.values(), ids=SELECTIONS)
def test_blocks_can_be_chosen(blocks, expected):
    report = find_residual_blocks(nested_model(), blocks=blocks)
    assert [block.name.replace("#2", "") for block in report] == expected


def test_layers_can_be_chosen_as_objects_and_as_whole_blocks(dense_network):
    model = dense_network(blocks=2)
    chosen = [model.get_layer("b1"), model.get_layer("b0_in")]
    report = find_residual_blocks(model, blocks=chosen)
    assert [(b.name, b.kind) for b in report] == [
        ("b0_in", "layer"),
        ("b1", "identity"),
    ]


def test_the_report_is_a_sequence_and_a_table(dense_network):
    report = find_residual_blocks(dense_network(blocks=2))
    assert len(report) == 2
    assert report[0] == keras_lap.ResidualBlock("b0", "identity", (None, 6))
    assert str(report).splitlines()[0] == "net: 2 residual blocks (2 identity)"
    assert "b1" in str(report)


def nested_blocks():
    """A long skip around a block; see `test_a_long_skip_over_blocks...`."""
    inputs = keras.Input((8, 8, 4))
    x = L.Add(name="inner")([inputs, conv(inputs)])
    x = L.Add(name="outer")([inputs, conv(x)])
    return keras.Model(inputs, L.Add(name="last")([x, conv(x)]), name="net")


NAMES = {
    "a pattern": (re.compile("er$"), ["inner"]),
    "patterns and names": ([re.compile("^l"), "inner"], ["inner", "last"]),
    "the outer block alone": (["outer", "last"], ["outer", "last"]),
}


@pytest.mark.parametrize(("blocks", "names"), NAMES.values(), ids=NAMES)
def test_selections(blocks, names):
    report = find_residual_blocks(nested_blocks(), blocks)
    assert [block.name for block in report] == names
    again = find_residual_blocks(nested_blocks(), report.selection)
    assert list(again) == list(report)


def test_blocks_that_nest_cannot_both_be_asked_for():
    with pytest.raises(ValueError, match=r"'outer' and 'inner', which lies within it"):
        find_residual_blocks(nested_blocks(), ["inner", "outer"])


BAD_SELECTIONS = {
    "a pattern that matches nothing": (re.compile("q"), ValueError, "pattern 'q'"),
    "unknown name": (["b7"], ValueError, r"'b7'.*no layer of 'net'.*b0"),
    "shapes differ": (["stem"], ValueError, r"'stem'.*\(None, 64\).*\(None, 6\)"),
    "no block": (["sum"], ValueError, "sum 'sum' cannot be a block"),
    "a bare string": ("b0", TypeError, 'must be "auto", a list'),
    "a layer": (L.Add(), TypeError, "must be"),
    "a class of layers": (L.Add, TypeError, "must be"),
    "an empty list": ([], TypeError, "must be"),
    "a number in the list": ([3], TypeError, "names or layers.*3"),
}


@pytest.mark.parametrize(
    ("blocks", "error", "message"), BAD_SELECTIONS.values(), ids=BAD_SELECTIONS
)
def test_bad_selections_say_what_to_do(dense_network, blocks, error, message):
    network = dense_network()
    parallel = L.Add(name="sum")([L.Dense(3)(network.input), L.Dense(3)(network.input)])
    network = keras.Model(network.input, [network.output, parallel], name="net")
    with pytest.raises(error, match=message):
        find_residual_blocks(network, blocks=blocks)


def test_models_without_a_graph_say_what_to_do():
    class Mine(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match=r"not built.*keras\.Input"):
        find_residual_blocks(keras.Sequential([L.Dense(2)]))
    with pytest.raises(ValueError, match="not built"):
        find_residual_blocks(Mine())
    with pytest.raises(TypeError, match=r"keras.Model.*Dense"):
        find_residual_blocks(L.Dense(2))
