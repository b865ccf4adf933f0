"""Running costs of networks of all kinds: each is right, or refused in clear words."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from support.basics import as_numpy, crossentropy
from support.by_depth import (
    around,
    assert_alike,
    at_depth,
    data,
    dense,
    leaves,
    one_stage,
    with_random_weights,
)

import keras_lap
from keras_lap.networks import neural_ode
from keras_lap.running_costs import ControlCost, PathLoss, TrackingCost

RULE = {3: [1 / 3, 2 / 3, 2 / 3, 1 / 3], 4: [1 / 4, 1 / 2, 1 / 2, 1 / 2, 1 / 4]}
RATE, ONES = 0.1, np.ones(3)

on_one_backend = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


def two_stages(depth):
    """Without convolutions, whose gradients on PyTorch's CPU may end the process."""
    inputs = x = keras.Input((4,))
    for k in range(4):
        if k == 2:
            x = keras.layers.Dense(6, name="down")(x)
            x = keras.layers.BatchNormalization(name="norm_down")(x)
        if k < depth:
            x = dense(x, k)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


def exit_by_keras(build, k, net, x):
    """What follows a block that is left out runs in inference, what precedes does not.

    A batch normalisation that is frozen runs in inference, by the statistics that the
    pass itself has moved.
    """
    small = at_depth(build, k, net)
    after = {"norm_head/", "norm_down/"} if k < 2 else {"norm_head/"}
    for name, layer in leaves(small).items():
        layer.trainable = name not in after
    return small(x, training=True)


def model_of(net, *costs, horizon=2.0):
    model = keras_lap.LeastActionModel(net, None, running_costs=costs, horizon=horizon)
    model.compile(keras.optimizers.SGD(RATE), "mse")
    return model


def targets(net, x):
    numbers = np.random.default_rng(4)
    shapes = keras.tree.map_structure(lambda output: output.shape, as_values(net(x)))
    if isinstance(shapes, dict):
        return {name: numbers.normal(size=shape) for name, shape in shapes.items()}
    return numbers.normal(size=shapes)


def as_values(outputs):
    return keras.tree.map_structure(as_numpy, outputs)


def mean_squares(outputs, y):
    """The sum of the outputs' mean squared errors, by NumPy."""
    pairs = zip(*map(keras.tree.flatten, (as_values(outputs), y)), strict=True)
    return sum(np.mean((one - other) ** 2) for one, other in pairs)


@pytest.mark.parametrize(
    ("build", "blocks"),
    [
        (one_stage, 3),
        pytest.param(two_stages, 4, marks=on_one_backend),
        pytest.param(around, 3, marks=on_one_backend),
    ],
)
def test_all_costs_of_one_step(build, blocks):
    """A normalised head, several stages, several outputs: by plain Keras and NumPy.

    The statistics of batch normalisation move once, as without us, and not once for
    each exit.
    """
    net = with_random_weights(build(blocks))
    x = data(net)
    y = targets(net, x)
    plain = at_depth(build, blocks, net)
    plain.compile(keras.optimizers.SGD(RATE), "mse")
    moved = at_depth(build, blocks, net)
    moved(x, training=True)
    exits = [exit_by_keras(build, k, moved, x) for k in range(blocks)]
    errors = [mean_squares(each, y) for each in exits]
    owners = [layer for n, layer in leaves(net).items() if re.match(r"dense|norm\d", n)]
    weights = [w for layer in owners for w in layer.trainable_variables]
    price = sum((as_numpy(w).astype("float64") ** 2).sum() for w in weights)
    costs = [PathLoss(0.0), ControlCost(0.0)]
    if build is not two_stages:
        costs.append(TrackingCost(0.0, target=np.zeros(6)))
    logs = model_of(net, *costs).train_on_batch(x, y, return_dict=True)
    expected = plain.train_on_batch(x, y, return_dict=True)["loss"]
    assert float(logs["loss"]) == pytest.approx(float(expected), rel=1e-5)
    path_loss = np.dot(RULE[blocks], [*errors, float(expected)])
    assert float(logs["path_loss"]) == pytest.approx(path_loss, rel=1e-5)
    step = 2.0 / blocks
    assert float(logs["control_cost"]) == pytest.approx(step * price / 2, rel=1e-5)
    assert ("tracking_cost" in logs) == (build is not two_stages)
    assert_alike([*map(as_numpy, net.weights)], [*map(as_numpy, plain.weights)])


def without_blocks():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


COSTS = [PathLoss(), ControlCost(), TrackingCost(target=[0.0, 0.0, 0.0, 0.0])]


