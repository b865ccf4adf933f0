"""What all pictures and tables share: names, axes and columns."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest
from matplotlib.figure import Figure

from keras_lap import _drawing

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="no backend takes part, once is enough"
)


@pytest.mark.parametrize(
    "name", ["a$b$c", "$", "$$", r"a\b$c$", "100 % $x^{$", "plain"]
)
def test_a_name_is_drawn_as_it_is_and_not_as_a_formula(tmp_path, name):
    figure = Figure()
    text = figure.text(0, 0, _drawing.label(name))
    figure.savefig(tmp_path / "name.png")
    # What matplotlib draws, by its own preparation of a text.
    assert text._preprocess_math(text.get_text()) == (name, False)


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(5, 3, (2, 3)), (2, 4, (1, 2)), (1, 1, (1, 1)), (0, 4, (1, 1))],
)
def test_a_grid_hides_the_axes_left_over(count, columns, shape):
    figure, axes = _drawing.grid(count, columns, size=(2.0, 1.5))
    assert len(axes) == count
    assert all(axis.axison for axis in axes)
    assert sum(axis.axison for axis in figure.axes) == count
    rows, across = shape
    assert tuple(figure.get_size_inches()) == (2.0 * across, 1.5 * rows)


def test_axes_of_the_user_are_taken():
    axis = Figure().add_subplot()
    assert _drawing.single(axis) is axis
    assert _drawing.single().figure is not axis.figure


def test_colours_and_shapes_begin_again():
    count = len(_drawing.COLORS)
    assert len(set(_drawing.COLORS)) == len(set(_drawing.MARKERS)) == count
    assert _drawing.color(count + 1) == _drawing.COLORS[1]
    assert _drawing.marker(count + 1) == _drawing.MARKERS[1]


def test_columns_of_text_to_either_side():
    head, rows = ("name", "n"), [("a", "100"), ("longer", "7")]
    assert _drawing.text_table(head, rows) == [
        "  name    n",
        "  a       100",
        "  longer  7",
    ]
    assert _drawing.text_table(head, rows, align=">") == [
        "  name      n",
        "  a       100",
        "  longer    7",
    ]
    assert _drawing.text_table(head, []) == ["  name  n"]


def test_plain_is_orange_and_least_action_blue_whatever_the_order():
    orange, blue = "#D55E00", "#0072B2"
    assert _drawing.colors_of(["plain", "least action"]) == [orange, blue]
    assert _drawing.colors_of(["least action", "plain"]) == [blue, orange]
    names = ["weight decay", "Plain", "least action, λ_0 = 5", "least action, λ_0 = 1"]
    found = _drawing.colors_of(names)
    assert found[1:3] == [orange, blue]
    assert len(set(found)) == 4
    # Nothing is kept free where neither is drawn, and many names begin again.
    assert _drawing.colors_of(["a", "b"]) == list(_drawing.COLORS[:2])
    assert len(_drawing.colors_of(map(str, range(30)))) == 30


def test_a_page_needs_no_other_file_and_escapes_what_is_text():
    page = _drawing.html_page(
        "<a>", "less & less", {"Why <b>?": ["<p>so</p>"]}, '{"name": "</script>"}'
    )
    assert "<title>&lt;a&gt;</title>" in page
    assert '<p class="first">less &amp; less</p>' in page
    assert "<h2>Why &lt;b&gt;?</h2>\n<p>so</p>" in page
    assert page.count("</script>") == 1
    assert "prefers-color-scheme: dark" in page
    assert "http" not in page


def test_a_page_takes_its_place_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    _drawing.save_page(path, "first")
    _drawing.save_page(str(path), "λ")
    assert path.read_text("utf-8") == "λ"

    def full(self, text, **options):
        with self.open("w") as file:
            file.write(text[:1])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        _drawing.save_page(path, "another")
    assert path.read_text("utf-8") == "λ"
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_has_to_have_a_place(tmp_path):
    with pytest.raises(ValueError, match=r"Received: path='.*'\. That is a folder"):
        _drawing.save_page(tmp_path, "page")
    with pytest.raises(ValueError, match=r"a folder that is there.*Make the folder"):
        _drawing.save_page(tmp_path / "none" / "page.html", "page")
    with pytest.raises(
        TypeError, match=r"path must be the path of a file.*of type int"
    ):
        _drawing.save_page(3, "page")
    assert not list(tmp_path.iterdir())
