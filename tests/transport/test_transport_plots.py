"""Pictures by their structure: panels, artists, positions, limits and labels."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import json

import keras
import numpy as np
import pytest
from matplotlib import image as images
from matplotlib.figure import Figure
from support.transports import affine_network, points, random_blocks

from keras_lap import transport

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="no backend takes part, once is enough"
)


def report_of(features=2, labels=None, count=40, seed=0, scale=1.0):
    network = affine_network(*random_blocks(3, features, seed))
    x = scale * points(count, features)
    labels = np.arange(count) % 3 if labels is None else labels
    return transport.analyze(network, x, labels, verbose=0)


def offsets(axis):
    return [np.asarray(c.get_offsets()) for c in axis.collections]


def drawn(figure, path):
    """Whether matplotlib can really render it."""
    figure.savefig(path)
    return path.stat().st_size > 1000


def test_points_of_the_plane_are_drawn_where_they_are(tmp_path):
    report = report_of()
    figure = transport.plot_points(report)
    panels = figure.axes
    titles = [axis.get_title() for axis in panels]
    assert titles == ["before", "block0", "block1", "block2"]
    for axis, state in zip(panels, report.stages[0].states, strict=True):
        classes = offsets(axis)
        assert len(classes) == 3
        for number, found in enumerate(classes):
            np.testing.assert_allclose(found, state[number::3], rtol=1e-6)
        low, high = np.transpose([axis.get_xlim(), axis.get_ylim()])
        assert np.all(state > low)
        assert np.all(state < high)
    assert len({axis.get_xlim() for axis in panels}) == 1
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["0", "1", "2"]
    assert drawn(figure, tmp_path / "points.png")
    own = transport.plot_points(report, same_scale=False, max_points=7).axes
    assert len({axis.get_xlim() for axis in own}) == 4
    assert sum(map(len, offsets(own[0]))) == 7


def test_classes_differ_in_shape_and_colour():
    axis = transport.plot_points(report_of()).axes[0]
    colors = {tuple(c.get_facecolor()[0]) for c in axis.collections}
    shapes = {c.get_paths()[0].vertices.tobytes() for c in axis.collections}
    assert len(colors) == len(shapes) == 3


def test_many_features_are_drawn_in_their_principal_components():
    report = report_of(features=6)
    figure = transport.plot_points(report)
    states = report.stages[0].states
    ends = np.concatenate([states[0], states[-1]]).astype(float)
    # Among all planes the principal one keeps most of the spread.
    spread = np.linalg.eigvalsh(np.cov(ends.T))
    shown = np.concatenate(
        [np.concatenate(offsets(figure.axes[panel])) for panel in (0, -1)]
    )
    kept = np.linalg.eigvalsh(np.cov(shown.T))
    np.testing.assert_allclose(kept, spread[-2:], rtol=1e-5)
    share = 100 * spread[-1] / spread.sum()
    assert figure.get_supxlabel() == f"component 1 ({share:.0f} %)"


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (np.eye(3)[np.arange(40) % 3], 3),
        (np.linspace(0, 1, 40), 1),
        (np.arange(40), 1),
        (np.array(["left", "right"])[np.arange(40) % 2], 2),
        ((np.arange(40) % 2).astype("float32")[:, None], 2),
    ],
)
def test_labels_of_any_kind(labels, groups):
    axis = transport.plot_points(report_of(labels=labels)).axes[0]
    assert len(axis.collections) == groups


def test_one_feature_lies_on_the_first_axis():
    report = report_of(features=1)
    found = np.concatenate(offsets(transport.plot_points(report).axes[0]))
    np.testing.assert_array_equal(found[:, 1], 0)


def test_trajectories_side_by_side(tmp_path):
    reports = {"plain": report_of(), "least action": report_of(seed=1)}
    figure = transport.plot_trajectories(reports, max_points=10)
    assert [axis.get_title().split(":")[0] for axis in figure.axes] == [*reports]
    for axis, report in zip(figure.axes, reports.values(), strict=True):
        paths = [a.get_xydata() for a in axis.lines if a.get_linestyle() == "-"]
        expected = np.stack([state[:10] for state in report.stages[0].states], axis=1)
        order = np.argsort([path[0, 0] for path in paths])
        wanted = np.argsort(expected[:, 0, 0])
        found = np.array(paths)[order]
        np.testing.assert_allclose(found, expected[wanted], rtol=1e-6)
        assert f"{report.stages[0].path_ratio:.3g}" in axis.get_title()
    assert drawn(figure, tmp_path / "paths.png")


def test_matching_lines_lead_to_the_partners(tmp_path):
    report = report_of()
    (stage,) = report.stages
    figure = transport.plot_matching(report, max_points=15)
    network, optimal = figure.axes
    ends = [stage.states[-1], stage.states[-1][stage.matching.partners]]
    for axis, partners in zip((network, optimal), ends, strict=True):
        lines = [a.get_xydata() for a in axis.lines if a.get_linestyle() == "-"]
        assert len(lines) == 15
        found = {tuple(np.round(line.ravel(), 4)) for line in lines}
        expected = np.hstack([stage.states[0], partners])[:15]
        assert found == {tuple(row) for row in np.round(expected.astype(float), 4)}
    orange = [a for a in optimal.lines if a.get_color() == "#D55E00"]
    assert len(orange) == np.sum(~stage.matching.own[:15]) > 0
    assert f"{stage.network_cost:.4g}" in network.get_title()
    assert f"{stage.optimality:.3g}" in optimal.get_title()
    assert drawn(figure, tmp_path / "matching.png")


def test_displacements_on_axes_of_the_user():
    axis = Figure().add_subplot()
    report = report_of()
    assert transport.plot_displacements(report, ax=axis) is axis
    medians = [b.displacement_quantiles["0.5"] for b in report.blocks]
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), medians)
    thin = axis.collections[0].get_segments()
    highs = [b.displacement_quantiles["0.95"] for b in report.blocks]
    np.testing.assert_allclose([line[1, 1] for line in thin], highs)
    assert (axis.get_xlabel(), axis.get_yscale()) == ("block", "log")
    both = transport.plot_displacements({"a": report, "b": report_of(seed=1)})
    texts = [text.get_text() for text in both.get_legend().get_texts()]
    assert texts == ["a", "b"]
    assert not set(both.lines[0].get_xdata()) & set(both.lines[1].get_xdata())
    # Blocks count from 1, and each method has its colour.
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), [1, 2, 3])
    named = {"plain": report, "least action": report_of(seed=1)}
    lines = transport.plot_displacements(named).lines
    assert [line.get_color() for line in lines] == ["#D55E00", "#0072B2"]


def test_cost_of_blocks_over_epochs(tmp_path):
    costs = np.array([[1.0, 10.0], [2.0, 0.0], [np.nan, 5.0]])
    history = {f"transport_cost_block{k}": list(costs[:, k]) for k in range(2)}
    for given in (history, costs):
        axis = transport.plot_block_costs(given)
        (mesh,) = axis.collections
        found = mesh.get_array()
        np.testing.assert_array_equal(found.mask, [[0, 0, 1], [0, 1, 0]])
        np.testing.assert_array_equal(found.compressed(), [1, 2, 10, 5])
        assert axis.get_xlim() == (0.5, 3.5)
        assert axis.get_ylim() == (0.5, 2.5)
    assert drawn(axis.figure, tmp_path / "costs.png")
    with pytest.raises(ValueError, match=r"it has loss\. .*TransportMonitor\(x, logs="):
        transport.plot_block_costs({"loss": [1.0]})
    with pytest.raises(ValueError, match=r"Received: shape \(3,\)"):
        transport.plot_block_costs([1.0, 2.0, 3.0])


def test_a_training_on_one_page(tmp_path):
    least = {
        "loss": [9.0, 8.0, 7.0],
        "multiplier": [1.0, 2.0, 3.0],
        "task_loss": [3.0, 2.0, 1.0],
        "transport_cost": [0.3, 0.2, 0.1],
    }
    plain = {"loss": [5.0, 4.0, 3.0], "transport_total_cost": [7.0, np.nan, 6.0]}
    figure = transport.plot_training({"plain": plain, "least action": least})
    multiplier, loss, cost = figure.axes
    assert [list(line.get_ydata()) for line in multiplier.lines] == [[1, 2, 3]]
    assert [list(line.get_ydata()) for line in loss.lines] == [[5, 4, 3], [3, 2, 1]]
    assert list(cost.lines[0].get_xdata()) == [1, 3]
    assert loss.get_yscale() == "log"
    styles = {line.get_linestyle() for line in loss.lines}
    assert len(styles) == 2
    assert drawn(figure, tmp_path / "training.png")
    said = [text.get_text() for text in cost.get_legend().get_texts()]
    assert said == ["plain, data of the monitor", "least action, training data"]
    assert {line.get_color() for line in loss.lines} == {"#D55E00", "#0072B2"}
    watched = {**least, "transport_total_cost": [4.0, 3.0, 2.0]}
    compared = {"plain": plain, "least action": watched, "none": {"loss": [1.0]}}
    cost = transport.plot_training(compared).axes[2]
    assert [list(line.get_ydata()) for line in cost.lines] == [[7, 6], [4, 3, 2]]
    assert len(transport.plot_training(least).axes[1].lines) == 1
    with pytest.raises(ValueError, match=r"Received: \['training'\] empty"):
        transport.plot_training({})


def test_animation(tmp_path):
    report, path = report_of(), tmp_path / "moves.gif"
    transport.animate(report, path, frames_per_block=2, max_points=20)
    from PIL import Image

    with Image.open(path) as picture:
        assert picture.n_frames == 3 * 2 + 1
    assert images.imread(path).std() > 1  # something is on it
    with pytest.raises(ValueError, match=r"a \.gif or an \.mp4 file.*'moves\.avi'"):
        transport.animate(report, "moves.avi")


def test_two_networks_side_by_side_move_at_one_pace(tmp_path, monkeypatch):
    """The shorter one is half way when the longer one is."""
    seen = []

    def grab(writer, **options):
        seen.append([offsets(axis) for axis in writer.fig.axes])
        titles.append([axis.get_title() for axis in writer.fig.axes])

    titles = []
    long = report_of()
    from matplotlib.animation import PillowWriter

    monkeypatch.setattr(PillowWriter, "grab_frame", grab)
    monkeypatch.setattr(PillowWriter, "finish", lambda writer: None)
    network = affine_network(*random_blocks(2, 2, 1))
    short = transport.analyze(network, points(40, 2), np.arange(40) % 3, verbose=0)
    reports = {"long": long, "short": short}
    transport.animate(reports, tmp_path / "two.gif", frames_per_block=2)
    assert len(seen) == 3 * 2 + 1
    assert titles[3] == ["long: state 1.5", "short: state 1.0"]
    middle, end = seen[3], seen[-1]
    states = long.stages[0].states
    between = (states[1] + states[2])[::3] / 2
    np.testing.assert_allclose(middle[0][0], between, rtol=1e-5)
    np.testing.assert_allclose(middle[1][0], short.stages[0].states[1][::3], rtol=1e-5)
    np.testing.assert_allclose(end[1][0], short.stages[0].states[2][::3], rtol=1e-5)


def test_one_scale_for_networks_that_move_unequally_far(tmp_path, monkeypatch):
    from matplotlib.animation import PillowWriter
    from PIL import Image

    seen = []

    def look(writer, **options):
        seen.append([(axis.get_xlim(), axis.get_ylim()) for axis in writer.fig.axes])
        return grab(writer, **options)

    grab = PillowWriter.grab_frame
    monkeypatch.setattr(PillowWriter, "grab_frame", look)
    reports = {"near": report_of(), "far": report_of(scale=10.0)}
    path = tmp_path / "scale.gif"
    small = {"frames_per_block": 1, "size": (2, 1), "dpi": 50}
    transport.animate(reports, path, same_scale=True, **small)
    near, far = seen[0]
    assert near == far
    with Image.open(path) as picture:
        assert picture.size == (2 * 2 * 50, 50)
    transport.animate(reports, path, **small)
    near_alone, far_alone = seen[-1]
    assert far_alone == far  # which holds the points of the other, too
    assert near_alone[0][1] - near_alone[0][0] < far[0][1] - far[0][0]


def test_mp4_without_ffmpeg(monkeypatch):
    from matplotlib.animation import FFMpegWriter

    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(ValueError, match="apt install ffmpeg"):
        transport.animate(report_of(), "moves.mp4")


def test_an_unknown_stage():
    with pytest.raises(ValueError, match=r"0 … 0, .*Received: stage=1"):
        transport.plot_points(report_of(), stage=1)


def test_dollars_in_names_are_no_formulas(tmp_path):
    inputs = keras.Input((2,))
    move = keras.layers.Dense(2)(inputs)
    x = keras.layers.Add(name=r"$\frac$")([inputs, move])
    network = keras.Model(inputs, x, name="$a^{$")
    cloud, labels = points(features=2), np.array(["$x_{$", "$y$"])[np.arange(40) % 2]
    report = transport.analyze(network, cloud, labels, verbose=0)
    for number, figure in enumerate(
        (
            transport.plot_points(report),
            transport.plot_trajectories(report),
            transport.plot_displacements(report).figure,
            transport.plot_training({"$b^{$": {"loss": [1.0]}, "c": {"loss": [2.0]}}),
        )
    ):
        assert drawn(figure, tmp_path / f"{number}.png")
    transport.animate(report, tmp_path / "moves.gif", frames_per_block=1)


class Page(html.parser.HTMLParser):
    """The texts of a page by tag, and its images."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.images, self._tag = {}, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._tag = tag
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_data(self, data):
        if data.strip():
            self.texts.setdefault(self._tag, []).append(data)


