"""The code of the page on loops runs on each backend, and ends as `fit` does."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
from support.basics import as_numpy

PAGE = Path(__file__).parents[2] / "docs" / "loops.md"
BLOCK = re.compile(r'^```python(?: title="(\w+)")?\n(.*?)^```\n', re.M | re.S)


def test_the_page_on_loops():
    names = {"__name__": "loops"}
    ran = []
    for backend, code in BLOCK.findall(PAGE.read_text("utf-8")):
        if backend in ("", keras.backend.backend()):
            exec(compile(code, "loops.md", "exec"), names)
            ran.append(backend)
    assert len(ran) == 4
    reference = names["other"]
    # Compiled apart, the same sums may round otherwise; four steps add that up.
    close = {"rtol": 1e-5, "atol": 1e-6}
    assert float(reference.multiplier) > 10
    for model in (names["model"], names["inner"]):
        np.testing.assert_allclose(
            float(model.multiplier), float(reference.multiplier), rtol=1e-6
        )
        for mine, theirs in zip(model.weights, reference.weights, strict=True):
            if theirs.path.startswith("multiplier_ascent"):
                continue  # the schedule of the callback
            np.testing.assert_allclose(as_numpy(mine), as_numpy(theirs), **close)
