"""The ensemble of units as a layer: its values, its group, files and precision."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.mean_field import forward

from keras_lap.symmetry import (
    Linear,
    MeanFieldEnsemble,
    check_joint_equivariance,
    cyclic,
    ensemble,
    fixed_basis,
    rotations,
    sign,
    symmetric,
)

one_backend = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


def data(batch=7, d=2):
    return np.random.default_rng(0).normal(size=(batch, d)).astype("float32")


def value(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.fixture
def pieces(monkeypatch):
    """20 units become three pieces, of which the last is shorter."""
    monkeypatch.setattr(ensemble, "CHUNK", 7)


def test_matrix_units_are_averaged(pieces):
    layer = MeanFieldEnsemble(20, 2, initial_std=1.0)
    x = data()
    np.testing.assert_allclose(value(layer(x)), forward(layer.cloud(), x), atol=2e-6)
    assert layer.particles.shape == (20, 2, 2)


def test_dense_units_are_averaged(pieces):
    layer = MeanFieldEnsemble(20, 3, "tanh", initial_std=1.0, unit="dense")
    x = data(d=4)
    got = value(layer(x))
    want = 0
    for theta in layer.cloud().astype(float):
        want = want + np.tanh(x @ theta[:4] / 4)[:, None] * theta[4:] / 20
    np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("equivariant", [pytest.param(False, marks=one_backend), True])
def test_the_regulariser_is_the_mean_over_units(equivariant):
    how = {"group": cyclic(2), "equivariant": equivariant, "regularization": 0.3}
    layer = MeanFieldEnsemble(5, 2, **how)
    layer(data())
    z = value(layer.particles).astype(float)
    if equivariant:
        z = (z + z[:, ::-1, ::-1]) / 2  # exchange of rows and of columns
    (added,) = layer.losses
    want = 0.3 * np.mean(np.sum(z**2, axis=(1, 2)))
    np.testing.assert_allclose(value(added), want, rtol=1e-5)
    swapped = (z + z[:, ::-1, ::-1]) / 2 if equivariant else z
    np.testing.assert_allclose(layer.cloud(), swapped.reshape(5, 4), atol=1e-6)


CASES = {
    "matrix": ({"group": symmetric(3)}, 3, 3),
    "matrix, invariant": ({"group": rotations(6), "outputs": "trivial"}, 2, 1),
    "matrix, odd": ({"group": sign(2), "activation": "tanh"}, 2, 2),
    "dense": ({"group": rotations(6), "unit": "dense"}, 2, 2),
}


if keras.backend.backend() != "torch":
    # Which action it is does not depend on the backend; each shape compiles anew.
    CASES = {name: CASES[name] for name in ("matrix", "dense")}


@pytest.mark.parametrize(("how", "d", "o"), CASES.values(), ids=CASES)
def test_projected_units_are_exactly_equivariant(how, d, o):
    layer = MeanFieldEnsemble(6, o, equivariant=True, initial_std=1.0, **how)
    x = data(d=d)
    for g in layer.group.elements:
        want = value(layer(x)) @ (g.T if o == d else np.eye(o))
        np.testing.assert_allclose(
            value(layer(x @ g.T.astype("float32"))), want, atol=1e-5
        )
    assert check_joint_equivariance(layer, x) < 1e-5


@one_backend
@pytest.mark.parametrize(
    "how",
    [
        {"group": rotations(6)},  # a sigmoid does not turn
        {"group": sign(2)},  # nor is it odd
        # M_g = identity is no action for a sigmoid
        {"group": sign(2), "unit": "dense", "parameters": np.stack([np.eye(4)] * 2)},
    ],
)
def test_units_that_the_group_does_not_act_on_are_refused(how):
    layer = MeanFieldEnsemble(6, 2, **how)
    with pytest.raises(ValueError, match="jointly equivariant") as error:
        layer.build((None, 2))
    assert "Pass " in str(error.value) or "pass " in str(error.value)
    assert layer.weights == []
    assert layer.parameter_action is None


def test_it_may_be_built_while_a_step_is_compiled():
    layer = MeanFieldEnsemble(6, 2, group=cyclic(2), equivariant=True)
    model = keras.Sequential([layer])
    model.compile("sgd", loss="mse")
    model.fit(data(), data(), verbose=0)
    assert layer.parameter_action is not None


@one_backend
def test_two_actions_on_one_unit_fix_different_units():
    """v tanh(w x + b) under x → −x, y → −y: §12 of the theory's traps."""
    turn = [np.eye(2), np.diag([-1.0, 1.0])]  # of (x, 1)
    how = {"group": sign(1), "inputs": turn, "unit": "dense", "equivariant": True}
    first = MeanFieldEnsemble(8, 1, "tanh", initial_std=1.0, **how)
    other = [np.eye(3), np.diag([1.0, -1.0, 1.0])]
    second = MeanFieldEnsemble(8, 1, "tanh", parameters=other, initial_std=1.0, **how)
    x = np.stack([np.linspace(-2, 2, 9), np.ones(9)], axis=1).astype("float32")
    one, two = value(first(x)), value(second(x))
    # (w, b, v) → (−w, b, −v) leaves b alone, which v = 0 makes nothing of.
    np.testing.assert_array_equal(fixed_basis(first.parameter_action), [[0], [1], [0]])
    np.testing.assert_array_equal(one, 0)
    assert fixed_basis(second.parameter_action).shape[1] == 2
    np.testing.assert_allclose(two, -two[::-1], atol=1e-6)
    assert np.ptp(two) > 0.01


