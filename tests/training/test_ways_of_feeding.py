"""Every way in which Keras takes data, with least action as with plain Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support import ways
from support.basics import as_numpy
from support.ways import (
    BATCH,
    FIT,
    SAMPLES,
    STEPS,
    assert_trains_alike,
    batches,
    data,
    fit,
)

import keras_lap


@pytest.mark.way("`fit` from arrays")
def test_arrays():
    assert_trains_alike()


@pytest.mark.way("`validation_split`, `validation_data`")
@pytest.mark.parametrize("how", ["split", "data"])
def test_validation(how):
    """The last quarter is held out; on it the price is not counted."""
    x, y, _ = data()
    if how == "split":
        options = {"validation_split": 0.25}
    else:
        options = {"x": x[:24], "y": y[:24], "validation_data": (x[24:], y[24:])}

    def train(model, callbacks=()):
        return fit(model, callbacks, **options)

    _, _, theirs, ours = assert_trains_alike(train, steps=3)
    np.testing.assert_allclose(ours["val_loss"], theirs["val_task"], rtol=1e-5)
    assert ours["val_loss"] == ours["val_task_loss"]


@pytest.mark.way("`fit` from `tf.data`")
def test_tf_data():
    tf = pytest.importorskip("tensorflow")
    x, y, _ = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    assert_trains_alike(lambda model, callbacks=(): fit_from(dataset, model, callbacks))


@pytest.mark.way("`fit` from `keras.utils.PyDataset` with workers")
def test_py_dataset():
    # Threads: a forked process may hang beside JAX's own threads, as JAX warns.
    dataset = Batches(workers=2, max_queue_size=4)
    assert_trains_alike(lambda model, callbacks=(): fit_from(dataset, model, callbacks))


class Batches(keras.utils.PyDataset):
    """The data, batch by batch."""

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        x, y, _ = data()
        return x[index * BATCH :][:BATCH], y[index * BATCH :][:BATCH]


@pytest.mark.way("`fit` from a PyTorch `DataLoader`")
def test_torch_data_loader():
    torch = pytest.importorskip("torch")
    x, y, _ = data()
    tensors = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    loader = torch.utils.data.DataLoader(tensors, batch_size=BATCH)
    assert_trains_alike(lambda model, callbacks=(): fit_from(loader, model, callbacks))


@pytest.mark.way("`fit` from a generator")
def test_generator():
    def generate():
        while True:
            yield from batches(*data()[:2])

    def train(model, callbacks=()):
        return fit_from(generate(), model, callbacks, steps_per_epoch=STEPS)

    assert_trains_alike(train)


def fit_from(dataset, model, callbacks, **options):
    return model.fit(dataset, **FIT, **options, callbacks=list(callbacks)).history


@pytest.mark.way("`train_on_batch`")
def test_train_on_batch():
    """Without callbacks, so with a constant multiplier; the logs are running means."""
    plain, model = ways.pair()
    logs = []
    for each in (plain, model):
        each.compile(**ways.compile_options())
        for batch in batches(*data()[:2]):
            logs.append(each.train_on_batch(*batch, return_dict=True))
    theirs, ours = (
        {name: [float(step[name]) for step in part] for name in part[0]}
        for part in (logs[:STEPS], logs[STEPS:])
    )
    ways.assert_same_logs(ours, theirs, 1e-5)


@pytest.mark.way("`train_on_batch`")
def test_the_multiplier_rises_in_a_loop_of_ones_own():
    """`ascent.start` is what the callback calls; the schedule stays until `stop`."""
    _, model = ways.pair()
    model.compile(**ways.compile_options())
    model.ascent.start(ways.TAU, batches=2, averaged=False)
    expected = ways.MULTIPLIER
    for count, (x, y) in enumerate(batches(*data()[:2]), start=1):
        losses = keras.losses.sparse_categorical_crossentropy(
            y, model.network(x), from_logits=True
        )
        if count % 2 == 0:
            expected += ways.TAU * as_numpy(keras.ops.stop_gradient(losses)).mean()
        model.train_on_batch(x, y)
        assert float(model.multiplier) == pytest.approx(expected, rel=1e-5)
    model.ascent.stop()


def check_weighed(train, weights):
    """Against plain Keras with the displacements as outputs that are to be zero.

    Their mean squares, over λ, are losses which Keras itself weighs.
    """
    model = ways.pair()[1]
    network = keras.models.clone_model(model.network)
    network.set_weights(model.network.get_weights())
    moves = [network.get_layer(f"b{k}").output for k in range(2)]
    plain = keras.Model(network.input, [network.output, *moves])
    plain.compile(
        keras.optimizers.SGD(0.1),
        [ways.crossentropy(), "mse", "mse"],
        loss_weights=[1.0, 1 / ways.MULTIPLIER, 1 / ways.MULTIPLIER],
    )
    x, y, _ = data()
    zeros = np.zeros((ways.SAMPLES, ways.WIDTH), "float32")
    targets, each = [y, zeros, zeros], [weights] * 3
    theirs = fit(plain, x=x, y=targets, sample_weight=each)["loss"]
    model.compile(**ways.compile_options())
    ours = train(model)
    np.testing.assert_allclose(ours["loss"], theirs, rtol=1e-5)
    for mine, reference in zip(
        model.network.get_weights(), network.get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-5)
    # The metric has no weights: so far apart is far beyond rounding.
    assert abs(ours["task_loss"][0] - ours["task"][0]) > 1e-3
    ways.assert_rises(model, train)


@pytest.mark.way("`sample_weight`")
@pytest.mark.parametrize("source", ["array", "generator"])
def test_sample_weight(source):
    *_, weight = data()

    def train(model, callbacks=()):
        if source == "array":
            return fit(model, callbacks, sample_weight=weight)
        triples = (batch for _ in range(9) for batch in batches(*data()))
        return fit_from(triples, model, callbacks, steps_per_epoch=STEPS)

    check_weighed(train, weight)


@pytest.mark.way("`class_weight`")
def test_class_weight():
    by_class = {0: 1.0, 1: 3.0, 2: 0.0}

    def train(model, callbacks=()):
        return fit(model, callbacks, class_weight=by_class)

    check_weighed(train, np.array([by_class[label] for label in data()[1]], "float32"))


def build_several(price, kind):
    """Two inputs and two outputs, in lists or in dictionaries."""
    inputs = {name: keras.Input((ways.WIDTH,), name=name) for name in ("a", "b")}
    x = ways.block(keras.layers.Add()(list(inputs.values())), price, "b0")
    outputs = {
        "digit": keras.layers.Dense(3, name="digit")(x),
        "size": keras.layers.Dense(1, name="size")(x),
    }
    as_kind = dict if kind is dict else lambda d: list(d.values())
    return keras.Model(as_kind(inputs), as_kind(outputs))


@pytest.mark.way("several inputs and outputs, several losses with `loss_weights`")
@pytest.mark.parametrize("kind", [list, dict])
def test_several_inputs_outputs_and_losses(kind):
    x, y, size = data()
    as_kind = dict if kind is dict else lambda d: list(d.values())
    feed = {
        "x": as_kind({"a": x, "b": np.flip(x).copy()}),
        "y": as_kind({"digit": y, "size": size[:, None]}),
    }

    def options():
        losses = {"digit": ways.crossentropy(), "size": keras.losses.MeanSquaredError()}
        metrics = {"digit": ["accuracy"], "size": ["mae"]}
        return {
            "optimizer": keras.optimizers.SGD(0.01),
            "loss": as_kind(losses),
            "loss_weights": as_kind({"digit": 0.25, "size": 2.0}),
            "metrics": as_kind(metrics),
        }

    *_, ours = assert_trains_alike(
        lambda model, callbacks=(): fit(model, callbacks, **feed),
        options,
        lambda price=0.0: build_several(price, kind),
    )
    parts = 0.25 * np.array(ours["digit_loss"]) + 2 * np.array(ours["size_loss"])
    np.testing.assert_allclose(ours["task_loss"], parts, rtol=1e-5)


@pytest.mark.way("inputs that may be left out")
def test_an_optional_input_left_out():
    """Keras hands on None; sizes of batches must come from the other input."""

    class Both(keras.layers.Layer):
        def call(self, first, second):
            return second if first is None else first + second

    def build(price=0.0):
        first = keras.Input((ways.WIDTH,), name="first", optional=True)
        second = keras.Input((ways.WIDTH,), name="second")
        x = ways.block(Both()(first, second), price, "b0")
        return keras.Model([first, second], keras.layers.Dense(3)(x))

    def train(model, callbacks=()):
        pairs = (((None, x), y) for _ in range(9) for x, y in batches(*data()[:2]))
        return fit_from(pairs, model, callbacks, steps_per_epoch=STEPS)

    assert_trains_alike(train, build=build)


def test_a_last_batch_that_is_smaller_counts_as_a_batch():
    """λ rises by every batch's own mean, however small; independent of the logs."""
    x, y, _ = data()
    model = keras_lap.LeastActionModel(ways.build(), 2.0, ways.MULTIPLIER)
    model.compile(keras.optimizers.SGD(0.0), ways.crossentropy())
    logits = model.predict(x, verbose=0)
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(SAMPLES), y]
    update = keras_lap.callbacks.MultiplierUpdate(ways.TAU)
    fit(model, [update], batch_size=20, epochs=1)
    expected = ways.MULTIPLIER + ways.TAU * (losses[:20].mean() + losses[20:].mean())
    assert float(model.multiplier) == pytest.approx(expected, rel=1e-5)
