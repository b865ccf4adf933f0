"""The report against closed forms and SciPy, the exact test against its level."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lap.symmetry import (
    EquivarianceReport,
    FeatureAveraging,
    Images,
    Linear,
    cyclic,
    dihedral,
    equivariance_report,
    from_generators,
    law_test,
    mirror,
    plot_equivariance,
    plot_law,
    rotations,
    sign,
    symmetric,
)
from keras_lap.symmetry.law import exact_p_value

one_backend = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)).astype("float32")


def dense(outputs=3, activation="tanh"):
    network = keras.Sequential(
        [keras.Input((3,)), layers.Dense(8, activation), layers.Dense(outputs)]
    )
    for weight in network.trainable_variables:
        weight.assign(RNG.normal(size=weight.shape))
    return network


def test_the_numbers_by_hand():
    group, network = cyclic(3), dense()
    (w, b), (v, c) = (each.get_weights() for each in network.layers)
    y = RNG.normal(size=(50, 3)).astype("float32")
    network.compile("sgd", loss="mse")
    report = equivariance_report(
        network, X, group, outputs="vectors", y=y, batch_size=16
    )

    def f(x):
        return np.tanh(x.astype("float64") @ w + b) @ v + c

    back = [np.roll(f(np.roll(X, k, 1)), -k, 1) for k in range(3)]
    errors = [np.sqrt(np.mean(np.sum((each - f(X)) ** 2, 1))) for each in back]
    np.testing.assert_allclose(report.errors, errors, rtol=1e-5, atol=1e-6)
    spread = np.sqrt(np.mean(np.sum((f(X) - f(X).mean(0)) ** 2, 1)))
    wanted = np.sqrt(np.mean(np.square(errors))) / spread
    assert report.relative_error == pytest.approx(wanted, rel=1e-5)
    same = [np.mean(each.argmax(1) == f(X).argmax(1)) for each in back]
    np.testing.assert_allclose(report.agreement, same)
    losses = [np.mean((each - y) ** 2, 1) for each in back]
    change = [np.mean(each - losses[0]) for each in losses]
    np.testing.assert_allclose(report.loss_change, change, rtol=1e-4, atol=1e-6)
    stats = pytest.importorskip("scipy.stats")
    for each, p in zip(losses[1:], report.p_values[1:], strict=True):
        assert p == pytest.approx(stats.ttest_rel(each, losses[0]).pvalue, rel=1e-4)
    assert report.p_values[0] == 1
    assert (report.samples, report.group) == (50, group)
    assert len(str(report).splitlines()) == 8


def test_the_page_says_the_error_in_a_sentence_and_has_all_numbers(tmp_path):
    y = np.zeros((len(X), 1), "float32")
    report = equivariance_report(lambda x: x[:, :1], X, cyclic(3), y=y, loss="mse")
    report.save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    percent = f"{100 * report.relative_error:.3g} %"
    assert f"the outputs change by {percent} of what they vary" in page
    assert [page.count(f"<td>{error:.3g}</td>") >= 1 for error in report.errors] == [
        True
    ] * 3
    assert f"the data obey the group has p = {report.p_value:.3g}" in page
    assert "data:image/png" in page


def test_a_linear_map_under_the_sign_has_root_two():
    network = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    x = np.concatenate([X, -X])  # its mean is 0
    report = equivariance_report(network, x, sign(3))
    # float32 of the network; the sums are in double precision
    assert report.relative_error == pytest.approx(np.sqrt(2), rel=1e-6)
    assert report.p_value is None


def test_unrelated_outputs_have_the_stated_error():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 3))
    report = equivariance_report(
        lambda each: rng.normal(size=(len(each), 2)), x, symmetric(3)
    )
    # The 4000 samples of each element leave 1 %.
    assert report.relative_error == pytest.approx(np.sqrt(2 * 5 / 6), rel=0.02)
    assert report.model_name == "function"


def test_an_averaged_model_is_equivariant_and_has_no_power():
    group = symmetric(3)
    model = FeatureAveraging(dense(), group, outputs="vectors")
    report = equivariance_report(
        model, X, group, outputs="vectors", y=X, loss=keras.losses.MeanSquaredError()
    )
    assert report.relative_error < 1e-5  # float32
    assert np.isnan(report.p_value)
    assert "cannot tell" in str(report)
    assert report.agreement.min() > 0.95


@pytest.mark.parametrize(
    "loss", ["binary_crossentropy", lambda y, p: (p - keras.ops.cast(y, p.dtype)) ** 2]
)
def test_targets_without_the_last_axis_are_those_with_it(loss):
    network, y = dense(1, "sigmoid"), RNG.integers(0, 2, 50)
    model = keras.Sequential([network, layers.Activation("sigmoid")])
    reports = [
        equivariance_report(model, X, cyclic(3), y=each, loss=loss)
        for each in (y, y[:, None])
    ]
    np.testing.assert_array_equal(*[each.loss_change for each in reports])


@one_backend
def test_outputs_that_are_no_numbers_have_no_error():
    report = equivariance_report(lambda x: x * np.nan, X, cyclic(3))
    assert np.isnan(report.relative_error)


def test_images_and_segmentation():
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(2, 3, padding="same")]
    )
    x = RNG.normal(size=(6, 4, 4, 1)).astype("float32")
    report = equivariance_report(network, x, dihedral(4), "images", "images")
    assert report.agreement is None
    network.layers[0].kernel.assign(np.ones((3, 3, 1, 2)))
    report = equivariance_report(network, x, dihedral(4), "images", "images")
    assert report.relative_error < 1e-6


@one_backend
def test_the_exact_p_value_by_enumeration():
    losses = RNG.normal(size=(5, 2))
    losses[:, 0] += 0.8
    means = [
        np.mean(losses[np.arange(5), list(each)])
        for each in itertools.product(range(2), repeat=5)
    ]
    observed = abs(losses[:, 0].mean() - losses.mean())
    wanted = np.mean(np.abs(np.array(means) - losses.mean()) >= observed - 1e-12)
    found = exact_p_value(losses, 100_000, 0)
    assert found == pytest.approx(wanted, abs=0.005)  # 3 standard deviations


@one_backend
def test_the_level_is_kept_and_there_is_power():
    # The law of the loss of any model: exchangeable along the orbit, or not.
    null, other = [], []
    for trial in range(400):
        rng = np.random.default_rng(trial)
        losses = rng.exponential(size=(20, 4)) * rng.exponential(size=(20, 1))
        null.append(exact_p_value(losses, 199, trial))
        losses[:, 0] *= 0.15
        other.append(exact_p_value(losses, 199, trial))
    # Uniform on 1/200, …, 1: binomial, 3.3 standard deviations.
    for level in (0.05, 0.2, 0.5):
        slack = 3.3 * np.sqrt(level * (1 - level) / 400)
        assert abs(np.mean(np.array(null) <= level) - level) < slack
    assert np.mean(np.array(other) <= 0.05) > 0.8


@one_backend
@pytest.mark.parametrize("turn", [1, 2, 4])
def test_digits_obey_the_groups_that_they_were_turned_by(turn):
    """The table of the specification, by a classifier in closed form."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    images, labels = data.images / 16, data.target
    turns = np.random.default_rng(0).integers(0, turn, len(images)) * (4 // turn)
    images = np.array([np.rot90(m, k) for m, k in zip(images, turns, strict=True)])
    flat, hot = images.reshape(-1, 64), np.eye(10)[labels]
    lift = np.random.default_rng(1).normal(size=(64, 300))
    hidden = np.maximum(flat[:900] @ lift, 0)
    read = np.linalg.solve(hidden.T @ hidden + np.eye(300), hidden.T @ hot[:900])

    def model(x):
        return np.maximum(x.reshape(len(x), 64) @ lift, 0) @ read

    transpose = [[0, -1], [-1, 0]]
    candidates = {
        "left-right": mirror(),
        "half turn": rotations(2),
        "quarter turns": rotations(4),
        "transpose": from_generators([transpose]),
        "none": cyclic(1) * cyclic(1),
    }
    pixels = images[900:, :, :, None]
    law = law_test(model, pixels, hot[900:], candidates, "mse", inputs="images")
    obeyed = {1: {"none"}, 2: {"none", "half turn"}}
    wanted = obeyed.get(turn, {"none", "half turn", "quarter turns"})
    kept = {n for n, out in zip(law.names, law.rejected, strict=True) if not out}
    assert kept == wanted
    assert law.largest.order == turn
    assert len(str(law).splitlines()) == 10
    assert f"{len(candidates) - len(wanted)} of 5 groups rejected" in repr(law)


@one_backend
def test_holm_and_shared_elements():
    calls = []

    def model(x):
        calls.append(len(x))
        return x[:, :1] * 2 + x[:, 1:2]

    group = symmetric(3)
    groups = group.subgroups()
    y = (X[:, :1] * 2 + X[:, 1:2]).astype("float32")
    law = law_test(model, X, y, groups, "mse")
    assert len(calls) == 6  # once for each element of S_3, in one batch
    p = law.p_values[1:]  # the first is trivial
    order = np.argsort(p, kind="stable")
    wanted = np.empty(len(p))
    for rank, index in enumerate(order):
        wanted[index] = max(p[order[i]] * (len(p) - i) for i in range(rank + 1))
    np.testing.assert_allclose(law.adjusted[1:], np.minimum(wanted, 1))
    assert law.largest.order == 1


@one_backend
def test_what_cannot_be_rejected_is_said():
    """At most one of samples + 1 is the least p; k groups raise it to k times that."""
    group = symmetric(4)
    x = RNG.normal(size=(200, 4))
    args = (lambda x: x[:, :1], x, x[:, :1])
    groups = group.subgroups()
    assert len({each.name for each in groups}) == len(groups) == 17
    few = law_test(*args, iter(groups), "mse", samples=200)
    # All but the trivial one and those that leave the first coordinate alone.
    judged = np.count_nonzero(~np.isnan(few.p_values)) - 1
    assert judged == 17 - 5
    assert few.least == pytest.approx(judged / 201)
    assert not few.rejected.any()
    assert few.largest is None
    assert "Nothing can be rejected" in str(few)
    enough = law_test(*args, groups, "mse", samples=240)
    assert enough.least <= enough.level
    assert enough.rejected.any()
    assert "Nothing can be rejected" not in str(enough)
    one = law_test(lambda x: x[:, :1], x[:1], x[:1, :1], [group], "mse")
    assert one.least == pytest.approx(1 / 24)  # one sample, 24 elements
    two = law_test(lambda x: x[:, :1], x[:1], x[:1, :1], [mirror() * mirror()], "mse")
    assert two.largest is None


@one_backend
def test_targets_of_one_dimension_are_taken_as_by_fit():
    x = RNG.normal(size=(60, 2))
    how = {"loss": "mse", "outputs": [[[1.0]], [[-1.0]]]}
    for targets in (x[:, 0], x[:, 0] ** 2):  # odd, and not
        flat, column = (
            law_test(lambda z: 0.5 * z[:, :1] - 0.3, x, y, [sign(2)], **how).p_values
            for y in (targets, targets[:, None])
        )
        np.testing.assert_array_equal(flat, column)
        assert (flat[0] < 0.01) == (targets.min() >= 0)


@one_backend
def test_the_page_and_the_picture_of_the_law_test(tmp_path):
    pytest.importorskip("matplotlib")
    x = RNG.normal(size=(100, 3))
    groups = {"$any": symmetric(3), "two": from_generators([np.eye(3)[[1, 0, 2]]])}
    half = np.array([[1.0], [0.5], [0.0]])
    law = law_test(lambda z: z @ half, x, x[:, :2].sum(1), groups, "mse")
    assert list(law.rejected) == [True, False]
    axis = plot_law(law)
    assert [bar.get_width() for bar in axis.patches] == pytest.approx(law.adjusted)
    law.save_html(tmp_path / "law.html")
    page = (tmp_path / "law.html").read_text("utf-8")
    assert "1 of 2 groups rejected; the largest not rejected: two" in page
    assert "<th>p (Holm)</th>" in page
    assert "<td>rejected</td>" in law._repr_html_()


@one_backend
def test_candidates_with_actions_of_their_own():
    group = mirror()
    flip = Linear(group, [np.eye(3), np.eye(3)[::-1]])
    x = RNG.normal(size=(300, 3))
    model = {"model": lambda x: x @ np.array([[1.0], [1.0], [0.5]]), "loss": "mse"}
    both = np.concatenate([x, x[:, ::-1]])  # a sample that is closed under the flip
    fair = law_test(x=both, y=both.sum(1, keepdims=True), groups=[flip], **model)
    assert fair.p_values == [1.0]
    assert fair.largest == group
    law = law_test(x=x, y=model["model"](x), groups={"flip": flip}, **model)
    # The loss is 0 on the data and on nothing else: the least p-value.
    assert law.p_values == pytest.approx(1 / 2000)
    assert law.rejected.all()
    two = {"as it is": Linear(group, [np.eye(3), np.diag([1.0, 1, -1])]), "flip": flip}
    both = law_test(x=both, y=both.sum(1, keepdims=True), groups=two, **model)
    assert list(both.rejected) == [True, False]
    assert both.largest is both.groups[1]
    assert both.summary.endswith("not rejected: flip")
    assert law.largest is None


@one_backend
def test_the_picture():
    pytest.importorskip("matplotlib")
    report = equivariance_report(dense(), X, cyclic(3), y=X, loss="mse")
    axis = plot_equivariance(report)
    assert [bar.get_height() for bar in axis.patches] == pytest.approx(report.errors)
    plain = equivariance_report(dense(), X, cyclic(3))
    assert not plot_equivariance(plain).lines
    assert isinstance(plain, EquivarianceReport)


@one_backend
def test_a_loss_that_returns_a_mean_and_one_by_shape():
    model = dense()
    each = equivariance_report(model, X, cyclic(3), y=X, loss="mse")
    mean = equivariance_report(model, X, cyclic(3), y=X, loss=mean_squared)
    np.testing.assert_allclose(mean.loss_change, each.loss_change, rtol=1e-5)
    labels = np.arange(len(X)) % 3
    how = {"outputs": "trivial", "y": labels}
    by_shape = equivariance_report(model, X, cyclic(3), **how, loss="crossentropy")
    sparse = "sparse_categorical_crossentropy"
    named = equivariance_report(model, X, cyclic(3), **how, loss=sparse)
    np.testing.assert_array_equal(by_shape.loss_change, named.loss_change)


def mean_squared(y, outputs):
    return ops.mean(ops.square(y - outputs))


@one_backend
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"y": X[:3]}, ValueError, "as many samples"),
        ({"y": X}, ValueError, "one loss. Received: 'function'"),
        ({"y": X, "loss": "nonsense"}, ValueError, "loss must"),
        ({"y": X, "loss": ["mse", "mae"]}, ValueError, "one loss"),
        ({"y": X, "loss": lambda y, p: (y - p)[:2]}, ValueError, "one value"),
        ({"samples": 0}, ValueError, "at least 1"),
        ({"batch_size": 0}, ValueError, "at least 1"),
        ({"group": "C4"}, TypeError, "FiniteGroup"),
        ({"x": X[:0]}, ValueError, "at least one"),
        ({"model": lambda x: [x, x]}, ValueError, "one output"),
        ({"model": lambda x: np.ones(2)}, ValueError, "each sample"),
        ({"x": X.tolist()}, ValueError, "np.asarray"),
        ({"y": X * np.nan, "loss": "mse"}, ValueError, "finite"),
        ({"x": iter([X])}, ValueError, "x must be arrays.*iterator"),
        ({"y": ["a"] * 50, "loss": "mse"}, ValueError, "y must hold numbers.*unique"),
        ({"y": X[:, :2], "loss": "mse"}, ValueError, r"\(50, 3\).*\(50, 2\)"),
    ],
)
def test_bad_arguments_of_the_report(options, error, message):
    given = {"model": lambda x: x, "x": X, "group": cyclic(3), **options}
    with pytest.raises(error, match=message):
        equivariance_report(**given)


@one_backend
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"y": None}, ValueError, "targets"),
        ({"level": 5}, ValueError, "between 0 and 1"),
        ({"level": "a"}, ValueError, "between 0 and 1"),
        ({"groups": cyclic(3)}, ValueError, "list or dictionary"),
        ({"groups": []}, ValueError, "list or dictionary"),
        ({"groups": [cyclic(3), cyclic(3)]}, ValueError, "twice"),
        ({"groups": ["C4"]}, TypeError, "FiniteGroup"),
        ({"model": lambda x: np.ones((len(x), 3))}, ValueError, "constant model"),
        ({"inputs": Images(mirror())}, ValueError, "one group"),
    ],
)
def test_bad_arguments_of_the_law_test(options, error, message):
    given = {"model": lambda x: x, "x": X, "y": X, "groups": [cyclic(3)], "loss": "mse"}
    with pytest.raises(error, match=message):
        law_test(**{**given, **options})
