"""The model around the network: one pass, the bare network's numbers, its logs."""

from __future__ import annotations

import copy
import pickle
import threading

import keras
import numpy as np
import pytest
from support.basics import ON_ONE, as_numpy, build_dense_network, crossentropy

import keras_lap
from keras_lap import LeastActionModel
from keras_lap.callbacks import MultiplierUpdate

FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


def compiled(model, **options):
    options = {"metrics": ["accuracy"], "loss": crossentropy()} | options
    model.compile(keras.optimizers.SGD(0.05), **options)
    return model


class Counting(keras.layers.Layer):
    """Hands its input on and counts how often it is run."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = [0]

    def call(self, x):
        self.calls[0] += 1
        return x


def counting_network(nested):
    """Residual blocks with a counter in the stem, in a branch and behind the merge."""
    counters = [Counting(name=f"counter{i}") for i in range(3)]

    def body(x):
        x = counters[0](x)
        branch = counters[1](keras.layers.Dense(64)(x))
        return counters[2](keras.layers.Add()([x, branch]))

    inputs = keras.Input((64,))
    inner = keras.Input((64,))
    x = keras.Model(inner, body(inner))(inputs) if nested else body(inputs)
    return keras.Model(inputs, keras.layers.Dense(10)(x)), counters


@pytest.mark.parametrize("nested", [False, True])
def test_every_layer_runs_once_a_step(digits, nested):
    network, counters = counting_network(nested)
    model = compiled(LeastActionModel(network), run_eagerly=True)
    model.fit(*digits, epochs=1, **FIT)  # Keras may trace once before the first step
    for counter in counters:
        counter.calls[0] = 0
    model.fit(*digits, epochs=3, **FIT)
    assert [counter.calls[0] for counter in counters] == [3 * 4] * 3
    for method in (model.evaluate, model.predict):
        for counter in counters:
            counter.calls[0] = 0
        method(digits[0], batch_size=8, verbose=0, **labels_for(method, digits[1]))
        assert [counter.calls[0] for counter in counters] == [4] * 3


def labels_for(method, y):
    return {"y": y} if method.__name__ == "evaluate" else {}


def normed_network():
    """With batch norm, dropout, a regularised kernel and an activity loss."""
    inputs = x = keras.Input((64,))
    for _ in range(2):
        r = keras.layers.BatchNormalization()(x)
        r = keras.layers.Dense(64, "relu", kernel_regularizer="l2")(r)
        r = keras.layers.ActivityRegularization(l2=0.01)(keras.layers.Dropout(0.2)(r))
        x = keras.layers.Add()([x, r])
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def test_evaluation_and_prediction_are_the_bare_networks(digits):
    x, y = digits
    network = normed_network()
    model = compiled(LeastActionModel(network))
    model.fit(x, y, **FIT)
    weights = network.get_weights()
    ours = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    predictions = model.predict(x, verbose=0)
    for before, after in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    theirs = compiled(network).evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    task_loss = ours.pop("task_loss")
    assert ours == theirs
    assert 0 < task_loss < ours["loss"]  # the latter holds the regularisers
    np.testing.assert_array_equal(predictions, network.predict(x, verbose=0))


def test_training_at_a_huge_multiplier_is_plain_training(digits):
    """Regularisation, sample weights, dropout and batch norm work as without us."""
    x, y = digits
    weight = np.linspace(0.1, 2.0, len(x))
    network = normed_network()
    start = network.get_weights()
    results = []
    for wrap in (lambda n: n, lambda n: LeastActionModel(n, initial_multiplier=1e20)):
        keras.utils.set_random_seed(1)
        network = normed_network()
        network.set_weights(start)
        model = compiled(wrap(network))
        history = model.fit(x, y, sample_weight=weight, epochs=3, **FIT).history
        results.append((history, network.get_weights()))
    (plain, plain_weights), (least, least_weights) = results
    np.testing.assert_allclose(least["loss"], plain["loss"], rtol=1e-5)
    np.testing.assert_allclose(least["accuracy"], plain["accuracy"])
    assert least["task_loss"][-1] < least["loss"][-1]
    for ours, theirs in zip(least_weights, plain_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_logs_are_the_objective_and_its_parts(digits):
    model = compiled(LeastActionModel(build_dense_network(), initial_multiplier=4.0))
    history = model.fit(
        *digits, epochs=2, validation_data=digits, **FIT, callbacks=[]
    ).history
    assert sorted(history) == sorted(
        [
            "loss",
            "task_loss",
            "transport_cost",
            "multiplier",
            "accuracy",
            "val_loss",
            "val_task_loss",
            "val_accuracy",
        ]
    )
    parts = np.array(history["task_loss"]) + np.array(history["transport_cost"]) / 4
    np.testing.assert_allclose(history["loss"], parts, rtol=1e-5)
    assert history["multiplier"] == [4.0, 4.0]
    assert history["val_loss"] == history["val_task_loss"]


def test_the_energy_is_lowered_by_it(digits):
    """The same start, with and without the energy: the method does what it says."""
    costs = []
    for multiplier in (1e9, 0.1):
        keras.utils.set_random_seed(0)
        network = build_dense_network()
        model = compiled(LeastActionModel(network, initial_multiplier=multiplier))
        history = model.fit(*digits, epochs=30, **FIT).history
        costs.append(history["transport_cost"][-1])
    assert costs[1] < costs[0] / 5


def test_several_outputs_losses_by_name_and_loss_weights(digits):
    x, y = digits
    inputs = keras.Input((64,), name="pixels")
    state = keras.layers.Dense(6)(inputs)
    state = state + keras.layers.Dense(6)(state)
    outputs = {
        "digit": keras.layers.Dense(10, name="digit")(state),
        "even": keras.layers.Dense(1, name="even")(state),
    }
    model = LeastActionModel(keras.Model({"pixels": inputs}, outputs), 3.0, 1e9)
    losses = {"digit": crossentropy(), "even": keras.losses.MeanSquaredError()}
    model.compile("sgd", loss=losses, loss_weights={"digit": 1.0, "even": 0.5})
    targets = {"digit": y, "even": (y % 2 == 0).astype("float32")[:, None]}
    history = model.fit({"pixels": x}, targets, **FIT).history
    parts = history["digit_loss"][0] + 0.5 * history["even_loss"][0]
    assert history["task_loss"][0] == pytest.approx(parts, rel=1e-5)


def test_a_step_in_one_thread_does_not_record_in_another(digits):
    network, _ = counting_network(nested=False)
    model = compiled(LeastActionModel(network))
    seen = []

    class Elsewhere(keras.layers.Layer):
        def call(self, x):
            thread = threading.Thread(target=lambda: seen.append(model._step))
            thread.start()
            thread.join()
            return x

    inputs = keras.Input((64,))
    x = inputs + Elsewhere()(keras.layers.Dense(64)(inputs))
    model = compiled(LeastActionModel(keras.Model(inputs, x)), loss="mse", metrics=None)
    seen.clear()
    model.train_on_batch(digits[0], digits[0])
    assert seen
    assert set(seen) == {None}
    assert model._step is None


def test_nothing_of_a_step_is_left_in_model_or_network(digits):
    network = build_dense_network()
    before = network.to_json()
    model = compiled(LeastActionModel(network))
    model.fit(*digits, **FIT)
    assert network.to_json() == before
    assert all("call" not in vars(layer) for layer in network.layers)
    assert model._step is None


class Summing(keras_lap.energies.Energy):
    """An energy of a user: the sum of absolute values, times a factor."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def __call__(self, displacement):
        return self.factor * keras.ops.sum(keras.ops.abs(displacement))

    def get_config(self):
        return {"factor": self.factor}


