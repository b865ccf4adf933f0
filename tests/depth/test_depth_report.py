"""`DepthReport`: its text, page and picture, its cut network; command and monitor."""

from __future__ import annotations

import base64
import csv
import html.parser
import json
import math
import re
import runpy
import sys

import keras
import numpy as np
import pytest
from keras import layers
from support.basics import as_numpy, crossentropy
from support.by_depth import one_stage, with_random_weights

import keras_lap
from keras_lap import depth
from keras_lap.callbacks import DepthMonitor

ON_ONE = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


def residual_mlp(blocks=6, width=16):
    inputs = x = keras.Input((64,))
    x = layers.Dense(width, name="stem")(x)
    for k in range(blocks):
        r = layers.Dense(width, activation="relu", name=f"block{k}_in")(x)
        r = layers.Dense(width, name=f"block{k}_out")(r)
        x = layers.Add(name=f"block{k}")([x, layers.Rescaling(0.5)(r)])
    return keras.Model(inputs, layers.Dense(10, name="head")(x), name="digits_net")


@pytest.fixture(scope="module")
def trained():
    """Trained on digits with the loss of all exits, and validation data."""
    keras.utils.set_random_seed(0)
    data = keras_lap.datasets.load("digits", validation_size=300)
    x, y = (np.reshape(data.train.x, (-1, 64)), data.train.y)
    cost = keras_lap.running_costs.PathLoss(0.2)
    model = keras_lap.LeastActionModel(
        residual_mlp(), energy=None, running_costs=[cost], horizon=3.0
    )
    model.compile(keras.optimizers.Adam(0.01), crossentropy(), metrics=["accuracy"])
    model.fit(x, y, batch_size=128, epochs=8, verbose=0)
    held_out = data.validation
    return model, np.reshape(held_out.x, (-1, 64)), held_out.y


@pytest.fixture(scope="module")
def report(trained):
    model, x, y = trained
    return depth.analyze(model, x, y, tolerance=0.02, batch_size=100, verbose=0)


@ON_ONE
def test_digits_need_fewer_blocks_than_there_are(trained, report):
    _, x, y = trained
    assert report.layers_needed < 6
    assert report.exits[-1].accuracy > 0.9
    small = report.prune()
    assert len(keras_lap.find_residual_blocks(small)) == report.layers_needed
    small.compile(loss=crossentropy(), metrics=["accuracy"])
    _, accuracy = small.evaluate(x, y, verbose=0)
    assert accuracy == pytest.approx(report.advice.accuracy)
    assert accuracy - report.exits[-1].accuracy == pytest.approx(
        report.advice.change,
        abs=1e-6,  # float32
    )
    assert len(keras_lap.find_residual_blocks(report.prune(5))) == 5


@ON_ONE
def test_layers_for_an_error(report):
    losses = [exit.loss for exit in report.exits]
    assert report.layers_for(losses[0]) == 0
    assert report.layers_for(losses[2]) == 2 if losses[2] < losses[1] else 1
    assert report.layers_for(min(losses) - 1e-9) is None
    with pytest.raises(ValueError, match="error must be a finite number"):
        report.layers_for(math.nan)


@ON_ONE
def test_text(report):
    needed = f"{report.layers_needed} of 6 blocks"
    assert report.summary == needed
    assert repr(report) == f"<digits_net: {needed}>"
    text = str(report)
    assert text.startswith(f"digits_net: {needed} within 0.02 of the whole network")
    rows = re.findall(r"^  (\d)  +[\d.]+  +([\d.]+)  +([\d.]+)", text, re.M)
    assert [int(row[0]) for row in rows] == list(range(7))
    for row, exit in zip(rows, report.exits, strict=True):
        assert float(row[1]) == pytest.approx(exit.loss, rel=1e-3)
        assert float(row[2]) == pytest.approx(exit.accuracy, rel=1e-3)
    (kept,) = re.findall(r"^  (\d) .*keep$", text, re.M)
    assert int(kept) == report.layers_needed


