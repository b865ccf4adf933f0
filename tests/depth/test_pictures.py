"""Pictures along the layers, by the values that are drawn."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.basics import build_dense_network
from support.ode_by_hand import ByHand

import keras_lap
from keras_lap import depth
from keras_lap.networks import neural_ode

once = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="on the quickest backend"
)

STEPS = [0.5, 0.25, 0.75]
RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 2)).astype("float32")
Y = np.where(np.arange(40) % 2, 1.0, -1.0).astype("float32")[:, None]
# Weights and states are in float32, by hand in float64.
CLOSE = {"rtol": 1e-5}


def network(steps=STEPS, num_outputs=1):
    net = neural_ode((2,), num_outputs, time_steps=steps, augment=1)
    net.set_weights([0.7 * RNG.normal(size=w.shape) for w in net.get_weights()])
    return net


def drawn(figure, path):
    figure.savefig(path)
    return path.stat().st_size > 1000


def test_error_states_and_weights_by_layer(tmp_path):
    nets = {"one": network(), "$the_{other": network([1.0, 1.0])}
    model = keras_lap.LeastActionModel(nets["one"], horizon=STEPS)
    model.compile("sgd", "mse")
    figure = depth.plot_layers({**nets, "one": model}, X, Y, loss="mse", batch_size=16)
    errors, states, controls = figure.axes
    for number, (net, steps) in enumerate(
        zip(nets.values(), (STEPS, [1.0, 1.0]), strict=True)
    ):
        hand = ByHand(net, "inside", steps)
        times = np.concatenate([[0], np.cumsum(steps)])
        w, b = hand.weights["readout"]
        losses = [np.mean((x @ w + b - Y) ** 2) for x in hand.states(X)]
        norms = [np.mean(np.sqrt(np.sum(x**2, axis=1))) for x in hand.states(X)]
        for axis, expected in ((errors, losses), (states, norms)):
            np.testing.assert_allclose(axis.lines[number].get_xdata(), times)
            found = axis.lines[number].get_ydata()
            np.testing.assert_allclose(found, expected, **CLOSE)
        values, edges, _ = controls.patches[number].get_data()
        np.testing.assert_allclose(edges, times)
        sizes = [
            np.sqrt(sum(np.sum(w**2) for w in hand.weights[name]))
            for (name,) in hand.names
        ]
        np.testing.assert_allclose(values, sizes, **CLOSE)
    assert {axis.get_xlabel() for axis in figure.axes} == {"time $t_k$"}
    assert errors.get_yscale() == "log"
    assert drawn(figure, tmp_path / "layers.png")


@once
def test_blocks_of_any_network_and_a_loss_of_its_own():
    net = build_dense_network()
    x, y = RNG.normal(size=(9, 64)).astype("float32"), np.arange(9)
    net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    errors = depth.plot_layers(net, x, y).axes[0]
    assert errors.get_xlabel() == "blocks"
    assert list(errors.lines[0].get_xdata()) == [0, 1, 2, 3]
    short = depth.prune(net, 1)
    short.compile("sgd", net.loss)
    expected = short.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(errors.lines[0].get_ydata()[1], expected, rtol=1e-5)
    own = depth.plot_layers(net, x, y, loss=lambda y, out: out[:, 0] - 9, horizon=1.5)
    expected = short.predict(x, verbose=0)[:, 0].mean() - 9
    found = own.axes[0].lines[0].get_ydata()[1]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert list(own.axes[0].lines[0].get_xdata()) == [0, 0.5, 1, 1.5]
    assert own.axes[0].get_yscale() == "linear"


@once
def test_the_blocks_that_a_model_counts():
    net = build_dense_network()
    model = keras_lap.LeastActionModel(net, blocks=["b0", "b2"])
    x, y = RNG.normal(size=(9, 64)).astype("float32"), np.zeros((9, 10))
    axes = depth.plot_layers(model, x, y, loss="mse").axes
    assert [len(axis.lines[0].get_xdata()) for axis in axes[:2]] == [3, 3]
    assert len(axes[2].patches[0].get_data()[0]) == 2


@pytest.mark.parametrize("outputs", [pytest.param(1, marks=once), 3])
def test_decisions_are_those_of_the_cut_network(outputs, tmp_path):
    net = network(num_outputs=outputs)
    y = Y if outputs == 1 else np.eye(3)[np.arange(40) % 3]
    classes = (Y[:, 0] > 0).astype(int) if outputs == 1 else np.arange(40) % 3
    figure = depth.plot_decisions(net, X, y, exits=[0, 2, 3], resolution=9)
    for axis, keep in zip(figure.axes, (0, 2, 3), strict=True):
        cut = depth.prune(net, keep)
        mesh, *points = axis.collections
        # The corners of the cells lie half a cell around the points.
        corners = np.asarray(mesh.get_coordinates())
        centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
        values = cut.predict(centres.reshape(-1, 2).astype("float32"), verbose=0)
        expected = values[:, 0] > 0 if outputs == 1 else values.argmax(axis=1)
        found = np.asarray(mesh.get_array()).ravel()
        np.testing.assert_array_equal(found, expected)
        values = cut.predict(X, verbose=0)
        decided = values[:, 0] > 0 if outputs == 1 else values.argmax(axis=1)
        share = np.mean(decided == classes)
        assert axis.get_title() == f"{keep} of 3 blocks: {share:.3f}"
        assert len(points) == max(2, outputs)
        for number, cloud in enumerate(points):
            np.testing.assert_array_equal(cloud.get_offsets(), X[classes == number])
    assert drawn(figure, tmp_path / "decisions.png")


@once
def test_a_threshold_and_ten_panels_of_many():
    net = network([0.1] * 25)
    y = np.arange(40) % 2
    figure = depth.plot_decisions(net, X, y, threshold=0.3, resolution=3)
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == 10
    assert (titles[0].split()[0], titles[-1].split()[0]) == ("0", "25")
    share = np.mean((net.predict(X, verbose=0)[:, 0] > 0.3) == y)
    assert titles[-1].endswith(f"{share:.3f}")


@once
def test_what_cannot_be_drawn():
    net = network()
    plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"one loss.*'neural_ode', which has none"):
        depth.plot_layers(net, X, Y)
    with pytest.raises(ValueError, match="no residual block"):
        depth.plot_layers(plain, X, Y, loss="mse")
    with pytest.raises(ValueError, match="hold 3 time steps"):
        depth.plot_layers(net, X, Y, loss="mse", horizon=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"of shape \(n, 2\)\. .*\(40, 3\)"):
        depth.plot_decisions(net, np.zeros((40, 3)), Y)
    with pytest.raises(ValueError, match=r"from 0 to 3.*exits=\[4\]"):
        depth.plot_decisions(net, X, Y, exits=[4])
    with pytest.raises(ValueError, match=r"two values.*\[0, 1, 2\]"):
        depth.plot_decisions(net, X, np.arange(40) % 3, resolution=2)
    with pytest.raises(ValueError, match=r"one of 0 … 2"):
        depth.plot_decisions(network(num_outputs=3), X, np.arange(40) % 4, resolution=2)