def test_energies_of_ones_own(digits):
    x, y = digits
    network = build_dense_network(blocks=1)
    model = compiled(LeastActionModel(network, energy=Summing(2.0)))
    moved = keras.Model(network.input, network.get_layer("b0_out").output)
    expected = 2 * np.abs(moved.predict(x, verbose=0)).sum()
    logs = model.train_on_batch(x, y, return_dict=True)
    assert float(logs["transport_cost"]) == pytest.approx(expected, rel=1e-5)


class PerSample(keras_lap.energies.Energy):
    def __call__(self, displacement):
        return keras.ops.mean(displacement**2, axis=1)


class Forgetful(Summing):
    get_config = keras_lap.energies.Energy.get_config


def test_energies_that_cannot_work_say_so(digits, tmp_path):
    model = compiled(LeastActionModel(build_dense_network(), energy=PerSample()))
    with pytest.raises(ValueError, match=r"must return a scalar.*PerSample\(\)"):
        model.train_on_batch(*digits)
    model = LeastActionModel(build_dense_network(), energy=Forgetful(2.0))
    with pytest.raises(NotImplementedError, match=r"Forgetful.*get_config"):
        model.save(tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


def test_logs_weigh_batches_by_their_size(digits):
    """32 images in batches of 24 and 8, nothing learnt in between."""
    x, y = digits
    model = LeastActionModel(build_dense_network(), initial_multiplier=1.0)
    model.compile(keras.optimizers.SGD(0.0), loss=crossentropy())
    whole = model.fit(x, y, batch_size=32, verbose=0).history
    parts = model.fit(x, y, batch_size=24, shuffle=False, verbose=0).history
    for name, values in whole.items():
        assert parts[name][0] == pytest.approx(values[0], rel=1e-5)


def trained(digits, **options):
    options = {"energy": 1.5, "initial_multiplier": 3.0} | options
    model = compiled(LeastActionModel(build_dense_network(), **options))
    model.fit(*digits, **FIT, callbacks=[MultiplierUpdate(tau=0.5, every=3)])
    return model


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param("auto", marks=ON_ONE),
        pytest.param(["b2", "b0"], marks=ON_ONE),
        lambda x: x.name == "b1",
    ],
)
def test_saving_and_loading(digits, tmp_path, blocks):
    model = trained(digits, blocks=blocks)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)  # safe_mode stays on
    assert type(loaded) is LeastActionModel
    assert loaded.blocks == model.blocks
    assert repr(loaded.energy) == repr(model.energy)
    assert float(loaded.multiplier) == float(model.multiplier) > 3.0
    np.testing.assert_array_equal(
        loaded.predict(digits[0], verbose=0), model.predict(digits[0], verbose=0)
    )
    ours, theirs = (
        m.train_on_batch(*digits, return_dict=True) for m in (model, loaded)
    )
    assert {k: float(v) for k, v in ours.items()} == pytest.approx(
        {k: float(v) for k, v in theirs.items()}, rel=1e-6
    )


