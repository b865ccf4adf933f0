"""Control and tracking costs: what they refuse, and how they are saved."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from support.basics import as_numpy, build_dense_network, crossentropy
from support.priced import priced_path

import keras_lap
from keras_lap.networks import neural_ode
from keras_lap.running_costs import ControlCost, Path, TrackingCost

POINTS = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")
STEPS = [0.5, 1.5]
CENTRES = np.array([[0.0, 1.0], [2.0, -1.0], [5.0, 5.0]])
LABELS = np.array([0, 2, 1, 1, 0, 2])


def network():
    return neural_ode((2,), 1, time_steps=STEPS)


def value(cost, y=None, sample_weight=None, net=None):
    path = priced_path(net or network(), POINTS, y, sample_weight, STEPS)
    return float(as_numpy(cost(path)))


def tracking(net, target, samples=1.0):
    """½ Σ w_k mean_i s_i |x_{k,i} − x̄_i|², by NumPy, from the states by Keras."""
    ends = [net.get_layer(f"block{k}_add").output for k in (1, 2)]
    states = [POINTS, *map(as_numpy, keras.Model(net.input, ends)(POINTS))]
    costs = [samples * ((state - target) ** 2).sum(axis=1) for state in states]
    return np.dot([0.25, 1.0, 0.75], np.mean(costs, axis=1)) / 2


@keras.saving.register_keras_serializable("costs")
def corners(y):
    return keras.ops.stack([y, -y], axis=-1)


@pytest.mark.parametrize("column", [False, True])
def test_a_target_for_all_for_each_class_or_by_a_function(column):
    net = network()
    labels = LABELS[:, None] if column else LABELS
    real = (LABELS - 0.5).astype("float32")
    cases = [
        ([0.5, -0.5], None, np.array([0.5, -0.5])),
        (CENTRES, labels, CENTRES[LABELS]),
        (CENTRES.tolist(), labels.astype("uint8"), CENTRES[LABELS]),
        (corners, real, np.stack([real, -real], axis=1)),
    ]
    samples = np.linspace(0, 2, 6).astype("float32")
    for target, y, points in cases:
        cost = TrackingCost(0.3, target)
        assert value(cost, y, net=net) == pytest.approx(tracking(net, points), rel=1e-5)
        for weights in (samples, samples[:, None] if column else samples):
            expected = tracking(net, points, samples)
            assert value(cost, y, weights, net) == pytest.approx(expected, rel=1e-5)


def test_a_class_out_of_range_is_no_class():
    for wrong in (-1, 3):
        assert np.isnan(value(TrackingCost(1.0, CENTRES), np.array([0, wrong] * 3)))


def test_images_are_tracked_too():
    inputs = keras.Input((2, 2, 1))
    x = inputs + keras.layers.Conv2D(1, 1, kernel_initializer="zeros")(inputs)
    net = keras.Model(inputs, keras.layers.Flatten()(x))
    images = np.arange(8, dtype="float32").reshape(2, 2, 2, 1)
    path = priced_path(net, images, np.array([1, 0]))
    cost = TrackingCost(1.0, images[::-1])
    assert float(as_numpy(cost(path))) == pytest.approx(0.0, abs=1e-6)
    for target in (images[0], images):
        cost.check(path)
        assert np.isfinite(float(as_numpy(TrackingCost(1.0, target)(path))))


@pytest.mark.parametrize(
    ("y", "sample_weight", "message"),
    [
        (LABELS.astype("float32"), None, r"integer targets y.*\(6,\) and type float32"),
        (np.eye(6), None, r"integer targets y.*shape \(6, 6\)"),
        ([LABELS], None, "integer targets y.*Received: y of type list"),
        (LABELS, np.ones((6, 2)), r"one weight for each sample.*shape \(6, 2\)"),
    ],
)
def test_targets_and_weights_that_do_not_fit(y, sample_weight, message):
    with pytest.raises(ValueError, match=message):
        value(TrackingCost(1.0, CENTRES), y, sample_weight)


@pytest.mark.parametrize("shape", [(6, 3), (5, 2), (6,)])
def test_a_function_that_returns_other_shapes(shape):
    message = rf"must return \(batch, 2\) as the states.*\({shape[0]},"
    with pytest.raises(ValueError, match=message):
        value(TrackingCost(1.0, lambda y: np.zeros(shape, "float32")))


@pytest.mark.parametrize("target", [None, 1.0, [], "x", [[1.0], [2.0, 3.0]], [np.nan]])
def test_targets_that_are_none(target):
    with pytest.raises(ValueError, match="target must be a function of y, or an array"):
        TrackingCost(1.0, target)


@pytest.mark.parametrize("target", [np.zeros(3), np.zeros((5, 3)), np.zeros((1, 5, 2))])
def test_targets_of_other_shapes(target):
    cost = TrackingCost(1.0, target)
    for use in (lambda: cost.check(Path(None, network())), lambda: value(cost, LABELS)):
        with pytest.raises(
            ValueError, match=r"\(2,\) or \(classes, 2\), or a function"
        ):
            use()


def two_stages():
    inputs = keras.Input((4,))
    x = inputs + keras.layers.Dense(4, name="one")(inputs)
    x = keras.layers.Dense(3)(x)
    x = keras.layers.Add(name="last")([x, keras.layers.Dense(3, name="two")(x)])
    return keras.Model(inputs, x)


def test_one_shape_of_states_and_of_controls():
    path = Path(None, two_stages())
    with pytest.raises(ValueError, match=r"need one shape.*\(None, 4\).*'last' with"):
        TrackingCost(1.0, np.zeros(4)).check(path)
    with pytest.raises(ValueError, match=r"\(4, 4\), \(4,\).*'last' with \[\(3, 3\)"):
        ControlCost(1.0, "h1").check(path)
    for norm in ("l2", "l1", "group"):
        ControlCost(1.0, norm).check(path)


def test_a_network_without_blocks():
    path = Path(None, keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    for cost in (ControlCost(), TrackingCost(1.0, [0.0, 0.0])):
        with pytest.raises(ValueError, match=r"(?s)no residual block whose.*blocks=\["):
            cost.check(path)


def test_norms_and_weights_out_of_range():
    with pytest.raises(ValueError, match="norm must be one of 'l2', 'h1', 'l1', 'gro"):
        ControlCost(1.0, "l3")
    with pytest.raises(ValueError, match="weight must be a finite number >= 0"):
        ControlCost(-1.0)


@pytest.mark.parametrize("norm", ["l2", "l1", "group"])
def test_frozen_controls_cost_nothing(norm):
    net = network()
    whole = value(ControlCost(norm=norm), net=net)
    parts = []
    for name in ("block1_dense", "block2_dense"):
        net.get_layer(name).trainable = False
        parts.append(value(ControlCost(norm=norm), net=net))
        net.get_layer(name).trainable = True
    assert sum(parts) == pytest.approx(whole, rel=1e-6)
    assert min(parts) > 0
    net.trainable = False
    assert value(ControlCost(norm=norm), net=net) == 0.0


def test_one_block_has_no_changes():
    net = neural_ode((2,), 1, steps=1)
    path = Path(None, net)
    smooth, plain = (float(as_numpy(ControlCost(1.0, n)(path))) for n in ("h1", "l2"))
    assert smooth == plain > 0


def test_costs_are_saved_by_their_arguments():
    """As JSON, as in a model's file."""
    costs = [
        ControlCost(0.5, "group"),
        TrackingCost(0.25, CENTRES),
        TrackingCost(2.0, corners),
    ]
    for cost in costs:
        text = json.dumps(keras.saving.serialize_keras_object(cost))
        loaded = keras.saving.deserialize_keras_object(json.loads(text))
        assert repr(loaded) == repr(cost)
    assert loaded.target is corners
    assert [cost.name for cost in costs[:2]] == ["control_cost", "tracking_cost"]
    assert [cost.needs_target for cost in costs[:2]] == [False, True]