def test_a_page_says_how_far_the_data_move(tmp_path):
    report = report_of()
    path = tmp_path / "page.html"
    report.save_html(path)
    text = path.read_text("utf-8")
    seen = Page(text)
    relative = np.mean([block.relative_displacement for block in report.blocks])
    assert seen.texts["p"][0] == (
        f"Each block moves the data by {100 * relative:.3g} % of their size on "
        f"average, along paths {report.stages[0].path_ratio:.3g} times as long as the "
        "straight way."
    )
    assert all(heading.endswith("?") for heading in seen.texts["h2"])
    assert len(seen.texts["h2"]) == 4
    assert json.loads(seen.texts["script"][0]) == json.loads(report.to_json())
    assert len(seen.images) == 4
    for image in seen.images:
        kind, code = image.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(code).startswith(b"\x89PNG")
    cells = set(seen.texts["td"])
    for block in report.blocks:
        assert {block.name, f"{block.cost:.4g}"} <= cells
    assert f"{report.stages[0].optimal_cost:.4g}" in cells
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("costs", "said"),
    [((1280.0, 2.0), "640 times less"), ((2.0, 5.0), "2.5 times more")],
)
def test_a_page_beside_a_reference(costs, said, tmp_path):
    def with_cost(report, cost):
        blocks = [dataclasses.replace(b, cost=cost / 3) for b in report.blocks]
        return dataclasses.replace(report, blocks=tuple(blocks))

    reference, report = map(with_cost, (report_of(seed=1), report_of()), costs)
    path = tmp_path / "page.html"
    report.save_html(path, reference, note="Right: 9 of 10 < 10.")
    first, note = Page(path.read_text("utf-8")).texts["p"][:2]
    assert first.startswith(f"The data move {said} than in the reference")
    assert note == "Right: 9 of 10 < 10."


def test_what_moves_nothing_has_a_page(tmp_path):
    still = affine_network(*[(np.zeros((2, 2)), np.zeros(2))] * 2)
    report = transport.analyze(still, points(40, 2), verbose=0)
    report.save_html(tmp_path / "page.html", report)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "The blocks do not move the data." in page


def test_a_page_that_cannot_be_compared(tmp_path):
    report = report_of()
    with pytest.raises(ValueError, match=r"p = 2.*analyze\(\.\.\., p=\.\.\.\)"):
        report.save_html(tmp_path / "a.html", dataclasses.replace(report, p=1.5))
    with pytest.raises(ValueError, match=r"stage must be one of 0 … 0"):
        report.save_html(tmp_path / "a.html", stage=1)
    assert not list(tmp_path.iterdir())
