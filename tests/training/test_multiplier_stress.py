"""λ where the loss, the precision or λ itself is at its limits."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from support.basics import as_numpy, build_dense_network, crossentropy

import keras_lap
from keras_lap.callbacks import MultiplierUpdate
from keras_lap.training import energy_term

BATCH, RATE = 8, 0.05
FIT = {"batch_size": BATCH, "shuffle": False, "verbose": 0}


def compiled(model):
    # The loss scaler leaves out steps whose gradients are not finite.
    sgd = keras.optimizers.SGD(RATE)
    model.compile(keras.optimizers.LossScaleOptimizer(sgd), crossentropy())
    return model


def wrapped(network=None, **options):
    network = build_dense_network() if network is None else network
    return compiled(keras_lap.LeastActionModel(network, **options))


def ascend(losses, start, tau=1.0, limit=None):
    """λ after each of some losses, and how many updates were left out."""
    ascent = keras_lap.MultiplierAscent(start, limit)
    ascent.start(tau, 1, averaged=False)
    values = [float(ascent.step(keras.ops.convert_to_tensor(x))) for x in losses]
    return values, int(ascent.skipped)


@pytest.mark.way("a batch whose loss is not finite")
def test_a_spoilt_batch_changes_nothing_but_the_update(digits):
    """As plain Keras trains on; λ rises by the three other batches of an epoch.

    λ is so large that C/λ is lost in rounding: the reference is plain training.
    """
    x, y = digits[0].copy(), digits[1]
    x[2 * BATCH] = np.nan
    network = build_dense_network()
    plain = compiled(keras.models.clone_model(network))
    plain.set_weights(network.get_weights())
    losses, expected = [], 1e9
    for _ in range(2):
        for i in range(0, len(x), BATCH):
            batch = x[i : i + BATCH], y[i : i + BATCH]
            losses.append(float(plain.train_on_batch(*batch)))
    model = wrapped(network, initial_multiplier=1e9)
    with pytest.warns(UserWarning, match="update was skipped") as caught:
        history = model.fit(
            x, y, epochs=2, **FIT, callbacks=[MultiplierUpdate(tau=1e9)]
        ).history
    assert len([w for w in caught if "skipped" in str(w.message)]) == 1
    assert np.isnan(history["loss"]).all()  # Keras's mean over the epoch
    assert np.isnan(losses).sum() == 2
    expected += 1e9 * np.nansum(losses)
    assert history["multiplier"][-1] == pytest.approx(expected, rel=1e-5)
    for ours, theirs in zip(network.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["batch", "mean"])
def test_without_a_step_size_the_multiplier_is_constant(digits, loss):
    model = wrapped(initial_multiplier=0.1)
    update = MultiplierUpdate(tau=0.0, every=3, loss=loss)
    history = model.fit(*digits, epochs=3, **FIT, callbacks=[update]).history
    assert history["multiplier"] == [float(np.float32(0.1))] * 3


@pytest.mark.way("`max_multiplier`")
def test_the_ascent_stops_at_the_bound(digits):
    model = wrapped(initial_multiplier=2.0, max_multiplier=9.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = model.fit(
            *digits, epochs=3, **FIT, callbacks=[MultiplierUpdate(tau=1.0)]
        ).history
    values = history["multiplier"]
    assert values[0] == 9.5 == values[-1]
    assert max(values) == 9.5
    assert keras_lap.LeastActionModel.from_config(
        model.get_config()
    ).ascent.max_multiplier == pytest.approx(9.5)


@pytest.mark.parametrize(
    ("losses", "expected", "skipped"),
    [
        ([1.0, 1.0, 1.0], [3.0, 3.5, 3.5], 0),
        ([1.0, float("inf"), 1.0], [3.0, 3.0, 3.5], 1),  # no way to the bound
        ([9.0, -1.0, 9.0], [3.5, 2.5, 3.5], 0),  # it may fall again
    ],
)
def test_what_the_bound_does_to_an_update(losses, expected, skipped):
    assert ascend(losses, start=2.0, limit=3.5) == (expected, skipped)


def test_an_update_beyond_float32_is_left_out():
    start = float(np.float32(1e29))
    assert ascend([1e10, 0.0], start=start, tau=1e30) == ([start, start], 1)


@pytest.mark.parametrize("multiplier", [1e-30, 1e30])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_objective_is_finite_far_above_and_below(digits, multiplier, policy):
    """In the first step; that from 1e-30 then throws the weights far out."""
    keras.config.set_dtype_policy(policy)
    try:
        model = wrapped(initial_multiplier=multiplier)
        logs = model.train_on_batch(*digits, return_dict=True)
    finally:
        keras.config.set_dtype_policy("float32")
    parts = float(logs["task_loss"]) + float(logs["transport_cost"]) / multiplier
    assert np.isfinite(parts)
    assert float(logs["loss"]) == pytest.approx(parts, rel=1e-5)
    assert model.multiplier.dtype == "float32"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("multiplier", [1e-9, 1e6])
def test_an_energy_in_half_precision_is_divided_in_full(dtype, multiplier):
    """In float16 the one λ would be zero and the other infinite."""
    cost = keras.ops.cast(2.0, dtype)
    term = energy_term(cost, keras.ops.convert_to_tensor(multiplier, "float32"))
    assert float(term) == pytest.approx(2.0 / multiplier, rel=1e-6)


@pytest.mark.way('`keras.config.set_floatx("float64")`')
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_the_multiplier_is_float32_where_all_else_is_float64(digits, record_property):
    if keras.backend.backend() == "jax":
        record_property(
            "limit", "JAX computes in float32 unless `jax_enable_x64` is on"
        )
    expected = wrapped(initial_multiplier=2.0)
    weights = expected.network.get_weights()
    update = MultiplierUpdate(tau=0.5, every=3, loss="mean")
    values = expected.fit(*digits, epochs=2, **FIT, callbacks=[update]).history
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        model = wrapped(initial_multiplier=2.0)
        model.network.set_weights(weights)
        history = model.fit(
            digits[0].astype("float64"), digits[1], epochs=2, **FIT, callbacks=[update]
        ).history
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    assert model.network.weights[0].dtype == "float64"
    assert as_numpy(model.multiplier.value).dtype == "float32"
    assert model.multiplier.dtype == "float32"
    np.testing.assert_allclose(history["multiplier"], values["multiplier"], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"initial_multiplier": 1e31},
            r"between 1e-30 and 1e\+30\. Received: .*=1e\+31",
        ),
        ({"initial_multiplier": 1e-31}, r"initial_multiplier must lie between 1e-30"),
        ({"initial_multiplier": 1e300}, "C/λ has to stay finite"),
        ({"initial_multiplier": float("nan")}, "must be a finite number > 0"),
        ({"max_multiplier": float("inf")}, "must be a finite number.*Use None to let"),
        (
            {"max_multiplier": 0.5},
            r"between 1 and 1e\+30.*starts at initial_mult.*=1.0",
        ),
        ({"max_multiplier": True}, "max_multiplier=True"),
        ({"max_multiplier": 1e31}, r"max_multiplier must lie between"),
    ],
)
def test_ranges_are_checked_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_lap.LeastActionModel(build_dense_network(), **arguments)


def test_a_step_size_beyond_float32():
    with pytest.raises(ValueError, match=r"tau must lie between 0 and 1e\+30"):
        MultiplierUpdate(tau=1e31)
