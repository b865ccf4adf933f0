"""The code of the written pages runs, and the messages of the how-to page appear.

A block of text below a block of code is what that code prints, warns of or raises;
``...`` stands for anything.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path

import keras
import pytest
from support.basics import build_dense_network

import keras_lap

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to.md"
LONG = (PAGE, ROOT / "docs" / "running-costs.md")
# With how many blocks of code; the how-to page has many.
SHORT = {
    ROOT / "README.md": 1,
    ROOT / "docs" / "index.md": 1,
    ROOT / "docs" / "extending.md": 2,
}
# A block of code with its text, or a text with no code.
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<seen>.*?)^```\n)?"
    r"|^```text\n(?P<alone>.*?)^```\n",
    re.MULTILINE | re.DOTALL,
)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the quickest backend is enough"
)


def blocks(page=PAGE):
    return list(BLOCK.finditer(page.read_text("utf-8")))


def run(code, names):
    """What a reader sees of a block of code: prints and warnings, or the error."""
    printed = io.StringIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(code, names["__name__"], "exec"), names)
        except AssertionError:
            raise
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    warned = [f"UserWarning: {w.message}" for w in caught if w.category is UserWarning]
    return "\n".join([printed.getvalue(), *warned]).strip()


def pattern(text):
    """Matches a message however its lines break; anything may stand for its dots."""
    parts = (r"\s+".join(map(re.escape, part.split())) for part in text.split("..."))
    return r"\s*.*\s*".join(parts)


@pytest.fixture
def _one_thread():
    """Threads of PyTorch that wait for each other on a busy machine take ten times."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def check(page):
    """Runs a page from top to end, and compares what it says with what is seen."""
    names = {"__name__": page.stem}
    for block in blocks(page):
        if block["alone"] is not None:
            continue
        seen = run(block["code"], names)
        if block["seen"] is not None:
            expected = pattern(block["seen"])
            assert re.fullmatch(expected, seen, re.DOTALL), (block["code"], seen)
        else:
            assert not re.match(r"\w+(Error|Warning):", seen), (block["code"], seen)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("page", LONG, ids=lambda page: page.name)
def test_every_block_of_code_does_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(page)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("page", SHORT, ids=lambda page: page.name)
def test_the_first_lines_of_code_run(page, tmp_path, monkeypatch):
    fit = keras.Model.fit

    def fit_two_epochs(model, *args, epochs, **options):
        return fit(model, *args, epochs=min(epochs, 2), **options)

    monkeypatch.setattr(keras.Model, "fit", fit_two_epochs)
    monkeypatch.chdir(tmp_path)
    assert len(blocks(page)) == SHORT[page]
    check(page)


def unjoined(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    model = keras_lap.LeastActionModel(build_dense_network())
    model.compile("sgd", "mse")
    model.make_train_function()


def unregistered(tmp_path, monkeypatch):
    class LogEnergy(keras_lap.energies.Energy):
        def __call__(self, displacement):
            return keras.ops.mean(displacement)

    keras.saving.register_keras_serializable("my_project")(LogEnergy)
    model = keras_lap.LeastActionModel(build_dense_network(), LogEnergy())
    model.save(tmp_path / "model.keras")
    del keras.saving.get_custom_objects()["my_project>LogEnergy"]
    keras.saving.load_model(tmp_path / "model.keras")


@pytest.mark.skipif(
    not keras.__version__.startswith("3.15."), reason="the message is that of 3.15"
)
def test_messages_that_no_code_of_the_page_brings_about(tmp_path, monkeypatch):
    said = []
    for fails in (unregistered, unjoined):
        with pytest.raises((ValueError, RuntimeError)) as info:
            fails(tmp_path, monkeypatch)
        said.append(f"{type(info.value).__name__}: {info.value}")
    alone = [block["alone"].split() for block in blocks() if block["alone"]]
    assert sorted(alone) == sorted(message.split() for message in said)
