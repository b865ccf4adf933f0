"""The transport report against closed forms and a reading of its own in NumPy."""

from __future__ import annotations

import itertools
import json
import sys

import keras
import numpy as np
import pytest
from support.transports import (
    affine_network,
    cheapest,
    points,
    random_blocks,
    states_of,
)

import keras_lap
from keras_lap import transport

TORCH = keras.backend.backend() == "torch"
# float32 states, which the backends round in their own ways.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def analyze(model, x, y=None, **options):
    return transport.analyze(model, x, y, verbose=0, **options)


def test_translation_is_optimal_and_straight():
    shift = np.array([3.0, 4.0])
    network = affine_network((np.zeros((2, 2)), shift), (np.zeros((2, 2)), shift))
    report = analyze(network, points(features=2))
    (stage,) = report.to_dict()["stages"]
    expected = {
        "blocks": ["block0", "block1"],
        "network_cost": 100.0,
        "optimal_cost": 100.0,
        "optimality": 1.0,
        "own_partner_share": 1.0,
        "path_ratio": 1.0,
        "line_shape_score": 1.0,
        "optimal_transport_score": 1.0,
    }
    assert stage.pop("blocks") == expected.pop("blocks")
    assert stage == pytest.approx(expected, rel=1e-5)
    for block in report.blocks:
        assert block.cost == pytest.approx(12.5, rel=1e-5)
        assert block.displacement_mean == pytest.approx(5.0, rel=1e-5)
    assert report.blocks[1].cosine_with_previous == pytest.approx(1.0, abs=1e-6)
    assert report.total_cost == pytest.approx(25.0, rel=1e-5)


def test_half_a_turn_of_a_symmetric_cloud_moves_it_in_vain():
    network = affine_network((-2 * np.eye(2), np.zeros(2)))
    cloud = points(features=2)
    (stage,) = analyze(network, np.concatenate([cloud, -cloud])).stages
    assert stage.network_cost > 1
    assert stage.optimality == pytest.approx(0.0, abs=1e-9)
    assert stage.own_partner_share == 0.0


def test_a_known_ratio():
    # −1 → 2 and 1 → −2, where −1 → −2 and 1 → 2 would cost 1 instead of 9.
    network = affine_network(([[-3.0]], [0.0]))
    (stage,) = analyze(network, np.array([[-1.0], [1.0]], "float32")).stages
    assert stage.optimality == pytest.approx(1 / 9, rel=1e-5)


def test_identity_costs_nothing():
    network = affine_network((np.zeros((3, 3)), np.zeros(3)))
    report = analyze(network, points(features=3))
    (stage,) = report.stages
    assert report.total_cost == 0.0
    assert (stage.network_cost, stage.optimality) == (0.0, 1.0)
    assert (stage.path_ratio, stage.line_shape_score) == (1.0, 1.0)
    assert stage.own_partner_share == 1.0
    assert stage.regularity.forward.maximum == pytest.approx(1.0)


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
def test_every_number_against_numpy(p):
    blocks, x = random_blocks(), points(count=50)
    found = analyze(affine_network(*blocks), x, p=p, batch_size=16).to_dict()
    states = states_of(blocks, x)
    moves = [b - a for a, b in itertools.pairwise(states)]
    lengths = [np.linalg.norm(move, axis=1) for move in moves]
    for number, (block, move, length) in enumerate(
        zip(found["blocks"], moves, lengths, strict=True)
    ):
        before = np.linalg.norm(states[number], axis=1)
        assert block["cost"] == pytest.approx(np.mean(np.abs(move) ** p), rel=1e-5)
        assert block["displacement_mean"] == pytest.approx(length.mean(), rel=1e-5)
        assert block["relative_displacement"] == pytest.approx(
            np.mean(length / before), rel=1e-5
        )
        levels = [float(level) for level in block["displacement_quantiles"]]
        np.testing.assert_allclose(
            list(block["displacement_quantiles"].values()),
            np.quantile(length, levels),
            **CLOSE,
        )
        if number:
            dots = np.sum(move * moves[number - 1], axis=1)
            cosine = np.mean(dots / length / lengths[number - 1])
            assert block["cosine_with_previous"] == pytest.approx(cosine, abs=1e-5)
    assert found["blocks"][0]["cosine_with_previous"] is None
    assert found["total_cost"] == pytest.approx(
        sum(np.mean(np.abs(move) ** p) for move in moves), rel=1e-5
    )

    (stage,) = found["stages"]
    straight = np.linalg.norm(states[-1] - states[0], axis=1)
    directions = sum(m / n[:, None] for m, n in zip(moves, lengths, strict=True))
    best, columns = cheapest(states[0], states[-1], p)
    scores = [
        cheapest(a, b, 2)[0] / np.mean(np.sum((b - a) ** 2, axis=1))
        for a, b in itertools.pairwise(states)
    ]
    expected = {
        "network_cost": np.mean(straight**p),
        "optimal_cost": best,
        "optimality": best / np.mean(straight**p),
        "own_partner_share": np.mean(columns == np.arange(50)),
        "path_ratio": np.mean(sum(lengths) / straight),
        "line_shape_score": np.mean(3 / np.linalg.norm(directions, axis=1)),
        "optimal_transport_score": np.mean(scores),
    }
    del stage["blocks"]
    assert 0 < expected["own_partner_share"] < 1  # else the cloud says nothing
    assert stage == pytest.approx(expected, rel=1e-5)


