"""The networks against hand-made counts, shapes and a NumPy forward pass."""

from __future__ import annotations

import itertools
import math
import re

import keras
import numpy as np
import pytest

from keras_lap import networks

SMALL = {
    networks.one_representation_resnet: {"filters": 4, "num_blocks": 2},
    networks.resnet: {"filters": 4, "num_blocks": (1, 2, 1)},
    networks.avgpool_resnet: {"filters": 4, "num_blocks": (1, 2, 1)},
    networks.wide_resnet: {"filters": 4, "num_blocks": (1, 2, 1)},
    networks.resnext29: {
        "filters": 4,
        "cardinality": 2,
        "group_width": 2,
        "num_blocks": (1, 2, 1),
    },
    networks.resnext50: {
        "filters": 4,
        "cardinality": 2,
        "group_width": 2,
        "num_blocks": (1, 2, 1, 1),
    },
}
PRE_ACTIVATION_STAGES = [networks.resnet, networks.avgpool_resnet, networks.wide_resnet]
RESNEXTS = [networks.resnext29, networks.resnext50]
every_network = pytest.mark.parametrize("build", SMALL, ids=lambda f: f.__name__)
with_and_without_norm = pytest.mark.parametrize("batch_norm", [True, False])


def build_small(build, input_shape=(8, 8, 3), num_classes=5, **options):
    """Builds with zero kernels: on JAX, drawing random ones is what takes time."""
    options = {"kernel_initializer": "zeros"} | SMALL[build] | options
    return build(input_shape, num_classes, **options)


def build_random(build, **options):
    """Builds with random kernels, drawn by NumPy for the same reason."""
    generator = np.random.default_rng(1)

    def kaiming_normal(shape, dtype=None):
        fan_out = math.prod(shape) / shape[-2]
        return generator.normal(scale=math.sqrt(2 / fan_out), size=shape).astype(dtype)

    return build_small(build, kernel_initializer=kaiming_normal, **options)


def build_initialized(initializer):
    return build_small(
        networks.one_representation_resnet, kernel_initializer=initializer
    )


def layers_of(model, *types):
    return [layer for layer in model.layers if isinstance(layer, types)]


def kernels_of(model):
    layers = layers_of(model, keras.layers.Conv2D, keras.layers.Dense)
    return {
        layer.name: keras.ops.convert_to_numpy(layer.kernel.value) for layer in layers
    }


def outputs_of(model, x, *names):
    outputs = [model.get_layer(name).output for name in names]
    values = keras.Model(model.input, outputs)(x, training=False)
    return [keras.ops.convert_to_numpy(value) for value in values]


def sizes_of(model, *names):
    return [tuple(model.get_layer(name).output.shape[1:]) for name in names]


def images(input_shape=(8, 8, 3), n=2):
    return np.random.default_rng(0).normal(size=(n, *input_shape)).astype("float32")


# Trainable parameters, counted by hand. A bias stands wherever no norm follows.


def count(model):
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def conv(size, inputs, outputs, bias=True):
    return size * size * inputs * outputs + bias * outputs


def dense(inputs, outputs, bias=True):
    return conv(1, inputs, outputs, bias)


def norm(channels, batch_norm):
    return 2 * channels * batch_norm


