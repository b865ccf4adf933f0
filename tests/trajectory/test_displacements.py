"""Recorded displacements against states taken from the network in another way."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

from keras_lap import DisplacementRecorder, find_residual_blocks
from keras_lap.trajectory import Recorder

L = keras.layers


def conv(x, filters=4, **options):
    return L.Conv2D(filters, 3, padding="same", **options)(x)


def marked(tensor, name):
    """Names a tensor by a layer that hands it on unchanged."""
    return L.Activation("linear", name=name)(tensor)


def plain_add(x):
    before = marked(x, "before")
    return marked(L.Add()([before, conv(before)]), "after")


def operator_with_activation(x):
    before = marked(x, "before")
    return marked(L.ReLU()(conv(before) + before), "after")


def three_summands(x):
    before = marked(x, "before")
    return marked(L.Add()([conv(before), before, conv(before)]), "after")


def three_summands_two_by_two(x):
    before = marked(x, "before")
    return marked((conv(before) + 1.0) + (before + conv(before)), "after")


def broadcast_branch(x):
    """A squeeze branch of shape (1, 1, channels): the sum has the state's shape."""
    before = marked(x, "before")
    branch = L.GlobalAveragePooling2D(keepdims=True)(before)
    return marked(L.Add()([before, branch]), "after")


BUILDS = [
    plain_add,
    operator_with_activation,
    three_summands,
    three_summands_two_by_two,
    broadcast_branch,
]


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype("float32")


def model_of(build):
    inputs = keras.Input((8, 8, 4))
    return keras.Model(inputs, L.Flatten()(build(inputs)))


def state(model, name, x):
    """The output of a named layer, by a feature extractor."""
    return keras.Model(model.input, model.get_layer(name).output).predict(x, verbose=0)


@pytest.mark.parametrize("build", BUILDS)
def test_displacement_is_after_minus_before(build, images):
    model = model_of(build)
    record = DisplacementRecorder(model, find_residual_blocks(model))
    outputs, (displacement,) = record(images)
    expected = state(model, "after", images) - state(model, "before", images)
    np.testing.assert_allclose(as_numpy(displacement), expected, atol=1e-5)
    np.testing.assert_array_equal(as_numpy(outputs), as_numpy(model(images)))


def test_projected_displacement_starts_at_the_projected_input(images):
    def build(x):
        before = L.Conv2D(6, 1, strides=2, name="before")(x)
        branch = conv(conv(x), 6, strides=2)
        return marked(L.ReLU()(L.Add()([before, branch])), "after")

    model = model_of(build)
    report = find_residual_blocks(model, include_projections=True)
    _, (displacement,) = DisplacementRecorder(model, report)(images)
    expected = state(model, "after", images) - state(model, "before", images)
    np.testing.assert_allclose(as_numpy(displacement), expected, atol=1e-5)


def test_whole_layers_move_their_input_to_their_output(images):
    model = model_of(lambda x: conv(marked(x, "before"), name="whole"))
    report = find_residual_blocks(model, blocks=["whole"])
    _, (displacement,) = DisplacementRecorder(model, report)(images)
    expected = state(model, "whole", images) - images
    np.testing.assert_allclose(as_numpy(displacement), expected, atol=1e-5)


def inner_model(training=None):
    inputs = keras.Input((8, 8, 4))
    x = L.Add(name="first")([inputs, conv(inputs, name="c1")])
    x = L.Dropout(0.5)(x, training=training)
    x = L.Add(name="second")([x, conv(x, name="c2")])
    return keras.Model(inputs, x, name="inner")


def test_nested_and_shared_models_against_a_walk_by_hand(images):
    inner, middle = inner_model(), L.Conv2D(4, 3, padding="same")
    model = model_of(lambda x: inner(middle(inner(x))))
    record = DisplacementRecorder(model, find_residual_blocks(model))
    outputs, displacements = record(images)

    expected, x = [], keras.ops.convert_to_tensor(images)
    for use in range(2):
        for name in ("c1", "c2"):
            move = inner.get_layer(name)(x)
            expected.append(as_numpy(move))
            x = x + move
        x = middle(x) if use == 0 else x
    for displacement, by_hand in zip(displacements, expected, strict=True):
        np.testing.assert_allclose(as_numpy(displacement), by_hand, atol=1e-4)
    np.testing.assert_array_equal(as_numpy(outputs), as_numpy(model(images)))


