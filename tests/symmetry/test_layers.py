"""The augmentation layer and the constraint, against NumPy, and with least action."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.basics import build_dense_network, crossentropy

import keras_lap
from keras_lap.symmetry import (
    FixedKernel,
    GroupAugmentation,
    cyclic,
    dihedral,
    mirror,
    rotations,
    sign,
    symmetric,
)

RNG = np.random.default_rng(0)
PIXELS = RNG.normal(size=(5, 6, 6, 2)).astype("float32")


def test_elements_are_uniform_and_independent():
    layer = GroupAugmentation(cyclic(4), "vectors", seed=1)
    x = np.tile(np.eye(4, dtype="float32")[:1], (4000, 1))
    first, second = (
        ops.convert_to_numpy(layer(x, training=True)).argmax(1) for _ in range(2)
    )
    counts = np.bincount(4 * first + second, minlength=16)
    # χ² with 15 degrees of freedom exceeds 37.7 once in 1000 seeds.
    assert np.sum((counts - 250) ** 2 / 250) < 37.7
    assert not (first == second).all()


def test_it_moves_whole_images_and_sleeps_at_inference():
    layer = GroupAugmentation(dihedral(4), seed=2)
    for training in (False, None):
        returned = ops.convert_to_numpy(layer(PIXELS, training=training))
        np.testing.assert_array_equal(returned, PIXELS)
    moved = ops.convert_to_numpy(layer(PIXELS, training=True))
    assert not np.array_equal(moved, PIXELS)
    for before, after in zip(PIXELS, moved, strict=True):
        turned = [np.rot90(m, k) for m in (before, before[:, ::-1]) for k in range(4)]
        assert any(np.array_equal(after, each) for each in turned)


def test_it_is_saved_with_its_network(tmp_path):
    layer = GroupAugmentation(rotations(4), seed=5)
    network = keras.Sequential([keras.Input((6, 6, 2)), layer, layers.Flatten()])
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    assert again.layers[0].get_config() == layer.get_config()
    assert again.layers[0].group == layer.group
    np.testing.assert_array_equal(again.predict(PIXELS, verbose=0), network(PIXELS))


def test_least_action_trains_behind_it(digits):
    inner = build_dense_network(blocks=2)
    inputs = keras.Input((64,))
    augmented = GroupAugmentation(sign(64), "vectors", seed=0)(inputs)
    network = keras.Model(inputs, inner(augmented))
    found = keras_lap.find_residual_blocks(network)
    assert len(found) == 2
    model = keras_lap.LeastActionModel(network)
    model.compile("sgd", loss=crossentropy())
    logs = model.fit(*digits, verbose=0).history
    assert logs["transport_cost"][0] > 0


def test_the_energy_of_an_equivariant_block_is_constant_along_orbits():
    group = symmetric(4)
    inputs = keras.Input((4,))
    dense = layers.Dense(4, "tanh")
    network = keras.Model(inputs, layers.Add()([inputs, dense(inputs)]))
    # a·1 + b·11ᵀ are all matrices that commute with permutations.
    dense.set_weights([0.7 * np.eye(4) - 0.3 * np.ones((4, 4)), np.full(4, 0.2)])
    report = keras_lap.find_residual_blocks(network)
    record = keras_lap.DisplacementRecorder(network, report)
    energy = keras_lap.energies.DisplacementEnergy(2.0)
    x = RNG.normal(size=(3, 4)).astype("float32")
    costs = []
    for g in group.elements:
        (displacement,) = record((x @ g.T).astype("float32"))[1]
        costs.append(float(ops.convert_to_numpy(energy(displacement))))
    # The same squares, added in another order in float32.
    np.testing.assert_allclose(costs, costs[0], rtol=1e-6)


@pytest.mark.parametrize("group", [mirror(), rotations(4), dihedral(4)])
def test_fixed_kernels_by_hand(group):
    kernel = RNG.normal(size=(3, 3, 2, 4)).astype("float32")
    constraint = FixedKernel(group)
    projected = ops.convert_to_numpy(constraint(ops.convert_to_tensor(kernel)))
    images = {
        2: [kernel, kernel[:, ::-1]],
        4: [np.rot90(kernel, k) for k in range(4)],
        8: [np.rot90(m, k) for m in (kernel, kernel[:, ::-1]) for k in range(4)],
    }[group.order]
    np.testing.assert_allclose(projected, np.mean(images, 0), atol=1e-6)
    again = ops.convert_to_numpy(constraint(projected))
    np.testing.assert_allclose(again, projected, atol=1e-6)  # idempotent
    assert constraint(np.ones((3, 3, 4), "float32")).shape == (3, 3, 4)


def test_a_trained_network_of_fixed_kernels_is_invariant(tmp_path):
    constraint = FixedKernel(rotations(4))
    network = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu", kernel_constraint=constraint),
            layers.Conv2D(4, 3, padding="same", kernel_constraint=constraint),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    turned = np.rot90(PIXELS, axes=(1, 2))
    network.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(True))
    before = network.predict(PIXELS, verbose=0) - network.predict(turned, verbose=0)
    assert np.abs(before).max() > 1e-3  # not yet
    network.fit(PIXELS, np.arange(5) % 3, epochs=2, verbose=0)
    network.save(tmp_path / "network.keras")
    network = keras.models.load_model(tmp_path / "network.keras")
    assert network.layers[0].kernel_constraint.group == constraint.group
    after = network.predict(PIXELS, verbose=0) - network.predict(turned, verbose=0)
    assert np.abs(after).max() < 1e-5  # float32, values of order 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GroupAugmentation("C4"), TypeError, "FiniteGroup"),
        (lambda: GroupAugmentation(cyclic(3)), ValueError, "quarter turns"),
        (lambda: FixedKernel(rotations(3)), ValueError, "quarter turns"),
        (lambda: FixedKernel(mirror())(np.ones((3, 3))), ValueError, "convolutions"),
        (lambda: FixedKernel(rotations(4))(np.ones((3, 1, 1, 1))), ValueError, "squar"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
