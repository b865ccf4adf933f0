"""The study of the exact test: its data, its candidates, its table, and a short run."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from studies.engine import records
from studies.symmetry import laws

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)


def test_each_form_moves_digits_as_it_says():
    pytest.importorskip("sklearn")
    plain, labels = laws.draw("as they are", 3)
    moves = {
        "turned by random quarters": [lambda a, k=k: np.rot90(a, k) for k in range(4)],
        "turned by random halves": [lambda a, k=k: np.rot90(a, k) for k in (0, 2)],
        "mirrored at random": [lambda a: a, lambda a: a[:, ::-1]],
    }
    for form, ways in moves.items():
        images, same = laws.draw(form, 3)
        np.testing.assert_array_equal(same, labels)
        found = [
            next(k for k, way in enumerate(ways) if np.array_equal(way(a), b))
            for a, b in zip(plain[:60], images[:60], strict=True)
        ]
        assert set(found) == set(range(len(ways)))


def test_the_candidates_move_pixels_as_their_names_say():
    image = np.arange(64.0).reshape(1, 8, 8, 1).astype("float32")
    square = image[0, :, :, 0]
    rows = square.copy()
    rows[[1, 2]] = rows[[2, 1]]
    expected = {
        "left-right": square[:, ::-1],
        "up-down": square[::-1],
        "half turn": square[::-1, ::-1],
        "diagonal mirror": square[::-1, ::-1].T,
        "two rows swapped": rows,
    }
    actions = laws.candidates()
    for name, moved in expected.items():
        assert actions[name].group.order == 2
        found = np.asarray(actions[name].apply(1, image))[0, :, :, 0]
        np.testing.assert_array_equal(found, moved)
    assert actions["quarter turns"].group.order == 4
    shifts = [
        np.asarray(actions["shifts of columns"].apply(k, image)) for k in range(8)
    ]
    rolled = [np.roll(image, k, axis=2) for k in range(8)]
    assert {each.tobytes() for each in shifts} == {each.tobytes() for each in rolled}


def test_a_short_run_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(laws, "EPOCHS", 1)
    monkeypatch.setattr(laws, "SEEDS", range(1))
    forms = {"turned by random quarters": laws.FORMS["turned by random quarters"]}
    monkeypatch.setattr(laws, "FORMS", forms)
    path = tmp_path / "laws.jsonl"
    laws.main(["--results", str(path)])
    (line,) = records.read(path)
    assert set(line["p_values"]) == set(laws.candidates())
    written = path.with_suffix(".md").read_text("utf-8")
    number = line["p_values"]["quarter turns"]
    assert f"**{number:.4f}–{number:.4f}, kept" in written
    laws.main(["--results", str(path)])
    assert records.read(path) == [line]


def test_the_committed_table_is_that_of_the_committed_lines():
    path = laws.published.COMMITTED / laws.NAME
    made = laws.table(records.read(path)).markdown() + "\n"
    assert path.with_suffix(".md").read_text("utf-8") == made
