"""KerasHub: every layer of a transformer is a block, and tasks take raw data.

The expected counts are the numbers of layers that the constructors are asked for. What
becomes of raw data is compared with the task itself.
"""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import ops, tree
from support.basics import crossentropy

import keras_lap

keras_hub = pytest.importorskip("keras_hub")
layers, models = keras_hub.layers, keras_hub.models

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


CLASSES, SAMPLES = 3, 8
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "quick",
    "fox",
    "dog",
]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (SAMPLES, 20, 24, 3)).astype("uint8")
STRINGS = ["the quick fox", "dog", "The dog, the fox", "fox"] * (SAMPLES // 4)
LABELS = RNG.integers(0, CLASSES, SAMPLES)
WEIGHTS = RNG.uniform(0.1, 2.0, SAMPLES).astype("float32")
# A λ at which the energy is far below the last digit of the loss.
NO_ENERGY = 1e30


def resnet_classifier():
    converter = layers.ResNetImageConverter(image_size=(16, 16), scale=1 / 255)
    backbone = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[2],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(16, 16, 3),
    )
    preprocessor = models.ResNetImageClassifierPreprocessor(converter)
    return models.ResNetImageClassifier(backbone, CLASSES, preprocessor)


def vit_classifier():
    converter = layers.ViTImageConverter(image_size=(16, 16), scale=1 / 127, offset=-1)
    backbone = models.ViTBackbone(
        image_shape=(16, 16, 3),
        patch_size=4,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )
    preprocessor = models.ViTImageClassifierPreprocessor(converter)
    return models.ViTImageClassifier(backbone, CLASSES, preprocessor)


def bert_classifier():
    tokenizer = models.BertTokenizer(VOCABULARY, lowercase=True)
    options = TEXT | {"vocabulary_size": len(VOCABULARY), "dropout": 0.0}
    backbone = models.BertBackbone(**options, num_heads=2, max_sequence_length=16)
    preprocessor = models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8)
    return models.BertTextClassifier(backbone, CLASSES, preprocessor, dropout=0.0)


TASKS = {
    resnet_classifier: IMAGES,
    vit_classifier: IMAGES,
    bert_classifier: STRINGS,
}
of_all_tasks = pytest.mark.parametrize(("build", "raw"), TASKS.items())
# Where it is not the network that matters; JAX compiles for seconds.
of_two_tasks = pytest.mark.parametrize(("build", "raw"), [*TASKS.items()][1:])


def prepared(model):
    model.compile(
        keras.optimizers.SGD(0.01),
        crossentropy(),
        metrics=["accuracy"],
        weighted_metrics=[],
    )
    return model


def wrapped(build, multiplier=NO_ENERGY):
    return prepared(keras_lap.LeastActionModel(build(), initial_multiplier=multiplier))


@pytest.fixture(scope="module")
def pair():
    """A task, and a model around another one, which start from the same weights.

    Both are made once for each task and fed with batches of one size: on JAX and
    TensorFlow it is compiling that takes the time.
    """

    @functools.cache
    def make(build):
        return prepared(build()), wrapped(build)

    def alike(build):
        task, model = make(build)
        model.network.set_weights(task.get_weights())
        return task, model

    return alike


