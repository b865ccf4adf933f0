"""`depth.early_exit` against the exits of each depth and NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from support.basics import as_numpy
from support.by_depth import (
    BUILDERS,
    CLOSE,
    assert_alike,
    at_depth,
    data,
    one_stage,
    with_random_weights,
)

import keras_lap
from keras_lap.depth import early_exit

ON_ONE = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


def network(name="one stage"):
    build, blocks = BUILDERS[name]
    net = with_random_weights(build(blocks))
    # Logits near one, so that the exits are sure to different degrees.
    head = net.get_layer("head") if name != "without head" else net.layers[-2]
    if hasattr(head, "kernel"):
        head.set_weights([w * 0.1 for w in head.get_weights()])
    return build, blocks, net


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def by_hand(build, blocks, net, x):
    """The exits, `(samples, K + 1, classes)`, and how sure each is."""
    nets = [at_depth(build, k, net) for k in range(blocks + 1)]
    exits = np.stack([as_numpy(each(x)) for each in nets], 1)
    return exits, softmax(exits.astype("float64")).max(-1)


def stops(sure, threshold):
    """The first exit of each sample that is surer than a threshold."""
    return [
        next((k for k, p in enumerate(row) if p > threshold), len(row) - 1)
        for row in sure
    ]


# Every threshold and batch is compiled anew elsewhere: one of each is enough there.
THRESHOLDS = [0.0, 0.5, 1.0] if keras.backend.backend() == "torch" else [0.5]


def thresholds(sure):
    """The lowest, one that half of the exits pass, and the highest."""
    return [float(np.median(sure)) if t == 0.5 else t for t in THRESHOLDS]


@pytest.mark.parametrize(
    "name",
    [*(pytest.param(name, marks=ON_ONE) for name in ("one stage", "tokens")), "twins"],
)
def test_every_sample_stops_by_itself(name):
    build, blocks, net = network(name)
    x = np.concatenate([data(net), data(net)])
    exits, sure = by_hand(build, blocks, net, x)
    for threshold in thresholds(sure):
        quick = early_exit(net, threshold)
        outputs, ran = quick.predict_each(x, batch_size=4)
        expected = stops(sure, threshold)
        np.testing.assert_array_equal(ran, expected)
        chosen = exits[np.arange(len(x)), expected]
        np.testing.assert_allclose(outputs, chosen, **CLOSE)


def test_a_batch_stops_once_all_of_it_is_sure():
    build, blocks, net = network()
    x = data(net)
    exits, sure = by_hand(build, blocks, net, x)
    for threshold in thresholds(sure):
        expected = next(
            (k for k in range(blocks) if (sure[:, k] > threshold).all()), blocks
        )
        quick = early_exit(net, threshold)
        outputs, ran = quick.with_blocks(x)
        assert int(ran) == expected
        np.testing.assert_allclose(as_numpy(outputs), exits[:, expected], **CLOSE)
        predicted = quick.predict(x, verbose=0)
        np.testing.assert_allclose(predicted, exits[:, expected], **CLOSE)


JAX_READS_BOTH = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="reads both branches, and runs one"
)


@pytest.mark.parametrize("each", [True, pytest.param(False, marks=JAX_READS_BOTH)])
def test_blocks_that_are_not_needed_do_not_run(each):
    """The second sample alone is sure at once."""
    inputs = x = keras.Input((2,))
    sizes = {}
    for k in range(3):

        class Branch(layers.Layer):
            def call(self, x, k=k):
                if isinstance(x.shape[0], int) and x.shape[0] < 8:
                    sizes.setdefault(k, []).append(x.shape[0])
                return 0.0 * x

        x = layers.Add()([x, Branch()(x)])
    net = keras.Model(inputs, x)
    quick = early_exit(net, 0.9)
    x = np.array([[0, 0], [9, 0], [0, 0]], "float32")
    sizes.clear()
    if each:
        quick.predict_each(x)
        assert sizes == {0: [2], 1: [2], 2: [2]}
    else:
        quick(x[1:2])
        assert sizes == {}
        quick(x)
        assert sizes == {0: [3], 1: [3], 2: [3]}


def test_the_network_itself_where_the_threshold_is_one():
    _, blocks, net = network()
    x = data(net) * 1e4  # whose softmax is 1 in float32
    quick = early_exit(net, 1)
    outputs, ran = quick.predict_each(x)
    assert ran.tolist() == [blocks] * len(x)
    # A sum of some six products, compiled in parts or as a whole.
    np.testing.assert_allclose(outputs, as_numpy(net(x)), rtol=1e-5)


def test_accuracy_against_depth():
    build, blocks, net = network()
    x = np.concatenate([data(net) for _ in range(5)])
    y = np.arange(len(x)) % 3
    exits, sure = by_hand(build, blocks, net, x)
    thresholds = [0.0, float(np.median(sure)), 1.0]
    quick = early_exit(net, 0.5)
    points = quick.curve(x, y, thresholds, batch_size=4)
    assert points == quick.curve(x, np.eye(3)[y], thresholds)
    for threshold, point in zip(thresholds, points, strict=True):
        expected = stops(sure, threshold)
        right = exits[np.arange(len(x)), expected].argmax(-1) == y
        assert point == {
            "threshold": threshold,
            "accuracy": pytest.approx(right.mean()),
            "blocks": pytest.approx(np.mean(expected)),
        }


def test_padding_goes_with_the_samples_that_run_on():
    """Attention takes a mask of the very batch; trained nowhere, sure by chance."""
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True)(inputs)
    x = layers.Add()([x, layers.MultiHeadAttention(1, 4)(x, x)])
    head = layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x))
    net = with_random_weights(keras.Model(inputs, head))
    tokens = np.random.default_rng(0).integers(1, 9, (12, 6))
    tokens[::2, 3:] = 0
    exits = np.stack([as_numpy(y) for y in keras_lap.depth.exits(net)(tokens)], 1)
    sure = softmax(exits.astype("float64")).max(-1)
    threshold = float(np.median(sure[:, 0]))
    outputs, ran = early_exit(net, threshold).predict_each(tokens)
    np.testing.assert_array_equal(ran, stops(sure, threshold))
    assert 0 < np.sum(ran == 0) < len(ran)
    np.testing.assert_allclose(outputs, exits[np.arange(12), ran], **CLOSE)


def two_classes(activation):
    inputs = keras.Input((4,))
    x = layers.Add()([inputs, layers.Dense(4)(inputs)])
    return keras.Model(inputs, layers.Dense(1, activation)(x))


@ON_ONE
@pytest.mark.parametrize(
    ("activation", "confidence"), [(None, "logits"), ("sigmoid", "probabilities")]
)
def test_two_classes_in_one_output(activation, confidence):
    net = two_classes(activation)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    first = as_numpy(keras_lap.depth.prune(net, 0)(x))[:, 0]
    p = first if activation else 1 / (1 + np.exp(-first))
    quick = early_exit(net, 0.6, confidence=confidence)
    _, ran = quick.predict_each(x)
    np.testing.assert_array_equal(ran == 0, np.maximum(p, 1 - p) > 0.6)
    y = (p > 0.5).astype(int)
    assert quick.curve(x, y, [0])[0]["accuracy"] == 1.0


@ON_ONE
def test_it_is_saved_with_its_arguments(tmp_path):
    _, _, net = network()
    quick = early_exit(net, 0.7, blocks=["add1", "add2"], confidence="probabilities")
    quick.save(tmp_path / "quick.keras")
    loaded = keras.saving.load_model(tmp_path / "quick.keras")
    assert (loaded.threshold, loaded.blocks) == (0.7, 2)
    x = data(net)
    assert_alike(loaded(x), quick(x))


@ON_ONE
def test_what_is_refused():
    net = one_stage(2)
    for threshold in (-0.1, True, "much", float("nan")):
        with pytest.raises(ValueError, match="threshold must be a finite number >= 0"):
            early_exit(net, threshold)
    with pytest.raises(ValueError, match="confidence must be 'logits', 'prob"):
        early_exit(net, 0.5, confidence="margin")
    with pytest.raises(ValueError, match=r"outputs of shapes.*confidence=function"):
        early_exit(BUILDERS["around"][0](3), 0.5)
    quick, x = early_exit(net, 0.5), data(net)
    with pytest.raises(ValueError, match="is for inference"):
        quick(x, training=True)
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        quick.predict_each(x, batch_size=0)
    with pytest.raises(ValueError, match="x must hold one sample"):
        quick.predict_each(x[:0])
    with pytest.raises(ValueError, match="y must have as many samples as x, 3"):
        quick.curve(x, [0, 1], [0.5])
    for thresholds in ([-1], 0.5):
        with pytest.raises(ValueError, match="thresholds must be a finite"):
            quick.curve(x, [0, 1, 2], thresholds)
    with pytest.raises(ValueError, match="y must hold classes"):
        quick.curve(x, None, [0.5])
    with pytest.raises(TypeError, match=r"x must be an array.*Received: a list"):
        quick.predict_each(x.tolist())


def test_training_is_refused_before_it_begins():
    _, _, net = network()
    x, kept = data(net), net.get_weights()
    quick = early_exit(net, 0.5)
    quick.compile("sgd", "mse")
    y = as_numpy(net(x))
    for train in (quick.fit, quick.train_on_batch):
        with pytest.raises(ValueError, match=r"is for inference. Received: fit\(\)"):
            train(x, y)
    for one, other in zip(kept, net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@ON_ONE
def test_a_curve_that_cannot_tell_the_class_is_refused():
    """0.5 or 0 tells two classes apart, and a function does not say which."""
    quick = early_exit(two_classes("sigmoid"), 0.3, confidence=lambda p: abs(p - 0.5))
    x = np.ones((2, 4), "float32")
    with pytest.raises(ValueError, match="a logit or a probability"):
        quick.curve(x, [0, 1], [0.3])
    around = BUILDERS["around"][0](3)
    quick = early_exit(around, 0.5, confidence=lambda outputs: outputs[0][:, 0])
    with pytest.raises(ValueError, match="read from one output of shape"):
        quick.curve(x, [0, 1], [0.3])


@ON_ONE
def test_batches_of_their_own():
    _, _, net = network()
    quick, x = early_exit(net, 0.6), data(net)
    outputs, ran = quick.predict_each(x)
    in_parts, ran_in_parts = quick.predict_each(iter([x[:1], x[1:]]))
    np.testing.assert_array_equal(ran_in_parts, ran)
    np.testing.assert_allclose(in_parts, outputs, **CLOSE)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="compiles nothing")
def test_a_second_batch_runs_what_was_compiled():
    calls = []

    class Counted(layers.Layer):
        """Says when Python runs it."""

        def call(self, x):
            calls.append(1)
            return 2 * x

    inputs = keras.Input((4,))
    x = inputs + Counted()(layers.Dense(4)(inputs))
    net = keras.Model(inputs, layers.Dense(3)(x))
    quick, batch = early_exit(net, 0.9), np.ones((2, 4), "float32")
    quick.predict_on_batch(batch)
    assert calls
    calls.clear()
    quick.predict_on_batch(batch)
    assert not calls
