"""Energies against NumPy, and the properties that hold for every input."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.basics import as_numpy, gradient

from keras_lap import energies
from keras_lap.energies import DisplacementEnergy

every_norm = pytest.mark.parametrize("norm", ["elementwise", "euclidean"])
every_reduction = pytest.mark.parametrize("reduction", ["mean", "sum"])
every_p = pytest.mark.parametrize("p", [1.1, 1.5, 2, 3])

# Far from the limits of float32 at the powers used here.
floats = st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
arrays = hnp.arrays(
    "float32", hnp.array_shapes(min_dims=2, max_dims=4), elements=floats
)
exponents = st.sampled_from([1.25, 1.5, 2.0, 3.0])
norms = st.sampled_from(["elementwise", "euclidean"])
reductions = st.sampled_from(["mean", "sum"])


def numpy_energy(v, p, norm, reduction, time_step=1.0):
    """The definition, sample by sample, in double precision."""
    total = 0.0
    for sample in np.asarray(v, "float64").reshape(len(v), -1) / time_step:
        if norm == "elementwise":
            total += sum(abs(x) ** p for x in sample)
        else:
            total += np.linalg.norm(sample) ** p
    return total / (v.size if reduction == "mean" else len(v))


@every_norm
@every_reduction
@every_p
def test_values_follow_the_definition(p, norm, reduction):
    v = np.random.default_rng(0).normal(size=(5, 3, 2, 4)).astype("float32")
    energy = DisplacementEnergy(p, norm, reduction, time_step=0.5)
    expected = numpy_energy(v, p, norm, reduction, time_step=0.5)
    assert float(energy(v)) == pytest.approx(expected, rel=1e-5)


@every_norm
@every_reduction
@every_p
def test_gradient_is_zero_where_nothing_moves(p, norm, reduction):
    v = np.zeros((3, 4), "float32")
    v[1] = [1.0, -2.0, 0.0, 3.0]
    g = gradient(DisplacementEnergy(p, norm, reduction), v)
    assert np.isfinite(g).all()
    assert (g[[0, 2]] == 0).all()
    assert g[1, 2] == 0
    assert (np.sign(g[1]) == np.sign(v[1])).all()


@every_norm
@pytest.mark.parametrize("p", [1.5, 2, 3])
def test_gradient_against_finite_differences(p, norm):
    v = np.random.default_rng(1).normal(size=(2, 3)).astype("float32")
    expected, step = np.zeros_like(v), 1e-6
    for index in np.ndindex(v.shape):
        ends = []
        for sign in (1, -1):
            moved = v.astype("float64")
            moved[index] += sign * step
            ends.append(numpy_energy(moved, p, norm, "sum"))
        expected[index] = (ends[0] - ends[1]) / (2 * step)
    g = gradient(DisplacementEnergy(p, norm, "sum"), v)
    np.testing.assert_allclose(g, expected, rtol=1e-4, atol=1e-6)


def second_gradient(function, x):
    """The gradient of the sum of the entries of a gradient."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: jax.grad(function)(x).sum())(x))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = function(x)
            total = tf.reduce_sum(inner.gradient(y, x))
        return outer.gradient(total, x).numpy()
    import torch

    x = torch.tensor(x, requires_grad=True)
    (first,) = torch.autograd.grad(function(x), x, create_graph=True)
    first.sum().backward()
    return x.grad.numpy()


@pytest.mark.parametrize("p", [1.5, 2, 3])
def test_second_gradient_as_penalties_of_gradients_take_it(p):
    x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    energy = DisplacementEnergy(p, reduction="sum")
    # Of Σ|x|^p / 4, entry by entry.
    expected = p * (p - 1) * np.abs(x) ** (p - 2) / 4
    np.testing.assert_allclose(second_gradient(energy, x), expected, rtol=1e-4)


@every_norm
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "shapes",
    [
        [(3, 4)] * 5,
        [(3, 2, 2)] * 2,
        [(3, 4), (3, 5)],
        [(2, 4), (3, 4)],
        [(2, 5000)] * 2,
    ],
)
def test_several_blocks_as_one_by_one(shapes, reduction, norm):
    """Also where they are small and alike, and taken together."""
    rng = np.random.default_rng(2)
    moves = [rng.normal(size=shape).astype("float32") for shape in shapes]
    energy = DisplacementEnergy(3, norm, reduction, time_step=0.5)
    expected = [numpy_energy(v, 3, norm, reduction, time_step=0.5) for v in moves]
    together = energy.of_blocks([keras.ops.convert_to_tensor(v) for v in moves])
    np.testing.assert_allclose(as_numpy(together), expected, rtol=1e-4)


@every_norm
@pytest.mark.parametrize("shape", [(3, 4), (3, 5000)], ids=["small", "large"])
@pytest.mark.parametrize("p", [2, 3])
def test_gradients_of_several_blocks_as_one_by_one(shape, p, norm):
    moves = np.random.default_rng(3).normal(size=(4, *shape)).astype("float32")
    factors = keras.ops.arange(1.0, 5.0, dtype="float32")
    energy = DisplacementEnergy(p, norm)

    def together(x):
        return keras.ops.sum(factors * energy.of_blocks([x[i] for i in range(4)]))

    def one_by_one(x):
        return sum(factors[i] * energy(x[i]) for i in range(4))

    found, expected = gradient(together, moves), gradient(one_by_one, moves)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)  # float32


