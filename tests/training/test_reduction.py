"""`reduction="none"`: as plain Keras trains it on TensorFlow; elsewhere refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy, build_dense_network

import keras_lap

tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="elsewhere Keras takes no gradient of such a loss",
)
# Float32 sums in another order, over three steps.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def loss(reduction="none"):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=reduction
    )


def trained(model, data, rate=0.01, reduction="none", weights=None):
    model.compile(keras.optimizers.SGD(rate), loss(reduction), metrics=["accuracy"])
    history = model.fit(
        *data, sample_weight=weights, batch_size=16, epochs=2, shuffle=False, verbose=0
    )
    return {name: values[-1] for name, values in history.history.items()}


@tensorflow
@pytest.mark.parametrize("weighs", [False, True])
def test_without_energy_it_is_plain_training(digits, weighs):
    plain, network = build_dense_network(), build_dense_network()
    network.set_weights(plain.get_weights())
    weights = np.linspace(0.0, 2.0, 32) if weighs else None
    model = keras_lap.LeastActionModel(network, initial_multiplier=1e30)
    logs = trained(model, digits, weights=weights)
    expected = trained(plain, digits, weights=weights)
    for ours, theirs in zip(network.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)
    assert logs["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert logs["task_loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert model.evaluate(*digits, verbose=0, return_dict=True)["loss"] == (
        pytest.approx(plain.evaluate(*digits, verbose=0, return_dict=True)["loss"])
    )


@tensorflow
@pytest.mark.parametrize("costs", [(), (keras_lap.running_costs.PathLoss(0.3),)])
def test_it_weighs_the_energy_as_the_mean_does(digits, costs):
    """A sum of n samples' objectives is n times their mean: a rate of 1/n undoes it."""
    data = [each[:16] for each in digits]
    networks = [build_dense_network() for _ in range(2)]
    networks[1].set_weights(networks[0].get_weights())
    logs = []
    for network, rate, reduction in zip(
        networks, (0.16, 0.01), ("sum_over_batch_size", "none"), strict=True
    ):
        model = keras_lap.LeastActionModel(
            network, initial_multiplier=0.5, running_costs=costs
        )
        model.compile(keras.optimizers.SGD(rate), loss(reduction))
        update = keras_lap.callbacks.MultiplierUpdate(every=1)
        history = model.fit(*data, epochs=3, verbose=0, callbacks=[update])
        logs.append(history.history)
    for one, other in zip(*(n.get_weights() for n in networks), strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)
    for name, values in logs[0].items():
        np.testing.assert_allclose(values, logs[1][name], rtol=1e-4)
    assert as_numpy(model.multiplier) > 0.5


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="there it is what is trained"
)
def test_elsewhere_it_fails_as_plain_training_does(digits):
    errors = []
    for model in (
        build_dense_network(),
        keras_lap.LeastActionModel(build_dense_network()),
    ):
        with pytest.raises((TypeError, RuntimeError, ValueError)) as info:
            trained(model, digits)
        errors.append((info.type, str(info.value)[:40]))
    assert errors[0] == errors[1]
