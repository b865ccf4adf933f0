"""Wherever a model trains, its energy trains along: loops, outer models, own steps.

The reference is plain Keras with the energy as activity regularisers (`support.ways`),
trained in the very same loop, or `train_on_batch` of the same model. Both compute the
same sums, in another order at the most: 1e-6 is a few roundings of float32.
"""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from support import ways
from support.basics import as_numpy, crossentropy
from support.own_loops import BACKEND, loop
from support.own_steps import Student, guide_of, with_test_step

import keras_lap

CLOSE = {"rtol": 2e-6, "atol": 1e-6}
LOOP = pytest.mark.way("a loop of one's own, with `model.losses`")
WITHIN = pytest.mark.way("within another model")
STUDENT = pytest.mark.way("as the student of a distiller that adds `self.losses`")
GUIDE = pytest.mark.way("a `train_step` of one's own, as in Keras's guides")
PASSES = pytest.mark.way("several passes in a step")


def sgd():
    return keras.optimizers.SGD(0.1)


def batches():
    x, y, _ = ways.data()
    return list(ways.batches(x, y))


def check_weights(network, reference):
    for mine, theirs in zip(network.weights, reference.weights, strict=True):
        np.testing.assert_allclose(as_numpy(mine), as_numpy(theirs), **CLOSE)


def compiled(model):
    model.compile(sgd(), crossentropy())
    return model


def cost_of(network, x):
    """C by NumPy, of a network of `ways`: mean squares of two branches."""
    kernels = {layer.name: layer for layer in network.layers}
    state = np.tanh(x @ as_numpy(kernels["stem"].kernel))
    cost = 0.0
    for k in range(2):
        moved = state @ as_numpy(kernels[f"b{k}"].kernel)
        cost += (moved**2).mean()
        state = state + moved
    return cost


@LOOP
@pytest.mark.parametrize("compiled_steps", [True, False])
def test_a_loop_of_ones_own(compiled_steps):
    plain, model = ways.pair()
    theirs = loop(plain, sgd(), batches(), compiled=compiled_steps)
    ours = loop(model, sgd(), batches(), compiled=compiled_steps)
    np.testing.assert_allclose(ours, theirs, **CLOSE)
    check_weights(model.network, plain)


@LOOP
def test_a_loop_is_train_on_batch():
    model, other = ways.pair()[1], compiled(ways.pair()[1])
    other.network.set_weights(model.network.get_weights())
    ours = loop(model, sgd(), batches())
    theirs = [other.train_on_batch(x, y)[0] for x, y in batches()]
    np.testing.assert_allclose(ours, theirs, **CLOSE)
    check_weights(model.network, other.network)


@LOOP
def test_a_loop_that_raises_the_multiplier_is_fit():
    model, other = ways.pair()[1], compiled(ways.pair()[1])
    other.network.set_weights(model.network.get_weights())
    loop(model, sgd(), batches(), raises=model)
    ways.fit(other, [keras_lap.callbacks.MultiplierUpdate()], epochs=1)
    assert float(other.multiplier) > 4
    np.testing.assert_allclose(float(model.multiplier), float(other.multiplier), 1e-6)
    check_weights(model.network, other.network)


def test_losses_hold_the_energy_after_training_calls_alone():
    model = ways.pair()[1]
    x = ways.data()[0]
    model(x, training=True)
    (added,) = model.losses
    cost = cost_of(model.network, x)
    np.testing.assert_allclose(as_numpy(added), cost / ways.MULTIPLIER, rtol=1e-6)
    model(2 * x, training=True)
    (added,) = model.losses
    cost = cost_of(model.network, 2 * x)
    np.testing.assert_allclose(as_numpy(added), cost / ways.MULTIPLIER, rtol=1e-6)
    for training in (False, None):
        model(x, training=training)
        assert model.losses == []
    compiled(model).evaluate(*ways.data()[:2], verbose=0)
    model.predict(x, verbose=0)
    assert model.losses == []


def outer_of(inner, kind):
    """Another model around one: it may be a layer of a graph, or of a `call`."""
    if kind == "functional":
        inputs = keras.Input((ways.WIDTH,))
        return keras.Model(inputs, inner(inputs))
    if kind == "sequential":
        return keras.Sequential([keras.Input((ways.WIDTH,)), inner])
    outer = Around(inner)
    outer.build((None, ways.WIDTH))
    return outer


class Around(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, shape):
        self.built = True

    def call(self, inputs, training=None):
        return self.inner(inputs, training=training)