@pytest.mark.parametrize("what", ["__call__", "weighted"])
def test_a_subclass_that_prices_a_displacement_in_its_own_way(what):
    """Also where small displacements are taken together."""
    own = {what: lambda self, displacement, weights=None: keras.ops.sum(displacement)}
    energy = type("Own", (DisplacementEnergy,), own)()
    ones = keras.ops.ones((3, 4))
    weights = None if what == "__call__" else [keras.ops.ones((3,))] * 2
    assert as_numpy(energy.of_blocks([ones, ones], weights)).tolist() == [12.0, 12.0]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its own shapes")
@every_norm
def test_batches_of_any_size_in_one_graph(norm):
    import tensorflow as tf

    energy = DisplacementEnergy(3, norm, time_step=0.5)
    signature = [tf.TensorSpec((None, 4)), tf.TensorSpec((None, 2, 3))]
    costs = tf.function(lambda *v: energy.of_blocks(v), input_signature=signature)
    rng = np.random.default_rng(4)
    for sizes in [(2, 2), (5, 10)]:
        moves = [
            rng.normal(size=(size, *shape)).astype("float32")
            for size, shape in zip(sizes, [(4,), (2, 3)], strict=True)
        ]
        expected = [numpy_energy(v, 3, norm, "mean", time_step=0.5) for v in moves]
        np.testing.assert_allclose(costs(*moves), expected, rtol=1e-4)


def test_double_precision_is_kept():
    v = keras.ops.convert_to_tensor(np.array([[1.0, 1e-6]]), dtype="float64")
    double = keras.backend.backend() != "jax"  # which computes in float32 unless told
    assert keras.backend.standardize_dtype(v.dtype) == (
        "float64" if double else "float32"
    )
    energy = DisplacementEnergy(2, reduction="sum")(v)
    assert energy.dtype == v.dtype
    if double:
        np.testing.assert_allclose(as_numpy(energy), 1 + 1e-12, rtol=1e-15)


@settings(max_examples=60)
@given(v=arrays, p=exponents, norm=norms, reduction=reductions)
def test_zero_only_at_zero_and_never_negative(v, p, norm, reduction):
    value = float(DisplacementEnergy(p, norm, reduction)(v))
    assert (value == 0) == (not v.any())
    assert value >= 0


@settings(max_examples=60)
@given(
    v=arrays,
    p=exponents,
    norm=norms,
    reduction=reductions,
    scale=st.sampled_from([0.25, 0.5, 2.0, 8.0]),
)
def test_homogeneous_of_degree_p(v, p, norm, reduction, scale):
    energy = DisplacementEnergy(p, norm, reduction)
    scaled = float(energy(np.float32(scale) * v))
    assert scaled == pytest.approx(scale**p * float(energy(v)), rel=1e-4)


@settings(max_examples=60)
@given(v=arrays, p=exponents, norm=norms, reduction=reductions)
def test_half_the_time_step_is_twice_the_velocity(v, p, norm, reduction):
    slow = float(DisplacementEnergy(p, norm, reduction, time_step=2.0)(v))
    fast = float(DisplacementEnergy(p, norm, reduction, time_step=1.0)(v))
    assert fast == pytest.approx(2**p * slow, rel=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    v = keras.ops.full((4, 1000), 300.0, dtype=dtype)  # 300² overflows float16
    value = DisplacementEnergy()(v)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    rounded = keras.ops.cast(v[0, 0], "float32")
    assert float(value) == pytest.approx(float(as_numpy(rounded)) ** 2)


def test_a_batch_of_scalars_is_fine():
    assert float(DisplacementEnergy()(np.array([3.0, 4.0], "float32"))) == 12.5


def test_numbers_stand_for_energies_and_energies_for_themselves():
    assert energies.get(3).get_config() == DisplacementEnergy(3.0).get_config()
    energy = DisplacementEnergy(1.5)
    assert energies.get(energy) is energy
    assert energies.get(np.float32(1.5)).p == 1.5


def test_energies_survive_serialization():
    energy = DisplacementEnergy(1.5, "euclidean", "sum", 0.25)
    config = keras.saving.serialize_keras_object(energy)
    again = keras.saving.deserialize_keras_object(config)
    assert repr(again) == repr(energy)
    assert "p=1.5, norm='euclidean'" in repr(again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 1}, r"p must be a finite number > 1. Received: p=1\. Use p=2"),
        ({"p": float("nan")}, "Received: p=nan"),
        ({"p": "2"}, "Received: p='2'"),
        ({"p": True}, "Received: p=True"),
        ({"norm": "l2"}, "'elementwise', 'euclidean'.*norm='l2'"),
        ({"reduction": None}, "'mean', 'sum'.*reduction=None"),
        ({"time_step": 0}, "time_step must be a finite number > 0"),
    ],
)
def test_bad_arguments_say_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        DisplacementEnergy(**arguments)


@pytest.mark.parametrize("energy", ["kinetic", None, True])
def test_what_is_no_energy_is_refused(energy):
    with pytest.raises(TypeError, match="exponent p > 1 or a keras_lap"):
        energies.get(energy)
