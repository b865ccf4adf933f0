"""What the tests share: seeds, small data and small networks."""

from __future__ import annotations

import gc
import os

import keras
import pytest
from hypothesis import settings
from support.basics import build_dense_network
from support.results import Results

# Steps of a few runs are compiled here, which a third of JAX's time went to. XLA's own
# passes stay; without LLVM's, programs are slower and compiled sooner. XLA reads this
# when it computes for the first time, in the processes that tests start, too.
SOONER = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SOONER}".strip()

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


def pytest_collection_finish():
    """Looks for garbage less often, and never in what is imported: it takes a sixth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(autouse=True, scope="session")
def _compiled_once(tmp_path_factory):
    """JAX keeps the programs of this run, also for the processes that tests start."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    os.environ |= {name.upper(): str(value) for name, value in options.items()}
    if keras.backend.backend() == "jax":
        import jax

        for name, value in options.items():
            jax.config.update(name, value)


@pytest.fixture(autouse=True, scope="module")
def _only_new_garbage():
    """What stays of the modules before is not looked through again.

    KerasTuner collects after every trial, which took it ten times as long in the end.
    """
    yield
    gc.collect()
    gc.freeze()


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


@pytest.fixture(params=["float32", "mixed_float16"])
def policy(request):
    """Single and mixed half precision, of all that is built in the test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.fixture
def dense_network():
    """Builds a dense residual network with a chosen number of blocks."""
    return build_dense_network
