"""`initial_multiplier="auto"`: what the first training step chooses."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import ON_ONE

import keras_lap
from keras_lap.energies import DisplacementEnergy

SAMPLES, FEATURES = 24, 6
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(gain: float, blocks: int = 3) -> keras.Model:
    """``x + gain·x`` per block to begin with: what a block moves is known."""
    start = keras.initializers.Identity(gain)
    x = inputs = keras.Input((FEATURES,))
    for _ in range(blocks):
        x = x + keras.layers.Dense(FEATURES, kernel_initializer=start)(x)
    head = keras.layers.Dense(3, kernel_initializer=keras.initializers.Ones())
    return keras.Model(inputs, head(x))


def data() -> tuple[np.ndarray, np.ndarray]:
    signs = np.random.default_rng(3).choice([-1.0, 1.0], (SAMPLES, FEATURES))
    return signs.astype("float32"), np.arange(SAMPLES) % 3


def trained(
    model: keras.Model, callbacks=(), epochs: int = 1
) -> keras.callbacks.History:
    model.compile(keras.optimizers.SGD(1e-5), CROSSENTROPY)
    options = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": 0}
    return model.fit(*data(), callbacks=list(callbacks), **options)


def automatic(gain: float, **options) -> keras_lap.LeastActionModel:
    return keras_lap.LeastActionModel(
        network(gain), initial_multiplier="auto", **options
    )


def mean_square(gain: float) -> float:
    """Mean of v² over the three blocks for states that begin at ±1."""
    return float(np.mean([(gain * (1 + gain) ** k) ** 2 for k in range(3)]))


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.5, 1e30), (1.05, 1e30), (1.6, 0.5), (2.0, 0.5)]
)
def test_a_start_that_moves_far_gets_the_energy_and_another_none(gain, expected):
    assert (mean_square(gain) > 10) == (expected == 0.5)  # the case is what it says
    model = automatic(gain)
    assert float(model.multiplier) == 0.0
    logs = trained(model).history
    np.testing.assert_allclose(float(model.multiplier), expected, rtol=1e-6)
    assert np.isfinite(logs["loss"][0])
    off = expected == 1e30
    assert logs["multiplier"] == [np.inf if off else pytest.approx(expected)]
    assert model.ascent.initial == (np.inf if off else pytest.approx(expected))
    assert model.ascent.decision.startswith("energy off" if off else "λ_0 = 0.5: ")
    assert f"{mean_square(gain):.3g}" in model.ascent.decision


@pytest.mark.parametrize("gain", [pytest.param(0.5, marks=ON_ONE), 2.0])
@pytest.mark.parametrize(
    ("energy", "unit"),
    [
        (DisplacementEnergy(reduction="sum"), FEATURES),
        (DisplacementEnergy(3.0, norm="euclidean", reduction="sum"), FEATURES**1.5),
        (DisplacementEnergy(1.5), 1.0),
    ],
    ids=["sum", "euclidean", "p = 1.5"],
)
def test_the_choice_has_the_scale_of_the_energy(gain, energy, unit):
    model = automatic(gain, energy=energy)
    trained(model)
    expected = 1e30 if gain < 1 else 0.5 * unit
    np.testing.assert_allclose(float(model.multiplier), expected, rtol=1e-5)


def test_a_chosen_multiplier_is_raised_from_the_first_step_on():
    model, fixed = automatic(2.0), keras_lap.LeastActionModel(network(2.0), 2.0, 0.5)
    update = keras_lap.callbacks.MultiplierUpdate(tau=0.1)
    for each in (model, fixed):
        trained(each, [update], epochs=2)
    # The same numbers in another program: XLA may fuse and so round differently.
    np.testing.assert_allclose(
        float(model.multiplier), float(fixed.multiplier), rtol=1e-5
    )
    assert float(model.multiplier) > 0.5
    for ours, theirs in zip(model.network.weights, fixed.network.weights, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(ours),
            keras.ops.convert_to_numpy(theirs),
            rtol=1e-4,
            atol=1e-5,
        )


def test_a_frugal_start_trains_like_the_bare_network():
    model, bare = automatic(0.5), network(0.5)
    for each in (model, bare):
        trained(each, epochs=3)
    for ours, theirs in zip(model.network.weights, bare.weights, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(ours),
            keras.ops.convert_to_numpy(theirs),
            rtol=1e-6,
            atol=1e-7,
        )


@pytest.mark.parametrize("trains_first", [False, True])
def test_a_file_keeps_what_was_chosen_and_that_nothing_was(tmp_path, trains_first):
    model = automatic(2.0)
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    if trains_first:
        trained(model, [keras_lap.callbacks.MultiplierUpdate(tau=0.1)])
    before = float(model.multiplier)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config()["initial_multiplier"] == "auto"
    assert float(loaded.multiplier) == before
    trained(loaded)
    after = before if trains_first else 0.5
    np.testing.assert_allclose(float(loaded.multiplier), after, rtol=1e-6)


def test_the_bound_holds_for_what_is_chosen():
    model = automatic(0.5, max_multiplier=7.0)
    trained(model)
    assert float(model.multiplier) == 7.0


def test_blocks_that_move_nothing_switch_the_energy_off():
    model = automatic(0.0)
    logs = trained(model).history
    assert float(model.multiplier) == pytest.approx(1e30)
    assert np.isfinite(logs["loss"]).all()


@pytest.mark.parametrize(
    "gain",
    [pytest.param(0.5, marks=ON_ONE), 1.02, 1.07, pytest.param(2.0, marks=ON_ONE)],
)
@pytest.mark.parametrize(
    "energy",
    [
        DisplacementEnergy(1.2),
        DisplacementEnergy(3.0),
        DisplacementEnergy(6.0, norm="euclidean", reduction="sum"),
        DisplacementEnergy(2.0, time_step=0.1),
    ],
    ids=["1.2", "3", "6, euclidean", "time step"],
)
def test_every_energy_is_switched_on_by_the_same_movement(gain, energy):
    model = automatic(gain, energy=energy)
    trained(model)
    assert (model.ascent.initial < np.inf) == (mean_square(gain) > 10)


def test_a_batch_that_is_not_finite_chooses_for_nobody():
    model = automatic(2.0)
    model.compile(keras.optimizers.SGD(1e-5), CROSSENTROPY)
    x, y = data()
    spoilt, start = np.where(x > 0, np.nan, x), model.get_weights()
    model.train_on_batch(spoilt, y)
    assert float(model.multiplier) == 0.0
    assert model.ascent.initial is None
    model.set_weights(start)
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(float(model.multiplier), 0.5, rtol=1e-6)
    assert np.isfinite(float(logs["multiplier"]))


def test_weights_from_before_the_choice_bring_it_back():
    model = automatic(2.0)
    model.compile(keras.optimizers.SGD(1e-5), CROSSENTROPY)
    start = model.get_weights()
    for _ in range(2):
        model.train_on_batch(*data())
        np.testing.assert_allclose(float(model.multiplier), 0.5, rtol=1e-6)
        model.set_weights(start)
    assert float(model.multiplier) == 0.0


def test_other_words_are_refused():
    with pytest.raises(ValueError, match=r"finite number > 0.*Or pass .auto."):
        keras_lap.LeastActionModel(network(0.5), initial_multiplier="best")
