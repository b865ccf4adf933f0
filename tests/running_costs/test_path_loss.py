"""`PathLoss`: objective, gradients and logs, against NumPy by hand and plain Keras."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from support.basics import as_numpy, build_dense_network, crossentropy
from support.ode_by_hand import ByHand

import keras_lap
from keras_lap.networks import neural_ode, one_representation_resnet
from keras_lap.running_costs import (
    ControlCost,
    Path,
    PathLoss,
    RunningCost,
    TrackingCost,
    path_loss,
)
from keras_lap.trajectory import Recorder

STEPS = [0.5, 0.25, 0.75, 0.3]
RNG = np.random.default_rng(7)
# As in test_by_hand.
CLOSE = {"rtol": 2e-5, "atol": 3e-6}


def network(dynamics="inside"):
    hidden = 5 if dynamics == "bottleneck" else None
    options = {"dynamics": dynamics, "hidden_units": hidden, "augment": 1}
    net = neural_ode((2,), 2, time_steps=STEPS, **options)
    net.set_weights([0.7 * RNG.normal(size=w.shape) for w in net.get_weights()])
    return net


def batch():
    x, y = (RNG.normal(size=(9, 2)).astype("float32") for _ in range(2))
    return x, y, np.linspace(0.2, 1.9, 9).astype("float32")


class ExitsByHand(ByHand):
    """Exit k is the readout of x_k, and its loss the mean squared error."""

    def errors(self, x, y):
        w, b = self.weights["readout"]
        return [state @ w + b - y for state in self.states(x)]

    def path_loss(self, x, y, samples, rule):
        losses = [np.mean(samples[:, None] * e**2) for e in self.errors(x, y)]
        return np.dot(rule, losses)

    def path_gradients(self, x, y, samples, beta, rule):
        """Of ``task + beta · path loss``, by the names of the layers."""
        states, errors = self.states(x), self.errors(x, y)
        w, _ = self.weights["readout"]
        rule = beta * np.asarray(rule)
        rule[-1] += 1
        slopes = [
            2 * weight * samples[:, None] * error / y.size
            for weight, error in zip(rule, errors, strict=True)
        ]
        pairs = list(zip(states, slopes, strict=True))
        found = {"readout": [sum(x.T @ s for x, s in pairs), sum(slopes).sum(axis=0)]}
        adjoint = slopes[-1] @ w.T
        for k in reversed(range(len(self.dt))):
            back, own = self.pulled_back(k, states[k], self.dt[k] * adjoint)
            found |= dict(zip(self.names[k], own, strict=True))
            adjoint = adjoint + back + slopes[k] @ w.T
        return found


def one_step(net, costs, x, y, samples=None, horizon=STEPS, loss="mse", **options):
    """The logs of one step, and how far it moved the weights: the gradients."""
    model = keras_lap.LeastActionModel(
        net, energy=None, running_costs=costs, horizon=horizon
    )
    model.compile(keras.optimizers.SGD(1.0), loss, **options)
    layers = [layer for layer in net.layers if layer.trainable_variables]
    before = [[as_numpy(w) for w in layer.trainable_variables] for layer in layers]
    before = [[np.array(w) for w in layer] for layer in before]
    logs = model.train_on_batch(x, y, sample_weight=samples, return_dict=True)
    moved = {}
    for layer, old in zip(layers, before, strict=True):
        pairs = zip(old, layer.trainable_variables, strict=True)
        moved[layer.name] = [w.astype("float64") - as_numpy(new) for w, new in pairs]
    return {name: float(as_numpy(value)) for name, value in logs.items()}, moved


def trapezoid_on(grid):
    """Weights at all five exits of the rule on some of them."""
    times, rule = np.concatenate([[0], np.cumsum(STEPS)]), np.zeros(5)
    for start, end in itertools.pairwise(grid):
        rule[[start, end]] += (times[end] - times[start]) / 2
    return rule


def check(cost, rule, dynamics="inside"):
    net, (x, y, samples) = network(dynamics), batch()
    hand = ExitsByHand(net, dynamics, STEPS)
    logs, gradients = one_step(net, [cost], x, y, samples)
    path_loss = hand.path_loss(x, y, samples, rule)
    assert logs["task_loss"] == pytest.approx(hand.task(x, y, samples), rel=2e-6)
    assert logs["path_loss"] == pytest.approx(path_loss, rel=2e-6)
    total = logs["task_loss"] + cost.weight * path_loss
    assert logs["loss"] == pytest.approx(total, rel=2e-6)
    by_hand = hand.path_gradients(x, y, samples, cost.weight, rule)
    assert gradients.keys() == by_hand.keys()
    for name, slopes in by_hand.items():
        for ours, theirs in zip(gradients[name], slopes, strict=True):
            np.testing.assert_allclose(ours, theirs, **CLOSE, err_msg=name)


@pytest.mark.parametrize("dynamics", ["inside", "outside", "bottleneck"])
def test_objective_and_gradients_by_hand(dynamics):
    check(PathLoss(0.7), trapezoid_on([0, 1, 2, 3, 4]), dynamics)


GRIDS = {2: [0, 2, 4], 3: [0, 3, 4], 4: [0, 4], 9: [0, 4]}


@pytest.mark.parametrize("every", GRIDS)
def test_every_so_many_exits_by_hand(every):
    check(PathLoss(0.7, every=every), trapezoid_on(GRIDS[every]))


def test_all_costs_at_once_by_hand():
    """As `LeastActionModel` trains by them, with weights of samples."""
    net, (x, y, samples), target = network(), batch(), np.array([0.4, -0.6, 1.1])
    hand = ExitsByHand(net, "inside", STEPS)
    costs = [PathLoss(0.7), ControlCost(0.3), TrackingCost(0.5, target)]
    logs, gradients = one_step(net, costs, x, y, samples)
    rule, points = trapezoid_on([0, 1, 2, 3, 4]), np.broadcast_to(target, (9, 3))
    expected = {
        "path_loss": hand.path_loss(x, y, samples, rule),
        "control_cost": hand.control("l2"),
        "tracking_cost": hand.tracking(x, points, samples),
    }
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, rel=2e-6)
    parts = np.dot([0.7, 0.3, 0.5], list(expected.values()))
    assert logs["loss"] == pytest.approx(logs["task_loss"] + parts, rel=2e-6)
    by_path = hand.path_gradients(x, y, samples, 0.7, rule)
    by_task = hand.path_gradients(x, y, samples, 0.0, rule)
    others = hand.gradients(x, y, samples, 0.3, "l2", 0.5, points)
    for name, slopes in gradients.items():
        parts = zip(slopes, by_path[name], others[name], by_task[name], strict=True)
        for ours, path, rest, task in parts:
            np.testing.assert_allclose(ours, path + rest - task, **CLOSE, err_msg=name)


def without_exit_0(patch):
    rule = path_loss.trapezoid
    patch.setattr(path_loss, "trapezoid", lambda steps: (0.0, *rule(steps)[1:]))


def exits_in_reverse(patch):
    exits = Path.exits.fget
    patch.setattr(Path, "exits", property(lambda path: exits(path)[::-1]))


def time_twice(patch):
    rule = path_loss.trapezoid
    patch.setattr(path_loss, "trapezoid", lambda dt: rule([each**2 for each in dt]))


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
@pytest.mark.parametrize("fault", [without_exit_0, exits_in_reverse, time_twice])
def test_faults_of_the_package_are_found(fault, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        test_objective_and_gradients_by_hand("inside")


@pytest.mark.parametrize(
    "rule",
    [
        [0, 0.375, 0.5, 0.525, 0.15],
        [0.5, 0.25, 0.75, 0.3, 0],
        [0.5, 0.75, 1.0, 1.05, 0.3],
    ],
    ids=["without exit 0", "left rule", "no half"],
)
def test_the_comparison_by_hand_finds_faults(rule):
    with pytest.raises(AssertionError):
        check(PathLoss(0.7), rule)


def test_at_weight_zero_training_is_the_plain_one():
    """Statistics of batch normalisation move once, and no loss is added twice."""
    keras.utils.set_random_seed(3)
    plain = one_representation_resnet((8, 8, 1), 10, filters=2, num_blocks=3)
    net = keras.models.clone_model(plain)
    net.set_weights(plain.get_weights())
    x, y = RNG.normal(size=(6, 8, 8, 1)).astype("float32"), np.arange(6)
    plain.compile(keras.optimizers.SGD(0.1), crossentropy())
    plain.train_on_batch(x, y)
    model = keras_lap.LeastActionModel(net, None, running_costs=[PathLoss(0.0)])
    model.compile(keras.optimizers.SGD(0.1), crossentropy())
    logs = model.train_on_batch(x, y, return_dict=True)
    assert float(as_numpy(logs["path_loss"])) > 0
    moving = 0
    for ours, theirs in zip(net.weights, plain.weights, strict=True):
        moving += "moving" in ours.path
        np.testing.assert_allclose(as_numpy(ours), as_numpy(theirs), 1e-5, 1e-6)
    assert moving > 10


def two_outputs():
    inputs = x = keras.Input((4,))
    x = keras.layers.Dense(6, name="stem")(x)
    for k in range(2):
        r = keras.layers.Dense(6, activation="tanh", name=f"dense{k}")(x)
        x = keras.layers.Add(name=f"add{k}")([x, r])
    outputs = {n: keras.layers.Dense(d, name=n)(x) for n, d in (("a", 3), ("b", 1))}
    return keras.Model(inputs, outputs)


def test_losses_of_several_outputs_with_their_weights():
    """The path loss is by hand; Keras's logs of each output are those of the task."""
    net, samples = two_outputs(), np.linspace(0.2, 1.9, 5).astype("float32")
    x = RNG.normal(size=(5, 4)).astype("float32")
    targets = {"a": np.arange(5) % 3, "b": RNG.normal(size=(5, 1)).astype("float32")}
    report = keras_lap.find_residual_blocks(net)
    exits = Recorder(net, report, ["exits"])(x).exits
    parts = []
    for exit in exits:
        logits, values = as_numpy(exit["a"]), as_numpy(exit["b"])
        top = logits - logits.max(axis=1, keepdims=True)
        logs = top - np.log(np.exp(top).sum(axis=1, keepdims=True))
        nll = -logs[np.arange(5), targets["a"]]
        squares = (values - targets["b"])[:, 0] ** 2
        parts.append((np.mean(samples * nll), np.mean(samples * squares)))
    totals = [0.5 * a + 2.0 * b for a, b in parts]
    expected = totals[0] / 2 + totals[1] + totals[2] / 2
    logs, _ = one_step(
        *(net, [PathLoss(0.3)], x, targets, {"a": samples, "b": samples}),
        horizon=None,
        loss={"a": crossentropy(), "b": "mse"},
        loss_weights={"a": 0.5, "b": 2.0},
    )
    assert logs["path_loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["task_loss"] == pytest.approx(totals[2], rel=1e-5)
    assert logs["a_loss"] == pytest.approx(parts[2][0], rel=1e-5)
    assert logs["b_loss"] == pytest.approx(parts[2][1], rel=1e-5)


def test_masks_count_as_in_the_task():
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, 6, mask_zero=True)(inputs)
    for _ in range(2):
        x = keras.layers.Add()([x, keras.layers.Dense(6, "tanh")(x)])
    net = keras.Model(inputs, keras.layers.Dense(1)(x))
    tokens = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 1, 2]])
    y = RNG.normal(size=(2, 5, 1)).astype("float32")
    report = keras_lap.find_residual_blocks(net)
    exits = Recorder(net, report, ["exits"])(tokens).exits
    # Keras's mean of a masked loss is that over the positions which count.
    each = [np.mean((as_numpy(e) - y)[tokens != 0] ** 2) for e in exits]
    logs, _ = one_step(net, [PathLoss()], tokens, y, horizon=2.0)
    assert logs["task_loss"] == pytest.approx(each[2], rel=1e-5)
    assert logs["path_loss"] == pytest.approx(each[0] / 2 + each[1] + each[2] / 2, 1e-5)


