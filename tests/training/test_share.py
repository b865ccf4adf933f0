"""`initial_multiplier=Share(...)`: λ_0 as a part of the first objective."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy

import keras_lap
from keras_lap import LeastActionModel, Share
from keras_lap.callbacks import MultiplierUpdate
from keras_lap.energies import DisplacementEnergy

SAMPLES, FEATURES, BATCH = 24, 5, 8


def data():
    generator = np.random.default_rng(5)
    x = generator.normal(size=(SAMPLES, FEATURES)).astype("float32")
    return x, (x @ generator.normal(size=(FEATURES, FEATURES))).astype("float32")


def network(scale=0.5, decay=None, width=FEATURES, blocks=2):
    generator = np.random.default_rng(6)
    x = inputs = keras.Input((FEATURES,))
    for _ in range(blocks):
        inner = keras.layers.Dense(width, activation="tanh", kernel_regularizer=decay)
        x = x + keras.layers.Dense(FEATURES)(inner(x))
    model = keras.Model(inputs, x)
    for variable in model.trainable_variables:
        variable.assign(scale * generator.normal(size=variable.shape))
    return model


def compiled(model, rate=0.01):
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def first_logs(model, callbacks=(), x=None, **options):
    x, y = data() if x is None else (x, data()[1])
    return (
        compiled(model)
        .fit(
            *(x[:BATCH], y[:BATCH]),
            batch_size=BATCH,
            verbose=0,
            callbacks=list(callbacks),
            **options,
        )
        .history
    )


class Size(keras_lap.running_costs.RunningCost):
    """A running cost that needs nothing but the states."""

    wanted = ("states",)

    def __call__(self, path):
        return sum(keras.ops.mean(after**2) for _, after in path.states)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: network(), {}),
        (lambda: network(scale=0.1, blocks=5), {}),
        (lambda: network(width=64), {"energy": 1.5}),
        (
            lambda: network(),
            {"energy": DisplacementEnergy(3.0, "euclidean", "sum")},
        ),
        (lambda: network(decay="l2"), {"running_costs": [Size(0.2)]}),
    ],
    ids=["plain", "small and deep", "wide", "another energy", "other losses"],
)
def test_the_energy_is_that_part_of_the_first_objective(make, options):
    """Of the logs, in which ``loss`` is the objective and C the cost."""
    model = LeastActionModel(make(), initial_multiplier=Share(0.3), **options)
    assert float(model.multiplier) == 0.0
    logs = {name: values[0] for name, values in first_logs(model).items()}
    part = logs["transport_cost"] / logs["multiplier"] / logs["loss"]
    np.testing.assert_allclose(part, 0.3, rtol=1e-5)
    assert logs["loss"] > logs["task_loss"]
    assert model.ascent.initial == pytest.approx(logs["multiplier"], rel=1e-6)
    assert f"C = {logs['transport_cost']:.3g}" in model.ascent.decision
    assert f"{logs['loss'] * 0.7:.3g} for the rest" in model.ascent.decision


@pytest.mark.parametrize("before", [False, True])
def test_training_is_that_from_the_number_that_was_chosen(before):
    given = LeastActionModel(network(), initial_multiplier=Share(0.3))
    first_logs(given)
    fixed = LeastActionModel(network(), initial_multiplier=given.ascent.initial)
    share = LeastActionModel(network(), initial_multiplier=Share(0.3))
    seen = []
    for model in (share, fixed):
        update = MultiplierUpdate(tau=0.1, every=2, before_step=before)
        history = compiled(model).fit(
            *data(), epochs=3, batch_size=BATCH, shuffle=False, verbose=0,
            callbacks=[update],
        )  # fmt: skip
        weights = [as_numpy(each).ravel() for each in model.network.weights]
        seen.append([*history.history["multiplier"], *np.concatenate(weights)])
    assert seen[0][2] > given.ascent.initial
    # Nine steps in float32, of two programs.
    np.testing.assert_allclose(*seen, rtol=1e-5, atol=1e-6)


def test_several_passes_in_a_step_have_the_share_together():
    class Twice(LeastActionModel):
        def compute_loss(self, x=None, *others, **options):
            self(2.0 * x, training=True)
            return super().compute_loss(x, *others, **options)

    model = Twice(network(), initial_multiplier=Share(0.4))
    logs = {name: values[0] for name, values in first_logs(model).items()}
    part = logs["transport_cost"] / logs["multiplier"] / logs["loss"]
    np.testing.assert_allclose(part, 0.4, rtol=1e-5)


def test_weights_of_samples_count():
    model = LeastActionModel(network(), initial_multiplier=Share(0.3))
    weights = np.linspace(0.0, 2.0, BATCH)
    logs = first_logs(model, sample_weight=weights)
    logs = {name: values[0] for name, values in logs.items()}
    part = logs["transport_cost"] / logs["multiplier"] / logs["loss"]
    np.testing.assert_allclose(part, 0.3, rtol=1e-5)


def test_branches_that_start_at_zero_count_as_moving_by_a_hundredth():
    model = LeastActionModel(network(scale=0.0), initial_multiplier=Share(0.3))
    logs = first_logs(model)
    x, y = (each[:BATCH] for each in data())
    least = 2 * 0.01**2  # of two blocks, by the mean of squares
    expected = least * 0.7 / 0.3 / np.mean((x - y) ** 2)
    assert logs["transport_cost"] == [0.0]
    np.testing.assert_allclose(logs["multiplier"][0], expected, rtol=1e-5)
    assert "C = 0, counted as 0.0002" in model.ascent.decision


def test_a_batch_that_is_not_finite_chooses_for_nobody():
    model = compiled(LeastActionModel(network(), initial_multiplier=Share(0.3)))
    x, y = data()
    start = model.get_weights()
    logs = model.train_on_batch(np.where(x > 1, np.nan, x), y, return_dict=True)
    assert float(model.multiplier) == 0.0
    assert float(logs["multiplier"]) == np.inf  # as no λ weighs the energy yet
    assert model.ascent.initial is None
    model.set_weights(start)
    model.train_on_batch(x, y)
    assert 0 < float(model.multiplier) < 1e30


def test_half_precision_and_a_scaled_loss_choose_the_same():
    seen = []
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            model = LeastActionModel(network(), initial_multiplier=Share(0.3))
            model.compile("sgd", "mse")
            model.fit(*data(), batch_size=SAMPLES, verbose=0)
        finally:
            keras.config.set_dtype_policy("float32")
        seen.append(model.ascent.initial)
    scaled = hasattr(model.optimizer, "inner_optimizer")
    assert scaled or keras.backend.backend() == "torch"
    # Half precision has three digits.
    np.testing.assert_allclose(*seen, rtol=1e-2)


@pytest.mark.parametrize("trains_first", [False, True])
def test_a_file_keeps_what_was_chosen_and_that_nothing_was(tmp_path, trains_first):
    model = compiled(LeastActionModel(network(), initial_multiplier=Share(0.3)))
    if trains_first:
        first_logs(model, [MultiplierUpdate(tau=0.1)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.ascent.initial_multiplier == Share(0.3)
    assert loaded.ascent.decision == model.ascent.decision
    assert float(loaded.multiplier) == float(model.multiplier)
    first_logs(model), first_logs(loaded)
    # The two are compiled apart, and may add up in another order.
    assert model.ascent.initial > 0
    assert loaded.ascent.initial == pytest.approx(model.ascent.initial, rel=1e-6)


def test_a_bound_holds_for_what_is_chosen():
    share = LeastActionModel(
        network(), initial_multiplier=Share(0.001), max_multiplier=0.5
    )
    first_logs(share)
    assert share.ascent.initial == 0.5


def test_in_a_loop_of_ones_own_the_first_raise_chooses():
    """The first pass adds nothing; a second one has the share of what was seen."""
    x, y = data()
    bare = network()
    model = LeastActionModel(network(), initial_multiplier=Share(0.3))
    outputs = model(x, training=True)
    assert [float(as_numpy(each)) for each in model.losses] == [0.0]
    task_loss = keras.ops.mean((outputs - keras.ops.convert_to_tensor(y)) ** 2)
    first = float(model.raise_multiplier(task_loss, tau=1.0))
    model(x, training=True)
    energy, task = float(as_numpy(model.losses[0])), float(as_numpy(task_loss))
    np.testing.assert_allclose(energy / (energy + task), 0.3, rtol=1e-5)
    assert first == pytest.approx(model.ascent.initial)
    second = float(model.raise_multiplier(task_loss, tau=1.0))
    np.testing.assert_allclose(second, first + task, rtol=1e-6)
    np.testing.assert_array_equal(as_numpy(outputs), as_numpy(bare(x)))


def test_within_another_model():
    class Outer(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.built = inner, True

        def call(self, x, training=None):
            return self.inner(x, training=training)

        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            if training:
                self.inner.raise_multiplier(keras.ops.mean((y_pred - y) ** 2))
            return super().compute_loss(x, y, y_pred, sample_weight, training)

    inner = LeastActionModel(network(), initial_multiplier=Share(0.3))
    outer = Outer(inner)
    outer.compile(keras.optimizers.SGD(0.0), "mse")
    options = {"batch_size": SAMPLES, "verbose": 0}
    plain = outer.fit(*data(), **options).history["loss"][0]
    with_energy = outer.fit(*data(), **options).history["loss"][0]
    chosen = float(inner.ascent.initial)
    np.testing.assert_allclose(with_energy, plain / 0.7, rtol=1e-5)
    np.testing.assert_allclose(float(inner.multiplier), chosen + plain, rtol=1e-5)


def test_a_share_of_no_energy_is_refused():
    with pytest.raises(ValueError, match=r"Received: energy=None and .*Share\(0\.3\)"):
        LeastActionModel(
            network(), None, initial_multiplier=Share(0.3), running_costs=[Size(0.1)]
        )


@pytest.mark.parametrize("part", [0, 1, -0.1, float("nan"), True, "0.3"])
def test_no_part_of_a_whole_is_refused(part):
    with pytest.raises(ValueError, match=r"part must be a number above 0 and below 1"):
        Share(part)


def test_a_number_says_so():
    model = LeastActionModel(network(), initial_multiplier=5.0)
    assert model.ascent.initial == 5.0
    assert model.ascent.decision == "λ_0 = 5, as given"
