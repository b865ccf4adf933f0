"""The report as text, data, picture and command."""

from __future__ import annotations

import json
import re
import shutil

import keras
import numpy as np
import pytest
from support.basics import ON_ONE, as_numpy

import keras_lap
from keras_lap import find_residual_blocks
from keras_lap.blocks import command
from keras_lap.blocks.picture import COLORS, mark

pytestmark = ON_ONE

L = keras.layers


@pytest.fixture
def network():
    """An identity block, a projection block and one nested, all by name."""
    inputs = keras.Input((4, 4, 3), name="inputs")
    x = L.Add(name="first")([inputs, L.Conv2D(3, 3, padding="same")(inputs)])
    branch = L.Conv2D(8, 3, strides=2, padding="same")(x)
    x = L.Add(name="down")([L.Conv2D(8, 1, strides=2)(x), branch])
    inner = keras.Input((2, 2, 8))
    merged = L.Add(name="merge")([inner, L.Conv2D(8, 3, padding="same")(inner)])
    x = keras.Model(inner, merged, name="stage")(x)
    x = L.Add(name="parallel")([L.Conv2D(8, 3, name="left")(L.ZeroPadding2D()(x)), x])
    return keras.Model(inputs, L.Flatten()(x), name="net")


@pytest.fixture
def report(network):
    return find_residual_blocks(network)


EXPECTED = """\
net: 3 residual blocks (3 identity, 1 skipped)

  block        kind      state            features  merge
  first        identity  (None, 4, 4, 3)  48        first
  stage/merge  identity  (None, 2, 2, 8)  32        …/merge
  parallel     identity  (None, 2, 2, 8)  32        parallel

  skipped  reason
  down     its shortcut is a projection; include_projections=True counts it"""


def test_report_as_text(report):
    assert str(report) == EXPECTED


def test_report_in_a_line_and_in_a_notebook(report):
    line = f"<{EXPECTED.splitlines()[0]}: first, stage/merge, parallel>"
    assert repr(report) == line
    page = report._repr_html_()
    cells = re.findall(r"<t[hd]>(.*?)</t[hd]>", page)
    whole = EXPECTED.replace("…/merge", "stage/merge")
    assert [cell for cell in cells if cell] == re.split(
        r"  +", "  ".join(line.strip() for line in whole.splitlines()[2:] if line)
    )


class Inner(L.Layer):
    """A layer whose call adds up by another one."""

    def __init__(self, **options):
        super().__init__(**options)
        self.branch, self.add = L.Dense(16), L.Add(name="add_to_input")

    def call(self, x):
        return self.add([x, self.branch(x)])


def test_long_names_of_nested_models_stand_once_in_a_line():
    inner = keras.Input((16, 16))
    x = Inner(name="tranformer_block_layer_1")(inner)
    nested = keras.Model(inner, x, name="vision_transformer_16")
    outer = keras.Input((16, 16))
    found = find_residual_blocks(keras.Model(outer, nested(outer)))
    (block,) = found
    assert block.merge.startswith(f"{block.name}/")
    assert len(f"{block.name} {block.merge}") > 100  # too long to write both
    (line,) = (each for each in str(found).splitlines() if block.kind in each[40:])
    assert len(line) <= 100  # what fits the box of a page
    assert line.split()[0] == block.name  # what blocks= takes
    assert line.endswith("  …/add_to_input")
    assert block.merge in found._repr_html_()


def test_many_blocks_are_not_all_named_in_a_line():
    x = inputs = keras.Input((3,))
    for number in range(5):
        x = L.Add(name=f"<b{number}>")([x, L.Dense(3)(x)])
    found = find_residual_blocks(keras.Model(inputs, x))
    assert repr(found).endswith("<b0>, <b1>, <b2>, 2 more>")
    assert "<b0>" not in found._repr_html_()
    assert "&lt;b0&gt;" in found._repr_html_()


def test_report_as_data(report):
    data = json.loads(json.dumps(report.to_dict()))
    assert list(data) == ["model", "summary", "blocks", "skipped"]
    assert data["summary"] == EXPECTED.splitlines()[0]
    assert data["blocks"][1] == {
        "name": "stage/merge",
        "kind": "identity",
        "shape": [None, 2, 2, 8],
        "size": 32,
        "merge": "stage/merge",
    }
    assert [skip["name"] for skip in data["skipped"]] == ["down"]