def test_a_loop_of_ones_own_with_weights_of_samples():
    """`compute_loss` outside of a step of Keras's."""
    net, (x, y, samples) = network(), batch()
    model = keras_lap.LeastActionModel(
        net, energy=None, running_costs=[PathLoss(0.5)], horizon=STEPS
    )
    model.compile("sgd", "mse")
    outputs = model(x, training=True)
    loss = model.compute_loss(x, y, outputs, samples)
    hand = ExitsByHand(net, "inside", STEPS)
    expected = hand.task(x, y, samples)
    expected += 0.5 * hand.path_loss(x, y, samples, trapezoid_on([0, 1, 2, 3, 4]))
    assert float(as_numpy(loss)) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("every", [1, 3])
def test_training_by_it_brings_the_early_exits_down(every):
    keras.utils.set_random_seed(0)
    net = build_dense_network(blocks=6, features=4, classes=2, width=8)
    x = RNG.normal(size=(64, 4)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int64")
    costs = [PathLoss(1.0, every=every)]
    model = keras_lap.LeastActionModel(net, running_costs=costs)
    model.compile("adam", crossentropy())
    history = model.fit(x, y, epochs=3, batch_size=32, verbose=0).history
    assert history["path_loss"][-1] < history["path_loss"][0]
    assert "val_path_loss" not in history


def test_the_loss_of_a_path_of_ones_own():
    net, (x, y, samples) = network(), batch()
    report = keras_lap.find_residual_blocks(net)
    trajectory = Recorder(net, report, ["exits"])(x)
    error = keras.losses.MeanSquaredError()
    path = Path(trajectory, net, x, y, samples, report, STEPS, loss=error)
    hand = ExitsByHand(net, "inside", STEPS)
    expected = hand.path_loss(x, y, samples, trapezoid_on([0, 1, 2, 3, 4]))
    assert float(as_numpy(PathLoss()(path))) == pytest.approx(expected, rel=2e-6)


def test_it_is_saved_with_its_arguments(tmp_path):
    cost = PathLoss(0.3, every=2)
    model = keras_lap.LeastActionModel(network(), running_costs=[cost])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    (again,) = loaded.running_costs
    assert again.get_config() == {"weight": 0.3, "every": 2}


class InCall(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.stem, self.block = keras.layers.Dense(4), keras.layers.Dense(4)

    def call(self, x):
        x = self.stem(x)
        return x + self.block(x)


def test_blocks_inside_the_call_of_a_network():
    net = InCall()
    x = RNG.normal(size=(5, 3)).astype("float32")
    y = RNG.normal(size=(5, 4)).astype("float32")
    first = as_numpy(net.stem(x)) if net(x) is not None else None
    both = first + as_numpy(net.block(first))
    expected = (np.mean((first - y) ** 2) + np.mean((both - y) ** 2)) / 2
    model = keras_lap.LeastActionModel(net, None, running_costs=[PathLoss()])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    history = model.fit(x, y, epochs=1, verbose=0).history
    # One mean in float32.
    assert history["path_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_refusals():
    for every in (0, -1, True, 1.5, "two"):
        with pytest.raises(ValueError, match="every must be a whole number"):
            PathLoss(every=every)
    with pytest.raises(ValueError, match="weight must be"):
        PathLoss(-1.0)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="has no residual block whose path"):
        keras_lap.LeastActionModel(plain, None, running_costs=[PathLoss()])
    path = Path(None, network(), y=0, sample_weight=None)
    with pytest.raises(ValueError, match=r"loss of this path is not known.*loss="):
        path.loss(0)
    with pytest.raises(ValueError, match=r"exits of this path.*wanted = \('exits',"):
        _ = path.exits
    assert [*RunningCost.exits(PathLoss(), 2)] == [0, 1, 2]
