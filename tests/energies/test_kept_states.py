"""The energy's gradient by two states that are kept, not the displacement."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.basics import as_numpy, gradient

import keras_lap
from keras_lap.energies import DisplacementEnergy
from keras_lap.trajectory import Recorder

BACKEND = keras.backend.backend()
ENERGIES = [
    DisplacementEnergy(),
    DisplacementEnergy(3.0, reduction="sum", time_step=0.5),
    DisplacementEnergy(2.5),
    DisplacementEnergy(3.0, "euclidean"),
]


def by_differences(function, value, step=1e-6):
    """The same by central differences."""
    found = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        ends = []
        for sign in (1, -1):
            moved = value.copy()
            moved[index] += sign * step
            ends.append(float(function(ops.convert_to_tensor(moved))))
        found[index] = (ends[0] - ends[1]) / (2 * step)
    return found


def two_blocks(energy, kept):
    """C of two blocks with tanh branches, a function of what enters the first."""

    def cost(x):
        states, moves = [x], []
        for _ in range(2):
            moves.append(ops.tanh(2.0 * states[-1]) * 0.3)
            states.append(states[-1] + moves[-1])
        pairs = list(itertools.pairwise(states)) if kept else None
        return ops.sum(energy.of_blocks(moves, kept=pairs))

    return cost


def data(seed=0, shape=(3, 8200)):
    """Each sample wider than what PyTorch takes together, so that states are read."""
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.skipif(BACKEND == "jax", reason="Keras computes in float32 there")
@pytest.mark.parametrize("energy", ENERGIES, ids=str)
def test_gradient_is_that_of_finite_differences(energy, monkeypatch):
    monkeypatch.setattr("keras_lap.energies.displacement._SMALL", 0)
    x = data(shape=(2, 5))
    number = ops.convert_to_tensor(np.array(1.2345678))
    if energy.p != 2 and abs(float(ops.power(number, 1.5)) - 1.2345678**1.5) > 1e-12:
        pytest.skip(
            "this Keras takes powers of float64 in float32: 3.16.0.dev on torch"
        )
    found = gradient(two_blocks(energy, kept=True), x)
    # Central differences of a step of 1e-6 are right to about 1e-9.
    expected = by_differences(two_blocks(energy, kept=True), x)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("energy", ENERGIES, ids=str)
def test_gradient_is_that_of_the_branches(energy):
    x = data()
    ours, before = (gradient(two_blocks(energy, kept), x) for kept in (True, False))
    # The difference of two states near 1 is right to 1e-15 in float64 and to 1e-7 in
    # float32, which JAX has here.
    loose = 1e6 if BACKEND == "jax" else 1.0
    scale = np.abs(before).max()
    np.testing.assert_allclose(
        ours, before, rtol=1e-10 * loose, atol=1e-11 * loose * scale
    )


@pytest.mark.parametrize("energy", ENERGIES, ids=str)
def test_value_is_that_of_the_branches_to_the_last_bit(energy):
    x = ops.convert_to_tensor(data().astype("float32"))
    ours, before = (two_blocks(energy, kept)(x) for kept in (True, False))
    assert float(ours) == float(before)


def test_a_derivative_of_the_gradient(monkeypatch):
    """Of a sum of squares, whose second derivative is 2 wherever it is taken."""
    monkeypatch.setattr("keras_lap.energies.displacement._SMALL", 0)
    energy = DisplacementEnergy(reduction="sum")
    x = data(shape=(1, 4)).astype("float32")

    def cost(v):
        start = ops.ones_like(v)
        return energy.of_blocks([v], kept=[(start, start + v)])[0]

    if BACKEND == "jax":
        import jax

        found = jax.hessian(cost)(x)
        # Forward mode alone, too.
        change = jax.jvp(cost, (x,), (np.ones_like(x),))[1]
        np.testing.assert_allclose(change, 2 * x.sum(), rtol=1e-5)  # float32
    elif BACKEND == "torch":
        import torch

        found = torch.autograd.functional.hessian(cost, torch.tensor(x))
    else:
        import tensorflow as tf

        v = tf.Variable(x)
        with tf.GradientTape(persistent=True) as outer:
            with tf.GradientTape() as tape:
                value = cost(v)
            gradient = tape.gradient(value, v)
        found = outer.jacobian(gradient, v, experimental_use_pfor=False)
    np.testing.assert_allclose(as_numpy(found).reshape(4, 4), 2 * np.eye(4), atol=1e-6)


@pytest.mark.parametrize("ratio", [1.0, 1e-2, 1e-3])
def test_digits_that_a_difference_loses(ratio):
    """In float32, ε·|x|/|v|: some 1e-4 where a branch is a thousandth of its state."""
    x = data().astype("float32")
    v = (ratio * data(1)).astype("float32")

    def cost(v):
        start = ops.convert_to_tensor(x)
        return DisplacementEnergy(reduction="sum").of_blocks(
            [v], kept=[(start, start + v)]
        )[0]

    found, exact = gradient(cost, v), 2 * v / len(v)
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert error <= 1.2e-7 / ratio


def convolutions(order):
    """Two blocks, whose states a normalisation or an activation takes."""
    x = inputs = keras.Input((6, 6, 3))
    for index in range(2):
        y = layers.BatchNormalization()(x) if order == "before" else layers.ReLU()(x)
        y = layers.Conv2D(3, 3, padding="same", use_bias=False)(y)
        x = layers.Add(name=f"sum{index}")([x, y])
    x = layers.BatchNormalization()(x) if order == "before" else x
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def transformer():
    keras_hub = pytest.importorskip("keras_hub")
    x = inputs = keras.Input((4, 6))
    for _ in range(2):
        encoder = keras_hub.layers.TransformerEncoder(8, 2, normalize_first=True)
        x = encoder(x)
    return keras.Model(inputs, layers.Dense(2)(layers.LayerNormalization()(x)))


def recorded(network, x):
    report = keras_lap.find_residual_blocks(network)
    return Recorder(network, report, ["displacements", "kept"])(x, training=True)


@pytest.mark.parametrize(
    ("build", "shape"),
    [(lambda: convolutions("before"), (2, 6, 6, 3)), (transformer, (2, 4, 6))],
    ids=["normalised before", "inside calls"],
)
def test_states_that_are_kept(build, shape):
    path = recorded(build(), data(shape=shape).astype("float32"))
    assert len(path.kept) == len(path.displacements) > 1
    for (before, after), moved in zip(path.kept, path.displacements, strict=True):
        # Of states of some units, which float32 holds to 1e-7 of them.
        apart = as_numpy(after) - as_numpy(before)
        np.testing.assert_allclose(apart, as_numpy(moved), atol=2e-6)


def test_states_that_an_activation_takes_are_not():
    path = recorded(
        convolutions("activated"), data(shape=(2, 6, 6, 3)).astype("float32")
    )
    assert path.kept == [None, None]


@pytest.mark.parametrize(
    ("activation", "keeps_result"),
    [("tanh", True), ("sigmoid", True), ("gelu", False), (None, False)],
)
def test_a_branch_that_is_kept_itself_needs_no_states(activation, keeps_result):
    """The derivative of tanh is 1 − tanh²; that of gelu is of what went in."""
    x = inputs = keras.Input((6,))
    for _ in range(2):
        x = layers.Add()([x, layers.Dense(6, activation=activation)(x)])
    network = keras.Model(inputs, layers.Dense(2)(x))
    path = recorded(network, data(shape=(2, 6)).astype("float32"))
    assert [pair is None for pair in path.kept] == [keeps_result] * 2


def test_a_branch_that_is_taken_away_is_made_anew():
    x = inputs = keras.Input((6,))
    x = layers.Subtract()([x, layers.Dense(6, activation="tanh")(x)])
    network = keras.Model(inputs, layers.Dense(2)(x))
    path = recorded(network, data(shape=(2, 6)).astype("float32"))
    assert path.kept[0] is not None


@pytest.mark.parametrize("norm", ["elementwise", "euclidean"])
def test_branches_that_cancel_have_no_gradient_of_rounding(norm):
    """For p = 1.1, |v|^0.1 of the 1e-7 that rounding leaves would be some 0.2."""
    x, y = (data(seed).astype("float32") for seed in range(2))

    def cost(y):
        start = ops.convert_to_tensor(x)
        moved = y - ops.stop_gradient(y)
        end = start + y - ops.stop_gradient(y)
        return DisplacementEnergy(1.1, norm).of_blocks([moved], kept=[(start, end)])[0]

    np.testing.assert_array_equal(gradient(cost, y), 0.0)


def test_trains_as_an_energy_of_ones_own_with_the_same_formula(monkeypatch):
    """Which knows of no states; float32 rounds either in another place."""
    monkeypatch.setattr("keras_lap.energies.displacement._SMALL", 0)

    class Kinetic(keras_lap.energies.Energy):
        def __call__(self, displacement):
            return ops.mean(displacement**2)

    x = data(shape=(8, 6, 6, 3)).astype("float32")
    y = np.arange(8) % 2
    found = []
    for energy in (2.0, Kinetic()):
        keras.utils.set_random_seed(3)
        model = keras_lap.LeastActionModel(convolutions("before"), energy, 0.1)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.05), loss)
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        found.append(model.network.get_weights())
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
