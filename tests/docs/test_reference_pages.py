"""The reference of the documentation against the package."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pathlib
import re
import types

import keras
import numpy as np
import pytest
from support.basics import build_dense_network, crossentropy

import keras_lap

PAGES = pathlib.Path(__file__).parents[2] / "docs" / "api"
PARTS = ("callbacks", "datasets", "energies", "blocks", "networks", "transport")
PARTS += ("depth", "running_costs", "symmetry")
MODULES = ("keras_lap", *(f"keras_lap.{part}" for part in (*PARTS, "tuning")))
MODULES += ("studies.engine",)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


def documented() -> list[str]:
    found: list[str] = []
    for page in sorted(PAGES.glob("*.md")):
        found += re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.M)
    return found


def thing(path: str):
    first, *names = path.split(".")
    value = importlib.import_module(first)
    for name in names:
        try:
            value = getattr(value, name)
        except AttributeError:
            value = importlib.import_module(f"{value.__name__}.{name}")
    return value


def test_every_public_name_has_its_place():
    shown = [thing(path) for path in documented()]
    for name in MODULES:
        for public in importlib.import_module(name).__all__:
            value = getattr(importlib.import_module(name), public)
            if inspect.ismodule(value) or public == "__version__":
                continue
            assert any(value is each for each in shown), f"{name}.{public}"


def test_no_name_is_shown_twice():
    assert len(documented()) == len(set(documented())) > 50


# Of Keras's methods that we override: what users call or read, on the pages.
CALLED = {
    "fit",
    "fit_as_keras",
    "evaluate",
    "save",
    "save_weights",
    "export",
    "summary",
}
CALLED |= {"inputs", "outputs", "input_shape", "output_shape"}


def test_overrides_that_keras_alone_calls_have_no_place():
    yaml = pytest.importorskip("yaml")
    text = (PAGES.parents[1] / "mkdocs.yml").read_text("utf-8")
    (plugin,) = (p for p in yaml.safe_load(text)["plugins"] if "mkdocstrings" in p)
    options = plugin["mkdocstrings"]["handlers"]["python"]["options"]
    hidden = [rule.removeprefix("!") for rule in options["filters"]]
    shown, left_out = set(), set()
    for path in documented():
        value = thing(path)
        if not inspect.isclass(value):
            continue
        bases = [b for b in value.__mro__ if b.__module__.startswith("keras.")]
        for name in vars(value):
            if any(name in vars(base) for base in bases):
                found = any(re.search(rule, name) for rule in hidden)
                (left_out if found else shown).add(name)
    assert shown <= CALLED
    assert {"call", "build", "train_step", "compute_loss", "get_config"} <= left_out


def defaults(value) -> list[tuple[str, object, str]]:
    """Name, default and documented default of every argument that has both."""
    text = inspect.getdoc(value) or ""
    found = []
    for name, parameter in inspect.signature(value).parameters.items():
        entry = re.search(
            rf"^    {name}: (.*?)(?=^    \w+: |^\S|\Z)", text, re.M | re.S
        )
        said = entry and re.search(
            r"Defaults\s+to\s+(.+?)[.,;]?(?:\s|$)", entry[1].replace("`", "")
        )
        if said and parameter.default is not inspect.Parameter.empty:
            found.append((name, parameter.default, said[1]))
    return found


def test_documented_defaults_are_those_of_the_signatures():
    checked = 0
    for path in documented():
        value = thing(path)
        if not inspect.isfunction(value) and not hasattr(value, "__init__"):
            continue
        if inspect.isclass(value) and issubclass(value, Exception):
            continue
        if not callable(value) or inspect.ismodule(value):
            continue
        for name, default, said in defaults(value):
            if re.fullmatch(r"-?[\d.e-]+|None|True|False|\".*\"", said):
                assert default == ast.literal_eval(said), (path, name)
                checked += 1
    assert checked > 30


class Runs(doctest.OutputChecker):
    """Compares what an example prints only where the docstring says what."""

    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False)
    found = []
    for path in documented():
        value = thing(path)
        if callable(value):
            found += finder.find(value, path, globs={})
    return [each for each in found if each.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda each: each.name)
def test_the_examples_run(example, tmp_path, monkeypatch):
    keras_tuner = pytest.importorskip("keras_tuner")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")  # what a started process sees
    x = np.random.default_rng(0).normal(size=(8, 64)).astype("float32")
    y = np.arange(8)

    def build(hp):
        network = build_dense_network()
        network.compile("sgd", loss=crossentropy(), metrics=["accuracy"])
        return network

    network = build_dense_network()
    model = keras_lap.LeastActionModel(network)
    model.compile("sgd", loss=crossentropy())
    defining = importlib.import_module(thing(example.name).__module__)
    known = {"os": importlib.import_module("os"), "sys": importlib.import_module("sys")}
    known |= vars(defining) | {"keras": keras, "keras_lap": keras_lap, "np": np}
    known |= {"keras_tuner": keras_tuner, "network": network, "model": model}
    split = types.SimpleNamespace(x=x, y=y)
    known["data"] = types.SimpleNamespace(train=(x, y), test=split)
    known["report"] = keras_lap.transport.analyze(network, x, y, verbose=0)
    known |= {"x": x, "y": y, "images": x, "labels": y, "validation": (x, y)}
    known |= {
        "build": build,
        "hypermodel": keras_lap.tuning.LeastActionHyperModel(build),
    }
    example.globs = known
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report: list[str] = []
    runner = doctest.DocTestRunner(Runs(), verbose=False, optionflags=flags)
    assert runner.run(example, out=report.append).failed == 0, "".join(report)