def test_keys_are_fixed():
    report = analyze(affine_network(*random_blocks()), points())
    found = report.to_dict()
    assert list(found) == ["p", "num_samples", "total_cost", "blocks", "stages"]
    assert set(found["blocks"][0]) == {
        *("name", "kind", "stage", "cost", "displacement_mean"),
        *("displacement_quantiles", "relative_displacement", "cosine_with_previous"),
    }
    assert set(found["stages"][0]) == {
        *("blocks", "network_cost", "optimal_cost", "optimality", "own_partner_share"),
        *("path_ratio", "line_shape_score", "optimal_transport_score"),
    }
    assert found["num_samples"] == 40
    assert [block["name"] for block in found["blocks"]] == [
        *found["stages"][0]["blocks"]
    ]
    assert json.loads(report.to_json()) == found


def test_there_and_back_is_infinitely_crooked_and_null_in_json():
    back = affine_network((np.zeros((1, 1)), [1.0]), (np.zeros((1, 1)), [-1.0]))
    report = analyze(back, np.array([[0.0], [1.0], [2.0]], "float32"))
    assert report.stages[0].path_ratio == np.inf
    assert report.stages[0].line_shape_score == np.inf
    assert json.loads(report.to_json())["stages"][0]["path_ratio"] is None


def test_a_short_name_and_a_table_for_notebooks():
    report = analyze(affine_network(*random_blocks()), points())
    relative = np.mean([block.relative_displacement for block in report.blocks])
    assert report.relative_displacement == pytest.approx(relative)
    assert report.statistics == "none"
    assert len(repr(report)) < 200
    assert f"‖v‖/‖x‖ {relative:.4g}" in repr(report)
    page = report._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 2
    assert page.count("<tr>") == 1 + 3 + 1 + 1
    assert "mean |v|^2 per element" in page


def test_readable_text_and_data_frame():
    report = analyze(affine_network(*random_blocks()), points())
    text = str(report)
    assert "affine: transport of 40 samples by 3 blocks in 1 stage, p = 2" in text
    assert f"{report.stages[0].optimality:.4g}" in text
    frame = report.to_dataframe()
    assert list(frame["name"]) == ["block0", "block1", "block2"]
    assert list(frame["cost"]) == [block.cost for block in report.blocks]
    assert (
        frame["displacement_0.5"][1] == report.blocks[1].displacement_quantiles["0.5"]
    )
    assert set(frame["stage_optimality"]) == {report.stages[0].optimality}


def conv(x, filters, **options):
    return keras.layers.Conv2D(filters, 3, padding="same", **options)(x)