def assert_alike(ours, theirs):
    """Logs or histories: what the task logs is in ours, too."""
    for name, values in theirs.items():
        # The compiled program is another one, and sums in another order.
        np.testing.assert_allclose(ours[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.way("task with raw images or strings")
@of_all_tasks
def test_a_task_is_fed_with_raw_data(pair, build, raw):
    task, model = pair(build)
    untrained = model.predict(raw, verbose=0)
    np.testing.assert_allclose(untrained, task.predict(raw, verbose=0), rtol=1e-6)
    options = {"x": raw, "y": LABELS, "sample_weight": WEIGHTS, "batch_size": 4}
    logs = [
        each.fit(**options, validation_data=(raw, LABELS), epochs=2, verbose=0).history
        for each in (model, task)
    ]
    assert_alike(*logs)
    for ours, theirs in zip(
        model.network.get_weights(), task.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    model.network.set_weights(task.get_weights())
    logs = [
        each.evaluate(**options, return_dict=True, verbose=0) for each in (model, task)
    ]
    assert_alike(*logs)


@of_two_tasks
def test_single_batches_of_raw_data(pair, build, raw):
    task, model = pair(build)
    ours, theirs = (each.predict_on_batch(raw) for each in (model, task))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    for method in ("train_on_batch", "test_on_batch"):
        ours, theirs = (
            getattr(each, method)(raw[:4], LABELS[:4], WEIGHTS[:4], return_dict=True)
            for each in (model, task)
        )
        assert_alike(ours, theirs)


def test_raw_data_in_a_data_set_split_and_weighted_by_class(pair):
    data = pytest.importorskip("tensorflow").data.Dataset
    task, model = pair(vit_classifier)
    weights = {0: 1.0, 1: 2.0, 2: 3.0}
    both = data.from_tensor_slices((IMAGES, LABELS)).batch(4)
    for options in (
        {"x": both, "validation_data": both},
        {
            **{"x": IMAGES, "y": LABELS, "batch_size": 4},
            **{"validation_split": 0.5, "class_weight": weights},
        },
    ):
        assert_alike(
            *(each.fit(**options, verbose=0).history for each in (model, task))
        )


# Images of the right size: resizing rounds in another way outside of `fit`.
@pytest.mark.parametrize(
    ("build", "raw"),
    [(vit_classifier, IMAGES[:, :16, :16]), (bert_classifier, STRINGS)],
)
def test_raw_data_train_as_prepared_ones_do(build, raw):
    raw_model, model = (wrapped(build, 0.5) for _ in range(2))
    model.network.set_weights(raw_model.network.get_weights())
    arrays = tree.map_structure(ops.convert_to_numpy, model.network.preprocessor(raw))
    model.network.preprocessor = None
    rises = keras_lap.callbacks.MultiplierUpdate(tau=2.0)
    ours, theirs = (
        each.fit(x, y=LABELS, shuffle=False, callbacks=[rises], verbose=0).history
        for each, x in ((raw_model, raw), (model, arrays))
    )
    assert_alike(ours, theirs)
    loss, cost = ours["task_loss"][0], ours["transport_cost"][0]
    assert ours["multiplier"][0] == pytest.approx(0.5 + 2.0 * loss, rel=1e-5)
    assert ours["loss"][0] == pytest.approx(loss + cost / 0.5, rel=1e-5)
    reports = [
        keras_lap.transport.analyze(each, np.asarray(x) if x is raw else x, verbose=0)
        for each, x in ((raw_model, raw), (model, arrays))
    ]
    costs = [[block.cost for block in report.blocks] for report in reports]
    np.testing.assert_allclose(*costs, rtol=1e-4)  # of weights trained apart


@of_two_tasks
def test_a_loaded_task_is_fed_with_raw_data(pair, build, raw, tmp_path):
    _, model = pair(build)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    seen = [each.predict(raw, verbose=0) for each in (loaded, model)]
    np.testing.assert_allclose(*seen, rtol=1e-6)
    batch = raw[:4], LABELS[:4], WEIGHTS[:4]
    logs = [each.train_on_batch(*batch) for each in (loaded, model)]
    np.testing.assert_allclose(*logs, rtol=1e-5)


def test_a_backbone_with_a_loss_of_its_own_is_refused():
    # Not exported, but a network of KerasHub's all the same.
    from keras_hub.src.models.rqvae.rqvae_backbone import RQVAEBackbone

    backbone = RQVAEBackbone(8, [8], 8, [8], num_embeddings=4, num_quantizers=2)
    with pytest.raises(ValueError, match=r"RQVAEBackbone with compute_loss\(\)"):
        keras_lap.LeastActionModel(backbone)
