"""Counts written out for sizes that do not run: the law, and what it is fitted to."""

from __future__ import annotations

import importlib
import itertools
import math
from pathlib import Path

import keras
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SIZES = [*itertools.product((5, 10), (16, 32, 48), (32, 64))]
LARGE = (1000, 1024, 2048)

if keras.backend.backend() != "torch":
    pytest.skip("counts on PyTorch", allow_module_level=True)
torch = pytest.importorskip("torch")


@pytest.fixture
def quick(monkeypatch):
    """The rows of a benchmark at its smallest, here and not in a process of its own."""
    monkeypatch.syspath_prepend(str(FOLDER))
    threads = torch.get_num_threads()

    def rows(name):
        benchmark = importlib.import_module(name).BENCHMARK
        found = []
        for case in benchmark.cases(True):
            backend = case.pop("backend")
            rows = benchmark.measure(**case)
            found += [{"backend": backend, **row} for row in rows]
        return benchmark.summarise(found)

    yield rows
    torch.set_num_threads(threads)


@pytest.fixture
def law(monkeypatch):
    """The law of a count, given as a function of blocks, width and batch."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import scale

    def fitted(count):
        rows = [{"size": size, "plain": {"count": count(*size)}} for size in SIZES]
        return scale.Law(rows, "plain", "count")

    return fitted


def of_a_dense_network(depth, width, batch):
    """Weights of K layers and a head of ten classes, and what a step makes of them."""
    weights = depth * (width * width + width) + 10 * width + 10
    return 7 + 12 * weights + 4 * batch * (width * (3 * depth + 1) + 20)


def test_a_count_that_follows_the_law_is_told_at_any_size(law):
    found = law(of_a_dense_network)(LARGE)
    # The fit is in float64, and this size some 1e5 times those of the fit.
    assert math.isclose(found, of_a_dense_network(*LARGE), rel_tol=1e-9)


def test_a_count_that_grows_with_the_square_of_the_depth_is_not(law):
    def pairs(depth, width, batch):
        return depth * depth * width

    check = (20, 24, 48)
    assert abs(law(pairs)(check) / pairs(*check) - 1) > 0.1


def test_a_law_that_does_not_hold_is_not_written_out(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import scale

    def rows(extra):
        for size in [*SIZES, (20, 24, 48)]:
            counts = dict.fromkeys(scale.COUNTS, of_a_dense_network(*size))
            counts["bytes"] += extra * size[0] ** 2
            yield {
                **{"backend": "torch", "blocks": "dense", "size": size},
                **{"plain": counts, "ours": counts, "is_check": size not in SIZES},
            }

    parts = [[row["part"] for row in scale.summarise([*rows(x)])] for x in (0, 1)]
    assert parts == [["check", *["scale"] * len(scale.FAR)], ["check"]]


def test_counts_of_dense_blocks_follow_it(quick):
    rows = quick("scale")
    (check,) = (row for row in rows if row["part"] == "check")
    for count in ("flops", "bytes", "memory", "operations", "numbers"):
        assert check[f"{count}_off"] < 1e-9  # whole numbers, told in float64
    deep = [row for row in rows if row["part"] == "scale" and row["depth"] == 1000]
    assert len(deep) == 3
    weights = 1000 * (64 * 64 + 64) + 10 * 64 + 10
    for row in (row for row in rows if row["part"] == "devices"):
        assert row["gradients"] == weights
        several = row["devices"] > 1
        assert row["added_calls"] == several
        # What test_step_operations finds of three blocks, for a thousand.
        assert row["added_numbers"] == several * (2 + (2 + 2) + (1 + 1000))