def staged_network():
    """Two blocks, a change of dimension, one, a projection, one: in 3 or 4 stages."""
    inputs = keras.Input((8, 8, 3))
    x = conv(inputs, 4)
    x = keras.layers.Add(name="a")([x, conv(x, 4)])
    x = keras.layers.Add(name="b")([x, conv(x, 4)])
    x = conv(x, 6, strides=2)
    x = keras.layers.Add(name="c")([x, conv(x, 6)])
    shortcut = keras.layers.Conv2D(8, 1, strides=2)(x)
    x = keras.layers.Add(name="d")([shortcut, conv(x, 8, strides=2)])
    x = keras.layers.ReLU()(keras.layers.Add(name="e")([x, conv(x, 8)]))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize(
    ("projections", "stages"),
    [(False, [["a", "b"], ["c"], ["e"]]), (True, [["a", "b"], ["c"], ["d", "e"]])],
)
def test_stages_begin_where_the_dimension_changes(projections, stages):
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")
    report = analyze(staged_network(), images, include_projections=projections)
    assert [list(stage.blocks) for stage in report.stages] == stages
    numbers = [block.stage for block in report.blocks]
    assert numbers == [k for k, names in enumerate(stages) for _ in names]
    kinds = {block.name: block.kind for block in report.blocks}
    assert kinds.get("d", "projection") == "projection"


def test_a_stage_ends_where_something_else_changes_the_state():
    inputs = keras.Input((4,))
    x = keras.layers.Add(name="a")([inputs, keras.layers.Dense(4)(inputs)])
    x = keras.layers.Rescaling(2.0)(x)
    x = keras.layers.Add(name="b")([x, keras.layers.Dense(4)(x)])
    report = analyze(keras.Model(inputs, x), points())
    assert [stage.blocks for stage in report.stages] == [("a",), ("b",)]


class Subclassed(keras.Model):
    """Blocks whose sums no layer returns, and the last of which no layer takes."""

    def __init__(self, moves):
        super().__init__()
        self.moves = moves

    def call(self, x):
        for move in self.moves:
            x = x + move(x)
        return keras.ops.mean(x, axis=-1)


def test_states_inside_a_call():
    functional = affine_network(*random_blocks())
    model = Subclassed([functional.get_layer(f"move{k}") for k in range(3)])
    x = points()
    model(x)
    found, expected = (analyze(m, x).to_dict() for m in (model, functional))
    for kind in ("blocks", "stages"):
        for one, other in zip(found[kind], expected[kind], strict=True):
            numbers = [key for key in other if isinstance(other[key], float)]
            assert len(numbers) >= 3
            for key in numbers:
                assert one[key] == pytest.approx(other[key], rel=1e-5)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 4

    def __getitem__(self, index):
        part = slice(10 * index, 10 * index + 10)
        return self.x[part], self.y[part]


def test_data_of_any_kind_give_the_same_report():
    network, x, y = affine_network(*random_blocks()), points(), np.arange(40) % 3
    whole = analyze(network, x, y, batch_size=40)
    tensors = keras.ops.convert_to_tensor(x)
    for report in (
        analyze(network, tensors, y, batch_size=7),
        analyze(network, Batches(x, y)),
        analyze(network, ((x[k : k + 9], y[k : k + 9]) for k in range(0, 40, 9))),
    ):
        np.testing.assert_array_equal(report.labels, y)
        assert report.num_samples == 40
        # The same float32 sums in batches of other sizes.
        assert report.total_cost == pytest.approx(whole.total_cost, rel=1e-6)
        one, other = report.to_dict()["stages"][0], whole.to_dict()["stages"][0]
        assert one.pop("blocks") == other.pop("blocks")
        assert one == pytest.approx(other, rel=1e-5)


def test_a_sample_stands_for_many():
    x = points(count=300)
    y = x[:, 0]
    report = analyze(affine_network(*random_blocks()), x, y, max_samples=20)
    assert (report.num_samples, report.sample_size) == (300, 20)
    # Every sampled row is a row of the data, with the label that belongs to it.
    first = report.stages[0].states[0]
    np.testing.assert_array_equal(report.labels, first[:, 0])
    rows = {tuple(row) for row in x}
    assert len({tuple(row) for row in first} & rows) == 20
    assert report.stages[0].network_cost == pytest.approx(
        np.mean(np.sum((report.stages[0].states[-1] - first) ** 2, axis=1)), rel=1e-5
    )


def test_every_row_is_sampled_equally_often():
    from keras_lap.transport.sampling import Reservoir

    counts = np.zeros(30)
    for seed in range(2000):
        reservoir = Reservoir(10, seed)
        for first in range(0, 30, 7):
            reservoir.add([np.arange(first, min(first + 7, 30))])
        counts[reservoir.rows()[0]] += 1
    # Binomial with mean 667 and standard deviation 21.
    assert np.all(np.abs(counts - 2000 / 3) < 5 * 21)


