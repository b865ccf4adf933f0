"""Groups against their axioms, counts known from algebra, and NumPy."""

from __future__ import annotations

import itertools
import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lap.symmetry import (
    FiniteGroup,
    cyclic,
    dihedral,
    from_generators,
    mirror,
    rotations,
    sign,
    symmetric,
)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
GROUPS = {
    "cyclic": (cyclic(5), 5),
    "symmetric": (symmetric(4), 24),
    "rotations": (rotations(6), 6),
    "dihedral": (dihedral(5), 10),
    "mirror": (mirror(), 2),
    "sign": (sign(3), 2),
    "product": (rotations(3) * sign(2), 6),
    "one": (cyclic(1), 1),
}
every = pytest.mark.parametrize(("group", "order"), GROUPS.values(), ids=GROUPS)


@every
def test_the_axioms(group, order):
    assert group.order == len(group) == len(group.elements) == order
    elements, table = group.elements, group.table
    np.testing.assert_array_equal(elements[0], np.eye(group.dimension))
    products = np.einsum("aij,bjk->abik", elements, elements)
    # Entries are at most 1, and a product sums a few of them: rounding of float64.
    np.testing.assert_allclose(products, elements[table], atol=1e-14)
    assert all(sorted(row) == list(range(order)) for row in [*table, *table.T])
    assert (table[np.arange(order), group.inverses] == 0).all()


@pytest.mark.parametrize("n", [1, 2, 4])
def test_quarter_turns_are_exact(n):
    assert set(np.unique(dihedral(n).elements)) <= {-1.0, 0.0, 1.0}
    assert not np.signbit(rotations(n).elements[0]).any()  # no −0 in the identity


def test_shifts_are_those_of_numpy():
    for k, matrix in enumerate(cyclic(4).elements):
        np.testing.assert_array_equal(matrix @ np.arange(4), np.roll(np.arange(4), k))


def test_the_table_of_the_largest_symmetric_group():
    group = symmetric(7)
    images = group.elements.argmax(2)  # row i has its 1 where the image of x_i is from
    place = {tuple(each): index for index, each in enumerate(images)}
    assert len(place) == math.factorial(7)
    rng = np.random.default_rng(0)
    for a, b in rng.integers(0, len(group), (200, 2)):
        # (g_a g_b x)_i = (g_b x)_{a(i)} = x_{b(a(i))}
        assert group.table[a, b] == place[tuple(images[b][images[a]])]


@given(st.permutations(range(5)), st.permutations(range(5)))
def test_from_generators_against_brute_force(first, second):
    rows = np.eye(5)
    found = {tuple(range(5))}
    while True:
        more = {tuple(p[i] for i in g) for p in found for g in (first, second)} | found
        if more == found:
            break
        found = more
    group = from_generators([rows[list(first)], rows[list(second)]])
    assert {tuple(each) for each in group.elements.argmax(2)} == found


def test_generators_in_single_precision_are_enough():
    matrices = rotations(7).elements.astype("float32")
    assert from_generators(matrices[1:2]).order == 7
    assert FiniteGroup(matrices).order == 7


def test_the_identity_comes_first_and_the_rest_keeps_its_order():
    elements = cyclic(3).elements
    group = FiniteGroup(elements[[1, 0, 2]])
    np.testing.assert_array_equal(group.elements, elements)


# C_n has τ(n) subgroups, D_n τ(n) + σ(n), S_3 and S_4 have 6 and 30 (OEIS A005432).
@pytest.mark.parametrize(
    ("group", "cyclic_ones", "all_of_them"),
    [
        (rotations(12), 6, 6),
        (dihedral(4), 7, 10),
        (symmetric(3), 5, 6),
        (symmetric(4), 17, 30),
    ],
)
def test_subgroups_are_counted_as_in_algebra(group, cyclic_ones, all_of_them):
    assert len(group.subgroups()) == cyclic_ones
    found = group.subgroups(cyclic_only=False)
    assert len(found) == all_of_them
    assert (found[0].order, found[-1]) == (1, group)
    assert all(group.order % each.order == 0 for each in found)  # Lagrange
    members = [{each.tobytes() for each in sub.elements} for sub in found]
    assert all(a != b for a, b in itertools.combinations(members, 2))


def test_products_are_block_diagonal_and_numbered_row_by_row():
    a, b = rotations(3), sign(2)
    group = a * b
    np.testing.assert_allclose(group.elements[1 * 2 + 1][:2, :2], a.elements[1])
    np.testing.assert_allclose(group.elements[1 * 2 + 1][2:, 2:], b.elements[1])
    assert not group.elements[:, :2, 2:].any()
    with pytest.raises(TypeError):
        a * 2


def test_equality_and_saving():
    group = dihedral(3)
    again = FiniteGroup.from_config(group.get_config())
    assert again == group
    assert hash(again) == hash(group)
    assert again.name == group.name
    assert group != rotations(6)
    assert group != cyclic(2)
    assert group != "dihedral"


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (np.eye(2), r"shape \(n, d, d\)"),
        ([[[1, 2]]], r"shape \(n, d, d\)"),
        ("mirror", r"shape \(n, d, d\)"),
        ([np.eye(2), [[1, 1], [0, 1]]], "orthogonal"),
        ([np.eye(2), np.full((2, 2), np.nan)], "orthogonal"),
        ([np.eye(2), np.eye(2)], "once"),
        ([-np.eye(2)], "identity"),
        (rotations(4).elements[:2], "closed under products"),
        ([*rotations(3).elements, *rotations(5).elements[1:]], "closed"),
    ],
)
def test_what_is_no_group_is_refused(elements, message):
    with pytest.raises(ValueError, match=message):
        FiniteGroup(elements)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: symmetric(8), "at most 7"),
        (lambda: cyclic(0), "at least 1"),
        (lambda: rotations(2.5), "whole number"),
        (lambda: from_generators([rotations(30).elements[1]], 20), "at most max_order"),
        (lambda: symmetric(5).subgroups(cyclic_only=False), "up to order 24"),
    ],
)
def test_makers_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()
