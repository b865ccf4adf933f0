"""A save that fails or is killed loses nothing: written beside, then moved."""

from __future__ import annotations

import os
import signal
import stat

import keras
import numpy as np
import pytest
from support.basics import build_dense_network, crossentropy

import keras_lap

BACKEND = keras.backend.backend()


@keras.saving.register_keras_serializable("saving")
class Fails(keras.layers.Layer):
    """A layer in the middle of whose saving something happens."""

    happens = None

    def call(self, x):
        return x

    def save_own_variables(self, store):
        if Fails.happens is not None:
            Fails.happens()
        super().save_own_variables(store)


def build(blocks=1):
    network = build_dense_network(blocks)
    network = keras.Model(network.input, Fails()(network.output))
    model = keras_lap.LeastActionModel(network)
    model.compile("sgd", crossentropy())
    return model


WAYS = {
    "model.keras": lambda model, path: model.save(path),
    "model.weights.h5": lambda model, path: model.save_weights(path),
    "model.weights.json": lambda model, path: model.save_weights(
        path, max_shard_size=2e-6
    ),
    "folder": lambda model, path: model.save(path, zipped=False),
}


def everything(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full():
    raise OSError(28, "No space left on device")


def interrupted():
    raise KeyboardInterrupt


@pytest.fixture
def happens(monkeypatch):
    return lambda what: monkeypatch.setattr(Fails, "happens", staticmethod(what))


@pytest.mark.parametrize("error", [disk_full, interrupted])
@pytest.mark.parametrize("name", WAYS)
def test_what_fails_leaves_the_disk_as_it_was(tmp_path, happens, name, error):
    save, path = WAYS[name], tmp_path / name
    kind = OSError if error is disk_full else KeyboardInterrupt
    happens(error)
    with pytest.raises(kind):
        save(build(), path)
    assert list(tmp_path.iterdir()) == []
    happens(None)
    save(build(), str(path))
    before = everything(tmp_path)
    assert before
    happens(error)
    with pytest.raises(kind):
        save(build(2), path)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", WAYS)
def test_the_newer_takes_the_place_of_the_older(tmp_path, name):
    save, path = WAYS[name], tmp_path / name
    save(build(), path)
    names = everything(tmp_path).keys()
    newer = build()
    newer.ascent.multiplier.assign(7.0)
    save(newer, path)
    assert everything(tmp_path).keys() == names
    if "weights" in name:
        loaded = build()
        loaded.load_weights(path)
    else:
        loaded = keras.saving.load_model(path)
    assert float(loaded.multiplier) == 7.0
    for one, other in zip(newer.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_checkpoints_of_callbacks_too(tmp_path, digits, happens, name):
    path = tmp_path / name
    callback = keras.callbacks.ModelCheckpoint(
        path, save_weights_only="weights" in name
    )
    build().fit(*digits, verbose=0, callbacks=[callback])
    before = everything(tmp_path)
    happens(disk_full)
    with pytest.raises(OSError, match="No space left"):
        build().fit(*digits, verbose=0, callbacks=[callback])
    assert everything(tmp_path) == before


def test_a_link_stays_one_and_rights_are_kept(tmp_path):
    (tmp_path / "store").mkdir()
    real, link = tmp_path / "store" / "17", tmp_path / "model.keras"
    link.symlink_to(real)
    build().save(link)
    real.chmod(0o640)
    build(2).save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert len(keras.saving.load_model(link).blocks) == 2
    assert {path.name for path in tmp_path.rglob("*")} == {"store", "17", "model.keras"}


def test_other_files_of_a_folder_stay(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine", encoding="utf-8")
    build().save(tmp_path / "folder", zipped=False)
    assert (tmp_path / "folder" / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert len(keras.saving.load_model(tmp_path / "folder").blocks) == 1


@pytest.mark.parametrize("answer", ["y", "n"])
def test_keras_asks_where_it_is_told_to(tmp_path, monkeypatch, answer):
    path = tmp_path / "model.keras"
    build().save(path)
    asked = []
    monkeypatch.setattr("builtins.input", lambda text: (asked.append(text), answer)[1])
    build(2).save(path, overwrite=False)
    assert len(asked) == 1
    assert str(path) in asked[0]
    assert len(keras.saving.load_model(path).blocks) == (2 if answer == "y" else 1)
    build(2).save(tmp_path / "new.keras", overwrite=False)
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["model.txt", "missing/model.keras"])
def test_what_keras_refuses_it_still_refuses(tmp_path, name):
    with pytest.raises((ValueError, OSError), match=name):
        build().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(BACKEND != "torch", reason="once is enough, and it forks")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such call")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_a_kill_loses_nothing(tmp_path, happens, name):
    """In a process that ends in the middle of its second save."""
    path, newer = tmp_path / name, build(2)
    WAYS[name](build(), path)
    before = path.read_bytes()
    happens(killed)
    child = os.fork()
    if child == 0:
        try:
            WAYS[name](newer, path)
        finally:
            os._exit(1)  # not that of the tests
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.read_bytes() == before
