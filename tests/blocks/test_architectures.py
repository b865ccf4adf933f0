"""As many blocks are found in published networks as their definitions give them."""

from __future__ import annotations

from collections import Counter

import keras
import pytest
from support.architectures import APPLICATIONS, CLASSIFIERS, HUB, keras_hub

import keras_lap

# Networks that take seconds each and hold nothing new: their graph is the same on all
# backends, so the quickest one is enough.
LARGE = {
    "ResNet101",
    "ResNet152",
    "ResNet101V2",
    "ResNet152V2",
    "EfficientNetB3",
    "EfficientNetB7",
    "EfficientNetV2S",
    "ConvNeXtBase",
    "NASNetLarge",
}
TORCH = keras.backend.backend() == "torch"
needs_hub = pytest.mark.skipif(keras_hub is None, reason="needs keras-hub")


# Known to be read wrongly, with the reason; the test fails once it no longer is.
WRONG = {
    "RWKV7": "x + (shifted(x) - x) * weight, which mixes two tokens, reads as a block"
}


def parameters(rows):
    marks = {
        name: [pytest.mark.xfail(reason=reason, strict=True)]
        for name, reason in WRONG.items()
    }
    return [
        pytest.param(row, id=row.name, marks=marks.get(row.name, [])) for row in rows
    ]


@pytest.fixture
def no_values():
    """Weights get no values: they play no part, and drawing them takes the time."""
    with keras.StatelessScope(initialize_variables=False):
        yield


def check(network, row):
    """Compares what is found in a network with its row of the table."""
    found = Counter(
        block.kind
        for block in keras_lap.find_residual_blocks(network, include_projections=True)
    )
    expected = {
        "identity": row.identity,
        "projection": row.projection,
        "layer": row.layer,
    }
    assert {kind: found[kind] for kind in expected} == expected, row.source
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
    if row.name in LARGE and not TORCH:
        pytest.skip("large, so on one backend only")
    check(row.build(), row)


@needs_hub
@pytest.mark.usefixtures("no_values")
@pytest.mark.parametrize("row", parameters(HUB))
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
