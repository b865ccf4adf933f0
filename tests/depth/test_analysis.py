"""`depth.analyze` against NumPy, plain Keras and SciPy."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import logsumexp
from support.basics import as_numpy
from support.by_depth import at_depth, one_stage, stages, tokens, with_random_weights

import keras_lap
from keras_lap import depth

# Float32 sums of some ten terms near one.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
ON_ONE = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
LOGITS = {"from_logits": True}


def mlp(blocks=3, width=5, classes=4, activation=None):
    """Blocks ``x + h·tanh(x W + b)``, built as Sequential would not allow."""
    inputs = x = keras.Input((6,))
    x = layers.Dense(width, name="stem")(x)
    for k in range(blocks):
        r = layers.Dense(width, activation="tanh", name=f"branch{k}")(x)
        x = layers.Add(name=f"add{k}")([x, layers.Rescaling(0.5)(r)])
    head = layers.Dense(classes, activation=activation, name="head")
    return with_random(keras.Model(inputs, head(x), name="mlp"))


def with_random(net):
    generator = np.random.default_rng(3)
    net.set_weights([generator.normal(0, 0.8, w.shape) for w in net.get_weights()])
    return net


def drawn(count=41, classes=4):
    generator = np.random.default_rng(5)
    x = generator.normal(size=(count, 6)).astype("float32")
    return x, generator.integers(0, classes, count)


def by_hand(net, x, blocks=3):
    """All states and exits of `mlp` in float64."""

    def of(name):
        return [w.astype(float) for w in net.get_layer(name).get_weights()]

    def apply(name, x):
        return x @ of(name)[0] + of(name)[1]

    states = [apply("stem", x.astype(float))]
    for k in range(blocks):
        states.append(states[-1] + 0.5 * np.tanh(apply(f"branch{k}", states[-1])))
    return states, [apply("head", state) for state in states]


def compiled(net, loss=None, metrics=("accuracy",)):
    loss = loss or keras.losses.SparseCategoricalCrossentropy(**LOGITS)
    net.compile("sgd", loss, metrics=list(metrics))
    return net


def analyze(model, *data, **options):
    return depth.analyze(model, *data, verbose=0, **options)


def test_all_numbers_by_hand():
    net, (x, y) = mlp(), drawn()
    states, exits = by_hand(net, x)
    losses = np.stack([logsumexp(e, axis=1) - e[np.arange(41), y] for e in exits], 1)
    hits = np.stack([e.argmax(axis=1) == y for e in exits], 1)
    report = analyze(compiled(net), x, y, horizon=1.5, tolerance=0.0)
    np.testing.assert_allclose(report.losses, losses, **CLOSE)
    np.testing.assert_array_equal(report.accuracies, hits)
    plain = report.to_dict()
    assert json.loads(report.to_json()) == plain
    assert [e["blocks"] for e in plain["exits"]] == [0, 1, 2, 3]
    assert [e["time"] for e in plain["exits"]] == [0, 0.5, 1, 1.5]
    np.testing.assert_allclose(
        [[e["loss"], e["accuracy"]] for e in plain["exits"]],
        np.stack([losses.mean(0), hits.mean(0)], 1),
        **CLOSE,
    )
    for k, block in enumerate(plain["blocks"]):
        weights = net.get_layer(f"branch{k}").get_weights()
        energy = 0.5 * 0.5 * sum(np.sum(w.astype(float) ** 2) for w in weights)
        v = states[k + 1] - states[k]
        ratio = np.linalg.norm(v, axis=1) / np.linalg.norm(states[k], axis=1)
        expected = [energy, np.mean(v**2), ratio.mean(), 0.5]
        keys = ("control_energy", "cost", "relative_displacement", "time_step")
        np.testing.assert_allclose([block[key] for key in keys], expected, **CLOSE)
        assert block["name"] == f"add{k}"
        assert not block["idle"]
        assert not block["scale_free"]


@ON_ONE
def test_exits_are_what_cut_networks_evaluate_to():
    """With batch normalisation, two stages and convolutions, and in a nested model."""
    for build, blocks in ((stages, 4), (one_stage, 3)):
        net = with_random_weights(build(blocks))
        generator = np.random.default_rng(1)
        x = generator.normal(size=(20, *net.input.shape[1:])).astype("float32")
        y = generator.integers(0, 3, 20)
        inputs = keras.Input(net.input.shape[1:])
        outer = keras.Model(inputs, net(inputs))
        for model in (net, outer):
            report = analyze(compiled(model), x, y, batch_size=7)
            for k, exit in enumerate(report.exits):
                small = compiled(at_depth(build, k, net))
                expected = small.evaluate(x, y, verbose=0)
                # Losses in the hundreds: weights are drawn and not trained.
                np.testing.assert_allclose([exit.loss, exit.accuracy], expected, 1e-4)


@pytest.mark.parametrize("least_action", [pytest.param(False, marks=ON_ONE), True])
def test_the_model_is_left_as_it_is(least_action):
    x, y = drawn()
    net = with_random_weights(one_stage(2))
    model = keras_lap.LeastActionModel(net) if least_action else net
    compiled(model)
    x, y = x[:, :4], y % 3
    model.fit(x, y, verbose=0)
    before = [as_numpy(v) for v in (*model.variables, *model.optimizer.variables)]
    metrics = [(m.name, as_numpy(m.result())) for m in model.metrics[:1]]
    loss, reduction = model.loss, model.loss.reduction
    report = analyze(model, x, y, recalibrate=True)
    after = [as_numpy(v) for v in (*model.variables, *model.optimizer.variables)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert metrics == [(m.name, as_numpy(m.result())) for m in model.metrics[:1]]
    assert model.loss is loss
    assert loss.reduction == reduction
    evaluated = model.evaluate(x, y, return_dict=True, verbose=0)
    plain = analyze(model, x, y)
    assert plain.exits[-1].loss == pytest.approx(evaluated["loss"], rel=1e-4)
    assert plain.exits[-1].accuracy == pytest.approx(evaluated["accuracy"])
    assert report.exits[-1].loss != pytest.approx(evaluated["loss"], rel=1e-4)


@ON_ONE
def test_horizon_and_blocks_of_the_model():
    net, (x, y) = mlp(), drawn()
    steps = [0.5, 1.0, 2.0]
    costs = [keras_lap.running_costs.ControlCost()]
    model = keras_lap.LeastActionModel(
        net, energy=None, running_costs=costs, horizon=steps
    )
    report = analyze(compiled(model), x, y)
    assert [exit.time for exit in report.exits] == [0, 0.5, 1.5, 3.5]
    logs = model.train_on_batch(x, y, return_dict=True)
    total = sum(block.control_energy for block in report.blocks)
    assert total == pytest.approx(float(logs["control_cost"]), rel=1e-4)
    fewer = analyze(model, x, y, blocks=["add0", "add2"], horizon=2)
    assert [block.name for block in fewer.blocks] == ["add0", "add2"]
    chosen = keras_lap.LeastActionModel(net, blocks=["add1"])
    assert [b.name for b in analyze(compiled(chosen), x, y).blocks] == ["add1"]
    assert len(keras_lap.find_residual_blocks(fewer.prune(1))) == 2


@ON_ONE
def test_projection_blocks_of_a_model_always_run():
    net = with_random_weights(stages(4))
    model = keras_lap.LeastActionModel(net, include_projections=True, horizon=10.0)
    x = np.zeros((8, 8, 8, 2), "float32")
    report = analyze(compiled(model), x, np.zeros(8, int))
    assert len(report.blocks) == len(model.blocks) - 1 == 4
    assert report.exits[-1].time == pytest.approx(8.0)


@ON_ONE
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", lambda y, p: np.mean((p - y) ** 2, axis=1)),
        (keras.losses.MeanAbsoluteError(), lambda y, p: np.abs(p - y).mean(axis=1)),
        (
            keras.losses.MeanSquaredError(reduction="sum"),
            lambda y, p: np.mean((p - y) ** 2, axis=1),
        ),
        (
            lambda y, p: keras.ops.mean(keras.ops.abs(y - p), axis=-1),
            lambda y, p: np.abs(p - y).mean(axis=1),
        ),
        (
            lambda y, p: keras.ops.mean(keras.ops.square(y - p)),
            lambda y, p: np.mean((p - y) ** 2, axis=1),
        ),
        (
            lambda y, p: keras.ops.square(y - p),
            lambda y, p: np.mean((p - y) ** 2, axis=1),
        ),
    ],
    ids=["name", "object", "sum", "function", "mean", "elements"],
)
def test_losses_in_all_forms(loss, expected):
    for outputs in (1, 3):
        net, (x, _) = mlp(classes=outputs), drawn()
        y = np.random.default_rng(0).normal(size=(41, outputs))
        wanted = np.stack([expected(y, exit) for exit in by_hand(net, x)[1]], 1)
        for target in (y, y[:, 0])[: 3 - min(outputs, 2)]:
            report = analyze(net, x, target, loss=loss)
            np.testing.assert_allclose(report.losses, wanted, **CLOSE)
            assert report.accuracies is None
            assert report.advice.accuracy is None


BINARY = keras.losses.BinaryCrossentropy
CATEGORICAL = keras.losses.CategoricalCrossentropy


@ON_ONE
@pytest.mark.parametrize(
    ("loss", "metrics", "outputs", "activation"),
    [
        ("sparse_categorical_crossentropy", (), 4, "softmax"),
        ("crossentropy", (), 4, "softmax"),
        (keras.losses.SparseCategoricalCrossentropy(**LOGITS), (), 4, None),
        (keras.losses.sparse_categorical_crossentropy, (), 4, "softmax"),
        ("categorical_crossentropy", (), 4, "softmax"),
        (CATEGORICAL(**LOGITS), (), 4, None),
        ("binary_crossentropy", (), 1, "sigmoid"),
        (BINARY(**LOGITS), (), 1, None),
        (BINARY(**LOGITS), ("accuracy",), 1, None),
        ("binary_crossentropy", (), 3, "sigmoid"),
        ("mse", ("accuracy",), 4, "softmax"),
        ("mse", (keras.metrics.BinaryAccuracy(),), 3, "sigmoid"),
    ],
)
def test_what_counts_as_right(loss, metrics, outputs, activation):
    net, (x, labels) = mlp(classes=outputs, activation=activation), drawn()
    _, logits = by_hand(net, x)
    one_hot = np.eye(4)[labels]
    if outputs == 4:
        sparse = "sparse" in str(getattr(loss, "name", loss)) or loss == "crossentropy"
        y = labels if sparse else one_hot
        wanted = [exit.argmax(1) == labels for exit in logits]
    else:
        y = (labels % 2)[:, None] if outputs == 1 else one_hot[:, :3]
        wanted = [np.mean((exit > 0) == (y > 0), axis=1) for exit in logits]
    report = analyze(compiled(net, loss, metrics), x, y)
    np.testing.assert_allclose(report.accuracies, np.stack(wanted, 1))
    # One class is chosen of four, or of two, by what is known for logits or not.
    if outputs == 3 or loss == "mse":
        assert report.confidences is None
        return
    p = [np.exp(exit - logsumexp(exit, axis=1)[:, None]).max(1) for exit in logits]
    if outputs == 1:
        p = [1 / (1 + np.exp(-np.abs(exit[:, 0]))) for exit in logits]
    np.testing.assert_allclose(report.confidences, np.stack(p, 1), **CLOSE)


@ON_ONE
def test_when_there_is_no_accuracy():
    net, (x, y) = mlp(classes=1), drawn()
    assert analyze(compiled(net, "mse", ()), x, y).accuracies is None
    net = mlp(classes=4)
    one_hot = np.eye(4)[y]
    assert analyze(compiled(net, "mse", ()), x, one_hot).accuracies is None
    own = keras.losses.SparseCategoricalCrossentropy(**LOGITS).call
    found = analyze(net, x, y, loss=lambda y, p: own(y, p))
    assert found.accuracies is not None
    assert found.confidences is None  # of a function nobody knows what it takes
    assert found.early_exits() is None
    assert found.to_dict()["early_exits"] is None
    assert len(found.plot().axes) == 3  # loss, accuracy beside it, moves


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(14 * index, 14 * index + 14)
        return self.x[part], self.y[part]


@ON_ONE
def test_data_in_batches_of_their_own():
    tf = pytest.importorskip("tensorflow")
    net, (x, y) = compiled(mlp()), drawn()
    whole = analyze(net, x, y)
    handed = [Batches(x, y), [(x[:20], y[:20]), (x[20:], y[20:])].__iter__()]
    handed.append(tf.data.Dataset.from_tensor_slices((x, y)).batch(9))
    handed.append(tf.data.Dataset.from_tensor_slices((x, {"head": y})).batch(9))
    named = analyze(net, x, {"head": y})
    np.testing.assert_array_equal(named.losses, whole.losses)
    for data in handed:
        np.testing.assert_allclose(analyze(net, data).losses, whole.losses, **CLOSE)


def test_positions_that_a_mask_leaves_out_do_not_count():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 6, mask_zero=True)(inputs)
    for _ in range(2):
        x = layers.Add()([x, layers.Dense(6, "tanh")(x)])
    net = with_random(keras.Model(inputs, layers.Dense(3)(x)))
    tokens = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 1, 2], [3, 0, 0, 0, 0]])
    y = np.array([[0, 1, 2, 0, 0], [1, 1, 2, 0, 2], [2, 1, 1, 1, 1]])
    report = analyze(compiled(net), tokens, y)
    evaluated = net.evaluate(tokens, y, verbose=0)
    last = report.exits[-1]
    np.testing.assert_allclose([last.loss, last.accuracy], evaluated, **CLOSE)


@ON_ONE
def test_layers_that_are_blocks():
    net = with_random_weights(tokens(3))
    x = np.random.default_rng(0).integers(1, 7, (30, 5))
    report = analyze(compiled(net), x, np.zeros(30, int))
    evaluated = net.evaluate(x, np.zeros(30), verbose=0)
    assert report.exits[-1].loss == pytest.approx(evaluated[0], rel=1e-4)
    assert len(report.blocks) == 3


@ON_ONE
def test_idle_blocks_and_scale_free_ones():
    inputs = x = keras.Input((6,))
    for k in range(3):
        r = layers.Dense(6, name=f"branch{k}")(x)
        r = layers.BatchNormalization()(r) if k == 1 else r
        x = layers.Add(name=f"add{k}")([x, r])
    net = with_random(keras.Model(inputs, layers.Dense(4)(x)))
    for variable in net.get_layer("branch2").weights:
        variable.assign(1e-5 * as_numpy(variable))
    norm = next(b for b in net.layers if isinstance(b, layers.BatchNormalization))
    norm.set_weights([np.ones(6), np.zeros(6), np.zeros(6), np.ones(6)])
    report = analyze(compiled(net), *drawn())
    assert [block.idle for block in report.blocks] == [False, False, True]
    assert [block.scale_free for block in report.blocks] == [False, True, False]
    text = str(report)
    assert "idle" in text
    assert "scale-free: a normalisation follows a kernel" in text
    x, y = drawn()
    pre = analyze(compiled(with_random_weights(one_stage(2))), x[:, :4], y % 3)
    assert not any(block.scale_free for block in pre.blocks)


@ON_ONE
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tolerance": -0.1}, ValueError, "tolerance must be a finite number >= 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number"),
        ({"loss": 3}, TypeError, "loss must be a name, a keras.losses.Loss or a"),
        ({"loss": ["mse", "mae"]}, ValueError, "compared by one loss. Received: loss"),
        ({"loss": "msee"}, ValueError, "msee"),
        ({"horizon": [1.0, 1.0]}, ValueError, "hold 3 time steps"),
        ({"horizon": -1}, ValueError, "horizon must be a finite number > 0"),
        ({"y": None}, ValueError, "compared by targets. Received: y=None"),
        ({"x": np.zeros((0, 6)), "y": np.zeros(0)}, ValueError, "no sample in x"),
        ({"x": np.full((41, 6), np.nan)}, ValueError, "not finite for 41 of 41"),
        ({"blocks": ["add9"]}, ValueError, "add9"),
    ],
)
def test_what_is_refused(change, error, message):
    x, y = drawn()
    with pytest.raises(error, match=message):
        analyze(compiled(mlp()), **{"x": x, "y": y, **change})


@ON_ONE
def test_models_that_are_refused():
    x, y = drawn()
    with pytest.raises(ValueError, match="'mlp', which has none"):
        analyze(mlp(), x, y)
    net = mlp()
    two = keras.Model(net.input, [net.output, net.layers[-2].output], name="two")
    with pytest.raises(ValueError, match="Received: 'two' with 2 outputs"):
        analyze(two, x, y, loss="mse")
    with pytest.raises(ValueError, match="has no residual block"):
        analyze(compiled(mlp(0)), x, y)