def test_a_model_trains_by_them_and_is_saved(tmp_path):
    costs = [ControlCost(0.5, "group"), TrackingCost(0.25, CENTRES)]
    model = keras_lap.LeastActionModel(network(), running_costs=costs)
    model.compile("sgd", "mse")
    logs = model.train_on_batch(POINTS, LABELS, return_dict=True)
    parts = float(logs["task_loss"]) + float(logs["transport_cost"])
    parts += 0.5 * float(logs["control_cost"]) + 0.25 * float(logs["tracking_cost"])
    assert float(logs["loss"]) == pytest.approx(parts, rel=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.running_costs) == repr(model.running_costs)
    ours, theirs = (
        each.train_on_batch(POINTS, LABELS, return_dict=True)
        for each in (model, loaded)
    )
    assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-6)


def test_weight_by_weight_a_dense_network():
    """Any residual network: by hand from its weights."""
    net = build_dense_network(blocks=2)
    path = priced_path(net, np.zeros((2, 64), "float32"), horizon=3.0)
    weights = [
        [w for end in ("in", "out") for w in net.get_layer(f"b{k}_{end}").get_weights()]
        for k in (0, 1)
    ]
    expected = 1.5 * sum(np.sum(w**2) for block in weights for w in block) / 2
    assert float(as_numpy(ControlCost()(path))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_class_without_a_point_ends_fit_before_it_begins(wrong):
    network, x = build_dense_network(1, width=2, features=4, classes=5), np.ones((6, 4))
    model = keras_lap.LeastActionModel(
        network, running_costs=[TrackingCost(1.0, CENTRES)]
    )
    model.compile("sgd", crossentropy())
    y, before = np.array([0, wrong] * 3), network.get_weights()
    for given in ({"x": x, "y": y}, {"x": x, "y": y[:, None]}):
        with pytest.raises(
            ValueError, match=rf"classes 0 to 2\. Received: y from .*{wrong}"
        ):
            model.fit(**given, verbose=0)
    with pytest.raises(ValueError, match="Received: y from"):
        model.fit(x, y, verbose=0)
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    model.fit(x, y % 3, verbose=0)
    # A point for all takes every target.
    other = keras_lap.LeastActionModel(
        network, running_costs=[TrackingCost(1.0, [0, 0])]
    )
    other.compile("sgd", crossentropy())
    other.fit(x, np.arange(6) % 5, verbose=0)
