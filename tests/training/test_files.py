"""Files: from one backend to another, without this package, damaged or foreign."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from support import exchange
from support.basics import build_dense_network, crossentropy

import keras_lap

BACKEND = keras.backend.backend()


def run(*command, backend=BACKEND):
    """Runs Python in a process of its own, which must succeed; returns its output."""
    result = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.way("`.keras` and `.weights.h5` files across backends", everywhere=True)
@pytest.mark.skipif(BACKEND != "torch", reason="one process runs all three backends")
def test_every_backend_reads_what_the_others_wrote(tmp_path, record_property):
    record_property(
        "limit",
        "what PyTorch has saved is to be compiled anew on another backend before it "
        "trains on: Keras 3.15.1 saves PyTorch's own class of optimizer",
    )
    script = exchange.__file__
    exchange.write(tmp_path)
    run(script, tmp_path, "--write", "--read", "torch", backend="tensorflow")
    run(script, tmp_path, "--write", "--read", "torch", "tensorflow", backend="jax")
    run(script, tmp_path, "--read", "jax", backend="tensorflow")
    for backend in ("tensorflow", "jax"):
        exchange.read(tmp_path, backend)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    exchange.write(folder)
    return folder


@pytest.fixture
def saved(written, tmp_path):
    """A folder with what a small trained model was saved to, and the model."""
    folder = shutil.copytree(written, tmp_path / "saved")
    return folder, keras.saving.load_model(folder / f"{BACKEND}.keras")


WITHOUT_THE_PACKAGE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "keras_lap":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
try:
    import keras_lap
except ModuleNotFoundError:
    print("not installed")

import keras
import numpy as np

path, x, predictions = sys.argv[1:]
network = keras.saving.load_model(path)
np.save(predictions, network.predict(np.load(x), verbose=0))
assert not any(name.startswith("keras_lap") for name in sys.modules)
"""


@pytest.mark.way("`model.network.save()` loads without keras-lap")
def test_the_networks_file_needs_no_keras_lap(saved, tmp_path):
    """In a process in which `import keras_lap` fails; it says so itself."""
    folder, model = saved
    x = exchange.data()[0]
    np.save(tmp_path / "x.npy", x)
    paths = f"{folder}/{BACKEND}-network.keras", tmp_path / "x.npy", tmp_path / "p.npy"
    assert run("-c", WITHOUT_THE_PACKAGE, *paths) == "not installed\n"
    np.testing.assert_array_equal(
        np.load(tmp_path / "p.npy"), model.network.predict(x, verbose=0)
    )


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def make_foreign(path, share):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "another archive")


@pytest.mark.parametrize(
    ("spoil", "share", "error", "message"),
    [
        (cut, 0.0, ValueError, r"model\.keras.*ensure the file is.*\.keras"),
        (cut, 0.5, ValueError, r"model\.keras.*ensure the file is.*\.keras"),
        (cut, 0.999, ValueError, r"model\.keras.*ensure the file is.*\.keras"),
        (make_foreign, None, KeyError, "no item named 'config.json'"),
    ],
)
def test_a_file_that_is_no_model(saved, spoil, share, error, message):
    """Keras's own errors; what lies on the disk stays as it is."""
    folder, _ = saved
    path = (folder / f"{BACKEND}.keras").rename(folder / "model.keras")
    spoil(path, share)
    before = snapshot(folder)
    with pytest.raises(error, match=message):
        keras.saving.load_model(path)
    assert snapshot(folder) == before


def assert_refuses(model, path, error, message):
    """The file is not read, and neither the disk nor the model changes."""
    disk, weights = snapshot(path.parent), model.get_weights()
    with pytest.raises(error, match=message):
        model.load_weights(path)
    assert snapshot(path.parent) == disk
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_weights_that_were_cut_off(saved, share):
    folder, model = saved
    path = folder / f"{BACKEND}.weights.h5"
    cut(path, share)
    assert_refuses(model, path, OSError, "truncated file|signature not found")