def halving_stem(channels, filters):
    return conv(3, channels, filters // 2) + conv(5, filters // 2, filters)


def pre_activation_block(filters, batch_norm, first=False):
    first_norm = 0 if first else norm(filters, batch_norm)
    first_conv = conv(3, filters, filters, bias=not batch_norm)
    return (
        first_norm + first_conv + norm(filters, batch_norm) + conv(3, filters, filters)
    )


def pre_activation_stages(widths, blocks, batch_norm, num_classes):
    stages = sum(
        n * pre_activation_block(width, batch_norm)
        for width, n in zip(widths, blocks, strict=True)
    )
    head = norm(widths[-1], batch_norm) + dense(widths[-1], num_classes)
    return stages - norm(widths[0], batch_norm) + head


def resnext(channels, filters, cardinality, group_width, blocks, num_classes, stem=3):
    total = conv(stem, channels, filters, bias=False) + norm(filters, True)
    inputs = filters
    for stage, n in enumerate(blocks):
        inner = cardinality * group_width * 2**stage
        outputs = 4 * filters * 2**stage
        total += conv(1, inputs, outputs, bias=False) + norm(outputs, True)
        for _ in range(n):
            total += conv(1, inputs, inner, bias=False) + norm(inner, True)
            total += conv(3, inner, inner, bias=False) // cardinality
            total += norm(inner, True)
            total += conv(1, inner, outputs, bias=False) + norm(outputs, True)
            inputs = outputs
    return total + dense(inputs, num_classes)


@with_and_without_norm
def test_one_representation_resnet_has_the_parameters_of_its_layers(batch_norm):
    model = networks.one_representation_resnet(
        (28, 28, 1),
        10,
        filters=8,
        num_blocks=3,
        batch_norm=batch_norm,
        kernel_initializer="zeros",
    )
    blocks = pre_activation_block(8, batch_norm, first=True)
    blocks += 2 * pre_activation_block(8, batch_norm)
    head = dense(14 * 14 * 8, 100, bias=not batch_norm) + norm(100, batch_norm)
    head += dense(100, 10)
    assert count(model) == halving_stem(1, 8) + blocks + head


def test_resnet9_has_nine_blocks_of_64_filters():
    model = networks.resnet9((28, 28, 1), 10, kernel_initializer="zeros")
    assert model.name == "resnet9"
    adds = layers_of(model, keras.layers.Add)
    assert [add.name for add in adds] == [f"block{k}_add" for k in range(1, 10)]
    assert {tuple(add.output.shape) for add in adds} == {(None, 14, 14, 64)}
    blocks = 9 * pre_activation_block(64, True) - norm(64, True)
    head = dense(14 * 14 * 64, 100, bias=False) + norm(100, True) + dense(100, 10)
    assert count(model) == halving_stem(1, 64) + blocks + head


@with_and_without_norm
def test_resnet_has_the_parameters_of_its_layers(batch_norm):
    model = build_small(networks.resnet, batch_norm=batch_norm)
    transitions = conv(1, 4, 8) + conv(1, 8, 16)
    stages = pre_activation_stages((4, 8, 16), (1, 2, 1), batch_norm, 5)
    assert count(model) == halving_stem(3, 4) + transitions + stages


@with_and_without_norm
def test_avgpool_resnet_has_the_parameters_of_its_layers(batch_norm):
    model = build_small(networks.avgpool_resnet, batch_norm=batch_norm)
    stages = pre_activation_stages((4, 4, 4), (1, 2, 1), batch_norm, 5)
    assert count(model) == halving_stem(3, 4) + stages


def test_wide_resnet_has_widths_160_320_640_and_four_blocks_a_stage():
    model = networks.wide_resnet((32, 32, 3), 10, kernel_initializer="zeros")
    transitions = conv(1, 160, 320) + conv(1, 320, 640)
    stages = pre_activation_stages((160, 320, 640), (4, 4, 4), True, 10)
    assert count(model) == conv(3, 3, 160) + transitions + stages


def test_resnext29_has_the_published_number_of_parameters():
    model = networks.resnext29((32, 32, 3), 10, kernel_initializer="zeros")
    assert count(model) == resnext(3, 64, 16, 64, (3, 3, 3), 10)
    assert count(model) == pytest.approx(68.1e6, rel=1e-3)


def test_resnext50_has_the_published_number_of_parameters():
    model = networks.resnext50(
        (224, 224, 3), 1000, stem="imagenet", kernel_initializer="zeros"
    )
    assert count(model) == resnext(3, 64, 32, 4, (3, 4, 6, 3), 1000, stem=7)
    assert count(model) == pytest.approx(25.0e6, rel=2e-3)


# Structure.


@every_network
def test_outputs_are_logits(build):
    model = build_small(build, kernel_initializer="ones")
    logits = model.predict(images(), verbose=0)
    assert model.name == build.__name__
    assert model.output_shape == (None, 5)
    assert logits.shape == (2, 5)
    assert np.all(np.isfinite(logits))
    assert model.get_layer("logits").activation is keras.activations.linear


@every_network
def test_there_is_one_add_per_block_and_names_are_stable(build):
    stages = SMALL[build]["num_blocks"]
    if isinstance(stages, int):
        expected = [f"block{k}_add" for k in range(1, stages + 1)]
    else:
        expected = [
            f"stage{stage}_block{block}_add"
            for stage, n in enumerate(stages, start=1)
            for block in range(1, n + 1)
        ]
    first, second = build_small(build), build_small(build, name="other")
    assert [add.name for add in layers_of(first, keras.layers.Add)] == expected
    assert [layer.name for layer in first.layers] == [
        layer.name for layer in second.layers
    ]
    assert second.name == "other"


def test_one_representation_resnet_keeps_one_shape():
    model = build_small(networks.one_representation_resnet, (28, 20, 1), 3, filters=6)
    names = ["stem_conv1", "stem_conv2", "block1_add", "block2_add", "head_dense"]
    assert sizes_of(model, *names) == [
        (28, 20, 3),
        (14, 10, 6),
        (14, 10, 6),
        (14, 10, 6),
        (30,),
    ]


@pytest.mark.parametrize(
    ("build", "resolutions", "widths"),
    [
        (networks.resnet, (16, 8, 4), (4, 8, 16)),
        (networks.avgpool_resnet, (16, 8, 4), (4, 4, 4)),
        (networks.wide_resnet, (32, 16, 8), (4, 8, 16)),
        (networks.resnext29, (32, 16, 8), (16, 32, 64)),
        (networks.resnext50, (32, 16, 8, 4), (16, 32, 64, 128)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_stages_have_their_resolution_and_width(build, resolutions, widths):
    model = build_small(build, (32, 32, 3))
    names = [f"stage{stage}_block1_add" for stage in range(1, len(widths) + 1)]
    assert sizes_of(model, *names) == [
        (size, size, width) for size, width in zip(resolutions, widths, strict=True)
    ]


def test_imagenet_stem_divides_the_resolution_by_four():
    model = build_small(networks.resnext50, (64, 64, 3), stem="imagenet")
    assert sizes_of(model, "stem_conv", "stem_pool") == [(32, 32, 4), (16, 16, 4)]
    assert model.get_layer("stem_conv").kernel_size == (7, 7)


@pytest.mark.parametrize(
    ("build", "prefix", "stem"),
    [
        (networks.one_representation_resnet, "", "stem_relu2"),
        (networks.resnet, "stage1_", "stem_relu2"),
        (networks.avgpool_resnet, "stage1_", "stem_relu2"),
        (networks.wide_resnet, "stage1_", "stem_conv"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_only_the_first_block_lacks_leading_norm_and_relu(build, prefix, stem):
    model = build_small(build)
    names = {layer.name for layer in model.layers}
    first_input = model.get_layer(f"{prefix}block1_conv1").input
    assert first_input is model.get_layer(stem).output
    blocks = [name.removesuffix("_add") for name in names if name.endswith("_add")]
    with_norm = {block for block in blocks if f"{block}_bn1" in names}
    with_relu = {block for block in blocks if f"{block}_relu1" in names}
    assert with_norm == with_relu == set(blocks) - {f"{prefix}block1"}


@pytest.mark.parametrize("build", PRE_ACTIVATION_STAGES, ids=lambda f: f.__name__)
def test_transitions_are_outside_the_blocks(build):
    model = build_small(build)
    for stage in (2, 3):
        transition = model.get_layer(f"stage{stage}_transition")
        add = model.get_layer(f"stage{stage}_block1_add")
        assert (
            transition.input
            is model.get_layer(
                f"stage{stage - 1}_block{2 if stage == 3 else 1}_add"
            ).output
        )
        assert add.input[0] is transition.output


@pytest.mark.parametrize("build", RESNEXTS, ids=lambda f: f.__name__)
def test_resnext_projects_only_where_a_block_changes_shape(build):
    model = build_small(build)
    projected = {
        layer.name.removesuffix("_projection_conv")
        for layer in model.layers
        if layer.name.endswith("_projection_conv")
    }
    stages = len(SMALL[build]["num_blocks"])
    assert projected == {f"stage{stage}_block1" for stage in range(1, stages + 1)}
    assert model.get_layer("stage2_block2_add").input[0] is (
        model.get_layer("stage2_block1_relu3").output
    )
    assert model.get_layer("stage2_block1_conv2").kernel.shape == (3, 3, 4, 8)


@every_network
def test_a_bias_stands_where_no_norm_directly_follows(build):
    unbiased = (
        r"(.*_|^)(conv\d?|projection_conv)"
        if build in RESNEXTS
        else (r".*block\d_conv1|head_dense")
    )
    for layer in layers_of(build_small(build), keras.layers.Conv2D, keras.layers.Dense):
        assert layer.use_bias != bool(re.fullmatch(unbiased, layer.name)), layer.name


@every_network
def test_without_batch_norm_there_is_none_and_every_layer_has_a_bias(build):
    model = build_small(build, batch_norm=False)
    assert not layers_of(model, keras.layers.BatchNormalization)
    for layer in layers_of(model, keras.layers.Conv2D, keras.layers.Dense):
        assert layer.use_bias, layer.name


# Values.


def convolve(x, kernel):
    """A 3x3 convolution with zero padding, independent of Keras."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )


def relu(x):
    return np.maximum(x, 0)


@with_and_without_norm
@pytest.mark.parametrize("time_step", [1.0, 0.5])
def test_pre_activation_blocks_equal_a_numpy_forward_pass(batch_norm, time_step):
    model = build_random(
        networks.one_representation_resnet, batch_norm=batch_norm, time_step=time_step
    )
    x0, x1, x2 = outputs_of(model, images(), "stem_relu2", "block1_add", "block2_add")
    kernels = kernels_of(model)

    def normalize(x):
        # A fresh layer's running mean is 0, its running variance 1.
        return x / math.sqrt(1 + 1e-5) if batch_norm else x

    def tail(x, block):
        hidden = relu(normalize(convolve(x, kernels[f"{block}_conv1"])))
        return convolve(hidden, kernels[f"{block}_conv2"])

    v0, v1 = tail(x0, "block1"), tail(relu(normalize(x1)), "block2")
    assert np.abs(v0).max() > 0.1
    np.testing.assert_allclose(x1, x0 + time_step * v0, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(x2, x1 + time_step * v1, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("time_step", [1.0, 0.5])
def test_resnext_blocks_are_post_activation(time_step):
    model = build_random(networks.resnext29, time_step=time_step)
    block = "stage2_block1"
    x, r, z = outputs_of(
        model, images(), f"{block}_projection_bn", f"{block}_bn3", f"{block}_relu3"
    )
    assert (x + time_step * r).min() < 0
    np.testing.assert_allclose(z, relu(x + time_step * r), rtol=1e-5, atol=1e-5)


def test_halving_the_time_step_halves_the_first_displacement():
    whole = build_random(networks.resnet)
    half = build_random(networks.resnet, time_step=0.5)
    half.set_weights(whole.get_weights())

    def displacement(model):
        before, after = outputs_of(model, images(), "stem_relu2", "stage1_block1_add")
        return after - before

    np.testing.assert_allclose(
        displacement(half), 0.5 * displacement(whole), rtol=1e-4, atol=1e-5
    )


def test_a_unit_time_step_adds_no_layer():
    assert not layers_of(build_small(networks.resnet), keras.layers.Rescaling)
    scaled = build_small(networks.resnet, time_step=0.25)
    assert len(layers_of(scaled, keras.layers.Rescaling)) == 4


@pytest.mark.parametrize(
    "build",
    [networks.one_representation_resnet, networks.resnet, networks.resnext29],
    ids=lambda f: f.__name__,
)
def test_without_batch_norm_every_convolution_still_matters(build):
    model = build_random(build, batch_norm=False)
    x = images()
    before = keras.ops.convert_to_numpy(model(x))
    for layer in layers_of(model, keras.layers.Conv2D):
        kernel = keras.ops.convert_to_numpy(layer.kernel.value)
        layer.kernel.assign(2 * kernel + 0.1)
        after = keras.ops.convert_to_numpy(model(x))
        layer.kernel.assign(kernel)
        assert not np.allclose(before, after), layer.name


def test_networks_are_saved_and_loaded(tmp_path):
    model = build_small(networks.one_representation_resnet, time_step=0.5)
    generator = np.random.default_rng(2)
    model.set_weights(
        [generator.uniform(0.1, 1, weight.shape) for weight in model.get_weights()]
    )
    model.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(
        loaded.predict(images(), verbose=0),
        model.predict(images(), verbose=0),
        rtol=1e-5,
        atol=1e-5,
    )


# Initialisation.


@every_network
def test_the_initializer_reaches_every_kernel(build):
    generator = np.random.default_rng(0)

    def normal(shape, dtype=None):
        return generator.normal(3, 1, shape).astype(dtype)

    for name, kernel in kernels_of(
        build_small(build, kernel_initializer=normal)
    ).items():
        tolerance = 5 / math.sqrt(kernel.size)
        assert kernel.mean() == pytest.approx(3, abs=tolerance), name
        assert kernel.std() == pytest.approx(1, abs=tolerance), name


def test_the_default_initializer_is_kaiming_normal_over_the_fan_out():
    for name, kernel in kernels_of(build_initialized(None)).items():
        fan_out = math.prod(kernel.shape) / kernel.shape[-2]
        tolerance = 5 / math.sqrt(2 * kernel.size)
        assert kernel.std() == pytest.approx(math.sqrt(2 / fan_out), rel=tolerance), (
            name
        )


@pytest.mark.parametrize(
    "initializer",
    [
        None,
        "random_normal",
        keras.initializers.RandomNormal,
        keras.initializers.RandomNormal(stddev=1.0),
        keras.initializers.RandomNormal(stddev=1.0, seed=7),
        {"class_name": "RandomNormal", "config": {"stddev": 1.0, "seed": 7}},
    ],
    ids=["default", "name", "class", "unseeded", "seeded", "config"],
)
def test_no_two_kernels_start_equal(initializer):
    assert_no_equal_kernels(build_initialized(initializer))


def test_no_two_kernels_start_equal_with_a_seed_generator():
    generator = keras.random.SeedGenerator(7)
    initializer = keras.initializers.RandomNormal(stddev=1.0, seed=generator)
    assert_no_equal_kernels(build_initialized(initializer))


def assert_no_equal_kernels(model):
    for first, second in itertools.combinations(kernels_of(model).values(), 2):
        assert first.shape != second.shape or not np.allclose(first, second)


def same_kernels(first, second):
    first, second = kernels_of(first), kernels_of(second)
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_a_seeded_initializer_is_reproducible():
    first, again, other = (
        build_initialized(keras.initializers.RandomNormal(seed=seed))
        for seed in (1, 1, 2)
    )
    assert same_kernels(first, again)
    assert not same_kernels(first, other)


def test_the_global_seed_reproduces_the_default_initialisation():
    keras.utils.set_random_seed(1)
    first = build_initialized(None)
    keras.utils.set_random_seed(1)
    assert same_kernels(first, build_initialized(None))


def test_seedless_initializers_are_taken_as_they_are():
    constant = keras.initializers.Constant(0.5)
    for kernel in kernels_of(build_initialized(constant)).values():
        np.testing.assert_array_equal(kernel, 0.5)


# Errors.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (28, 28)}, r"height, width, channels.*\(28, 28\)"),
        ({"input_shape": (None, 28, 1)}, r"`input_shape`.*\(None, 28, 1\)"),
        ({"input_shape": (0, 28, 1)}, r"`input_shape`.*\(0, 28, 1\)"),
        ({"input_shape": 28}, r"`input_shape`.*input_shape=28"),
        ({"num_classes": 0}, "`num_classes` must be.*num_classes=0"),
        ({"num_classes": 2.5}, "`num_classes` must be.*num_classes=2.5"),
        ({"filters": 0}, "`filters` must be.*filters=0"),
        ({"num_blocks": 0}, "`num_blocks` must be.*num_blocks=0"),
        ({"num_blocks": (1, 2)}, r"`num_blocks` must be.*\(1, 2\)"),
        ({"num_blocks": "3"}, "`num_blocks` must be.*'3'"),
        ({"time_step": 0}, "time_step.*0"),
        ({"time_step": -0.5}, "time_step.*-0.5"),
        ({"time_step": float("nan")}, "time_step.*nan"),
        ({"time_step": "1"}, "time_step.*'1'"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(options, message):
    for build in SMALL:
        with pytest.raises(ValueError, match=message):
            build_small(build, **options)


def test_odd_filters_cannot_be_halved():
    builds = (
        networks.one_representation_resnet,
        networks.resnet,
        networks.avgpool_resnet,
    )
    for build in builds:
        with pytest.raises(ValueError, match=r"even integer.*filters=5"):
            build_small(build, filters=5)


@pytest.mark.parametrize("argument", ["cardinality", "group_width"])
def test_resnext_group_options_are_positive(argument):
    for build in RESNEXTS:
        with pytest.raises(ValueError, match=f"`{argument}` must be.*{argument}=0"):
            build_small(build, **{argument: 0})


def test_an_unknown_stem_is_named():
    with pytest.raises(ValueError, match=r"cifar.*imagenet.*'large'"):
        build_small(networks.resnext50, stem="large")


def test_images_too_small_to_pool_are_refused():
    pooled = build_small(networks.avgpool_resnet, (7, 7, 1))
    assert sizes_of(pooled, "stage3_transition") == [(1, 1, 4)]
    with pytest.raises(ValueError, match=r"at least 7.*\(6, 8, 1\)"):
        build_small(networks.avgpool_resnet, (6, 8, 1))
