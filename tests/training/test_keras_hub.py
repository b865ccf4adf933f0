"""KerasHub's transformers: every encoder or decoder layer is one block.

The expected counts are the numbers of layers that the constructors are asked for.
"""

from __future__ import annotations

import numpy as np
import pytest

import keras_lap

models = pytest.importorskip("keras_hub").models

TEXT = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 8, "intermediate_dim": 16}
GROUPED = {"num_query_heads": 2, "num_key_value_heads": 1}


def bert():
    return models.BertBackbone(**TEXT, num_heads=2, max_sequence_length=16)


def llama():
    return models.LlamaBackbone(**TEXT, **GROUPED)


def gemma():
    return models.GemmaBackbone(**TEXT, **GROUPED, head_dim=4)


def mit():
    return models.MiTBackbone(
        layerwise_depths=[2, 1],
        hidden_dims=[4, 8],
        image_shape=(16, 16, 3),
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
    )


@pytest.mark.parametrize(
    ("build", "count"), [(bert, 2), (llama, 2), (gemma, 2), (mit, 3)]
)
def test_every_transformer_layer_is_a_block(build, count):
    report = keras_lap.find_residual_blocks(build())
    assert [block.kind for block in report] == ["layer"] * count


def test_bert_trains_by_least_action():
    backbone = bert()
    model = keras_lap.LeastActionModel(backbone, initial_multiplier=2.0)
    model.compile("sgd", loss={"pooled_output": "mse"})
    inputs = {
        "token_ids": np.arange(24).reshape(2, 12),
        "segment_ids": np.zeros((2, 12), "int32"),
        "padding_mask": np.ones((2, 12), "int32"),
    }
    targets = {"pooled_output": np.zeros((2, 8), "float32")}
    logs = model.train_on_batch(inputs, targets, return_dict=True)
    assert float(logs["transport_cost"]) > 0
    parts = float(logs["task_loss"]) + float(logs["transport_cost"]) / 2
    assert float(logs["loss"]) == pytest.approx(parts, rel=1e-5)
