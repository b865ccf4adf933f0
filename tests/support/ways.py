"""Trains a network by least action and by plain Keras, and compares the two.

The plain network has the energy as activity regularisers, which Keras itself brings:
for p = 2 and a constant λ, ``C/λ`` is the sum over the blocks of
``Σ v² / (λ · width)``, over the size of the batch, by which Keras divides. So losses,
metrics and weights must be the same, whatever way the two are trained.
"""

from __future__ import annotations

import keras
import numpy as np

import keras_lap
from support.basics import crossentropy

WIDTH, CLASSES, SAMPLES, BATCH, EPOCHS = 4, 3, 32, 8, 2
STEPS = SAMPLES // BATCH
MULTIPLIER, TAU = 2.0, 0.5
PRICE = 1 / (MULTIPLIER * WIDTH)
FIT = {"epochs": EPOCHS, "shuffle": False, "verbose": 0}
OURS = {"task_loss", "transport_cost", "multiplier"}


def data():
    """Inputs `(32, 4)`, labels of 3 classes and weights, from NumPy."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, WIDTH)).astype("float32")
    y = rng.integers(0, CLASSES, SAMPLES).astype("int64")
    return x, y, rng.uniform(0.1, 2.0, SAMPLES).astype("float32")


def batches(*arrays):
    """The arrays cut into batches."""
    for i in range(0, SAMPLES, BATCH):
        yield tuple(array[i : i + BATCH] for array in arrays)


def block(x, price, name, **options):
    """A residual block whose branch may cost something."""
    branch = keras.layers.Dense(WIDTH, name=name, **options)(x)
    if price:
        regularise = keras.layers.ActivityRegularization(l2=price, dtype="float32")
        branch = regularise(branch)
    return keras.layers.Add()([x, branch])


def build(price=0.0, **options):
    """Two residual blocks between two dense layers; the head works in float32."""
    inputs = keras.Input((WIDTH,))
    x = keras.layers.Dense(WIDTH, activation="tanh", name="stem")(inputs)
    for k in range(2):
        x = block(x, price, f"b{k}", **options)
    head = keras.layers.Dense(CLASSES, dtype="float32", name="head")
    return keras.Model(inputs, head(x))


def compile_options(**changes):
    """What both models are compiled with: objects of their own for each."""
    return {
        "optimizer": keras.optimizers.SGD(0.1),
        "loss": crossentropy(),
        "metrics": [
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="task"),
            "accuracy",
        ],
    } | changes


def pair(build=build, prepare=None):
    """A plain network with a price and one of least action, from the same weights."""
    plain, network = build(PRICE), build()
    network.set_weights(plain.get_weights())
    for each in (plain, network):
        if prepare is not None:
            prepare(each)
    return plain, keras_lap.LeastActionModel(network, 2.0, MULTIPLIER)


def fit(model, callbacks=(), **changes):
    """Two epochs from arrays, in batches of 8."""
    x, y, _ = data()
    options = FIT | {"x": x, "y": y, "batch_size": BATCH} | changes
    return model.fit(**options, callbacks=list(callbacks)).history


def assert_trains_alike(
    train=fit,
    options=compile_options,
    build=build,
    prepare=None,
    rtol=1e-5,
    steps=STEPS,
):
    """Trains plain Keras and least action, then once more with a rising multiplier.

    Args:
        train: Takes a compiled model and callbacks, trains, returns the history.
        options: Returns the arguments of `compile`.
        build: Builds a network, with the price of its displacements or without.
        prepare: Changes a network before it is compiled.
        rtol: Rounding to expect; in float32 that of a few hundred operations.
        steps: Batches in an epoch.

    Returns:
        The plain network and the model, both trained, and their histories.
    """
    plain, model = pair(build, prepare)
    for each in (plain, model):
        each.compile(**options())
    theirs, ours = train(plain), train(model)
    assert_same_logs(ours, theirs, rtol)
    close = {"rtol": 10 * rtol, "atol": rtol}
    weights = model.network.get_weights()
    for mine, reference in zip(weights, plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, reference, **close)
    assert_rises(model, train, rtol, steps)
    return plain, model, theirs, ours


def assert_same_logs(ours, theirs, rtol):
    """The same objective and metrics; the task loss is the loss without the price."""
    added = OURS | {"val_task_loss"} & set(ours)
    assert set(ours) - set(theirs) == added
    for name in set(theirs) - {"val_loss"}:  # there the price is in the plain one only
        np.testing.assert_allclose(
            ours[name], theirs[name], rtol=rtol, atol=rtol, err_msg=name
        )
    cost = np.array(ours["transport_cost"])
    assert (cost > 0.01).all()
    assert ours["multiplier"] == [MULTIPLIER] * len(cost)
    np.testing.assert_allclose(
        ours["loss"], ours["task_loss"] + cost / MULTIPLIER, rtol=rtol
    )


def assert_rises(model, train, rtol=1e-5, steps=STEPS, every=1):
    """λ rises by τ times the sum of the batches' task losses, none left out."""
    update = keras_lap.callbacks.MultiplierUpdate(TAU, every)
    history = train(model, [update])
    sums = steps * np.cumsum(history["task_loss"])
    np.testing.assert_allclose(
        history["multiplier"], MULTIPLIER + TAU * sums, rtol=10 * rtol
    )
    assert float(model.multiplier) == history["multiplier"][-1]
