"""What one step through a wrapper sees: masks, statistics, shapes, and what is refused.

Compared with NumPy and with plain Keras.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.basics import ON_ONE

import keras_lap
from keras_lap.symmetry import (
    DataAugmentation,
    FeatureAveraging,
    cyclic,
    sign,
    symmetric,
)

# float32 sums of a few dozen terms near 1.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(6, 3)).astype("float32")
LENGTHS = np.array([1, 2, 3, 4, 2, 1])
VALID = np.arange(4) < LENGTHS[:, None]
PADDED = (RNG.normal(size=(6, 4, 2)) * VALID[..., None]).astype("float32")
TARGETS = RNG.normal(size=(6, 4, 2)).astype("float32")


def randomise(model):
    """Biases too, which begin with 0 and would hide errors."""
    for weight in model.trainable_variables:
        weight.assign(RNG.normal(size=weight.shape) / 2)


def masking():
    network = keras.Sequential(
        [
            keras.Input((4, 2)),
            layers.Masking(),
            layers.Dense(5, "tanh"),
            layers.Dense(2),
        ]
    )
    randomise(network)
    return network


def by_hand(network, x):
    first, second = network.layers[-2:]
    (w, b), (v, c) = first.get_weights(), second.get_weights()
    return np.tanh(x.astype("float64") @ w + b) @ v + c


def masked_loss(y, outputs, valid=VALID):
    """The mean square over the positions that count."""
    return np.mean((y - outputs)[valid] ** 2)


def still(model, **options):
    model.compile(keras.optimizers.SGD(0.0), loss="mse", **options)
    return model


def first_loss(model, x, y):
    return float(still(model).train_on_batch(x, y))


def test_each_element_of_an_orbit_has_the_mask_of_its_own_outputs():
    network = masking()
    wanted = np.mean(
        [
            masked_loss(TARGETS @ g.T, by_hand(network, PADDED @ g.T))
            for g in cyclic(2).elements
        ]
    )
    model = DataAugmentation(network, cyclic(2), "vectors", "vectors")
    assert first_loss(model, PADDED, TARGETS) == pytest.approx(wanted, rel=1e-5)
    # Layers that see one position at a time: moved positions move their losses.
    model = DataAugmentation(network, cyclic(4), "rows", "rows")
    wanted = masked_loss(TARGETS, by_hand(network, PADDED))
    assert first_loss(model, PADDED, TARGETS) == pytest.approx(wanted, rel=1e-5)


def test_metrics_of_an_orbit_have_the_mask_that_they_have_without():
    logs = []
    network = masking()
    for model in (network, DataAugmentation(network, cyclic(2), outputs="vectors")):
        still(model, metrics=["mae"], weighted_metrics=["mse"])
        logs.append(model.train_on_batch(PADDED, TARGETS, return_dict=True))
    for name in ("mae", "mse"):
        assert float(logs[0][name]) == pytest.approx(float(logs[1][name]), rel=1e-5)


@pytest.mark.parametrize("batched", [True, False])
def test_an_average_has_the_mask_of_the_untouched_inputs(batched):
    network = masking()
    outputs = np.mean(
        [by_hand(network, PADDED @ g.T) @ g for g in cyclic(2).elements], 0
    )
    model = FeatureAveraging(network, cyclic(2), outputs="vectors", batched=batched)
    loss = still(model).evaluate(PADDED, TARGETS, verbose=0)
    assert loss == pytest.approx(masked_loss(TARGETS, outputs), rel=1e-5)
    assert first_loss(model, PADDED, TARGETS) == pytest.approx(loss, rel=1e-5)


def test_statistics_are_those_of_one_step_on_the_whole_orbit():
    group = sign(3)
    x = VECTORS + 2
    y = RNG.normal(size=(6, 1)).astype("float32")
    network = keras.Sequential(
        [
            keras.Input((3,)),
            layers.BatchNormalization(momentum=0.5),
            layers.Dense(5, "tanh"),
            layers.Dense(1),
        ]
    )
    randomise(network)
    plain = keras.models.clone_model(network)
    plain.set_weights(network.get_weights())
    losses = []
    batch, orbit = (x, y), (np.concatenate([x, -x]), np.concatenate([y, y]))
    for model, data in ((DataAugmentation(network, group), batch), (plain, orbit)):
        model.compile(keras.optimizers.SGD(0.1), loss="mse")
        losses.append(float(model.train_on_batch(*data)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for mine, other in zip(network.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, **CLOSE)
    # The orbit of x → −x has the mean 0.
    np.testing.assert_allclose(network.layers[0].moving_mean, 0, atol=1e-6)


def test_the_loss_in_a_loop_of_ones_own_is_that_of_a_step():
    network = masking()
    model = still(DataAugmentation(network, cyclic(2), outputs="vectors"))
    outputs = model(PADDED, training=True)
    assert outputs.shape == (6, 4, 2)
    loss = model.compute_loss(PADDED, TARGETS, outputs, training=True)
    wanted = first_loss(model, PADDED, TARGETS)
    assert ops.convert_to_numpy(loss) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("elements", ["orbit", "random"])
def test_targets_of_one_dimension(elements):
    network = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    randomise(network)
    x = VECTORS[:, :2]
    y = VECTORS[:, 2]
    kernel, bias = network.get_weights()
    losses = []
    for each in (y, y[:, None]):
        model = DataAugmentation(
            network, sign(2), "vectors", sign(1).elements, elements=elements, seed=1
        )
        losses.append(first_loss(model, x, each))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    if elements == "orbit":
        errors = [s * x @ kernel[:, 0] + bias - s * y for s in (1, -1)]
        assert losses[0] == pytest.approx(np.mean(np.square(errors)), rel=1e-5)


@pytest.mark.parametrize("batched", [True, False])
def test_a_mean_of_large_numbers_in_half_precision(batched):
    network = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(
                1,
                kernel_initializer="zeros",
                bias_initializer=keras.initializers.Constant(600.0),
                dtype="mixed_float16",
            ),
        ]
    )
    model = FeatureAveraging(network, symmetric(5), batched=batched)
    outputs = model(np.ones((2, 5), "float32"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    # 120 of them are more than float16 holds; their mean it has exactly.
    np.testing.assert_array_equal(ops.convert_to_numpy(outputs), 600)


class Own(keras.Model):
    """Trains by a step of its own."""

    def train_step(self, *args):
        return super().train_step(*args)


@pytest.mark.parametrize("kind", ["own", "least action"])
def test_what_trains_by_itself_is_averaged_but_not_trained_through(kind):
    x = keras.Input((3,))
    network = Own(x, layers.Add()([x, layers.Dense(3, "tanh")(x)]))
    if kind == "least action":
        network = keras_lap.LeastActionModel(keras.Model(x, network.output))
    model = still(FeatureAveraging(network, cyclic(3), "vectors", "vectors"))
    moved = [np.roll(VECTORS, k, 1) for k in range(3)]
    each = [network.predict(a, verbose=0) for a in moved]
    wanted = np.mean([np.roll(a, -k, 1) for k, a in enumerate(each)], 0)
    np.testing.assert_allclose(model.predict(VECTORS, verbose=0), wanted, **CLOSE)
    loss = model.evaluate(VECTORS, VECTORS, verbose=0)
    assert loss == pytest.approx(np.mean((wanted - VECTORS) ** 2), rel=1e-5)
    with pytest.raises(ValueError, match=r"would not use the .*train_step"):
        model.fit(VECTORS, VECTORS, verbose=0)
    assert model.evaluate(VECTORS, VECTORS, verbose=0) == loss  # and nothing is lost
    with pytest.raises(ValueError, match=r"would not use the .*train_step"):
        DataAugmentation(network, cyclic(3))
    if kind == "own":  # the way out that the message names
        layers_alone = keras.Model(x, network(x))
        again = still(FeatureAveraging(layers_alone, cyclic(3), outputs="vectors"))
        assert first_loss(again, VECTORS, VECTORS) == pytest.approx(loss, rel=1e-5)


def residual():
    x = y = keras.Input((3,))
    for _ in range(2):
        y = layers.Add()([y, layers.Dense(3, "tanh")(y)])
    return keras.Model(x, y)


@ON_ONE
@pytest.mark.parametrize("batched", [True, False])
def test_least_action_does_not_train_what_runs_for_every_element(batched):
    average = FeatureAveraging(
        residual(), cyclic(3), outputs="vectors", batched=batched
    )
    x = keras.Input((3,))
    for network in (average, keras.Model(x, average(x))):
        with pytest.raises(ValueError, match=r"FeatureAveraging\(model\.network"):
            keras_lap.LeastActionModel(network)
    augmented = DataAugmentation(residual(), cyclic(3))
    for network in (augmented, keras.Model(x, augmented(x))):
        with pytest.raises(ValueError, match="GroupAugmentation layer first"):
            keras_lap.LeastActionModel(network)
    branch = keras.Sequential([keras.Input((3,)), layers.Dense(3, "tanh")])
    branch = FeatureAveraging(branch, cyclic(3), outputs="vectors", batched=batched)
    network = keras.Model(x, layers.Add()([x, branch(x)]))
    assert len(keras_lap.LeastActionModel(network).blocks) == 1


@ON_ONE
@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("batched", "no", TypeError, "batched must be True or False"),
        ("batched", 1, TypeError, "batched must be True or False"),
        ("inputs", 3, ValueError, "inputs must .* One action serves them all"),
        ("outputs", {"a": "trivial"}, ValueError, "outputs must .* serves them all"),
        ("outputs", ["trivial", "vectors"], ValueError, "outputs taken as .* serves"),
        ("inputs", np.eye(3)[None], ValueError, "inputs taken as .* 3 elements"),
    ],
)
def test_what_is_refused_is_named(argument, value, error, message):
    with pytest.raises(error, match=message):
        FeatureAveraging(residual(), cyclic(3), **{argument: value})


@ON_ONE
@pytest.mark.parametrize("make", [FeatureAveraging, DataAugmentation])
def test_a_wrapper_has_the_inputs_of_its_network(make):
    network = residual()
    model = make(network, cyclic(3))
    assert model.input is network.input
    assert model.inputs == network.inputs
    assert model.input_shape == (None, 3)
    around = keras.Model(model.input, model(model.input))
    np.testing.assert_allclose(
        around.predict(VECTORS, verbose=0), model.predict(VECTORS, verbose=0), **CLOSE
    )
    assert model.input is network.input  # also when it was called on another