@WITHIN
@pytest.mark.parametrize("kind", ["functional", "sequential", "subclassed"])
def test_within_another_model(kind):
    """Trained by `fit` of the outer model, and in a loop of one's own."""
    for train in (ways.fit, lambda outer: loop(outer, sgd(), batches())):
        plain, model = ways.pair()
        outer = compiled(outer_of(model, kind))
        ours, theirs = train(outer), train(compiled(plain))
        if train is ways.fit:
            ours, theirs = ours["loss"], theirs["loss"]
        np.testing.assert_allclose(ours, theirs, **CLOSE)
        check_weights(model.network, plain)
        x = ways.data()[0]
        outer(x, training=True)
        assert len(outer.losses) == 1
        outer(x)
        assert outer.losses == []


@WITHIN
def test_the_multiplier_of_a_model_within_another():
    """The outer model's loss raises it; with a callback it is said what to do."""

    class Raises(Around):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            if training:
                self.inner.raise_multiplier(crossentropy()(y, y_pred), tau=ways.TAU)
            return super().compute_loss(x, y, y_pred, sample_weight, training)

    model, other = ways.pair()[1], compiled(ways.pair()[1])
    other.network.set_weights(model.network.get_weights())
    outer = Raises(model)
    outer.build((None, ways.WIDTH))
    compiled(outer)
    update = keras_lap.callbacks.MultiplierUpdate(ways.TAU)
    with pytest.raises(TypeError, match="raise_multiplier"):
        ways.fit(outer, [update])
    ways.fit(outer)
    ways.fit(other, [update])
    outer.evaluate(*ways.data()[:2], verbose=0)
    np.testing.assert_allclose(float(model.multiplier), float(other.multiplier), 1e-5)


@STUDENT
def test_a_student():
    plain, model = ways.pair()
    teacher = ways.build()
    ours, theirs = Student(teacher, model), Student(teacher, plain)
    for each in (ours, theirs):
        each.compile(sgd(), crossentropy())
    ours, theirs = ways.fit(ours), ways.fit(theirs)
    np.testing.assert_allclose(ours["loss"], theirs["loss"], **CLOSE)
    check_weights(model.network, plain)


def test_keras_s_distiller_drops_added_losses():
    """Keras 3.15.1; with plain networks too. Once it fails, the limit is gone."""
    model = ways.pair()[1]
    distil = keras.distillation.Distiller(
        ways.build(),
        model,
        distillation_losses=keras.distillation.LogitsDistillation(),
        student_loss_weight=1.0,
    )
    distil.compile(optimizer=sgd(), loss=crossentropy())
    x, y, _ = ways.data()
    task = float(as_numpy(crossentropy()(y, model(x))))
    logs = distil.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["total_loss"], task, rtol=1e-5)
    distil(x, training=True)
    assert len(distil.losses) == 1


def guided():
    """Two models with one network's weights: of a guide's step, and of Keras's."""
    network = ways.build()
    model = compiled(guide_of(BACKEND)(network, 2.0, ways.MULTIPLIER))
    other = compiled(keras_lap.LeastActionModel(ways.build(), 2.0, ways.MULTIPLIER))
    other.network.set_weights(network.get_weights())
    return model, other


@GUIDE
def test_a_step_of_a_guide():
    model, other = guided()
    ours, theirs = ways.fit(model), ways.fit(other)
    np.testing.assert_allclose(ours["loss"], theirs["loss"], **CLOSE)
    check_weights(model.network, other.network)
    for name in ("multiplier", "transport_cost", "task_loss"):
        if BACKEND == "jax":  # where nothing gets out of that step
            assert np.isnan(ours[name]).all()
        else:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)


@GUIDE
def test_the_multiplier_in_a_step_of_a_guide(record_property):
    model, other = guided()
    update = keras_lap.callbacks.MultiplierUpdate(ways.TAU)
    if BACKEND == "jax":
        record_property(
            "limit", "only a step that calls `stateless_raise_multiplier` raises λ"
        )
        with pytest.warns(UserWarning, match="stateless_raise_multiplier"):
            ways.fit(model, [update])
        assert float(model.multiplier) == ways.MULTIPLIER
        model, other = guided()
        model.raises = True
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ways.fit(model, [update])
    ways.fit(other, [update])
    np.testing.assert_allclose(float(model.multiplier), float(other.multiplier), 1e-5)
    check_weights(model.network, other.network)


class TwoPasses(keras_lap.LeastActionModel):
    """Sees its batch a second time, three times as large."""

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        if training:
            self(3 * x, training=True)
        return super().compute_loss(x, y, y_pred, sample_weight, training)


@PASSES
def test_passes_add_up():
    network = ways.build()
    model = compiled(TwoPasses(network, 2.0, ways.MULTIPLIER))
    x, y, _ = ways.data()
    cost = cost_of(network, x) + cost_of(network, 3 * x)
    task = float(crossentropy()(y, network(x)))
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["transport_cost"], cost, rtol=1e-6)
    np.testing.assert_allclose(logs["task_loss"], task, rtol=1e-6)
    np.testing.assert_allclose(logs["loss"], task + cost / ways.MULTIPLIER, rtol=1e-6)