def test_sizes_that_are_not_known():
    inputs = keras.Input((None, 3))
    (block,) = find_residual_blocks(keras.Model(inputs, inputs + L.Dense(3)(inputs)))
    assert block.shape == (None, None, 3)
    assert block.size is None


def save(network, tmp_path):
    path = tmp_path / "net.keras"
    network.save(path)
    return str(path)


def test_command_prints_the_report_of_a_file(network, tmp_path, capsys):
    command.main([save(network, tmp_path)])
    assert capsys.readouterr().out == f"{EXPECTED}\n"
    command.main([save(network, tmp_path), "--blocks", "^stage/", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert [block["name"] for block in data["blocks"]] == ["stage/merge"]


def test_command_builds_a_network_by_its_name(capsys):
    arguments = ["input_shape=(32,32,3)", "alpha=0.35", "--include-projections"]
    command.main(["MobileNetV2", *arguments])
    assert "10 residual blocks (10 identity)" in capsys.readouterr().out
    command.main(["keras_lap.networks.resnet9", "input_shape=(8,8,1)", "num_classes=3"])
    assert "9 residual blocks (9 identity" in capsys.readouterr().out


WRONG = {
    "no such network": (["ResNet5"], "no network 'ResNet5'.*ResNet50"),
    "no such module": (["nowhere.Net"], "No module named 'nowhere'"),
    "missing arguments": (["keras_lap.networks.resnet9"], "missing 2 required"),
    "no name": (["MobileNet", "(32,32,3)"], r"name=value. Received: '\(32,32,3\)'"),
    "no model": (["keras.layers.Dense", "units=3"], "no keras.Model"),
    "no file": (["none.keras"], "none.keras"),
    "no pattern": (["keras.Sequential", "--blocks", "("], "unterminated|built"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_command_says_what_is_wrong(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        command.main(arguments)
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert not captured.out


def test_picture_marks_the_merges(network):
    pytest.importorskip("pydot")
    report = find_residual_blocks(network, include_projections=True)
    text = mark(
        keras.utils.model_to_dot(network, expand_nested=True), report
    ).to_string()
    colored = {}
    for line in text.split("];"):
        if name := re.search(r"<b>(\w+)</b>", line):
            colored[name[1]] = re.search(r'bgcolor="([#\w]+)"', line)[1]
    blue, orange = COLORS["identity"], COLORS["projection"]
    expected = {"first": blue, "merge": blue, "parallel": blue, "down": orange}
    assert {n: c for n, c in colored.items() if c != "black"} == expected


def test_picture_file(network, tmp_path):
    pytest.importorskip("pydot")
    path = tmp_path / "blocks.svg"
    if shutil.which("dot") is None:
        with pytest.raises(ImportError, match="graphviz"):
            keras_lap.plot_blocks(network, path)
        assert not path.exists()
    else:
        keras_lap.plot_blocks(network, path, show_shapes=True)
        assert path.read_text().count(COLORS["identity"].lower()) >= 3


def test_what_wraps_a_network_has_a_report_of_its_own(network, tmp_path, capsys):
    model = keras_lap.LeastActionModel(network, blocks=["stage"])
    assert find_residual_blocks(model) is model.block_report
    assert len(find_residual_blocks(model, include_projections=True)) == 4
    assert len(find_residual_blocks(model, ["first"])) == 1
    model.save(tmp_path / "model.keras")
    command.main([str(tmp_path / "model.keras")])
    assert capsys.readouterr().out.strip() == str(model.block_report)


def test_blocks_of_a_wrapped_network_inside_another(network):
    inputs = keras.Input(network.input_shape[1:])
    inner = keras_lap.LeastActionModel(network)
    outer = keras.Model(inputs, L.Dense(2)(inner(inputs)))
    report = find_residual_blocks(outer)
    assert [block.kind for block in report] == ["identity"] * 3
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    record = keras_lap.DisplacementRecorder
    _, displacements = record(outer, report)(images)
    _, expected = record(network, find_residual_blocks(network))(images)
    for one, other in zip(displacements, expected, strict=True):
        np.testing.assert_allclose(as_numpy(one), as_numpy(other), 1e-5, 1e-6)
