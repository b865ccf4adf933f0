"""Commands on files that are damaged or foreign: one line, exit status 2."""

from __future__ import annotations

import json
import zipfile

import keras
import numpy as np
import pytest
from support.basics import build_dense_network

import keras_lap
from keras_lap.blocks import command
from keras_lap.depth import __main__ as depth_command

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="no backend takes part, once is enough"
)


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("no network\n" * 9, encoding="utf-8")


def folder(path):
    path.unlink()
    path.mkdir()


def foreign(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "another archive")


def rewritten(name, content):
    """Another file in the place of one of those in the archive; None for none."""

    def spoil(path):
        with zipfile.ZipFile(path) as archive:
            parts = {each: archive.read(each) for each in archive.namelist()}
        parts[name] = content
        with zipfile.ZipFile(path, "w") as archive:
            for each, data in parts.items():
                if data is not None:
                    archive.writestr(each, data)

    return spoil


LAYER = {
    "module": "nowhere",
    "class_name": "Unknown",
    "config": {},
    "registered_name": "mine>Unknown",
}
SPOILT = {
    "cut": cut,
    "empty": empty,
    "text": text,
    "folder": folder,
    "foreign": foreign,
    "no weights": rewritten("model.weights.h5", None),
    "no json": rewritten("config.json", b"{"),
    "no config": rewritten("config.json", b"{}"),
    "a list": rewritten("config.json", b"[1]"),
    "no unicode": rewritten("config.json", b"\xff\xfe\x00"),
    "unknown class": rewritten("config.json", json.dumps(LAYER).encode()),
    "no hdf5": rewritten("model.weights.h5", b"nothing"),
}


def ends_in_a_line(capsys, run, *arguments):
    with pytest.raises(SystemExit) as ended:
        run([str(each) for each in arguments])
    assert ended.value.code == 2
    captured = capsys.readouterr()
    said = [line for line in captured.err.splitlines() if "error: " in line]
    assert len(said) == 1
    assert said[0].startswith("python -m keras_lap")
    assert captured.err.endswith(f"{said[0]}\n")
    assert "Traceback" not in captured.err
    return said[0], captured.out


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.keras"
    build_dense_network().save(path)
    return path


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_network_that_cannot_be_read(saved, spoil, capsys):
    spoil(saved)
    data = saved.with_name("data.npz")
    np.savez(data, x=np.zeros((2, 64)), y=np.zeros(2))
    for run, options in (
        (command.main, ()),
        (depth_command.main, ("--data", data, "--loss", "mse")),
    ):
        said, out = ends_in_a_line(capsys, run, saved, *options)
        assert str(saved) in said
        assert not out


def test_other_files_that_keras_reads(tmp_path, capsys):
    layer = tmp_path / "layer.weights.h5"
    build_dense_network().save_weights(layer)
    said, _ = ends_in_a_line(capsys, command.main, layer)
    assert str(layer) in said


@pytest.mark.parametrize(
    "write",
    [
        cut,
        empty,
        text,
        foreign,
        lambda path: np.savez(path, x=np.zeros((2, 64))),
        lambda path: np.savez(path, x=np.array([{}]), y=np.zeros(1)),
        lambda path: np.save(path.open("wb"), np.zeros(3)),
    ],
)
def test_data_that_cannot_be_read(saved, write, capsys):
    data = saved.with_name("data.npz")
    np.savez(data, x=np.zeros((2, 64)), y=np.zeros(2))
    write(data)
    said, _ = ends_in_a_line(
        capsys, depth_command.main, saved, "--data", data, "--loss", "mse"
    )
    assert f"{data} has no arrays x and y" in said


def test_data_that_do_not_fit(saved, capsys):
    data = saved.with_name("data.npz")
    np.savez(data, x=np.zeros((4, 7)), y=np.zeros(4))
    ends_in_a_line(capsys, depth_command.main, saved, "--data", data, "--loss", "mse")


def test_what_cannot_be_drawn_loses_no_report(saved, capsys, monkeypatch):
    """As without graphviz or matplotlib, whether they are installed or not."""

    def missing(*args, **kwargs):
        raise ImportError("not installed")

    expected = str(keras_lap.find_residual_blocks(keras.saving.load_model(saved)))
    monkeypatch.setattr(command, "plot_blocks", missing)
    picture = saved.with_name("net.svg")
    said, out = ends_in_a_line(capsys, command.main, saved, "--picture", picture)
    assert said.endswith("not installed")
    assert out == f"{expected}\n"
    assert not picture.exists()
    data = saved.with_name("data.npz")
    x = np.random.default_rng(0).normal(size=(8, 64))
    np.savez(data, x=x, y=np.zeros((8, 10)))
    monkeypatch.setattr(keras_lap.depth.DepthReport, "save_html", missing)
    options = ["--data", data, "--loss", "mse", "--json", "--html", "page.html"]
    said, out = ends_in_a_line(capsys, depth_command.main, saved, *options)
    assert len(json.loads(out)["exits"]) == 4
