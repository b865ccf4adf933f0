"""Actions against NumPy, and against the definition of an action."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_lap.symmetry import (
    FiniteGroup,
    Images,
    Linear,
    Trivial,
    conjugation,
    cyclic,
    dihedral,
    fixed_basis,
    mirror,
    projector,
    rotations,
    sign,
    symmetric,
)
from keras_lap.symmetry.actions import action_of

one_backend = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
RNG = np.random.default_rng(0)
PIXELS = RNG.normal(size=(3, 4, 4, 2)).astype("float32")
ACTIONS = {
    "images": (Images(dihedral(4)), PIXELS),
    "mirrored": (Images(mirror()), PIXELS[:, :3]),
    "vectors": (Linear(rotations(5)), RNG.normal(size=(3, 2)).astype("float32")),
    "rows": (Linear(cyclic(4), axis=1), PIXELS),
    "other": (Linear(cyclic(2), [[[1]], [[-1]]]), PIXELS[..., :1]),
    "trivial": (Trivial(cyclic(3)), PIXELS),
}
each_action = pytest.mark.parametrize(("action", "x"), ACTIONS.values(), ids=ACTIONS)
# A pixel is moved, not computed; matrices round once or twice in float32.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def numbers(x):
    return ops.convert_to_numpy(x)


@each_action
def test_an_action_multiplies_by_the_table(action, x):
    table = action.group.table
    for a in range(len(table)):
        for b in range(len(table)):
            twice = action.apply(a, action.apply(b, x))
            np.testing.assert_allclose(twice, action.apply(table[a, b], x), **CLOSE)
        np.testing.assert_allclose(action.invert(a, action.apply(a, x)), x, **CLOSE)
    np.testing.assert_array_equal(action.apply(0, x), x)


@each_action
def test_tensors_and_one_element_a_sample_as_arrays(action, x):
    order = len(action.group)
    orbit = action.orbit(x)
    assert isinstance(orbit, np.ndarray)
    tensor = ops.convert_to_tensor(x)
    np.testing.assert_allclose(numbers(action.orbit(tensor)), orbit, **CLOSE)
    for first in range(order):
        index = (np.arange(len(x)) + first) % order
        wanted = orbit[index, np.arange(len(x))]
        np.testing.assert_allclose(action.apply(index, x), wanted, **CLOSE)
        moved = action.apply(ops.convert_to_tensor(index), tensor)
        np.testing.assert_allclose(numbers(moved), wanted, **CLOSE)
        back = action.invert(ops.convert_to_tensor(index), moved)
        np.testing.assert_allclose(numbers(back), x, **CLOSE)


@one_backend
def test_images_move_as_numpy_moves_them():
    turns = Images(rotations(4))
    for k in range(4):
        wanted = np.rot90(PIXELS, k, (1, 2))
        np.testing.assert_array_equal(turns.apply(k, PIXELS), wanted)
    both = Images(dihedral(4))
    for k in range(4):
        wanted = np.rot90(np.flip(PIXELS, 2), k, (1, 2))
        np.testing.assert_array_equal(both.apply(4 + k, PIXELS), wanted)
    half = Images(rotations(2)).apply(1, PIXELS[:, :3])
    np.testing.assert_array_equal(half, PIXELS[:, :3][:, ::-1, ::-1])


@one_backend
def test_linear_by_einsum():
    group = rotations(3)
    x = RNG.normal(size=(4, 2, 5))
    wanted = np.einsum("ij,bjc->bic", group.elements[1], x)
    np.testing.assert_allclose(Linear(group, axis=1).apply(1, x), wanted, rtol=1e-14)
    np.testing.assert_allclose(Linear(group, axis=-2).apply(1, x), wanted, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float16", "float32"])
def test_types_are_kept(dtype):
    x = np.arange(12).reshape(3, 2, 2).astype(dtype)
    for action in (Images(rotations(4)), Linear(cyclic(2))):
        assert action.apply(1, x).dtype == dtype
        tensor = ops.convert_to_tensor(x)
        index = ops.convert_to_tensor([0, 1, 1])
        for moved in (action.apply(1, tensor), action.apply(index, tensor)):
            assert keras.backend.standardize_dtype(moved.dtype) == dtype
    turned = Linear(rotations(3)).apply(1, ops.convert_to_tensor(x))
    assert "float" in keras.backend.standardize_dtype(turned.dtype)


def test_coordinates_are_moved_and_not_computed():
    """Ids above 2²⁴, which float32 lacks, and infinity, which a product spreads."""
    ids = np.array([[2**24 + 1, 7], [2**30 + 3, 5]], "int32")
    wild = np.array([[np.inf, 1.0], [np.nan, 2.0]], "float32")
    swap = Linear(cyclic(2))
    for x in (ids, wild):
        tensor = ops.convert_to_tensor(x)
        for index in (1, ops.convert_to_tensor([1, 1])):
            moved = numbers(swap.apply(index, tensor))
            np.testing.assert_array_equal(moved, x[:, ::-1])


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int32"])
def test_signs_do_not_wrap(dtype):
    x = np.array([[1, 0], [1, 1]], dtype)
    minus, wanted = Linear(sign(2)), -x.astype("float64")
    np.testing.assert_array_equal(minus.apply(1, x), wanted)
    tensor = ops.convert_to_tensor(x)
    for index in (1, ops.convert_to_tensor([1, 1])):
        np.testing.assert_array_equal(numbers(minus.apply(index, tensor)), wanted)


def test_symbols_have_a_shape():
    x = keras.KerasTensor((None, 4, 4, 1))
    assert Images(dihedral(4)).orbit(x).shape == (8, None, 4, 4, 1)
    assert Linear(cyclic(4), axis=1).apply(2, x).shape == (None, 4, 4, 1)


@one_backend
@pytest.mark.parametrize("group", [cyclic(2), cyclic(3), symmetric(3), sign(2)])
def test_projector_and_basis(group):
    action = conjugation(group)
    p, basis = projector(action), fixed_basis(action)
    np.testing.assert_allclose(p @ p, p, atol=1e-14)
    np.testing.assert_allclose(p, p.T, atol=1e-14)
    traces = [np.trace(each) for each in action.matrices]
    assert basis.shape[1] == round(np.mean(traces))
    np.testing.assert_allclose(basis @ basis.T, p, atol=1e-14)
    for matrix in action.matrices:
        np.testing.assert_allclose(matrix @ basis, basis, atol=1e-14)
    z = RNG.normal(size=len(p))
    squares = [np.sum(each**2) for each in (z, p @ z, z - p @ z)]
    assert squares[0] == pytest.approx(squares[1] + squares[2])  # Pythagoras


@one_backend
@pytest.mark.parametrize("output", [None, "trivial", "vectors", "matrices", "action"])
def test_conjugated_parameters_make_the_unit_equivariant(output):
    group = symmetric(3)
    hats = {
        "trivial": np.ones((6, 1, 1)),
        "matrices": np.linalg.det(group.elements)[:, None, None],
        "action": group.elements,
    }.get(output, group.elements)
    given = {"matrices": hats, "action": Linear(group)}.get(output, output)
    action = conjugation(group, given)
    z, x = RNG.normal(size=(hats.shape[1], 3)), RNG.normal(size=3)
    for index, (rho, hat) in enumerate(zip(group.elements, hats, strict=True)):
        moved = action.apply(index, z.reshape(1, -1)).reshape(z.shape)
        # tanh is odd, so that it commutes with permutations and signs.
        left, right = np.tanh(moved @ rho @ x), hat @ np.tanh(z @ x)
        np.testing.assert_allclose(left, right, rtol=1e-12)


@pytest.mark.parametrize("action", [each for each, _ in ACTIONS.values()], ids=ACTIONS)
def test_saving(action):
    config = keras.saving.serialize_keras_object(action)
    again = keras.saving.deserialize_keras_object(config)
    x = dict(zip([id(a) for a, _ in ACTIONS.values()], ACTIONS.values(), strict=True))
    x = x[id(action)][1]
    np.testing.assert_array_equal(again.orbit(x), action.orbit(x))


@one_backend
def test_what_inputs_and_outputs_mean():
    group = cyclic(2)
    assert isinstance(action_of("inputs", "trivial", group), Trivial)
    assert action_of("inputs", "rows", group).axis == 1
    assert action_of("inputs", "vectors", group).axis == -1
    assert isinstance(action_of("inputs", "images", mirror()), Images)
    assert action_of("inputs", [[[1]], [[-1]]], group).dimension == 1
    own = Linear(group, axis=2)
    assert action_of("inputs", own, group) is own


@one_backend
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Linear("C4"), TypeError, "FiniteGroup"),
        (lambda: Linear(cyclic(2), axis=0), ValueError, "batch"),
        (lambda: Linear(cyclic(2), [[[1]]]), ValueError, "one for each of the 2"),
        (lambda: Linear(cyclic(3), [[[1]], [[-1]], [[1]]]), ValueError, "table"),
        (lambda: Linear(cyclic(2), [[[-1]], [[1]]]), ValueError, "multiply"),
        (lambda: Linear(cyclic(2), [[[1]], [[2]]]), ValueError, "orthogonal"),
        (lambda: Linear(cyclic(2)).apply(0, PIXELS[..., :1]), ValueError, "acts on 2"),
        (lambda: Linear(cyclic(2)).apply(0, np.ones(2)), ValueError, "batch"),
        (lambda: Linear(cyclic(2), axis=-2).apply(1, np.eye(2)), ValueError, "batch"),
        (lambda: Images(rotations(3)), ValueError, "quarter turns"),
        (lambda: Images(cyclic(3)), ValueError, "2×2"),
        (lambda: Images(mirror()).apply(0, np.ones((2, 9))), ValueError, "height"),
        (lambda: Images(rotations(4)).apply(1, PIXELS[:, 1:]), ValueError, "square"),
        (lambda: projector(Trivial(cyclic(2))), TypeError, "Linear"),
        (lambda: conjugation(mirror(), Images(mirror())), ValueError, "Linear"),
        (lambda: action_of("inputs", "rotate", cyclic(2)), ValueError, "'rows'"),
        (lambda: action_of("inputs", None, cyclic(2)), ValueError, "'rows'"),
        (lambda: action_of("inputs", Linear(sign(2)), cyclic(2)), ValueError, "one gr"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@one_backend
def test_two_groups_of_one_order_are_not_taken_for_one_another():
    four = FiniteGroup(rotations(2).elements)
    assert action_of("inputs", Images(four), rotations(2)).group == four
