"""Cutting published networks, against the same network without those blocks."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from support import architectures as published
from support.basics import as_numpy

import keras_lap
from keras_lap.depth import exits, prune

# Building them takes long, and what is cut does not depend on the backend.
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
SHAPE = {"weights": None, "input_shape": (32, 32, 3), "classes": 3}
SHAPE["classifier_activation"] = None
# The last layer of the branch of each block: without its weights, the branch is zero.
LAST = {
    "ResNet50V2": r"(conv\d_block\d+)_3_conv",
    "MobileNetV2": r"(block_\d+)_project_BN",
}
RNG = np.random.default_rng(0)


def close(ours, theirs, policy):
    """Probabilities, or features after a norm; half precision keeps three digits."""
    tolerance = 1e-5 if policy == "float32" else 1e-2
    pairs = zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True)
    for one, other in pairs:
        assert tuple(one.shape) == tuple(other.shape)
        np.testing.assert_allclose(
            as_numpy(one).astype("float32"),
            as_numpy(other).astype("float32"),
            atol=tolerance,
        )


@pytest.mark.parametrize("name", LAST)
def test_applications(name):
    """A branch whose last weights are zero adds nothing, like one that is left out."""
    keras.utils.set_random_seed(0)
    net = getattr(keras.applications, name)(**SHAPE)
    x = RNG.normal(size=(2, 32, 32, 3)).astype("float32")
    blocks = [block.name for block in keras_lap.find_residual_blocks(net)]
    kept = len(blocks) // 2
    ours = exits(net)(x)[kept]
    pruned = as_numpy(prune(net, kept)(x))
    full = as_numpy(net(x))
    last = {}
    for layer in net.layers:
        if found := re.fullmatch(LAST[name], layer.name):
            last[found[1]] = layer
    for block in blocks[kept:]:
        (key,) = [each for each in last if block.startswith(f"{each}_")]
        last[key].set_weights([np.zeros_like(w) for w in last[key].get_weights()])
    expected = as_numpy(net(x))
    # A thousandth of what the blocks do, which is little in networks just made.
    some = 1e-3 * np.abs(full - expected).max()
    assert some > 0
    np.testing.assert_allclose(as_numpy(ours), expected, rtol=0, atol=some)
    np.testing.assert_allclose(pruned, expected, rtol=0, atol=some)


def tokens(net):
    def one(symbol):
        shape = [2, *(8 if size is None else size for size in symbol.shape[1:])]
        if "int" in symbol.dtype:
            return RNG.integers(0, 2, shape)
        return RNG.normal(size=shape).astype("float32")

    return keras.tree.map_structure(one, net.input)


def backbone(kind, depth):
    text = {**published.TEXT, "num_layers": depth}
    if kind == "ViT":
        return published.models.ViTBackbone(
            **{**published.VISION, "num_layers": depth}, mlp_dim=16
        )
    if kind == "Llama":
        return published.models.LlamaBackbone(**text, **published.GROUPED)
    named = {"Bert": "BertBackbone", "GPT2": "GPT2Backbone"}[kind]
    build = getattr(published.models, named)
    return build(**text, num_heads=2, **published.POSITIONS)


def second_layer(net):
    if hasattr(net, "transformer_layers"):
        return net.transformer_layers[1]
    return net.get_layer("vit_encoder").encoder_layers[1]


CLASSIFIERS = {"ViT": "ViTImageClassifier", "Bert": "BertTextClassifier"}


@pytest.mark.skipif(published.keras_hub is None, reason="needs KerasHub")
@pytest.mark.parametrize("kind", ["ViT", "Bert", "GPT2", "Llama"])
def test_keras_hub(kind, policy, tmp_path):
    """A backbone of one layer, with the weights that the one of two has there."""
    pairs = [(backbone(kind, 2), backbone(kind, 1))]
    if kind in CLASSIFIERS and policy == "float32":
        task = getattr(published.models, CLASSIFIERS[kind])
        pairs.append(tuple(task(each, num_classes=3) for each in pairs[0]))
    for net, small in pairs:
        x = tokens(net)
        net.set_weights([w + RNG.normal(size=w.shape) * 0.1 for w in net.get_weights()])
        assert len(keras_lap.find_residual_blocks(net)) == 2
        gone = set(map(id, second_layer(getattr(net, "backbone", net)).weights))
        own = [weight for weight in net.weights if id(weight) not in gone]
        for weight, other in zip(small.weights, own, strict=True):
            weight.assign(other)
        cut = prune(net, 1)
        close(exits(net)(x)[1], small(x), policy)
        close(cut(x), small(x), policy)
        assert cut.count_params() == small.count_params()
    if policy == "float32" and kind in ("Bert", "GPT2"):  # see docs/limits.md
        cut.save(tmp_path / "cut.keras")
        close(keras.saving.load_model(tmp_path / "cut.keras")(x), cut(x), policy)