def sequential_of_models():
    stages = [inner_model(), keras.Sequential([keras.Input((8, 8, 4)), inner_model()])]
    return keras.Sequential([keras.Input((8, 8, 4)), *stages, L.Flatten()])


def outer_block_beside_a_nested_model():
    def build(x):
        x = L.Add(name="outer")([x, conv(x)])
        x = inner_model()(x)
        return L.Add(name="last")([x, conv(x)])

    return model_of(build)


@pytest.mark.parametrize(
    ("build", "count"),
    [(sequential_of_models, 4), (outer_block_beside_a_nested_model, 4)],
)
@pytest.mark.parametrize("called_elsewhere", [False, True])
def test_sequential_and_mixed_networks(images, build, count, called_elsewhere):
    model = build()
    if called_elsewhere:
        model(keras.Input((8, 8, 4)))
    record = DisplacementRecorder(model, find_residual_blocks(model))
    outputs, displacements = record(images)
    assert len(displacements) == count
    np.testing.assert_array_equal(as_numpy(outputs), as_numpy(model(images)))
    # Every tapped state is one of the same pass, not of a second graph.
    names = [layer.name for layer in record._record._tap.layers]
    assert len(names) == len(set(names))


def test_dict_inputs_keyword_arguments_and_several_outputs_pass_through(images):
    first = keras.Input((8, 8, 4), name="first")
    second = keras.Input((8, 8, 4), name="second")
    x = inner_model()(L.Concatenate()([first, second])[..., 2:6], training=False)
    model = keras.Model(
        {"first": first, "second": second}, {"state": x, "mean": keras.ops.mean(x)}
    )
    inputs = {"first": images, "second": images + 1}
    record = DisplacementRecorder(model, find_residual_blocks(model))
    outputs, displacements = record(inputs, training=False)
    expected = model(inputs, training=False)
    assert len(displacements) == 2
    for name, value in expected.items():
        np.testing.assert_array_equal(as_numpy(outputs[name]), as_numpy(value))


def test_the_network_stays_as_it_was():
    model = model_of(lambda x: inner_model()(conv(x, name="outside")))
    before = (model.to_json(), [layer.name for layer in model.layers])
    DisplacementRecorder(model, find_residual_blocks(model))
    assert (model.to_json(), [layer.name for layer in model.layers]) == before


def test_differences_of_half_precision_states_are_taken_in_float32():
    inputs = keras.Input((4,), dtype="float16")
    total = L.Add(dtype="float16")([inputs, L.Dense(4, dtype="float16")(inputs)])
    model = keras.Model(inputs, L.ReLU(dtype="float16")(total))
    record = DisplacementRecorder(model, find_residual_blocks(model))
    _, (displacement,) = record(np.ones((2, 4), "float16"))
    assert keras.backend.standardize_dtype(displacement.dtype) == "float32"


@pytest.mark.parametrize("build", BUILDS)
def test_states_and_displacements_of_one_pass(build, images):
    model = model_of(build)
    report = find_residual_blocks(model)
    path = Recorder(model, report, ["states", "displacements"])(images)
    for name, value in zip(("before", "after"), path.states[0][0], strict=True):
        np.testing.assert_allclose(as_numpy(value), state(model, name, images), 1e-5)
    alone = DisplacementRecorder(model, report)(images)[1]
    np.testing.assert_array_equal(as_numpy(path.displacements[0]), as_numpy(alone[0]))


def test_only_what_is_wanted_is_recorded(images):
    model = model_of(plain_add)
    report = find_residual_blocks(model)
    nothing = Recorder(model, report, [])(images)
    assert (nothing.displacements, nothing.states) == (None, None)
    np.testing.assert_array_equal(as_numpy(nothing.outputs), as_numpy(model(images)))
    assert Recorder(model, report, ["states"])(images).displacements is None
    for wrong in ("states", ["controls"]):
        with pytest.raises(ValueError, match="wanted must list some of 'displ"):
            Recorder(model, report, wrong)
