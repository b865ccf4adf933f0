"""The authors' networks against plain PyTorch, with its weights ported.

The functions that port weights are those of the page on porting.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from support.basics import as_numpy

import keras_lap
from keras_lap import networks

torch = pytest.importorskip("torch")
Theirs = pytest.importorskip("support.authors_networks").Theirs

PAGE = Path(__file__).parents[2] / "docs" / "porting.md"
CLASSES, FILTERS = 3, 4


def one_representation(stem):
    return lambda theirs, x: theirs.one_representation(x, stem)


def resnext(stem, blocks, window):
    return lambda theirs, x: theirs.resnext(x, stem, blocks, window)


STAGES = {"num_blocks": (1, 2, 1)}
GROUPED = {"cardinality": 2, "group_width": 2}
# The builder, its options, their network, and a size of images.
CASES = {
    "mnist": (
        networks.one_representation_resnet,
        {"num_blocks": 3},
        one_representation(Theirs.halving),
        28,
    ),
    "odd": (
        networks.one_representation_resnet,
        {"num_blocks": 3},
        one_representation(Theirs.halving),
        33,
    ),
    "cifar100": (
        networks.one_representation_resnet,
        {"num_blocks": 3, "stem": "cifar"},
        one_representation(Theirs.keeping),
        9,
    ),
    "resnet": (networks.resnet, STAGES, Theirs.resnet, 32),
    "resnet, odd": (networks.resnet, STAGES, Theirs.resnet, 33),
    "avgpool": (networks.avgpool_resnet, STAGES, Theirs.avgpool, 32),
    "avgpool, odd": (networks.avgpool_resnet, STAGES, Theirs.avgpool, 33),
    "wide": (networks.wide_resnet, STAGES, Theirs.wide, 32),
    "wide, odd": (networks.wide_resnet, STAGES, Theirs.wide, 29),
    "resnext29": (
        networks.resnext29,
        GROUPED | STAGES,
        resnext(Theirs.keeping, (1, 2, 1), 7),
        32,
    ),
    "resnext29, odd": (
        networks.resnext29,
        GROUPED | STAGES,
        resnext(Theirs.keeping, (1, 2, 1), 7),
        33,
    ),
    "resnext50": (
        networks.resnext50,
        GROUPED | {"num_blocks": (1, 2, 1, 1)},
        resnext(Theirs.keeping, (1, 2, 1, 1), 4),
        32,
    ),
    "resnext50, imagenet": (
        networks.resnext50,
        GROUPED | {"num_blocks": (1, 2, 1, 1), "stem": "imagenet"},
        resnext(Theirs.dividing, (1, 2, 1, 1), 4),
        101,
    ),
}
CASES |= {
    f"{name}, no norm": CASES[name] for name in ("mnist", "resnet", "avgpool", "wide")
}


@pytest.fixture(scope="module")
def page():
    """What the page on porting defines; its example has to hold too."""
    names = {"__name__": "porting"}
    said = []
    names["print"] = lambda *words: said.append(" ".join(map(str, words)))
    text = PAGE.read_text("utf-8")
    for code in re.findall(r"^```python\n(.*?)^```\n", text, re.M | re.S):
        exec(compile(code, PAGE.name, "exec"), names)
    assert re.findall(r"^```text\n(.*?)\n```\n", text, re.M | re.S) == said
    return names


def zeros(shape, dtype=None):
    """On JAX, drawing random kernels is what takes time."""
    return np.zeros(shape, dtype)


def build_small(build=networks.resnext29, size=8, **options):
    options = GROUPED | STAGES | options if build is networks.resnext29 else options
    options = {"kernel_initializer": zeros, "like_the_paper": True} | options
    return build((size, size, 2), CLASSES, filters=FILTERS, **options)


def assert_close(ours, theirs):
    """Float32 keeps 6e-8; some twenty layers and norms after it, 1e-6 was seen."""
    ours = as_numpy(ours)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


# Each operation is compiled anew for each shape by JAX, in half a minute for all.
ON_ALL_BACKENDS = ("resnext29, odd",)


def on_one_backend(case):
    skip = case not in ON_ALL_BACKENDS and keras.backend.backend() != "torch"
    reason = "what differs between the cases depends on no backend"
    return pytest.param(case, marks=pytest.mark.skipif(skip, reason=reason))


@pytest.mark.parametrize("case", [*map(on_one_backend, CASES)])
def test_logits_and_displacements_are_those_of_the_authors_network(case, page):
    build, options, forward, size = CASES[case]
    images = np.random.default_rng(0).normal(size=(3, size, size, 2))
    normalized = not case.endswith("no norm")
    network = build(
        (size, size, 2),
        CLASSES,
        filters=FILTERS,
        kernel_initializer=zeros,
        batch_norm=normalized,
        like_the_paper=True,
        **options,
    )
    theirs = Theirs(FILTERS, CLASSES, normalized)
    theirs.run(forward, images, training=False)  # draws its arrays
    names = page["their_names"](network)
    page["port"](network, theirs.state, names)
    assert {key.rpartition(".")[0] for key in theirs.state} == set(names.values())

    report = keras_lap.find_residual_blocks(network, include_projections=True)
    assert not report.skipped
    record = keras_lap.trajectory.Recorder(network, report)
    for training in (False, True, False):
        expected = theirs.run(forward, images, training)
        path = record(images.astype("float32"), training=training)
        for mine, his in zip(
            (path.outputs, *path.displacements), expected, strict=True
        ):
            assert_close(mine, his)
    for ours, name in names.items():
        if f"{name}.running_var" in theirs.state:
            # The pass in training changed them, by the unbiased variance.
            layer = network.get_layer(ours)
            assert_close(
                layer.moving_mean, theirs.state[f"{name}.running_mean"].numpy()
            )
            assert_close(
                layer.moving_variance, theirs.state[f"{name}.running_var"].numpy()
            )


one_backend = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="depends on no backend"
)


@one_backend
@pytest.mark.parametrize(
    ("build", "identities", "all_blocks"),
    [(networks.resnext29, 6, 9), (networks.resnext50, 12, 16)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_all_blocks_of_a_resnext_count_with_projections(build, identities, all_blocks):
    options = GROUPED | {"kernel_initializer": zeros, "like_the_paper": True}
    network = build((16, 16, 3), 5, filters=2, **options)
    assert len(keras_lap.find_residual_blocks(network)) == identities
    report = keras_lap.find_residual_blocks(network, include_projections=True)
    assert (len(report), report.skipped) == (all_blocks, ())


@one_backend
def test_kernels_start_as_kaiming_normal_over_the_fan_out_in_pytorch():
    network = networks.resnext29(
        *((8, 8, 3), 100), filters=16, cardinality=4, group_width=8, like_the_paper=True
    )
    kernels = [layer.kernel for layer in network.layers if hasattr(layer, "kernel")]
    for kernel in map(as_numpy, kernels):
        *window, inputs, outputs = kernel.shape
        theirs = torch.nn.init.kaiming_normal_(
            torch.empty(outputs, inputs, *window), mode="fan_out", nonlinearity="relu"
        )
        fan_out = outputs * math.prod(window)
        tolerance = 5 / math.sqrt(2 * kernel.size)  # five standard errors
        for drawn in (kernel, theirs.numpy()):
            assert drawn.std() == pytest.approx(math.sqrt(2 / fan_out), rel=tolerance)


def test_moving_statistics_in_fit_are_those_of_pytorch():
    "Of four values a channel, where biased and unbiased variance are far apart."
    inputs = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
    network = keras.Sequential([keras.Input((5,)), norm_of_the_package()])
    network.compile(keras.optimizers.SGD(0.0), "mse")
    network.fit(inputs, inputs, batch_size=4, epochs=2, shuffle=False, verbose=0)
    module = torch.nn.BatchNorm1d(5)
    for batch in [*np.split(inputs, 3)] * 2:
        module(torch.tensor(batch))
    layer = network.layers[0]
    assert_close(layer.moving_mean, module.running_mean.numpy())
    assert_close(layer.moving_variance, module.running_var.numpy())

    kept = as_numpy(layer.moving_variance)
    layer.trainable = False
    network(inputs, training=True)
    np.testing.assert_array_equal(as_numpy(layer.moving_variance), kept)


def norm_of_the_package():
    network = build_small()
    config = network.get_layer("stem_bn1").get_config()
    return type(network.get_layer("stem_bn1")).from_config(config)


@one_backend
def test_it_trains_and_is_saved(tmp_path):
    network = build_small(kernel_initializer="he_normal")
    model = keras_lap.LeastActionModel(network, include_projections=True)
    model.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype("float32")
    history = model.fit(images, np.arange(4) % CLASSES, verbose=0).history
    assert 0 < history["transport_cost"][0] < math.inf
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0),
        network.predict(images, verbose=0),
        rtol=1e-6,  # the same operations on the same weights
    )


# Sizes and errors.


@one_backend
@pytest.mark.parametrize(
    ("build", "size", "features"),
    [
        (networks.resnet, 8, 4 * FILTERS),
        (networks.resnet, 64, 2 * 2 * 4 * FILTERS),
        (networks.avgpool_resnet, 8, FILTERS),
        (networks.wide_resnet, 28, 4 * FILTERS),
        (networks.resnext29, 8, 16 * FILTERS),
        (networks.resnext29, 32, 2 * 2 * 16 * FILTERS),
    ],
)
def test_small_images_cut_the_window_of_the_head(build, size, features):
    assert build_small(build, size).get_layer("logits").kernel.shape[0] == features


@one_backend
def test_what_the_authors_networks_have_not_is_refused():
    with pytest.raises(ValueError, match=r"`batch_norm` must be True.*Leave"):
        build_small(batch_norm=False)
    with pytest.raises(ValueError, match=r"`like_the_paper` must be True or F.*=1"):
        build_small(like_the_paper=1)
    with pytest.raises(ValueError, match=r"at least 8.*\(7, 7, 2\)"):
        build_small(networks.avgpool_resnet, 7)
    with pytest.raises(ValueError, match=r"`filters` must be an even integer"):
        networks.resnext29((8, 8, 3), 5, filters=5, like_the_paper=True)
    with pytest.raises(ValueError, match=r"halving.*cifar.*'imagenet'"):
        build_small(networks.resnet9, stem="imagenet")


@one_backend
def test_another_order_of_axes_is_refused():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        for build in {build for build, *_ in CASES.values()}:
            with pytest.raises(ValueError, match=r"channels_first.*set_image_data"):
                build((3, 32, 32), CLASSES)
    finally:
        keras.config.set_image_data_format(before)
