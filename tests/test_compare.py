"""`compare` against NumPy, SciPy and plain Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy import stats
from support.basics import ON_ONE, as_numpy

import keras_lap

N = 40


def data(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, 4)).astype("float32"), rng.integers(0, 3, N)


def network(seed, blocks=2):
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((4,))
    for _ in range(blocks):
        x = keras.layers.Add()([x, keras.layers.Dense(4, use_bias=False)(x)])
    return keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(x))


def compiled(model, metrics=("accuracy",)):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss=loss, metrics=list(metrics))
    return model


def by_hand(net, x, y, p):
    """Loss, accuracy, cost and ‖v‖/‖x‖ of each sample, in float64."""
    *branches, head = (as_numpy(v).astype(float) for v in net.trainable_variables)
    state, cost, relative = x.astype(float), 0.0, 0.0
    for kernel in branches:
        moved = state @ kernel
        cost = cost + np.mean(np.abs(moved) ** p, axis=1)
        relative = relative + np.linalg.norm(moved, axis=1) / np.linalg.norm(
            state, axis=1
        ) / len(branches)
        state = state + moved
    logits = state @ head
    loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
    return {
        "loss": loss,
        "accuracy": (logits.argmax(axis=1) == y).astype(float),
        "transport_cost": cost,
        "relative_displacement": relative,
    }


@pytest.mark.parametrize("p", [None, 1.5])
def test_two_models_are_paired_over_the_samples(p):
    x, y = data()
    plain = compiled(network(0))
    least = compiled(keras_lap.LeastActionModel(network(1), energy=3.0))
    found = keras_lap.compare({"plain": plain, "least": least}, (x, y), p=p)
    expected = [by_hand(net, x, y, p or 3.0) for net in (plain, least.network)]
    assert found.paired_over == "samples"
    assert set(found.numbers) == {*expected[0], "layers_needed"}
    for number in expected[0]:
        a, b = (each[number] for each in expected)
        assert found.mean("plain", number) == pytest.approx(a.mean(), rel=1e-5)
        assert found.mean("least", number) == pytest.approx(b.mean(), rel=1e-5)
        (one,) = [each for each in found.differences if each.number == number]
        between = stats.ttest_rel(b, a).confidence_interval(0.95)
        np.testing.assert_allclose(
            [one.mean, one.low, one.high],
            [np.mean(b - a), between.low, between.high],
            rtol=1e-4,  # float32 against float64, after a difference
            atol=1e-6,
        )


@ON_ONE
def test_several_models_of_a_name_are_paired_over_the_seeds():
    x, y = data()
    groups = {
        "a": [compiled(network(seed)) for seed in range(3)],
        "b": [compiled(network(seed, blocks=3)) for seed in range(5, 8)],
    }
    found = keras_lap.compare(groups, (x, y))
    values = {
        name: [by_hand(net, x, y, 2.0) for net in nets] for name, nets in groups.items()
    }
    assert found.paired_over == "seeds"
    for number in values["a"][0]:
        a, b = ([each[number].mean() for each in values[name]] for name in "ab")
        (one,) = [each for each in found.differences if each.number == number]
        between = stats.ttest_rel(b, a).confidence_interval(0.95)
        np.testing.assert_allclose(
            [one.low, one.high], [between.low, between.high], rtol=1e-4, atol=1e-6
        )


@ON_ONE
def test_what_it_shows():
    pair = {"plain $": compiled(network(0)), "<b>": compiled(network(1))}
    found = keras_lap.compare(pair, data())
    text = str(found)
    assert "over the samples; they say nothing about another training" in text
    assert "mean |v|^2 per element" in text
    assert all(number in text for number in found.numbers)
    assert len(repr(found)) < 100
    page = found._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    figure = found.plot()
    figure.canvas.draw()
    assert sum(axis.axison for axis in figure.axes) == len(found.numbers)
    drawn = figure.axes[0].collections[1].get_offsets()[0, 1]
    assert drawn == found.mean("<b>", found.numbers[0])
    plain = found.to_dict()
    assert plain["runs"]["<b>"][0]["loss"] == found.mean("<b>", "loss")
    assert len(plain["differences"]) == len(found.numbers)


def needed(net, x, y):
    """From how many blocks on every cut is within one point; by NumPy."""
    *branches, head = (as_numpy(v).astype(float) for v in net.trainable_variables)
    state, right = x.astype(float), []
    for kernel in [*branches, None]:
        right.append(np.mean((state @ head).argmax(axis=1) == y))
        state = state if kernel is None else state + state @ kernel
    failing = [k for k, share in enumerate(right) if share < right[-1] - 0.01 - 1e-9]
    return failing[-1] + 1 if failing else 0


def test_how_many_layers_each_needs():
    x, y = data()
    pairs = [
        (compiled(network(seed, 4)), compiled(network(seed, 3))) for seed in (0, 1)
    ]
    groups = {"a": [a for a, _ in pairs], "b": [b for _, b in pairs]}
    found = keras_lap.compare(groups, (x, y))
    every = []
    for name, group in groups.items():
        every += [needed(each, x, y) for each in group]
        assert [run["layers_needed"] for run in found.runs[name]] == every[-2:]
    assert len(set(every)) > 1
    assert "the fewest blocks" in str(found)


def test_where_one_cannot_be_cut_none_says_what_it_needs():
    x, y = data()
    pair = {}
    net = network(0)
    for name in "ab":
        both = keras.Model(net.input, [net.output, net.output])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        both.compile("sgd", loss=[loss, loss])
        pair[name] = both
    found = keras_lap.compare(pair, (x, [y, y]))
    assert "layers_needed" not in found.numbers
    assert "the fewest blocks" not in str(found)


def test_it_says_that_other_blocks_count():
    plain = network(0, blocks=3)
    names = [block.name for block in keras_lap.find_residual_blocks(plain)]
    some = keras_lap.LeastActionModel(network(1, blocks=3))
    alike = {"plain": compiled(plain), "least": compiled(some)}
    assert "same blocks" not in str(keras_lap.compare(alike, data()))
    few = keras_lap.LeastActionModel(plain, blocks=[names[0], names[2]])
    found = keras_lap.compare(alike | {"least": compiled(few)}, data())
    assert found.blocks == {"plain": [1, 2, 3], "least": [1, 3]}
    assert "not of the same blocks; plain: 1–3; least: 1, 3" in str(found)


def test_a_metric_without_values_of_samples_has_no_interval():
    pair = {}
    for seed, name in enumerate("ab"):
        top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")
        pair[name] = compiled(network(seed), [top])
    found = keras_lap.compare(pair, data())
    (top,) = [each for each in found.differences if each.number == "top"]
    assert top.low is top.high is None
    assert top.mean == pytest.approx(found.mean("b", "top") - found.mean("a", "top"))


def wrong():
    one, other = compiled(network(0)), compiled(network(1))
    return [
        ({"a": one}, "two names or more"),
        ({"a": one, "b": "net"}, "Keras models"),
        ({"a": one, "b": network(2)}, "not compiled"),
        ({"a": [one, other], "b": [one]}, "as many.*'a': 2, 'b': 1"),
        ({"a": [], "b": []}, "one or more"),
        ({"a": one, "b": compiled(network(2), [])}, "same numbers"),
    ]


@ON_ONE
def test_bad_input_is_refused():
    for models, text in wrong():
        with pytest.raises((TypeError, ValueError), match=text):
            keras_lap.compare(models, data())
    pair = {"a": compiled(network(0)), "b": compiled(network(1))}
    with pytest.raises(TypeError, match="a pair"):
        keras_lap.compare(pair, data()[0])
    with pytest.raises(ValueError, match="p must be"):
        keras_lap.compare(pair, data(), p=1.0)
