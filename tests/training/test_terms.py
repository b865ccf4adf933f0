"""Terms of the objective beside C/λ, against NumPy and against plain Keras."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from support.basics import as_numpy, build_dense_network, crossentropy

import keras_lap
from keras_lap.callbacks import MultiplierUpdate
from keras_lap.running_costs import RunningCost

BATCH, RATE, MULTIPLIER, BLOCKS = 8, 0.05, 2.0, 3
FIT = {"batch_size": BATCH, "shuffle": False, "verbose": 0}


@keras.saving.register_keras_serializable("terms")
class StateSize(RunningCost):
    """Mean square of the states after the blocks."""

    wanted = ("states",)

    def __call__(self, path):
        return sum(keras.ops.mean(after**2) for _, after in path.states)


@keras.saving.register_keras_serializable("terms")
class BranchKernels(RunningCost):
    """Sum of the powers of the kernels on the branches."""

    def __init__(self, weight=1.0, exponent=2):
        super().__init__(weight)
        self.exponent = exponent

    def get_config(self):
        return {**super().get_config(), "exponent": self.exponent}

    def __call__(self, path):
        return sum(
            keras.ops.sum(keras.ops.abs(variable) ** self.exponent)
            for variable in path.network.trainable_variables
            if variable.path.startswith("b") and variable.path.endswith("kernel")
        )


@keras.saving.register_keras_serializable("terms")
class Aim(RunningCost):
    """How far the first number of each state is from the class, weighed by sample."""

    wanted = ("states", "displacements")
    needs_target = True

    def __call__(self, path):
        target = keras.ops.cast(path.y, "float32")
        weight = keras.ops.cast(path.sample_weight, "float32")
        starts = [before for before, _ in path.states]
        ends = [b + v for b, v in zip(starts, path.displacements, strict=True)]
        gaps = [(end[:, 0] - target) ** 2 * weight for end in ends]
        return keras.ops.mean(keras.ops.stack(gaps))


def numpy_pass(network, x):
    """States after the stem and each block; kernels of the branches; logits."""
    weights = [as_numpy(w.value).astype("float64") for w in network.weights]
    states = [x @ weights[0] + weights[1]]
    for a, b, c, d in (weights[2 + 4 * k : 6 + 4 * k] for k in range(BLOCKS)):
        states.append(states[-1] + np.tanh(states[-1] @ a + b) @ c + d)
    kernels = [w for w in weights[2:-2] if w.ndim == 2]
    return states, kernels, states[-1] @ weights[-2] + weights[-1]


def numpy_terms(network, x, y, exponent=2):
    """L, C and the two costs on one batch, by NumPy in float64."""
    states, kernels, logits = numpy_pass(network, x.astype("float64"))
    picked = logits[np.arange(len(x)), y]
    return {
        "task_loss": np.mean(np.log(np.exp(logits).sum(axis=1)) - picked),
        "transport_cost": sum(np.mean(v**2) for v in np.diff(states, axis=0)),
        "state_size": sum(np.mean(state**2) for state in states[1:]),
        "branch_kernels": sum((np.abs(w) ** exponent).sum() for w in kernels),
    }


def wrapped(network=None, costs=None, **options):
    costs = [StateSize(0.3), BranchKernels(0.01)] if costs is None else costs
    model = keras_lap.LeastActionModel(
        build_dense_network(BLOCKS) if network is None else network,
        initial_multiplier=MULTIPLIER,
        running_costs=costs,
    )
    model.compile(
        keras.optimizers.SGD(RATE), crossentropy(), metrics=["accuracy"], **options
    )
    return model


def test_the_objective_and_the_logs_are_the_sum_of_the_terms(digits):
    """Over several steps, each with the weights that the last one left."""
    model = wrapped(costs=[StateSize(0.3), BranchKernels(0.01, exponent=3)])
    for start in range(0, len(digits[0]), BATCH):
        x, y = (each[start : start + BATCH] for each in digits)
        expected = numpy_terms(model.network, x, y, exponent=3)
        model.reset_metrics()
        logs = model.train_on_batch(x, y, return_dict=True)
        expected["loss"] = (
            expected["task_loss"]
            + expected["transport_cost"] / MULTIPLIER
            + 0.3 * expected["state_size"]
            + 0.01 * expected["branch_kernels"]
        )
        for name, value in expected.items():
            assert float(logs[name]) == pytest.approx(value, rel=1e-5), name


def plain_with_terms(network, costs):
    """The same objective by plain Keras: a second output for each state, no package."""
    merges = [network.get_layer(f"b{k}").output for k in range(BLOCKS)]
    stem = network.get_layer("stem").output
    kernels = [
        network.get_layer(f"b{k}_{n}") for k in range(BLOCKS) for n in ("in", "out")
    ]
    states_weight, kernels_weight = costs

    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.net = network
            self.tap = keras.Model(network.inputs, [network.output, stem, *merges])

        def call(self, x, training=None):
            output, *states = self.tap(x, training=training)
            for before, after in itertools.pairwise(states):
                self.add_loss(keras.ops.mean((after - before) ** 2) / MULTIPLIER)
                self.add_loss(states_weight * keras.ops.mean(after**2))
            for layer in kernels:
                self.add_loss(kernels_weight * keras.ops.sum(layer.kernel**2))
            return output

    model = Plain()
    model.compile(keras.optimizers.SGD(RATE), crossentropy())
    return model


def test_training_is_that_of_the_same_objective_in_plain_keras(digits):
    network = build_dense_network(BLOCKS)
    other = keras.models.clone_model(network)
    other.set_weights(network.get_weights())
    history = wrapped(network).fit(*digits, epochs=3, **FIT).history
    plain = plain_with_terms(other, (0.3, 0.01)).fit(*digits, epochs=3, **FIT).history
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-5)
    for ours, theirs in zip(network.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_multiplier_rises_by_the_task_loss_alone(digits):
    model = wrapped(costs=[StateSize(100.0)])
    x, y = (each[:BATCH] for each in digits)
    task_loss = numpy_terms(model.network, x, y)["task_loss"]
    model.fit(x, y, **FIT, callbacks=[MultiplierUpdate(tau=0.5)])
    expected = MULTIPLIER + 0.5 * task_loss
    assert float(model.multiplier) == pytest.approx(expected, rel=1e-5)


def test_a_cost_of_targets_and_sample_weights(digits):
    """And states and displacements from one pass."""
    x, y = digits
    weight = np.linspace(0.1, 2.0, len(x)).astype("float32")
    model = wrapped(costs=[Aim(0.0)])
    states, _, _ = numpy_pass(model.network, x.astype("float64"))
    expected = np.mean([(end[:, 0] - y) ** 2 * weight for end in states[1:]])
    logs = model.train_on_batch(x, y, sample_weight=weight, return_dict=True)
    assert float(logs["aim"]) == pytest.approx(expected, rel=1e-5)
    parts = float(logs["task_loss"]) + float(logs["transport_cost"]) / MULTIPLIER
    assert float(logs["loss"]) == pytest.approx(parts, rel=1e-5)  # its weight is 0


def test_evaluation_is_the_bare_networks(digits):
    model = wrapped()
    history = model.fit(*digits, validation_data=digits, **FIT).history
    ours = {"task_loss", "transport_cost", "multiplier", "state_size", "branch_kernels"}
    metrics = {"loss", "accuracy", "val_loss", "val_task_loss", "val_accuracy"}
    assert set(history) == ours | metrics
    bare = model.evaluate(*digits, batch_size=BATCH, verbose=0, return_dict=True)
    network = model.network
    network.compile("sgd", crossentropy(), metrics=["accuracy"])
    theirs = network.evaluate(*digits, batch_size=BATCH, verbose=0, return_dict=True)
    assert bare == theirs


def test_every_layer_runs_once_a_step(digits):
    """Whatever is recorded, the network is not run again for it."""
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            calls.append(1)
            return x

    inputs = keras.Input((64,))
    x = Counting()(keras.layers.Dense(6)(inputs))
    x = x + keras.layers.Dense(6)(x)
    network = keras.Model(inputs, keras.layers.Dense(10)(x))
    model = wrapped(network, run_eagerly=True)
    model.fit(*digits, **FIT)
    calls.clear()
    model.fit(*digits, epochs=2, **FIT)
    assert len(calls) == 2 * len(digits[0]) // BATCH


def test_saving_and_loading(digits, tmp_path):
    model = wrapped(costs=[StateSize(0.3), BranchKernels(0.01, exponent=3)])
    model.fit(*digits, **FIT)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.running_costs) == (
        "(StateSize(weight=0.3), BranchKernels(weight=0.01, exponent=3))"
    )
    ours, theirs = (
        {k: float(v) for k, v in m.train_on_batch(*digits, return_dict=True).items()}
        for m in (model, loaded)
    )
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert "branch_kernels" in theirs


class Unregistered(StateSize):
    """Inherits all but the registration."""


class Forgetful(RunningCost):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def __call__(self, path):
        return 0.0


def test_costs_that_cannot_be_saved_or_found_say_so(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(NotImplementedError, match=r"Forgetful.*get_config"):
        wrapped(costs=[Forgetful(1.0)]).save(path)
    assert not list(tmp_path.iterdir())
    wrapped(costs=[Unregistered()]).save(path)
    with pytest.raises(
        ValueError, match=r"running cost Unreg.*custom_objects=\{'Unreg"
    ):
        keras.saving.load_model(path)
    known = {"Unregistered": Unregistered}
    loaded = keras.saving.load_model(path, custom_objects=known)
    assert type(loaded.running_costs[0]) is Unregistered


def test_a_metric_with_the_name_of_a_cost(digits):
    model = wrapped()
    metric = keras.metrics.SparseCategoricalAccuracy(name="state_size")
    model.compile("sgd", crossentropy(), metrics=[metric])
    before = model.network.get_weights()
    with pytest.raises(ValueError, match=r"state_size.*logged as 'state_size'"):
        model.fit(*digits, **FIT)
    for old, new in zip(before, model.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class TransportCost(StateSize):
    """Would be logged as the energy is."""


class Loss(StateSize):
    """Would be logged as the objective is."""


class Controls(StateSize):
    wanted = ("controls",)


@pytest.mark.parametrize(
    ("costs", "error", "message"),
    [
        ([StateSize(), StateSize(2.0)], ValueError, "'state_size' is taken twice"),
        ([TransportCost()], ValueError, "'transport_cost' is taken twice"),
        ([Loss()], ValueError, "'loss' is taken twice"),
        ([Controls()], ValueError, r"wanted of Controls\(.*'displacements'.*'exits'"),
        (StateSize(), TypeError, r"must be a list of.*Received: running_costs=StateS"),
        ([StateSize], TypeError, "Pass instances of a subclass"),
    ],
)
def test_costs_that_cannot_be_terms(costs, error, message):
    with pytest.raises(error, match=message):
        wrapped(costs=costs)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), "much"])
def test_a_weight_is_a_number_from_zero(weight):
    with pytest.raises(ValueError, match="weight must be a finite number >= 0"):
        StateSize(weight)


class PerSample(StateSize):
    def __call__(self, path):
        return keras.ops.mean(path.states[0][0] ** 2, axis=1)


class Undeclared(StateSize):
    wanted = ()


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (PerSample(), r"must return a scalar.*PerSample\(weight=1.0\)"),
        (Undeclared(), r"states of this path were not recorded.*'states'"),
    ],
)
def test_costs_that_cannot_be_priced(digits, cost, message):
    with pytest.raises(ValueError, match=message):
        wrapped(costs=[cost]).train_on_batch(*digits)
