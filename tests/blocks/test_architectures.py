"""As many blocks are found in published networks as their definitions give them."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import keras
import numpy as np
import pytest
from support.architectures import APPLICATIONS, CLASSIFIERS, HUB, keras_hub
from support.composite_architectures import COMPOSITE, OWN, depth_anything

import keras_lap

# A graph is the same on all backends, and building takes seconds on two of them: the
# quickest one reads all networks, the others some of each kind, and of those that are
# read wrongly.
EVERYWHERE = {
    *("MobileNetV2", "EfficientNetB0", "ResNet50V2"),
    *("Bert", "GPT2", "Llama", "Gemma3", "Mixtral", "Albert", "FNet", "Whisper"),
    *("ViT", "Swin", "MiT", "SigLIP", "ResNet, basic", "EfficientNet", "VAE"),
    *("DnCNN", "ResNet-D", "DepthAnything", "Flux", "Gemma3n", "RWKV7"),
}
TORCH = keras.backend.backend() == "torch"
needs_hub = pytest.mark.skipif(keras_hub is None, reason="needs keras-hub")


class Wrong(NamedTuple):
    """What is found instead: identities, projections and layers; and why."""

    found: tuple[int, int, int]
    reason: str


# Known to be read wrongly, as docs/limits.md says; the test fails once it no longer is.
WRONG = {
    "DepthAnything": Wrong((0, 0, 2), "the backend's own function in a call"),
    "DFine": Wrong((0, 4, 3), "the backend's own function in the decoder's call"),
    "Flux": Wrong((0, 0, 3), "the second state of a layer is not measured"),
    "Gemma3n": Wrong((1, 0, 4), "AltUp's states lie between operations"),
    "RWKV7": Wrong((4, 0, 0), "the mixing of two tokens reads as a block"),
    "SAM3": Wrong((2, 0, 5), "a condition in the geometry encoder's call"),
}


once = pytest.mark.skipif(not TORCH, reason="on one backend only")


def parameters(rows):
    return [
        pytest.param(row, id=row.name, marks=[once] * (row.name not in EVERYWHERE))
        for row in rows
    ]


@pytest.fixture
def no_values():
    """Weights get no values: they play no part, and drawing them takes the time."""
    with keras.StatelessScope(initialize_variables=False):
        yield


def check(network, row):
    """Compares what is found in a network with its row of the table."""
    kinds = ("identity", "projection", "layer")
    found = Counter(
        block.kind
        for block in keras_lap.find_residual_blocks(network, include_projections=True)
    )
    counts = tuple(found[kind] for kind in kinds)
    expected = (row.identity, row.projection, row.layer)
    wrong = WRONG.get(row.name)
    if wrong is not None:
        assert wrong.found != expected
        assert counts == wrong.found, f"mended? docs/limits.md says: {wrong.reason}"
        return
    assert counts == expected, row.source
    if row.projection:
        without = keras_lap.find_residual_blocks(network)
        assert len(without) == row.identity + row.layer
    if not found:
        with pytest.raises(ValueError, match="blocks="):
            keras_lap.LeastActionModel(network)


@pytest.mark.usefixtures("no_values")
@pytest.mark.parametrize("row", parameters(APPLICATIONS))
def test_keras_applications(row):
    if row.name == "NASNetMobile" and TORCH:
        pytest.skip("Keras does not build it on PyTorch")
    check(row.build(), row)


@pytest.mark.usefixtures("no_values")
@pytest.mark.parametrize("row", parameters(OWN))
def test_networks_of_our_own(row):
    check(row.build(), row)


@needs_hub
@pytest.mark.usefixtures("no_values")
@pytest.mark.parametrize("row", parameters(HUB + COMPOSITE))
def test_keras_hub(row):
    check(row.build(), row)


@needs_hub
@pytest.mark.parametrize("row", parameters(CLASSIFIERS))
def test_blocks_are_found_through_a_classifier(row):
    network = row.build()
    check(network, row)
    report = keras_lap.find_residual_blocks(network, include_projections=True)
    prefixes = {block.name.partition("/")[0] for block in report}
    assert prefixes == {network.backbone.name}


@once
@needs_hub
def test_layers_below_a_closed_one_can_be_named():
    """As docs/limits.md says: DepthAnything's, but the one that no call reaches."""
    network = depth_anything()
    unused = network.neck.fusion_stage[0].residual_layer1
    kinds = {"DINOV2Layer", "DepthAnythingPreActResidualLayer"}
    model = keras_lap.LeastActionModel(
        network, blocks=lambda each: type(each).__name__ in kinds and each is not unused
    )
    recorder = keras_lap.trajectory.Recorder(
        network, model.block_report, ["displacements"]
    )
    images = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype("float32")
    moved = recorder(images, training=False).displacements
    # 4 x 4 patches and a class token; features of 4 x 4, then twice of 8 x 8.
    sizes = [(17,), (17,), (4, 4), (8, 8), (8, 8)]
    assert [each.shape for each in moved] == [(2, *size, 8) for size in sizes]
