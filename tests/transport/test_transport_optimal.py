"""Matchings, scores and quotients of clouds: NumPy and POT alone, no network."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from support.transports import cheapest, points

from keras_lap.transport import (
    distances,
    line_shape_score,
    match,
    optimal,
    optimal_transport_score,
    path_ratio,
    regularity,
)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="no backend takes part, once is enough"
)


@settings(max_examples=60)
@given(
    count=st.integers(1, 12),
    features=st.integers(1, 4),
    p=st.floats(1.1, 4.0),
    seed=st.integers(0, 10_000),
)
def test_matching_against_scipy(count, features, p, seed):
    before, after = points(count, features, seed), points(count, features, seed + 1)
    found = match(before, after, p)
    best, columns = cheapest(before.astype(float), after.astype(float), p)
    own = np.mean(np.linalg.norm(after.astype(float) - before, axis=1) ** p)
    assert found.exact
    assert found.optimal_cost == pytest.approx(best, rel=1e-9)
    assert found.network_cost == pytest.approx(own, rel=1e-9)
    assert found.optimality == pytest.approx(best / own, rel=1e-9)
    np.testing.assert_array_equal(found.partners, columns)
    assert found.own_share == np.mean(columns == np.arange(count))


@settings(max_examples=60)
@given(
    gaps=st.lists(
        st.tuples(st.floats(0.01, 10.0), st.floats(0.01, 10.0)), min_size=2, max_size=20
    ),
    shift=st.floats(-20.0, 20.0),
    p=st.floats(1.05, 5.0),
    order=st.randoms(use_true_random=False),
)
def test_increasing_maps_of_the_line_are_optimal(gaps, shift, p, order):
    before, after = np.cumsum(np.array(gaps), axis=0).T
    shuffled = list(range(len(gaps)))
    order.shuffle(shuffled)
    found = match(before[shuffled, None], after[shuffled, None] + shift, p)
    assert found.optimality == pytest.approx(1.0, abs=1e-9)
    assert found.own_share == 1.0


def test_decreasing_maps_of_the_line_are_not():
    line = np.linspace(-1, 1, 11)[:, None]
    assert match(line, -line).optimality == pytest.approx(0.0, abs=1e-12)
    assert match(line, -2 * line).optimality == pytest.approx(1 / 9)


def test_points_at_one_place_are_each_others_partners():
    before = np.array([[0.0], [0.0], [3.0]])
    after = np.array([[1.0], [1.0], [-5.0]])
    found = match(before, after)
    # One of the twins goes to −5 and the point at 3 to 1: that twin is not its own.
    assert found.optimal_cost == pytest.approx((1 + 25 + 4) / 3)
    assert found.own_share == pytest.approx(1 / 3)
    assert match(before, np.ones((3, 1)) * [[1.0], [1.0], [4.0]]).own_share == 1.0


def test_far_from_zero_small_moves_keep_their_digits():
    cloud = points(60, 5).astype(float) + 1e4
    moved = cloud + 1e-5
    found = match(cloud, moved)
    assert found.network_cost == pytest.approx(5e-10, rel=1e-5)
    assert found.optimality == 1.0


def test_many_features_are_added_up_in_parts(monkeypatch):
    before, after = points(8, 50, 2), points(8, 50, 3)
    whole = match(before, after)
    monkeypatch.setattr(distances, "_FEATURES_AT_ONCE", 7)
    assert match(before, after).optimal_cost == pytest.approx(whole.optimal_cost)


def test_sinkhorn_gives_an_upper_bound_above_the_limit(monkeypatch):
    before, after = points(60, 3, 4), points(60, 3, 5)
    exact = match(before, after)
    monkeypatch.setattr(optimal, "EXACT_LIMIT", 10)
    found = match(before, after)
    assert not found.exact
    # Regularisation by a hundredth of the mean cost changes the cost by some percent.
    assert exact.optimal_cost <= found.optimal_cost < 1.1 * exact.optimal_cost
    assert found.network_cost == exact.network_cost
    shifted = match(before, before + np.float32(1.0))
    assert shifted.optimality == 1.0


def test_a_solver_that_fails_is_reported(monkeypatch):
    class Broken:
        @staticmethod
        def emd2(*args, **kwargs):
            return 0.0, {"warning": "did not converge", "G": None}

    monkeypatch.setattr(optimal, "solver", lambda: Broken)
    with pytest.raises(RuntimeError, match=r"did not converge. Lower max_samples"):
        match(points(5), points(5, seed=2))


def test_paths_with_known_scores():
    corner = np.array([[[0.0, 0.0]], [[3.0, 0.0]], [[3.0, 4.0]]])
    assert path_ratio(corner) == pytest.approx([7 / 5])
    assert line_shape_score(corner) == pytest.approx([2 / np.sqrt(2)])
    # Steps of zero length have no direction and are left out.
    waiting = corner[[0, 1, 1, 2]]
    assert line_shape_score(waiting) == pytest.approx([2 / np.sqrt(2)])
    still, back = corner[[0, 0]], corner[[0, 1, 0]]
    assert path_ratio(still) == line_shape_score(still) == [1.0]
    assert path_ratio(back) == line_shape_score(back) == [np.inf]


@given(seed=st.integers(0, 1000), steps=st.integers(1, 6))
def test_scores_are_at_least_one_and_one_for_straight_lines(seed, steps):
    path = np.cumsum(points(steps + 1, 15, seed).reshape(-1, 5, 3), axis=0)
    for score in (path_ratio, line_shape_score):
        assert np.all(score(path) >= 1 - 1e-12)
        line = np.cumsum(np.arange(1.0, steps + 2))[:, None, None] * path[:1]
        assert score(line) == pytest.approx(np.ones(5))


def test_optimal_transport_score_is_the_mean_over_the_steps():
    line = np.linspace(-1, 1, 11)[:, None]
    # From the line to its double is optimal, from there to its mirror image is not.
    assert optimal_transport_score([line, 2 * line]) == 1.0
    score = optimal_transport_score([line, 2 * line, -4 * line])
    assert score == pytest.approx((1 + 4 / 36) / 2)


def test_lipschitz_and_hoelder_quotients():
    cloud = points(30, 2)
    found = regularity(cloud, cloud @ np.diag([3.0, 0.5]))
    assert 0.5 <= found.forward.median <= found.forward.high <= found.forward.maximum
    assert 2.9 < found.forward.maximum <= 3.0 + 1e-6
    assert 1.9 < found.inverse.maximum <= 2.0 + 1e-6
    # |√x − √y| ≤ |x − y|^½, with equality against 0.
    line = np.linspace(0, 1, 21)[:, None]
    assert regularity(line, np.sqrt(line), 0.5).forward.maximum == pytest.approx(1.0)
    assert regularity(line, np.sqrt(line)).forward.maximum == pytest.approx(20**0.5)


def test_quotients_of_equal_points():
    twins = np.array([[1e3], [1e3], [2e3]])
    assert regularity(twins, twins).forward.maximum == pytest.approx(1.0)
    collapsed = regularity(np.array([[0.0], [1.0]]), np.ones((2, 1)))
    assert collapsed.forward.maximum == 0.0
    assert collapsed.inverse.maximum == np.inf
    assert np.isnan(regularity(twins[:2], twins[:2]).forward.maximum)
    with pytest.raises(ValueError, match="exponent must be a finite number > 0"):
        regularity(twins, twins, 0.0)


def test_only_the_optimal_matching_needs_pot(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    cloud = points(10, 2)
    assert regularity(cloud, 2 * cloud).forward.maximum == pytest.approx(2.0)
    assert path_ratio([cloud, 2 * cloud]) == pytest.approx(np.ones(10))
    with pytest.raises(ImportError, match=r"optimal transport needs POT.*transport\]"):
        match(cloud, cloud)


def test_distances_are_those_of_scipy():
    x, y = points(30, 7).astype(float) * 10 + 3, points(20, 7, 4)
    np.testing.assert_allclose(
        distances.squared_distances(x, y), cdist(x, y, "sqeuclidean"), rtol=1e-10
    )