class Cells(html.parser.HTMLParser):
    """The cells of all tables, the attributes of all tags, and the data."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.attributes, self.data, self._tag = [], {}, "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._tag = tag
        self.attributes.setdefault(tag, []).append(dict(attributes))

    def handle_data(self, data):
        if self._tag == "td":
            self.cells.append(data)
        if self._tag == "script":
            self.data += data


@ON_ONE
def test_page(report, tmp_path):
    report.save_html(tmp_path / "depth.html")
    text = (tmp_path / "depth.html").read_text("utf-8")
    seen = Cells(text)
    assert json.loads(seen.data) == report.to_dict()
    assert [block.name in seen.cells for block in report.blocks] == [True] * 6
    (image,) = seen.attributes["img"]
    kind, code = image["src"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(code).startswith(b"\x89PNG")
    assert "http" not in text.replace(image["src"], "")
    assert f"{report.layers_needed} of 6 blocks" in text
    assert set(Cells(report._repr_html_()).cells) <= set(seen.cells)


@ON_ONE
def test_samples_that_stop_by_themselves(trained, report):
    model, x, y = trained
    thresholds = [0.0, 0.6, 0.9, 1.0]
    quick = depth.early_exit(model.network, 0.5)
    points = report.early_exits(thresholds)
    expected = quick.curve(x, y, thresholds, batch_size=100)
    for point, other in zip(points, expected, strict=True):
        assert point == pytest.approx(other)
    assert points[0]["blocks"] == 0
    assert points[-1]["accuracy"] == pytest.approx(report.exits[-1].accuracy)
    row = report.early_exits()[3]
    text = rf"^  0.9  +{row['accuracy']:.3g}  +{row['blocks']:.3g}$"
    assert re.search(text, str(report), re.M)
    with pytest.raises(ValueError, match="thresholds must be a finite number >= 0"):
        report.early_exits([-1])


@ON_ONE
def test_picture(report):
    error, moves, early = report.plot().axes[:3]
    cuts = early.lines[1]
    accuracies = [exit.accuracy for exit in report.exits]
    np.testing.assert_allclose(cuts.get_ydata(), accuracies)
    np.testing.assert_array_equal(cuts.get_xdata(), range(7))
    ends = early.lines[0].get_xdata()
    assert (ends[0], ends[-1]) == (0, report.early_exits([1])[0]["blocks"])
    line = error.lines[0]
    np.testing.assert_allclose(line.get_xdata(), [exit.time for exit in report.exits])
    np.testing.assert_allclose(line.get_ydata(), [exit.loss for exit in report.exits])
    assert error.get_yscale() == "log"
    advice = next(each for each in error.lines if "advice" in str(each.get_label()))
    assert set(advice.get_xdata()) == {report.exits[report.layers_needed].time}
    heights = [bar.get_height() for bar in moves.patches]
    energies = np.array([block.control_energy for block in report.blocks])
    costs = np.array([block.cost for block in report.blocks])
    expected = [*(energies / energies.max()), *(costs / costs.max())]
    np.testing.assert_allclose(heights, expected)


def test_statistics_of_the_cut_network_are_estimated_anew(tmp_path):
    net = with_random_weights(one_stage(3))
    net.compile("sgd", crossentropy())
    x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    y = np.arange(60) % 3
    report = depth.analyze(net, x, y, verbose=0)
    before = net.get_weights()
    small = report.prune(2, recalibrate=x)
    for one, other in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # The first normalisation of the cut network sees the stem alone.
    kernel, bias = net.get_layer("stem").get_weights()
    stem = x.astype(float) @ kernel + bias
    batches = [stem[:32], stem[32:]]
    norm = small.get_layer("norm0")
    expected = np.mean([part.mean(axis=0) for part in batches], axis=0)
    np.testing.assert_allclose(as_numpy(norm.moving_mean), expected, rtol=1e-4)
    expected = np.mean([part.var(axis=0) for part in batches], axis=0)
    np.testing.assert_allclose(as_numpy(norm.moving_variance), expected, rtol=1e-4)
    shared = report.prune(2)
    assert shared.get_layer("norm0") is net.get_layer("norm0")


@ON_ONE
def test_a_network_that_cannot_be_copied():
    class Own(layers.Layer):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, x):
            return self.factor * x

    inputs = keras.Input((4,))
    x = layers.Add()([inputs, layers.Dense(4)(inputs)])
    net = keras.Model(inputs, layers.Dense(3)(Own(2.0)(x)), name="own")
    net.compile("sgd", crossentropy())
    x = np.ones((5, 4), "float32")
    report = depth.analyze(net, x, np.zeros(5), verbose=0)
    assert report.prune(0)(x).shape == (5, 3)
    with pytest.raises(ValueError, match=r"(?s)'own' cannot be copied.*out recal"):
        report.prune(0, recalibrate=x)


@ON_ONE
def test_the_command(trained, report, tmp_path, monkeypatch, capsys):
    trained[0].save(tmp_path / "model.keras")
    arguments = ["--data", "digits", "--validation", "300", "--tolerance", "0.02"]
    options = ["model.keras", *arguments, "--html", "page.html", "--json"]
    monkeypatch.setattr(sys, "argv", ["depth", *options])
    monkeypatch.chdir(tmp_path)
    runpy.run_module("keras_lap.depth", run_name="__main__")
    printed = json.loads(capsys.readouterr().out)
    assert printed["advice"]["keep"] == report.layers_needed
    losses = [exit["loss"] for exit in printed["exits"]]
    # Batches of another size are added up in another order.
    np.testing.assert_allclose(losses, [e.loss for e in report.exits], rtol=1e-4)
    assert "data:image/png" in (tmp_path / "page.html").read_text("utf-8")


@ON_ONE
def test_what_the_command_prints_and_refuses(trained, tmp_path, capsys):
    from keras_lap.depth.__main__ import main

    model, x, y = trained
    model.network.save(tmp_path / "bare.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    bare, data = str(tmp_path / "bare.keras"), str(tmp_path / "data.npz")
    loss = "sparse_categorical_crossentropy"
    main([bare, "--data", data, "--loss", loss, "--tolerance", "0.02"])
    assert "of 6 blocks within 0.02" in capsys.readouterr().out
    for options, message in (
        ([bare, "--data", data], "'digits_net', which has none"),
        ([bare, "--data", "cifar11"], "Unknown data set"),
        ([bare, "--data", "none.npz"], "No such file"),
        (["none.keras", "--data", data], "none.keras"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*options])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def fitted(monitor, *, epochs=3, rate=0.01, extra=()):
    model = residual_mlp(2, 8)
    model.compile(keras.optimizers.SGD(rate), crossentropy(), metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    y = np.arange(64) % 10
    options = {"batch_size": 32, "verbose": 0, "callbacks": [monitor, *extra]}
    return model, model.fit(x, y, epochs=epochs, **options).history, x, y


def held_out():
    generator = np.random.default_rng(1)
    return generator.normal(size=(40, 64)).astype("float32"), np.arange(40) % 10


@ON_ONE
def test_the_monitor(tmp_path):
    monitor = DepthMonitor(*held_out(), tolerance=0.05, every=2, log_dir=tmp_path / "l")
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    model, history, x, y = fitted(monitor, extra=[logger])
    report = depth.analyze(model, *held_out(), tolerance=0.05, verbose=0)
    np.testing.assert_allclose(monitor.report.losses, report.losses, rtol=1e-4)
    needed = history["layers_needed"]
    assert needed[2] == report.layers_needed
    assert [math.isnan(value) for value in needed] == [False, True, False]
    with (tmp_path / "log.csv").open(newline="") as file:
        assert "layers_needed" in next(csv.reader(file))
    (written,) = (tmp_path / "l").iterdir()
    names = [f"depth/{n}_after_{k}" for n in ("loss", "accuracy") for k in range(3)]
    for name in ["depth/layers_needed", *names]:
        assert written.read_bytes().count(name.encode()) == 2
    before = monitor.report
    model.fit(x, y, initial_epoch=3, epochs=4, verbose=0, callbacks=[monitor])
    assert monitor.report is not before


def test_the_monitor_sees_the_weights_of_now():
    monitor = DepthMonitor(*held_out())
    model, history, _, _ = fitted(monitor, epochs=1, rate=0.1)
    loss, accuracy = model.evaluate(*held_out(), verbose=0)
    last = monitor.report.exits[-1]
    # Float32, and batches of another size.
    assert [last.loss, last.accuracy] == pytest.approx([loss, accuracy], rel=1e-4)
    assert history["layers_needed"] == [monitor.report.layers_needed]


@ON_ONE
def test_the_monitor_of_a_lost_training():
    x, y = held_out()
    monitor = DepthMonitor(np.full_like(x, np.nan), y)
    _, history, _, _ = fitted(monitor, epochs=1)
    assert np.all(np.isnan(history["layers_needed"]))
    assert monitor.report is None


@ON_ONE
@pytest.mark.parametrize("option", ["tolerance", "every", "batch_size"])
def test_the_monitor_refuses(option):
    with pytest.raises(ValueError, match=f"{option} must be"):
        DepthMonitor(*held_out(), **{option: -1})
