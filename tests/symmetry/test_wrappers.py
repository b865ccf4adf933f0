"""Averaging and augmentation against NumPy and plain Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_lap
from keras_lap.symmetry import (
    DataAugmentation,
    FeatureAveraging,
    Images,
    Linear,
    cyclic,
    dihedral,
    mirror,
    rotations,
    sign,
    symmetric,
)

# float32 sums of a few dozen terms near 1.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(6, 3)).astype("float32")
PIXELS = RNG.normal(size=(6, 4, 4, 1)).astype("float32")


def dense(outputs=3, dim=3, **options):
    return keras.Sequential(
        [
            keras.Input((dim,)),
            layers.Dense(5, "tanh", **options),
            layers.Dense(outputs, **options),
        ]
    )


def convolutional():
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(3, 3, padding="same", activation="tanh"),
            layers.Conv2D(1, 3, padding="same"),
        ]
    )


def by_hand(network, x):
    first, second = network.layers[-2:]
    (w, b), (v, c) = first.get_weights(), second.get_weights()
    return np.tanh(x.astype("float64") @ w + b) @ v + c


def randomise(model):
    """Biases too, which begin with 0 and would hide errors."""
    for weight in model.trainable_variables:
        weight.assign(RNG.normal(size=weight.shape) / 2)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("outputs", ["vectors", "trivial"])
def test_feature_averaging_by_hand(batched, outputs):
    group, network = symmetric(3), dense()
    randomise(network)
    model = FeatureAveraging(network, group, "vectors", outputs, batched=batched)
    terms = []
    for g in group.elements:
        moved = by_hand(network, VECTORS @ g.T)
        terms.append(moved @ g if outputs == "vectors" else moved)
    wanted = np.mean(terms, 0)
    for training in (False, True):
        returned = ops.convert_to_numpy(model(VECTORS, training=training))
        np.testing.assert_allclose(returned, wanted, **CLOSE)
    np.testing.assert_allclose(model.predict(VECTORS, verbose=0), wanted, **CLOSE)
    assert model.network is network


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="counts the runs where nothing is traced"
)
def test_what_an_average_costs():
    sizes = []

    class Counting(keras.Model):
        def call(self, x):
            sizes.append(len(x))
            return x

    for batched, wanted in ((True, [36]), (False, [6] * 6)):
        model = FeatureAveraging(Counting(), symmetric(3), batched=batched)
        model(VECTORS)  # builds the network
        sizes.clear()
        model(VECTORS)
        assert sizes == wanted


def test_the_average_of_units_is_the_ensemble_of_their_images():
    group = cyclic(3)
    units = RNG.normal(size=(4, 3, 3))
    images = np.einsum("gji,njk,gkl->gnil", group.elements, units, group.elements)
    inputs = keras.Input((3,))
    each = layers.Dense(12, "sigmoid", use_bias=False)
    network = keras.Model(
        inputs, ops.mean(ops.reshape(each(inputs), (-1, 4, 3)), axis=1)
    )
    each.kernel.assign(units.reshape(12, 3).T)
    model = FeatureAveraging(network, group, "vectors", "vectors")
    hidden = 1 / (1 + np.exp(-np.einsum("gnij,bj->bgni", images, VECTORS)))
    wanted = hidden.mean((1, 2))
    np.testing.assert_allclose(model.predict(VECTORS, verbose=0), wanted, **CLOSE)


def test_training_through_the_average_of_an_equivariant_network_is_plain_training():
    y = RNG.normal(size=(6, 2)).astype("float32")
    results = []
    for wrap in (False, True):
        keras.utils.set_random_seed(1)
        network = keras.Sequential([keras.Input((3,)), layers.Dense(2, use_bias=False)])
        model = network
        if wrap:  # a linear map is odd
            outputs = [[[1, 0], [0, 1]], [[-1, 0], [0, -1]]]
            model = FeatureAveraging(network, sign(3), outputs=outputs)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
        model.fit(VECTORS, y, epochs=3, batch_size=2, shuffle=False, verbose=0)
        results.append(network.get_weights()[0])
    np.testing.assert_allclose(*results, **CLOSE)


@pytest.mark.parametrize(
    ("weighted", "reduction"), [(True, "sum_over_batch_size"), (False, "sum")]
)
def test_an_orbit_step_is_a_plain_step_on_the_orbit(weighted, reduction):
    group = dihedral(4)
    act = Images(group)
    y = RNG.normal(size=(6, 4, 4, 1)).astype("float32")
    weight = np.arange(6.0).reshape(6, 1, 1) if weighted else None
    network = convolutional()
    randomise(network)
    plain = keras.models.clone_model(network)
    plain.set_weights(network.get_weights())
    model = DataAugmentation(network, group, "images", "images")
    rate = 0.01
    for each, share in ((model, 1), (plain, 8 if reduction == "sum" else 1)):
        # The sum over the orbit is 8 times its mean.
        optimizer = keras.optimizers.SGD(rate / share)
        each.compile(optimizer, loss=keras.losses.MeanSquaredError(reduction))
    logs = model.train_on_batch(PIXELS, y, weight, return_dict=True)
    stacked = [np.concatenate(act.orbit(a)) for a in (PIXELS, y)]
    tiled = None if weight is None else np.tile(weight, (8, 1, 1))
    wanted = plain.train_on_batch(*stacked, tiled, return_dict=True)
    share = 8 if reduction == "sum" else 1
    assert float(logs["loss"]) == pytest.approx(float(wanted["loss"]) / share, rel=1e-5)
    for own, other in zip(network.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(own, other, **CLOSE)


def test_metrics_and_evaluation_are_those_of_the_untouched_data():
    network = dense(1)
    randomise(network)
    y = RNG.normal(size=(6, 1)).astype("float32")
    model = DataAugmentation(network, symmetric(3))
    model.compile(keras.optimizers.SGD(0.0), loss="mse", metrics=["mae"])
    returned = by_hand(network, VECTORS)
    logs = model.train_on_batch(VECTORS, y, return_dict=True)
    assert float(logs["mae"]) == pytest.approx(np.abs(returned - y).mean(), rel=1e-5)
    results = model.evaluate(VECTORS, y, verbose=0, return_dict=True)
    assert results["loss"] == pytest.approx(np.mean((returned - y) ** 2), rel=1e-5)
    orbit = [by_hand(network, VECTORS @ g.T) for g in symmetric(3).elements]
    wanted = np.mean([np.mean((each - y) ** 2) for each in orbit])
    assert float(logs["loss"]) == pytest.approx(wanted, rel=1e-5)


def identity():
    network = keras.Sequential([keras.Input((3,)), layers.Dense(3, use_bias=False)])
    network.set_weights([np.eye(3)])
    return network


def test_random_elements_move_targets_along_and_differ_between_steps():
    x = np.eye(3, dtype="float32")[:1]
    losses = {}
    for outputs in ("vectors", "trivial"):
        model = DataAugmentation(
            identity(), cyclic(3), outputs=outputs, elements="random", seed=3
        )
        model.compile(keras.optimizers.SGD(0.0), loss="mse", metrics=["mae"])
        history = model.fit(x, x, epochs=30, verbose=0).history
        losses[outputs] = np.round(history["loss"], 4)
        # Metrics are those of the transformed data: |e_i − e_j| sums to 2, or 0.
        squares, sizes = np.array(history["loss"]), np.array(history["mae"])
        np.testing.assert_allclose(squares, sizes, atol=1e-6)
    assert set(losses["vectors"]) == {0.0}
    # Of 30 draws from three elements about 10 leave x alone; sure to 1e-4.
    assert set(losses["trivial"]) == {0.0, np.round(2 / 3, 4)}
    assert 2 <= np.sum(losses["trivial"] == 0) <= 20


def test_random_training_keeps_weights_and_batch_statistics():
    network = keras.Sequential(
        [keras.Input((3,)), layers.BatchNormalization(), layers.Dense(1)]
    )
    model = DataAugmentation(network, symmetric(3), elements="random", seed=0)
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    y = np.ones((6, 1), "float32")
    logs = model.train_on_batch(VECTORS, y, np.zeros(6), return_dict=True)
    assert float(logs["loss"]) == 0
    moved = network.layers[0].get_weights()[2]
    # A permutation of each sample keeps the mean over all coordinates.
    assert moved.mean() == pytest.approx(0.01 * VECTORS.mean(), rel=1e-4)


def test_several_inputs_outputs_and_named_losses():
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    both = layers.Concatenate()([left, right])
    outs = {"a": layers.Dense(3, name="a")(both), "b": layers.Dense(3, name="b")(both)}
    network = keras.Model([left, right], outs)
    x, y = [VECTORS, VECTORS[::-1].copy()], {"a": VECTORS, "b": -VECTORS}
    model = FeatureAveraging(network, cyclic(3), "vectors", "vectors")
    returned = model.predict(x, verbose=0)
    moved = model.predict([np.roll(each, 1, 1) for each in x], verbose=0)
    for name in ("a", "b"):
        np.testing.assert_allclose(moved[name], np.roll(returned[name], 1, 1), **CLOSE)
    model = DataAugmentation(network, cyclic(3), "vectors", "vectors")
    model.compile("sgd", loss={"a": "mse", "b": "mae"})
    logs = model.train_on_batch(x, y, return_dict=True)
    assert np.isfinite(float(logs["loss"]))


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (FeatureAveraging, "images"),
        (DataAugmentation, "action"),
        (FeatureAveraging, "matrices"),
    ],
)
def test_saving(make, inputs, tmp_path):
    group = mirror()
    how = {"images": "images", "action": Images(group)}.get(inputs)
    network, x = (convolutional(), PIXELS) if how else (dense(), VECTORS)
    how = how or [np.eye(3), np.eye(3)[::-1]]
    outputs = how if inputs != "matrices" else Linear(group, how)
    model = make(network, group, how, outputs)
    model.compile("adam", loss="mse")
    model.train_on_batch(x, x)
    wanted = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), wanted)
    first, second = model.train_on_batch(x, x), again.train_on_batch(x, x)
    assert float(first) == pytest.approx(float(second), rel=1e-5)
    model.save_weights(tmp_path / "model.weights.h5")
    again.load_weights(tmp_path / "model.weights.h5")


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="exports by ONNX, which is an extra"
)
@pytest.mark.parametrize("make", [FeatureAveraging, DataAugmentation])
def test_exporting_before_it_was_called(make, tmp_path):
    tf = pytest.importorskip("tensorflow")
    model = make(convolutional(), rotations(4), "images", "images")
    model.export(tmp_path / "served", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(
        loaded.serve(PIXELS), model.predict(PIXELS, verbose=0), **CLOSE
    )


def test_mixed_precision():
    network = dense(dtype="mixed_float16")
    network.dtype_policy = "mixed_float16"
    model = FeatureAveraging(network, cyclic(3), "vectors", "vectors")
    assert model.dtype_policy.name == "mixed_float16"
    model.compile("sgd", loss="mse")
    model.fit(VECTORS, VECTORS, verbose=0)
    returned = model.predict(VECTORS, verbose=0)
    moved = model.predict(np.roll(VECTORS, 1, 1), verbose=0)
    # float16 has 11 bits; the terms are the same, summed in another order.
    np.testing.assert_allclose(moved, np.roll(returned, 1, 1), atol=5e-3)


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FeatureAveraging("net", mirror()), TypeError, "keras.Model"),
        (lambda: FeatureAveraging(dense(), "C4"), TypeError, "FiniteGroup"),
        (lambda: FeatureAveraging(dense(), mirror(), "turn"), ValueError, "'rows'"),
        (
            lambda: DataAugmentation(dense(), cyclic(3), outputs=3),
            ValueError,
            "outputs must",
        ),
        (
            lambda: DataAugmentation(dense(), cyclic(3), elements="all"),
            ValueError,
            "'random'",
        ),
        (
            lambda: DataAugmentation(
                keras_lap.LeastActionModel(
                    keras_lap.networks.resnet9((8, 8, 1), 2, filters=4)
                ),
                mirror(),
                "images",
            ),
            ValueError,
            "model.network",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
