"""What the energy counts: no padding, and every sample as its task loss weighs.

The reference is NumPy: a mean over positions that are valid, and over samples with
their weights. Sums of some hundred float32 numbers in another order: 1e-5.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support import ways
from support.basics import as_numpy, crossentropy

import keras_lap

WIDTH, WORDS, MULTIPLIER = 6, 20, 0.5
MASKED = pytest.mark.way("masked sequences")
WEIGHED = pytest.mark.way("`sample_weight` and `class_weight`")


def tokens(length, seed=0):
    """Six words a sample, padded by zeros; the labels."""
    rng = np.random.default_rng(seed)
    x = np.zeros((8, length), "int32")
    x[:, :6] = rng.integers(1, WORDS, (8, 6))
    return x, rng.integers(0, 3, 8)


def branches(h):
    for k in range(2):
        branch = keras.layers.Dense(WIDTH, activation="tanh", name=f"b{k}")(h)
        h = keras.layers.Add()([h, branch])
    return h


def masked_network(length):
    inputs = keras.Input((length,), dtype="int32")
    h = keras.layers.Embedding(WORDS, WIDTH, mask_zero=True, name="words")(inputs)
    h = keras.layers.GlobalAveragePooling1D()(branches(h))
    return keras.Model(inputs, keras.layers.Dense(3)(h))


def compiled(model, **options):
    model.compile(keras.optimizers.SGD(0.5), crossentropy(), **options)
    return model


def moves(network, states):
    """The squares of the displacements of both blocks, by NumPy."""
    squares = []
    for k in range(2):
        layer = network.get_layer(f"b{k}")
        move = np.tanh(states @ as_numpy(layer.kernel) + as_numpy(layer.bias))
        squares.append(move**2)
        states = states + move
    return squares


@MASKED
def test_padding_costs_nothing():
    reference = masked_network(6)
    weights = reference.get_weights()
    x, y = tokens(6)
    states = as_numpy(reference.get_layer("words").embeddings)[x]
    cost = sum(square.mean() for square in moves(reference, states))
    for length in (6, 60):
        network = masked_network(length)
        network.set_weights(weights)
        model = compiled(keras_lap.LeastActionModel(network, 2.0, MULTIPLIER))
        logs = model.train_on_batch(tokens(length)[0], y, return_dict=True)
        np.testing.assert_allclose(logs["transport_cost"], cost, rtol=1e-5)
        np.testing.assert_allclose(
            logs["loss"], logs["task_loss"] + cost / MULTIPLIER, rtol=1e-5
        )
        rows = as_numpy(network.get_layer("words").embeddings), weights[0]
        np.testing.assert_array_equal(rows[0][0], rows[1][0])  # the padding's
        assert np.abs(rows[0] - rows[1]).max() > 1e-3
        model(tokens(length)[0], training=True)
        assert len(model.losses) == 1


@MASKED
@pytest.mark.parametrize("named", ["key", "input"])
def test_a_mask_that_is_an_input(named, tmp_path):
    """Two positions of six count, whatever lies in the others."""
    states = keras.Input((6, WIDTH), name="states")
    valid = keras.Input((6,), dtype="int32", name="valid")
    pooled = keras.layers.GlobalAveragePooling1D()(branches(states))
    inputs = {"x": states, "padding_mask": valid}
    inputs = inputs if named == "key" else [states, valid]
    network = keras.Model(inputs, keras.layers.Dense(3)(pooled))
    name = "padding_mask" if named == "key" else "valid"
    model = keras_lap.LeastActionModel(network, 2.0, MULTIPLIER, mask=name)
    compiled(model)

    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 6, WIDTH)).astype("float32")
    mask = np.array([[1, 1, 0, 0, 0, 0]] * 8, "int32")
    mask[0] = 1
    counts = mask.astype(bool)
    cost = sum(square[counts].mean() for square in moves(network, x))
    given = {"x": x, "padding_mask": mask} if named == "key" else [x, mask]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        logs = each.train_on_batch(given, rng.integers(0, 3, 8), return_dict=True)
        np.testing.assert_allclose(logs["transport_cost"], cost, rtol=1e-5)
    with pytest.raises(ValueError, match="padding"):
        keras_lap.LeastActionModel(network, mask="padding")


def weighed(model, **options):
    x, y, _ = ways.data()
    return model.train_on_batch(x, y, return_dict=True, **options)


def energies_of(network):
    """C of each sample of the data of `ways`, by NumPy."""
    x, _, _ = ways.data()
    state = np.tanh(x @ as_numpy(network.get_layer("stem").kernel))
    energies = 0.0
    for k in range(2):
        move = state @ as_numpy(network.get_layer(f"b{k}").kernel)
        energies = energies + (move**2).mean(axis=1)
        state = state + move
    return energies


@WEIGHED
@pytest.mark.parametrize("shape", [(ways.SAMPLES,), (ways.SAMPLES, 1)])
def test_samples_weigh_as_in_the_task(shape):
    _x, _y, weights = ways.data()
    for each in (weights, np.zeros_like(weights), np.ones_like(weights)):
        model = compiled(keras_lap.LeastActionModel(ways.build(), 2.0, MULTIPLIER))
        cost = (energies_of(model.network) * each).mean()
        logs = weighed(model, sample_weight=each.reshape(shape))
        np.testing.assert_allclose(logs["transport_cost"], cost, rtol=1e-5)
        # One objective: a sample of weight 2 is as good as two of weight 1.
        np.testing.assert_allclose(
            logs["loss"], logs["task_loss"] + cost / MULTIPLIER, rtol=1e-5
        )


@WEIGHED
def test_a_weight_of_2_is_a_sample_twice():
    """As for any loss of Keras, up to the size of the batch by which it divides."""
    x, y, _ = ways.data()
    weights = np.where(np.arange(ways.SAMPLES) < 8, 2.0, 0.0).astype("float32")
    twice = np.concatenate([x[:8], x[:8]]), np.concatenate([y[:8], y[:8]])
    share = 16 / ways.SAMPLES
    first = compiled(keras_lap.LeastActionModel(ways.build(), 2.0, MULTIPLIER))
    second = compiled(keras_lap.LeastActionModel(ways.build(), 2.0, MULTIPLIER))
    second.network.set_weights(first.network.get_weights())
    second.optimizer.learning_rate = 0.5 * share
    one = weighed(first, sample_weight=weights)["loss"]
    other = second.train_on_batch(*twice, return_dict=True)["loss"]
    np.testing.assert_allclose(one, share * other, rtol=1e-5)
    for mine, theirs in zip(
        first.network.get_weights(), second.network.get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


@WEIGHED
def test_weights_of_classes():
    _x, y, _ = ways.data()
    by_class = {0: 2.0, 1: 0.0, 2: 0.5}
    model = compiled(keras_lap.LeastActionModel(ways.build(), 2.0, MULTIPLIER))
    weights = np.array([by_class[label] for label in y])
    cost = (energies_of(model.network) * weights).mean()
    logs = weighed(model, class_weight=by_class)
    np.testing.assert_allclose(logs["transport_cost"], cost, rtol=1e-5)


def test_the_weights_do_not_move_an_automatic_start():
    """λ_0 is a matter of the network and not of which samples count."""
    build = ways.build()
    for layer in ("b0", "b1"):
        kernel = build.get_layer(layer).kernel
        kernel.assign(30.0 * as_numpy(kernel))
    started = []
    for weights in (None, ways.data()[2]):
        network = ways.build()
        network.set_weights(build.get_weights())
        model = compiled(keras_lap.LeastActionModel(network, 2.0, "auto"))
        weighed(model, sample_weight=weights)
        started.append(float(model.multiplier))
    assert 0 < started[0] < 1e3
    assert started[0] == started[1]


@pytest.mark.parametrize("averages", [True, False])
def test_an_energy_of_ones_own_leaves_padding_out(averages):
    class Own(keras_lap.energies.Energy):
        def __call__(self, displacement):
            sizes = keras.ops.log1p(keras.ops.abs(displacement))
            return keras.ops.mean(sizes) if averages else keras.ops.max(sizes)

    Own.averages = averages
    _, y = tokens(6)
    weights = masked_network(6).get_weights()
    costs = []
    for length in (6, 60):
        network = masked_network(length)
        network.set_weights(weights)
        model = compiled(keras_lap.LeastActionModel(network, Own(), MULTIPLIER))
        logs = model.train_on_batch(tokens(length)[0], y, return_dict=True)
        costs.append(logs["transport_cost"])
    np.testing.assert_allclose(costs, costs[0], rtol=1e-5)


@MASKED
@pytest.mark.parametrize("norm", ["elementwise", "euclidean"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_padding_with_weights_of_samples(norm, reduction):
    energy = keras_lap.energies.DisplacementEnergy(3.0, norm, reduction)
    _, y = tokens(6)
    weights = masked_network(6).get_weights()
    by_sample = np.linspace(0.0, 2.0, 8).astype("float32")
    costs = []
    for length in (6, 12):
        network = masked_network(length)
        network.set_weights(weights)
        model = compiled(keras_lap.LeastActionModel(network, energy, MULTIPLIER))
        logs = model.train_on_batch(
            tokens(length)[0], y, sample_weight=by_sample, return_dict=True
        )
        costs.append(logs["transport_cost"])
    np.testing.assert_allclose(costs[1], costs[0], rtol=1e-5)


def test_without_an_energy():
    """Running costs alone: no C, no λ, nothing to raise; saved as it is."""

    @keras.saving.register_keras_serializable("test")
    class Length(keras_lap.running_costs.RunningCost):
        wanted = ("displacements",)

        def __call__(self, path):
            return sum(keras.ops.mean(each**2) for each in path.displacements)

    network = ways.build()
    with pytest.raises(ValueError, match="running_costs"):
        keras_lap.LeastActionModel(network, energy=None)
    model = keras_lap.LeastActionModel(
        network, energy=None, running_costs=[Length(1 / MULTIPLIER)], horizon=3.0
    )
    cost = energies_of(network).mean()
    logs = weighed(compiled(model))
    assert set(logs) == {"loss", "task_loss", "length"}
    np.testing.assert_allclose(logs["length"], cost, rtol=1e-5)
    np.testing.assert_allclose(
        logs["loss"], logs["task_loss"] + cost / MULTIPLIER, rtol=1e-5
    )
    assert model.block_costs is None
    update = keras_lap.callbacks.MultiplierUpdate()
    with pytest.raises(ValueError, match="energy=None"):
        ways.fit(model, [update])
    with pytest.raises(ValueError, match="energy=None"):
        model.raise_multiplier(1.0)
    rebuilt = keras_lap.LeastActionModel.from_config(model.get_config())
    assert rebuilt.energy is None
    assert rebuilt.horizon == 3.0
