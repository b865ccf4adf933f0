"""The same training on a GPU; skipped where the backend sees none."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import as_numpy, build_dense_network, crossentropy

import keras_lap
from studies.engine.environment import gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu(), reason="no GPU that this backend can use"),
]


@pytest.fixture(autouse=True)
def _float32_afterwards():
    yield
    keras.config.set_dtype_policy("float32")


def train(device, x, y, dtype="float32"):
    """λ after each of three epochs, and the final weights."""
    with keras.device(device):
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(dtype)
        network = build_dense_network()
        model = keras_lap.LeastActionModel(network, initial_multiplier=2.0)
        model.compile(keras.optimizers.SGD(0.05), crossentropy(), jit_compile=False)
        history = model.fit(
            x,
            y,
            batch_size=8,
            epochs=3,
            shuffle=False,
            verbose=0,
            callbacks=[keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=2)],
        ).history
        assert keras.backend.standardize_dtype(model.multiplier.dtype) == "float32"
        assert float(as_numpy(model.multiplier)) == history["multiplier"][-1]
        return history["multiplier"], network.get_weights()


def test_agrees_with_the_processor(digits):
    """To 1e-3: GPUs may multiply float32 matrices in TF32, with 10 bits of mantissa."""
    # Not "cpu:0": on PyTorch, Keras 3.15.1 cannot make an integer variable there.
    there, here = train("gpu:0", *digits), train("cpu", *digits)
    assert here[0][-1] > 2.5
    np.testing.assert_allclose(there[0], here[0], rtol=1e-3)
    for a, b in zip(there[1], here[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(digits, dtype):
    """λ follows that of float32 to 2 %: bfloat16 keeps 8 bits of every activation."""
    mixed, full = train("gpu:0", *digits, dtype), train("gpu:0", *digits)
    np.testing.assert_allclose(mixed[0], full[0], rtol=2e-2)