def test_the_networks_own_file_is_plain_keras(digits, tmp_path):
    model = trained(digits)
    model.network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert "keras_lap" not in loaded.to_json()
    np.testing.assert_array_equal(
        loaded.predict(digits[0], verbose=0), model.predict(digits[0], verbose=0)
    )


@pytest.mark.parametrize(
    "copy", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_are_models_of_their_own(digits, copy):
    model = trained(digits)
    copied = copy(model)
    before = float(model.multiplier)
    copied.fit(*digits, **FIT, callbacks=[MultiplierUpdate(tau=1.0)])
    assert float(model.multiplier) == before < float(copied.multiplier)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(digits, policy):
    """The first layer works in float32: inputs must reach it unrounded."""
    x, y = digits
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((64,))
        state = keras.layers.Dense(6, dtype="float32")(inputs)
        state = state + keras.layers.Dense(6)(state)
        network = keras.Model(inputs, keras.layers.Dense(10, dtype="float32")(state))
        model = compiled(LeastActionModel(network, initial_multiplier=3.0))
        update = MultiplierUpdate(tau=0.01)
        history = model.fit(x, y, epochs=5, **FIT, callbacks=[update]).history
        np.testing.assert_array_equal(
            model.predict(x, verbose=0), network.predict(x, verbose=0)
        )
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["task_loss"][-1] < history["task_loss"][0]
    assert keras.backend.standardize_dtype(model.multiplier.dtype) == "float32"
    assert 3.0 < history["multiplier"][0] < history["multiplier"][-1]


def test_the_summary_shows_the_network(capsys):
    LeastActionModel(build_dense_network()).summary()
    assert "net (Functional)" in capsys.readouterr().out


def test_the_energy_in_a_file_can_be_ones_own(digits, tmp_path):
    model = trained(digits, energy=Summing(2.0))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(
        tmp_path / "model.keras", custom_objects={"Summing": Summing}
    )
    assert repr(loaded.energy) == "Summing(factor=2.0)"


def test_the_multiplier_is_a_weight_that_is_not_trained():
    model = LeastActionModel(build_dense_network(), initial_multiplier=2.0)
    assert isinstance(model.multiplier, keras.Variable)
    assert model.multiplier.shape == ()
    assert not model.multiplier.trainable
    assert any(model.multiplier is v for v in model.non_trainable_variables)
    assert as_numpy(model.multiplier.value) == 2.0


def no_blocks():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4)(inputs) + keras.layers.Dense(4, name="b")(inputs)
    return keras.Model(inputs, x, name="branches")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"energy": 1.0}, ValueError, "p must be a finite number > 1"),
        ({"energy": "kinetic"}, TypeError, "energy must be an exponent"),
        (
            {"initial_multiplier": 0},
            ValueError,
            "initial_multiplier must be a finite number > 0. Received: .*=0",
        ),
        ({"blocks": ["nowhere"]}, ValueError, "'nowhere', which is no layer of 'net'"),
        ({"blocks": ["stem"]}, ValueError, "cannot be a block"),
    ],
)
def test_bad_arguments_say_what_to_do(arguments, error, message):
    with pytest.raises(error, match=message):
        LeastActionModel(build_dense_network(), **arguments)


def test_a_network_without_blocks_says_what_was_found():
    with pytest.raises(
        ValueError, match=r"'branches' has no.*(?s:.*)parallel.*"
    ) as info:
        LeastActionModel(no_blocks())
    assert "blocks=[...]" in str(info.value)


def test_a_network_must_be_a_built_model():
    with pytest.raises(TypeError, match=r"keras.Model. Received: 'resnet'"):
        LeastActionModel("resnet")
    with pytest.raises(ValueError, match="not built"):
        LeastActionModel(keras.Sequential([keras.layers.Dense(3)]))


def test_training_without_a_loss_says_so(digits):
    model = LeastActionModel(build_dense_network())
    model.compile("sgd")
    with pytest.raises(ValueError, match="compiled without a loss"):
        model.fit(*digits, **FIT)


def test_a_step_that_records_no_pass_says_what_to_do(digits, dense_network):
    class Bare(LeastActionModel):
        def call(self, inputs, training=None):
            return self.network(inputs, training=training)

    model = Bare(dense_network())
    model.compile("sgd", crossentropy())
    with pytest.raises(RuntimeError, match=r"none was recorded.*super\(\)\.call"):
        model.train_on_batch(*digits)
