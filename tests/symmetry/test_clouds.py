"""Distances between clouds: against brute force and closed forms."""

from __future__ import annotations

import itertools
import math

import keras
import numpy as np
import pytest
from support.mean_field import moved, permutations

from keras_lap.symmetry import (
    Linear,
    Trivial,
    clouds,
    conjugation,
    cyclic,
    plot_clouds,
    project,
    rmd,
    rmd_to_fixed,
    sign,
    symmetric,
    symmetrize,
    w2,
)

pytest.importorskip("scipy")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
RNG = np.random.default_rng(0)


def sorted_distance(a, b):
    """W₂ of points on a line: sorted, as many times as makes them as many."""
    many = math.lcm(len(a), len(b))
    pairs = [np.sort(np.repeat(each.ravel(), many // len(each))) for each in (a, b)]
    return np.sqrt(np.mean((pairs[0] - pairs[1]) ** 2))


def test_the_distance_is_the_least_over_all_matchings():
    a, b = RNG.normal(size=(2, 6, 3))
    costs = [
        np.mean(np.sum((a - b[list(order)]) ** 2, axis=1))
        for order in itertools.permutations(range(6))
    ]
    assert w2(a, b) == pytest.approx(np.sqrt(min(costs)), rel=1e-12)


@pytest.mark.parametrize("sizes", [(5, 5), (4, 12), (6, 4), (67, 71)])
def test_clouds_of_any_sizes_on_a_line(sizes):
    a, b = (RNG.normal(size=(size, 1)) for size in sizes)
    if math.lcm(*sizes) > clouds.ASSIGNED:
        pytest.importorskip("ot")
    assert w2(a, b) == pytest.approx(sorted_distance(a, b), rel=1e-9)
    assert w2(b, a) == pytest.approx(w2(a, b), rel=1e-9)


def test_what_is_near_is_not_rounded_away():
    a = RNG.normal(size=(30, 4)) + 100
    assert w2(a, a) == 0
    # Coordinates of 100 in float64 are known to 1e-14.
    assert w2(a, a + 1e-7) == pytest.approx(2e-7, rel=1e-5)


def test_the_relative_distance_lies_between_0_and_1():
    point = np.array([[1.0, 2.0]])
    assert rmd(point, -point) == pytest.approx(1)
    assert rmd(point, point) == 0
    assert rmd(0 * point, 0 * point) == 0
    assert rmd(point, 0 * point) == pytest.approx(np.sqrt(0.5))
    a, b = RNG.normal(size=(2, 8, 3))
    size = 2 * (np.sum(a**2) + np.sum(b**2)) / 8
    assert rmd(a, b) == pytest.approx(w2(a, b) / np.sqrt(size), rel=1e-12)


@pytest.mark.parametrize("name", ["C2", "Z3", "S3"])
def test_projection_and_symmetrisation(name):
    matrices = permutations(name)
    group = {"C2": cyclic(2), "Z3": cyclic(3), "S3": symmetric(3)}[name]
    action = conjugation(group)
    cloud = RNG.normal(size=(6, len(matrices[0]) ** 2))
    orbit = np.stack([moved(cloud, g) for g in matrices])
    np.testing.assert_allclose(project(cloud, action), orbit.mean(0), atol=1e-12)
    laws = [symmetrize(cloud, action), orbit.reshape(-1, cloud.shape[1])]
    np.testing.assert_allclose(*(np.sort(law, axis=0) for law in laws), atol=1e-12)
    # In closed form, since a projection is an optimal coupling.
    closed = rmd_to_fixed(cloud, action)
    assert closed == pytest.approx(rmd(cloud, orbit.mean(0)), rel=1e-9)
    assert closed > 0.1
    assert rmd_to_fixed(orbit.mean(0), action) < 1e-12
    assert rmd(laws[0], symmetrize(laws[0], action)) < 1e-7  # the root of a rounding


def test_the_picture_shows_clouds_beside_the_fixed_units():
    pytest.importorskip("matplotlib")
    action = conjugation(cyclic(2))
    cloud = RNG.normal(size=(9, 4))
    axis = plot_clouds({"a": cloud, "P": project(cloud, action)}, action)
    first, second = (each._offsets3d for each in axis.collections)
    away = np.linalg.norm(cloud - project(cloud, action), axis=1)
    np.testing.assert_allclose(first[2], away, atol=1e-12)
    np.testing.assert_allclose(second[2], 0, atol=1e-12)
    # Two fixed directions: both are shown, so that lengths there are kept.
    want = np.linalg.norm(project(cloud, action), axis=1)
    np.testing.assert_allclose(np.hypot(first[0], first[1]), want, atol=1e-12)
    plot_clouds({"none fixed": cloud[:, :2]}, Linear(sign(2)))


def test_mistakes_are_told():
    action = conjugation(cyclic(2))
    with pytest.raises(ValueError, match=r"a must be finite points \(n, D\)"):
        w2(np.zeros((0, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="b must be finite points"):
        w2(np.zeros((1, 2)), np.full((1, 2), np.nan))
    with pytest.raises(ValueError, match="as many coordinates"):
        rmd(np.zeros((1, 2)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="points of 3"):
        symmetrize(np.zeros((5, 3)), action)
    with pytest.raises(TypeError, match="Linear action"):
        rmd_to_fixed(np.zeros((5, 4)), Trivial(cyclic(2)))
    with pytest.raises(ValueError, match="at least one cloud"):
        plot_clouds({}, action)
    with pytest.raises(ValueError, match="must be a dictionary"):
        plot_clouds([np.ones((5, 4))], action)
    with pytest.raises(ValueError, match="Cloud 'mine' must be finite points"):
        plot_clouds({"mine": np.full((5, 4), np.nan)}, action)
    with pytest.raises(ValueError, match="three-dimensional"):
        plot_clouds({"mine": np.ones((5, 4))}, action, ax="none")
