"""The heuristic that finds fixed units: its rule, and its trainings."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support import mean_field

from keras_lap.symmetry import (
    MeanFieldEnsemble,
    cyclic,
    discover_invariant_subspace,
    discovery,
)

one_backend = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


def layer_of(units, size=2):
    layer = MeanFieldEnsemble(units, size, seed=0)
    layer.build((None, size))
    return layer


class Trained:
    """Instead of a training: where units go is known.

    They move by `drift` along some axes, whatever the batch, by noise of the variance
    `noise` / B along all, and by one of `offsets` for each repeat along the last.
    """

    def __init__(self, axes, drift, noise, offsets=(0.0,)):
        self.axes, self.drift, self.noise, self.offsets = axes, drift, noise, offsets
        self.size, self.batches = 4, []

    def __call__(self, start, batch_size, generator):
        self.batches.append(batch_size)
        signs = np.where(np.arange(len(start)) % 2, 1.0, -1.0)[:, None]
        after = start + signs * self.drift * np.eye(4)[self.axes].sum(0)
        repeat = (len(self.batches) - 1) // 2
        after = after + self.offsets[repeat % len(self.offsets)] * np.eye(4)[3]
        noise = np.sqrt(self.noise / batch_size) * np.eye(4)[np.arange(len(start)) % 4]
        return after + noise


def found_with(trained, monkeypatch, **how):
    monkeypatch.setattr(discovery, "_Free", lambda *_: trained)
    data = np.zeros((3, 2), "float32")
    return discover_invariant_subspace(layer_of(40), data, data, **how)


@one_backend
def test_noise_of_batches_alone_is_not_taken_for_drift(monkeypatch):
    found = found_with(Trained([0], 0.5, 0.5), monkeypatch, batch_size=100)
    (first, second) = found.steps
    # What is left is of the order 1 / B²; without two batches it would be above.
    assert second["rmd2"] > 5e-4
    assert abs(second["drift"]) < second["rmd2"] / 5
    assert found.dimension == 1
    assert first["rmd2"] == 0.5  # every cloud is as far from the point 0
    np.testing.assert_allclose(np.abs(found.basis[:, 0]), [1, 0, 0, 0], atol=0.02)
    floor = found_with(Trained([0], 0.5, 0.5), monkeypatch, floor=0.0, repeats=2)
    assert floor.dimension >= 1


@one_backend
def test_all_directions_of_a_drift_are_taken_in_one_by_one(monkeypatch):
    class Two(Trained):
        def __call__(self, start, batch_size, generator):
            after = super().__call__(start, batch_size, generator)
            after[::4, 1] += 0.3
            return after

    found = found_with(Two([0], 0.5, 0.0), monkeypatch)
    assert found.dimension == 2
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(found.basis[2:], 0, atol=1e-9)
    assert [each["dimension"] for each in found.steps] == [0, 1, 2]
    assert "Fixed units: 2 of 4 dimensions" in str(found)


@one_backend
@pytest.mark.parametrize(("significance", "counts"), [(3.0, False), (0.5, True)])
def test_a_drift_within_its_error_does_not_count(significance, counts, monkeypatch):
    # The last axis is left far in one repeat and little in the other, so that the mean
    # is about one standard error.
    trained = Trained([0], 0.5, 0.0, offsets=(0.3, 0.1))
    how = {"repeats": 2, "significance": significance}
    found = found_with(trained, monkeypatch, **how)
    assert (found.dimension > 1) == counts
    step = found.steps[1]
    assert 0.5 * step["error"] < step["drift"] < 3 * step["error"]
    assert step["drift"] > 0.01
    assert trained.batches[:2] == [500, 2000]


@pytest.mark.parametrize("unit", ["matrix", pytest.param("dense", marks=one_backend)])
def test_its_training_is_gradient_descent_on_drawn_batches(unit):
    # That whole problems are solved takes minutes: studies.symmetry.mean_field.
    layer = MeanFieldEnsemble(4, 2, group=cyclic(2), unit=unit, equivariant=True)
    x, y = np.random.default_rng(0).normal(size=(2, 30, 2))
    layer(x.astype("float32"))
    layer.trainable = False  # its own units stay; those that are trained do not
    before = layer.cloud()
    train = discovery._Free(layer, x, y, None, 2.0, 3)

    def loss(cloud, x, y):
        if unit == "matrix":
            return mean_field.loss(cloud, x, y)
        inner = 1 / (1 + np.exp(-x @ cloud[:, :2].T / 2))
        return np.mean(np.sum((inner @ cloud[:, 2:] / 4 - y) ** 2, axis=1))

    rng, start = np.random.default_rng(5), np.random.default_rng(1).normal(size=(4, 4))
    want = start
    for chosen in rng.integers(0, 30, 3 * 6).reshape(3, 6):
        want = want - 2.0 * mean_field.gradient(loss, want, x[chosen], y[chosen])
    for _ in range(2):  # each from the start that it is given
        got = train(start, 6, np.random.default_rng(5))
        np.testing.assert_allclose(got, want, atol=5e-6)  # of float32 numbers near 1
    np.testing.assert_array_equal(layer.cloud(), before)


@one_backend
@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"repeats": 1}, "repeats must be a whole number of at least 2"),
        ({"steps": 0}, "steps must be"),
        ({"batch_size": 1.5}, "batch_size must be"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"initial_std": 0}, "initial_std must be"),
        ({"floor": -1}, "floor must be"),
        ({"significance": np.inf}, "significance must be"),
        ({"y": np.zeros((2, 2))}, "x and y must be as many.*Received: 3 and 2"),
        ({"x": np.zeros((0, 2)), "y": np.zeros((0, 2))}, "at least one"),
        ({"x": np.full((3, 2), np.nan)}, "x and y must be finite"),
        ({"x": np.zeros((3, 1))}, r"x must have shape \(samples, 2\)"),
        ({"y": np.zeros((3, 1))}, r"y must have shape \(samples, 2\)"),
        ({"layer": MeanFieldEnsemble(3, 2)}, "that is built"),
    ],
)
def test_mistakes_are_told(how, match):
    data = np.zeros((3, 2), "float32")
    layer = how.pop("layer", None) or layer_of(3)
    with pytest.raises(ValueError, match=match):
        discover_invariant_subspace(**{"layer": layer, "x": data, "y": data, **how})


@one_backend
def test_a_training_that_does_not_stay_finite_is_told():
    layer = MeanFieldEnsemble(3, 2, "linear", seed=0)
    data = np.random.default_rng(0).normal(0, 100, (50, 2)).astype("float32")
    layer(data)
    with pytest.raises(ValueError, match="did not stay finite"):
        discover_invariant_subspace(layer, data, data, steps=60, batch_size=5)
