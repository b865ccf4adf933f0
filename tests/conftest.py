"""What the tests share: seeds, small data and small networks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import settings
from results import Results

# The same examples at every run, and nothing kept between runs.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.load_profile("fixed")


def pytest_addoption(parser):
    parser.addoption("--results", help="where to write how each way of training ended")


def pytest_configure(config):
    # The mark of Keras's own tests, which tests/conformance runs.
    config.addinivalue_line("markers", "requires_trainable_backend: one of Keras's own")
    path = config.getoption("results")
    if path is not None:
        config.pluginmanager.register(Results(path, keras.backend.backend()))


@pytest.fixture(autouse=True)
def _fresh_state():
    """The same seeds and names for every test, whichever ran before."""
    keras.utils.clear_session(free_memory=False)  # names only: collecting is slow
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def digits():
    """32 real digits as flat vectors, `(32, 64)`, with their labels."""
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    data = sklearn_datasets.load_digits()
    return data.data[:32].astype("float32") / 16, data.target[:32].astype("int64")


@pytest.fixture
def dense_network():
    """Builds a dense residual network with a chosen number of blocks."""
    return build_dense_network


def build_dense_network(blocks=3, width=6, features=64, classes=10, **dense_options):
    """A residual network of dense layers, merged by `layers.Add`."""
    inputs = keras.Input((features,))
    x = keras.layers.Dense(width, name="stem")(inputs)
    for k in range(blocks):
        r = keras.layers.Dense(width, activation="tanh", name=f"b{k}_in")(x)
        r = keras.layers.Dense(width, name=f"b{k}_out", **dense_options)(r)
        x = keras.layers.Add(name=f"b{k}")([x, r])
    return keras.Model(inputs, keras.layers.Dense(classes, name="head")(x), name="net")


def crossentropy():
    """The loss of all classification tests."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def as_numpy(value):
    """A NumPy array, whatever the backend."""
    return np.asarray(keras.ops.convert_to_numpy(value))
