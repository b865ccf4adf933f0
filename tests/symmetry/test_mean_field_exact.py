"""What holds at any number of units: against losses in NumPy and finite differences."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from support.mean_field import forward, gradient, losses, moved, permutations

import keras_lap
from keras_lap.symmetry import (
    DataAugmentation,
    FeatureAveraging,
    FiniteGroup,
    MeanFieldEnsemble,
    NoisySGD,
)

# Groups do not depend on the backend; each compiles anew, which takes time elsewhere.
GROUPS = ("C2", "Z3", "S3") if keras.backend.backend() == "torch" else ("S3",)
UNITS = 4
one_backend = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


def squares(y_true, y_pred):
    return keras.ops.sum(keras.ops.square(y_pred - y_true), axis=-1)


class Case:
    """A group in NumPy and in the package, units, and data that obey nothing."""

    def __init__(self, name):
        self.matrices = permutations(name)
        self.group = FiniteGroup(self.matrices)
        d = self.matrices.shape[1]
        rng = np.random.default_rng(3)
        self.cloud = rng.normal(0, 1, (UNITS, d * d))
        self.x, self.y = rng.normal(0, 1, (2, 5, d))
        self.students = {}

    def fixed(self):
        return np.mean([moved(self.cloud, g) for g in self.matrices], axis=0)

    def orbit(self):
        return np.concatenate([moved(self.cloud, g) for g in self.matrices])

    def closed(self):
        """The data with all their images."""
        return [
            np.concatenate([each @ g.T for g in self.matrices])
            for each in (self.x, self.y)
        ]

    def student(self, scheme, cloud):
        """A compiled student that starts at the cloud, built once."""
        if (scheme, len(cloud)) not in self.students:
            self.students[scheme, len(cloud)] = self.compiled(scheme, len(cloud))
        model, layer = self.students[scheme, len(cloud)]
        layer.particles.assign(cloud.reshape(layer.particles.shape))
        return model, layer

    def compiled(self, scheme, units):
        d = self.x.shape[1]
        layer = MeanFieldEnsemble(
            units, d, group=self.group, equivariant=scheme == "equivariant"
        )
        model = keras.Sequential([keras.Input((d,)), layer])
        wraps = {"augmented": DataAugmentation, "averaged": FeatureAveraging}
        if scheme in wraps:
            model = wraps[scheme](model, self.group, "vectors", "vectors")
        model.compile(NoisySGD(1.0), loss=squares)
        return model, layer

    def step(self, scheme, cloud, x, y):
        """Minus the change of the units in a training step at the rate 1."""
        model, layer = self.student(scheme, cloud)
        before = keras.ops.convert_to_numpy(layer.particles).reshape(len(cloud), -1)
        model.train_on_batch(x.astype("float32"), y.astype("float32"))
        after = keras.ops.convert_to_numpy(layer.particles).reshape(len(cloud), -1)
        return before - after


@pytest.fixture(params=GROUPS, scope="module")
def case(request):
    return Case(request.param)


# Units are of order 1: a difference of two float32 is off by some 1e-7.
NEAR = {"atol": 2e-6, "rtol": 1e-5}


@pytest.mark.parametrize("scheme", ["free", "augmented", "averaged", "equivariant"])
def test_a_step_is_the_gradient_of_its_loss(case, scheme):
    want = gradient(losses(case.matrices)[scheme], case.cloud, case.x, case.y)
    got = case.step(scheme, case.cloud, case.x, case.y)
    np.testing.assert_allclose(got, want, **NEAR)


def test_the_average_of_units_is_the_ensemble_of_their_orbits(case):
    model, _ = case.student("averaged", case.cloud)
    got = model.predict(case.x.astype("float32"), verbose=0)
    np.testing.assert_allclose(got, forward(case.orbit(), case.x), **NEAR)
    # It is not what the units do by themselves.
    assert np.abs(got - forward(case.cloud, case.x)).max() > 0.01


def test_at_fixed_units_three_schemes_have_one_gradient_for_any_data(case):
    fixed = case.fixed()
    want = gradient(losses(case.matrices)["augmented"], fixed, case.x, case.y)
    for scheme in ("augmented", "averaged", "equivariant"):
        got = case.step(scheme, fixed, case.x, case.y)
        np.testing.assert_allclose(got, want, **NEAR)
        for g in case.matrices:
            np.testing.assert_allclose(moved(got, g), got, **NEAR)
    free = case.step("free", fixed, case.x, case.y)
    assert max(np.abs(moved(free, g) - free).max() for g in case.matrices) > 1e-3


def test_free_training_on_whole_orbits_keeps_fixed_units(case):
    got = case.step("free", case.fixed(), *case.closed())
    assert np.abs(got).max() > 1e-3
    for g in case.matrices:
        np.testing.assert_allclose(moved(got, g), got, **NEAR)


def test_free_training_on_whole_orbits_keeps_symmetric_laws(case):
    cloud = case.orbit()
    got = cloud - case.step("free", cloud, *case.closed())
    where = {tuple(np.round(row, 4)): number for number, row in enumerate(cloud)}
    for g in case.matrices:
        order = [where[tuple(np.round(row, 4))] for row in moved(cloud, g)]
        np.testing.assert_allclose(moved(got, g), got[order], **NEAR)


def residual(case, blocks=2):
    """x + Φ(x), twice, and its layers."""
    d = case.x.shape[1]
    layers = [MeanFieldEnsemble(UNITS * 6, d, group=case.group) for _ in range(blocks)]
    h = inputs = keras.Input((d,))
    for layer in layers:
        h = keras.layers.Add()([h, layer(h)])
    return keras.Model(inputs, h), layers


@pytest.mark.parametrize("closed", [True, pytest.param(False, marks=one_backend)])
def test_least_action_keeps_the_symmetry_of_every_block(closed):
    case = Case("S3")
    network, layers = residual(case)
    model = keras_lap.LeastActionModel(network, energy=2.0, initial_multiplier=0.5)
    model.compile(NoisySGD(1.0), loss=squares)
    assert len(keras_lap.find_residual_blocks(network)) == 2
    data = case.closed() if closed else (case.x, case.y)
    for cloud in (np.tile(case.fixed(), (6, 1)), case.orbit()):
        for layer in layers:
            layer.particles.assign(cloud.reshape(layer.particles.shape))
        for _ in range(5):
            logs = model.train_on_batch(
                *(each.astype("float32") for each in data), return_dict=True
            )
        assert logs["transport_cost"] > 0.01  # it is not trained by the loss alone
        assert np.abs(layers[0].cloud() - cloud).max() > 0.01
        rows = np.round(cloud, 4).tolist()
        errors = []
        for layer, g in itertools.product(layers, case.matrices):
            got = layer.cloud()
            # Units that started at one place stay together: which one is no matter.
            order = [rows.index(row) for row in np.round(moved(cloud, g), 4).tolist()]
            errors.append(np.abs(moved(got, g) - got[order]).max())
        # Five steps of rounding in float32; data that are not closed break it.
        assert max(errors) < 1e-5 if closed else max(errors) > 1e-3


@one_backend
def test_snapshots_of_a_cloud_are_states_for_transport():
    pytest.importorskip("ot")
    start = np.random.default_rng(0).normal(size=(20, 4))
    states = [start * scale for scale in (1, 0.8, 0.6)]  # straight, and optimal
    transport = keras_lap.transport
    np.testing.assert_allclose(transport.path_ratio(states), 1)
    np.testing.assert_allclose(transport.line_shape_score(states), 1)
    assert transport.optimal_transport_score(states) == pytest.approx(1)
    states.append(states[0])  # two steps forth, one back: optimal each, not together
    assert transport.optimal_transport_score(states) == pytest.approx(1)
    np.testing.assert_allclose(transport.line_shape_score(states), 3)