def test_large_states_make_the_sample_smaller(monkeypatch):
    from keras_lap.transport import measure

    # 4 states of 4 floats each.
    monkeypatch.setattr(measure, "SAMPLE_BYTES", 4 * 4 * 4 * 12)
    report = analyze(affine_network(*random_blocks()), points())
    assert report.sample_size == 12
    assert report.num_samples == 40


@pytest.mark.skipif(not TORCH, reason="memory of Python alone, once is enough")
def test_memory_does_not_grow_with_the_data():
    import gc
    import tracemalloc

    network, part = affine_network(*random_blocks()), points(count=500)

    def peak(batches):
        tracemalloc.start()
        analyze(network, (part for _ in range(batches)), max_samples=50)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(2)
    rarely = gc.get_threshold()
    gc.set_threshold(700)  # as Python has it, where the tests collect less often
    grown = peak(200) - peak(25)
    gc.set_threshold(*rarely)
    # The sample of displacement norms is full after 20 batches. What still grows are
    # small objects of the backend that wait for Python's collector.
    assert grown < 175 * part.nbytes / 4


def test_a_least_action_model_brings_its_own_blocks_and_exponent():
    network = affine_network(*random_blocks())
    model = keras_lap.LeastActionModel(network, energy=3.0, blocks=["block1"])
    report = analyze(model, points())
    assert [block.name for block in report.blocks] == ["block1"]
    assert report.p == 3.0
    record = keras_lap.DisplacementRecorder(network, model.block_report)
    _, (displacement,) = record(points())
    energy = keras_lap.energies.DisplacementEnergy(3.0)
    assert report.total_cost == pytest.approx(float(energy(displacement)), rel=1e-5)


def test_half_precision_states_are_read():
    inputs = keras.Input((4,), dtype="float16")
    move = keras.layers.Dense(4, dtype="float16")
    x = keras.layers.Add(dtype="float16")([inputs, move(inputs)])
    report = analyze(keras.Model(inputs, x), points().astype("float16"))
    assert report.stages[0].states[0].dtype == np.float32


def network_without_blocks():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(inputs))


def nan_points():
    x = points()
    x[3, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"x": points()[:0]}, ValueError, "two samples or more. Received: 0 samples"),
        ({"x": points()[:1]}, ValueError, "two samples or more. Received: 1 sample in"),
        ({"x": iter(())}, ValueError, "Received: 0 samples"),
        ({"x": nan_points()}, ValueError, "block 'block0' are not finite for 1 of 32"),
        ({"x": points(), "y": np.arange(3)}, ValueError, r"lengths \[3, 40\]"),
        ({"x": [[1.0, 2.0]]}, TypeError, "Received: a list"),
        ({"x": 3}, TypeError, "Received: a int"),
        ({"x": iter(()), "y": np.arange(3)}, ValueError, "y goes with arrays"),
        ({"x": points(), "p": 1.0}, ValueError, "p must be a finite number > 1"),
        ({"x": points(), "max_samples": 1}, ValueError, "max_samples must be"),
        ({"x": points(), "batch_size": 0}, ValueError, "batch_size must be"),
    ],
)
def test_wrong_input(arguments, error, text):
    with pytest.raises(error, match=text):
        analyze(affine_network(*random_blocks()), **arguments)


def test_a_network_without_blocks():
    with pytest.raises(ValueError, match="has no residual block") as error:
        analyze(network_without_blocks(), points())
    assert "blocks=[...]" in str(error.value)
    assert "include_projections=True" in str(error.value)


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("ot", "transport", lambda _: analyze(network_without_blocks(), points())),
        ("pandas", "dataframe", lambda report: report.to_dataframe()),
        ("matplotlib.figure", "plots", transport.plot_displacements),
        ("matplotlib.animation", "plots", lambda r: transport.animate(r, "a.gif")),
    ],
)
def test_missing_packages_are_named_with_their_extra(monkeypatch, module, extra, use):
    report = analyze(affine_network(*random_blocks()), points())
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'pip install "\.\[{extra}\]"'):
        use(report)