class TwoLosses(keras_lap.LeastActionModel):
    """Asks for a loss after each of two passes, as to look ahead and step back."""

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        first = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return first
        again = self(3 * x, training=True)
        return first + super().compute_loss(3 * x, y, again, sample_weight, training)


@PASSES
def test_a_loss_is_of_the_passes_since_the_last_one():
    network = ways.build()
    model = compiled(TwoLosses(network, 2.0, ways.MULTIPLIER))
    model.ascent.start(tau=10.0, batches=1, averaged=False)  # after the step, not in it
    x, y, _ = ways.data()
    cost = cost_of(network, x) + cost_of(network, 3 * x)
    before = network.get_weights()
    task = sum(float(crossentropy()(y, network(k * x))) for k in (1, 3))
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["loss"], task + cost / ways.MULTIPLIER, rtol=1e-6)
    network.set_weights(before)
    first = cost_of(network, x)  # the logs are of the first
    np.testing.assert_allclose(logs["transport_cost"], first, rtol=1e-6)


class Forgets(keras_lap.LeastActionModel):
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return crossentropy()(y, y_pred)


class Reads(keras_lap.LeastActionModel):
    raises = False

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        task_loss = crossentropy()(y, y_pred)
        if self.raises:
            self.raise_multiplier(task_loss)
        return task_loss + sum(self.losses)


class CallsTheNetwork(keras_lap.LeastActionModel):
    def call(self, inputs, training=None):
        return self.network(inputs, training=training)


def test_a_loss_without_the_energy_is_an_error():
    model = compiled(Forgets(ways.build(), 2.0, ways.MULTIPLIER))
    before = model.network.get_weights()
    with pytest.raises(RuntimeError, match=r"super\(\).compute_loss"):
        model.fit(*ways.data()[:2], verbose=0)
    if BACKEND != "jax":  # where Keras loses the weights with any error in `fit`
        for mine, old in zip(model.network.get_weights(), before, strict=True):
            np.testing.assert_array_equal(mine, old)
    # Evaluation has no energy, and goes its way.
    model = compiled(Forgets(ways.build(), 2.0, ways.MULTIPLIER))
    model.evaluate(*ways.data()[:2], verbose=0)
    model = compiled(CallsTheNetwork(ways.build(), 2.0, ways.MULTIPLIER))
    with pytest.raises(RuntimeError, match="return super"):
        model.fit(*ways.data()[:2], verbose=0)


def test_a_loss_that_reads_the_losses():
    x, y, _ = ways.data()
    model = compiled(Reads(ways.build(), 2.0, ways.MULTIPLIER))
    cost = cost_of(model.network, x) / ways.MULTIPLIER
    expected = cost + float(crossentropy()(y, model.network(x)))
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-6)
    assert set(logs) == {"loss"}  # what was not measured is not logged
    update = keras_lap.callbacks.MultiplierUpdate()
    with pytest.warns(UserWarning, match="No step of this epoch has raised"):
        ways.fit(model, [update])
    assert float(model.multiplier) == ways.MULTIPLIER

    model, other = ways.pair()[1], compiled(ways.pair()[1])
    network = model.network
    other.network.set_weights(network.get_weights())
    model = compiled(Reads(network, 2.0, ways.MULTIPLIER))
    model.raises = True
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ways.fit(model, [update])
    ways.fit(other, [update])
    np.testing.assert_allclose(float(model.multiplier), float(other.multiplier), 1e-5)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("loss", ["batch", "mean"])
def test_a_schedule_of_ones_own(every, loss):
    """Against the rule in Python; a schedule that a callback has set comes first."""
    model = ways.pair()[1]
    losses = np.array([0.5, 1.25, 0.25, 2.0, 1.0, 0.75, 3.0], "float32")
    multiplier, since = ways.MULTIPLIER, []
    for each in losses:
        since.append(each)
        if len(since) == every:
            multiplier += 0.5 * (since[-1] if loss == "batch" else np.mean(since))
            since = []
        raised = model.raise_multiplier(each, tau=0.5, every=every, loss=loss)
        np.testing.assert_allclose(float(raised), multiplier, rtol=1e-6)
    model.ascent.start(tau=10.0, batches=1, averaged=False)
    raised = model.raise_multiplier(1.0, tau=0.5, every=every, loss=loss)
    np.testing.assert_allclose(float(raised), multiplier + 10, rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"tau": -1.0}, "tau"),
        ({"every": 0}, "every"),
        ({"loss": "sum"}, "loss"),
        ({"task_loss": np.ones(3, "float32")}, r"scalar.*\(3,\)"),
    ],
)
def test_wrong_schedules(wrong, match):
    model = ways.pair()[1]
    with pytest.raises(ValueError, match=match):
        model.raise_multiplier(**{"task_loss": 1.0} | wrong)
    assert float(model.multiplier) == ways.MULTIPLIER