@pytest.mark.filterwarnings("ignore:Skipping")
def test_weights_of_a_network_say_where_they_belong(saved):
    folder, model = saved
    path = folder / "network.weights.h5"
    model.network.save_weights(path)
    message = r"no multiplier.*model\.network\.load_weights"
    assert_refuses(model, path, ValueError, message)


class Unregistered(exchange.Absolute):
    """Inherits all but the registration."""


@pytest.mark.parametrize("registered", [False, True])
def test_an_energy_that_keras_does_not_know(tmp_path, registered):
    """What the error says to pass is what makes the file load."""
    energy = exchange.Absolute if registered else Unregistered
    name = "exchange>Absolute" if registered else "Unregistered"
    model = keras_lap.LeastActionModel(build_dense_network(), energy(2.0))
    path = tmp_path / "model.keras"
    model.save(path)
    known = keras.saving.get_custom_objects()
    hidden = {key: known.pop(key) for key in [name] if key in known}
    before = snapshot(tmp_path)
    try:
        expected = rf"custom_objects=\{{'{name}': {energy.__name__}\}} to"
        with pytest.raises(ValueError, match=expected) as info:
            keras.saving.load_model(path)
        loaded = keras.saving.load_model(path, custom_objects={name: energy})
    finally:
        known.update(hidden)
    assert snapshot(tmp_path) == before
    assert ("import the module" in str(info.value)) == registered
    assert repr(loaded.energy) == f"{energy.__name__}(factor=2.0)"


def test_an_energy_that_fails_by_itself_is_not_said_to_be_unknown(tmp_path):
    @keras.saving.register_keras_serializable("files")
    class Choosy(exchange.Absolute):
        def get_config(self):
            return {"other": 1}

    model = keras_lap.LeastActionModel(build_dense_network(), Choosy())
    model.save(tmp_path / "model.keras")
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        keras.saving.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("config", [{}, {"energy": None}])
def test_a_config_without_a_network_is_refused(config):
    with pytest.raises(ValueError, match=r"holds that of its network\. Received: one"):
        keras_lap.LeastActionModel.from_config(config)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TFLite is TensorFlow's")
def test_tflite_takes_the_model_itself(digits):
    """The bare network is converted, as a subclassed model of Keras is, after `fit`."""
    tensorflow = pytest.importorskip("tensorflow")
    x, y = digits
    model = keras_lap.LeastActionModel(build_dense_network())
    model.compile("sgd", crossentropy())
    for _ in range(2):
        model.fit(x, y, verbose=0)
        converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
        content = converter.convert()
        interpreter = tensorflow.lite.Interpreter(model_content=content)
        interpreter.allocate_tensors()
        (taken,), (given,) = (
            interpreter.get_input_details(),
            interpreter.get_output_details(),
        )
        interpreter.set_tensor(taken["index"], x[:1])
        interpreter.invoke()
        # The kernels of TFLite add up in another order.
        np.testing.assert_allclose(
            interpreter.get_tensor(given["index"]),
            model.network.predict(x[:1], verbose=0),
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.way("`model.export()`")
def test_export(digits, tmp_path, record_property):
    """The exported function predicts as the network does, before and after training."""
    tensorflow = pytest.importorskip("tensorflow")
    x, y = digits
    model = keras_lap.LeastActionModel(build_dense_network())
    model.compile("sgd", crossentropy())
    if BACKEND == "torch":
        record_property("fails", "Keras 3.15.1 exports no network of its own")
        for each in (model, model.network):
            with pytest.raises(Exception, match="dynamic_shapes"):
                each.export(tmp_path / "exported", verbose=False)
        return
    for folder in ("before", "after"):
        model.export(tmp_path / folder, verbose=False)
        exported = tensorflow.saved_model.load(tmp_path / folder)
        # The exported function is compiled anew, so its sums may round differently.
        np.testing.assert_allclose(
            exported.serve(x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
        )
        model.fit(x, y, verbose=0)