def test_saved_and_loaded(tmp_path):
    group = cyclic(2)
    how = {"inputs": Linear(group), "outputs": group.elements, "regularization": 0.1}
    layer = MeanFieldEnsemble(4, 2, "relu", group, equivariant=True, **how)
    model = keras.Sequential([keras.Input((2,)), layer])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.layers[0].cloud(), layer.cloud())
    x = data()
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    assert again.layers[0].get_config() == layer.get_config()


@pytest.mark.parametrize("unit", [pytest.param("matrix", marks=one_backend), "dense"])
def test_half_precision_is_near_single(unit):
    single = MeanFieldEnsemble(3000, 2, unit=unit, seed=3, initial_std=1.0)
    half = MeanFieldEnsemble(
        3000, 2, unit=unit, seed=3, initial_std=1.0, dtype="mixed_float16"
    )
    x = data()
    got = value(half(x))
    assert got.dtype == np.float16
    np.testing.assert_allclose(
        got, value(single(x)), atol=4e-3
    )  # four roundings of 1e-3


@one_backend
@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"units": 0}, "units must be a whole number"),
        ({"unit": "norm"}, "unit must be one of"),
        ({"regularization": -1}, "regularization must be a finite number >= 0"),
        ({"initial_std": np.nan}, "initial_std must be"),
        ({"equivariant": True}, "group=None"),
        ({"parameters": np.eye(4)[None]}, "group=None"),
        ({"group": cyclic(2), "inputs": "images"}, "inputs must be 'vectors'"),
    ],
)
def test_mistakes_are_told(how, match):
    with pytest.raises(ValueError, match=match):
        MeanFieldEnsemble(**{"units": 3, "output_dim": 2, **how})


@one_backend
def test_mistakes_of_shape_are_told_when_it_is_built():
    with pytest.raises(ValueError, match="inputs must be an action on 3 coordinates"):
        MeanFieldEnsemble(3, 2, group=cyclic(2)).build((None, 3))
    with pytest.raises(ValueError, match="outputs must be an action on 3"):
        MeanFieldEnsemble(3, 3, group=cyclic(2)).build((None, 2))
    with pytest.raises(ValueError, match=r"shape \(batch, d\)"):
        MeanFieldEnsemble(3, 3).build((None, None))
    with pytest.raises(ValueError, match="be built and have a group"):
        check_joint_equivariance(MeanFieldEnsemble(3, 3), data())
    with pytest.raises(ValueError, match="be built and have a group"):
        check_joint_equivariance(keras.layers.Dense(3), data())
    with pytest.raises(ValueError, match="layer must be built"):
        MeanFieldEnsemble(3, 3).cloud()