def test_a_step_that_raises_the_multiplier_twice_raises_it_once():
    """By the loss of `super()` under a callback; by hand where there is none."""

    class Twice(keras_lap.LeastActionModel):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            if training:
                self.raise_multiplier(100.0)
            return loss

    x, y, _ = ways.data()
    for scheduled in (True, False):
        model = compiled(Twice(ways.build(), 2.0, ways.MULTIPLIER))
        rise = 100.0
        if scheduled:
            model.ascent.start(tau=1.0, batches=1, averaged=False)
            rise = float(as_numpy(crossentropy()(y, model.network(x))))
        model.train_on_batch(x, y)
        np.testing.assert_allclose(
            float(model.multiplier), ways.MULTIPLIER + rise, rtol=1e-6
        )


class LooksAtAnEvaluation(keras_lap.LeastActionModel):
    """Asks in training for the loss of an evaluation too, first."""

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        if training:
            seen = self(x, training=False)
            self.evaluation = super().compute_loss(x, y, seen, None, training=False)
            added = 0.0 * self.evaluation
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + added if training else loss


def test_a_loss_of_an_evaluation_within_a_step_counts_nothing():
    model = compiled(LooksAtAnEvaluation(ways.build(), 2.0, ways.MULTIPLIER))
    other = compiled(keras_lap.LeastActionModel(ways.build(), 2.0, ways.MULTIPLIER))
    other.network.set_weights(model.network.get_weights())
    update = keras_lap.callbacks.MultiplierUpdate(ways.TAU)
    ours, theirs = ways.fit(model, [update]), ways.fit(other, [update])
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], **CLOSE)


@pytest.mark.parametrize("regularised", [False, True])
def test_a_cost_of_targets_alone(regularised):
    """No pass adds anything before the loss: on JAX, nothing is handed on."""
    x, y, _ = ways.data()
    network = ways.build(kernel_regularizer="l2" if regularised else None)
    targets = np.zeros((3, ways.WIDTH), "float32")
    cost = keras_lap.running_costs.TrackingCost(1.0, targets)
    model = compiled(
        keras_lap.LeastActionModel(network, energy=None, running_costs=[cost])
    )
    penalty = sum(float(as_numpy(each)) for each in network.losses)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert logs["tracking_cost"] > 0.1
    np.testing.assert_allclose(
        logs["loss"], logs["task_loss"] + logs["tracking_cost"] + penalty, rtol=1e-5
    )


def test_a_model_within_a_model():
    """The outer one counts the blocks within, and the inner one adds nothing."""
    plain, inner = ways.pair()
    outer = compiled(
        keras_lap.LeastActionModel(outer_of(inner, "functional"), 2.0, ways.MULTIPLIER)
    )
    assert len(outer.blocks) == 2
    ours, theirs = ways.fit(outer), ways.fit(compiled(plain))
    np.testing.assert_allclose(ours["loss"], theirs["loss"], **CLOSE)
    check_weights(inner.network, plain)


def test_an_inner_model_that_the_outer_one_does_not_count():
    """Its energy is its own again."""
    _, inner = ways.pair()
    x, y, _ = ways.data()
    cost = cost_of(inner.network, x) / ways.MULTIPLIER
    outer = compiled(
        keras_lap.LeastActionModel(
            outer_of(inner, "functional"),
            energy=None,
            running_costs=[keras_lap.running_costs.ControlCost(0.0)],
        )
    )
    logs = outer.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["loss"], logs["task_loss"] + cost, rtol=1e-6)


@GUIDE
def test_a_test_step_of_a_guide():
    """Which gives the loss no inputs."""
    x, y, _ = ways.data()
    model = compiled(with_test_step(BACKEND)(ways.build(), 2.0, ways.MULTIPLIER))
    expected = float(as_numpy(crossentropy()(y, model.network(x))))
    result = model.evaluate(x, y, batch_size=ways.SAMPLES, verbose=0, return_dict=True)
    np.testing.assert_allclose(result["loss"], expected, rtol=1e-6)


def test_one_pass_a_step():
    """A loop of one's own runs the network once, as plain Keras does."""
    calls = []

    class Counts(keras.layers.Layer):
        def call(self, x):
            calls.append(1)
            return x

    inputs = keras.Input((ways.WIDTH,))
    x = ways.block(Counts()(inputs), 0.0, "b0")
    model = keras_lap.LeastActionModel(keras.Model(inputs, x))
    calls.clear()
    model(ways.data()[0], training=True)
    assert len(calls) == 1