@on_one_backend
@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.name)
def test_a_network_without_blocks(cost):
    with pytest.raises(ValueError, match=r"(?s)no residual block.*blocks=\["):
        model_of(without_blocks(), cost)


@on_one_backend
def test_stages_have_no_one_target_and_no_smooth_controls():
    net = with_random_weights(two_stages(4))
    before, x = net.get_weights(), data(net)
    for cost, message in (
        (TrackingCost(target=np.zeros(4)), r"need one shape.*'add0'.*'add2'"),
        (ControlCost(norm="h1"), r"same shapes.*'add1' with.*'add2' with"),
    ):
        with pytest.raises(ValueError, match=message):
            model_of(net, PathLoss(), cost)
    assert not net.compiled
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # Of the blocks of one stage there are both.
    costs = [TrackingCost(target=np.zeros(4)), ControlCost(norm="h1")]
    model = keras_lap.LeastActionModel(
        net, None, blocks=["add0", "add1"], running_costs=costs
    )
    model.compile("sgd", "mse")
    logs = model.train_on_batch(x, targets(net, x), return_dict=True)
    assert min(float(logs[n]) for n in ("tracking_cost", "control_cost")) > 0


@on_one_backend
@pytest.mark.parametrize(
    ("target", "weights", "message"),
    [
        (np.zeros((3, 6)), None, "integer targets y.*Received: y of type dict"),
        (np.zeros(6), {"late": ONES, "early": ONES}, "one weight for each"),
        (lambda y: y["late"], None, r"must return \(batch, 6\) as the states"),
    ],
    ids=["classes", "weights", "function"],
)
def test_targets_of_several_outputs_that_do_not_fit(target, weights, message):
    """Said at the first batch, which has moved no weight by then.

    The pass comes before the targets, in Keras too, so statistics may have moved.
    """
    net = with_random_weights(around(3))
    x = data(net)
    y = targets(net, x)
    before = [np.array(as_numpy(w)) for w in net.trainable_weights]
    model = model_of(net, PathLoss(), TrackingCost(target=target))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        model.train_on_batch(x, y, sample_weight=weights)
    for old, new in zip(before, net.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, as_numpy(new))
    other = model_of(net, PathLoss(), TrackingCost(target=np.zeros(6)))
    assert np.isfinite(other.train_on_batch(x, y, return_dict=True)["loss"])


def test_a_training_that_fails_leaves_the_network_its_weights():
    """JAX's trainer has them all in its hands by then."""
    net = neural_ode((2,), 3, horizon=1.0, steps=2)
    before = net.get_weights()
    cost = TrackingCost(target=np.zeros((3, 2)))
    model = keras_lap.LeastActionModel(net, running_costs=[cost])
    model.compile("adam", crossentropy())
    x, classes = np.ones((4, 2), "float32"), np.array([0, 1, 2, 0])
    with pytest.raises(ValueError, match="integer targets y"):
        model.fit(x, classes.astype("float32"), verbose=0)
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # TensorFlow makes no variables of an optimizer in the second run of a step.
    model.compile("adam", crossentropy())
    history = model.fit(x, classes, verbose=0).history
    assert np.isfinite(history["loss"]).all()


PLAIN = {"steps": 3, "horizon": 3.0}


@on_one_backend
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, r"running_costs=\[\.\.\.\]"),
        ({"running_costs": ["l2"]}, TypeError, "running_costs must be a list"),
        ({"running_costs": [PathLoss(), PathLoss(0.1)]}, ValueError, "'path_loss' is"),
        (
            {"running_costs": [ControlCost(), ControlCost(norm="l1")]},
            *(ValueError, "'control_cost' is taken twice"),
        ),
        ({"running_costs": COSTS[:1], "horizon": [1.0] * 4}, ValueError, "hold 3 time"),
        ({"running_costs": COSTS[:1], "horizon": -3.0}, ValueError, "horizon must be"),
        ({"running_costs": COSTS[2:]}, ValueError, r"shape \(4,\) for states of .*2,"),
    ],
    ids=["nothing", "no cost", "one of a kind", "of a kind", "steps", "sign", "target"],
)
def test_refusals_of_the_model_leave_the_network_as_it_was(options, error, message):
    net = neural_ode((2,), 1, **PLAIN)
    layers, before = [*net.layers], net.get_weights()
    with pytest.raises(error, match=message):
        keras_lap.LeastActionModel(net, **{"energy": None, **options})
    assert [*net.layers] == layers
    assert not net.compiled
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    model = keras_lap.LeastActionModel(net, None, running_costs=[PathLoss()])
    with pytest.raises(ValueError, match=r"no multiplier to raise.*energy=None"):
        keras_lap.callbacks.MultiplierUpdate().set_model(model)
