"""What least action adds at sizes that do not run here, by counts at sizes that do.

What a step takes of each kind (`counting.py`) is a sum of what every block takes and of
what is taken once, and each of these a sum of parts that are constant, or grow as the
width w, as w², as the batch b, as b·w or as b·w². So twelve counts tell the law,

    count = Σ c_ijk · K^i · w^j · b^k,  i, k ∈ {0, 1}, j ∈ {0, 1, 2},

for K blocks. Two more sizes, not among the twelve and larger, tell whether it holds.
Where it does, it is written out, for up to a thousand blocks. On PyTorch the numbers
that one of several joined processes sends are counted too, in a process joined with
itself alone.

    python benchmarks/scale.py [--quick] [--backend torch]
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import harness
import keras
import numpy as np
from counting import Counts, step_counts
from keras import layers
from subjects import CLASSES, Subject, compiled, dense

import keras_lap

Size = tuple[int, int, int]  # blocks, width, batch
DEPTHS = (5, 10)
SIDE = 18  # of images; above what PyTorch takes together, see `DisplacementEnergy`
COUNTS = ("flops", "bytes", "memory", "operations")
EXACT = 1e-9  # of whole numbers, told in float64; far sizes are 1e5 times the fit's
DEVICES = (1, 8, 100, 1000, 10_000)


def convolutions(blocks: int, width: int, batch: int) -> Subject:
    """Pre-activation blocks of one convolution each."""
    x = inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    for _ in range(blocks):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        y = layers.Conv2D(width, 3, padding="same", use_bias=False)(y)
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    network = keras.Model(inputs, layers.Dense(CLASSES)(x))
    return Subject(network, (SIDE, SIDE, 3), batch)


SHAPES = {  # widths and batches of the fit
    "dense": [*itertools.product((16, 32, 48), (32, 64))],
    "convolution": [*itertools.product((16, 24, 32), (4, 8))],
}
CHECKS: dict[str, list[Size]] = {
    "dense": [(20, 24, 48), (40, 64, 96)],
    "convolution": [(20, 20, 6), (40, 28, 12)],
}
# Where the law is written out: deeper, then wider, then in larger batches.
WIDTH, BATCH = 64, 128
FAR: list[Size] = [
    *((depth, WIDTH, BATCH) for depth in (10, 100, 1000)),
    (1000, 16 * WIDTH, BATCH),
    (1000, WIDTH, 16 * BATCH),
]
BUILDERS = {"dense": dense, "convolution": convolutions}


def cases(quick: bool) -> list[harness.Case]:
    """Dense blocks on every backend; convolutions, which compile longer, on PyTorch."""
    if quick:
        depths, checks = [2, 3], [(5, 24, 48)]
        case = {"blocks": "dense", "depths": depths, "checks": checks}
        return [{"backend": "torch", **case}]
    kinds = [*itertools.product(harness.BACKENDS, ("dense",)), ("torch", "convolution")]
    return [
        {"backend": name, "blocks": blocks, "depths": DEPTHS, "checks": CHECKS[blocks]}
        for name, blocks in kinds
    ]


def measure(blocks: str, depths: list[int], checks: list[Size]) -> list[harness.Row]:
    """Counts a step of both at every size."""
    rows = []
    fitted = [(depth, *shape) for depth in depths for shape in SHAPES[blocks]]
    for size in [*fitted, *checks]:
        row = {"blocks": blocks, "size": size, "is_check": size not in fitted}
        rows.append({**row, **_both(blocks, size)})
    return rows


def _both(blocks: str, size: Size) -> dict[str, Counts]:
    keras.utils.clear_session()
    plain, ours = BUILDERS[blocks](*size), BUILDERS[blocks](*size)
    model = keras_lap.LeastActionModel(ours.network, 2.0, 5.0)
    return {
        "plain": _counts(compiled(plain.network), plain),
        "ours": _counts(compiled(model), ours),
    }


def _counts(model: keras.Model, subject: Subject) -> Counts:
    counts = step_counts(model, subject.data(1))
    counts["weights"] = sum(math.prod(each.shape) for each in model.trainable_weights)
    if keras.backend.backend() == "torch":
        counts |= _sent(model, subject)
    return counts


def _sent(model: keras.Model, subject: Subject) -> Counts:
    """Calls of collectives in a step, and the numbers that they carry."""
    import torch

    distributed, sizes = torch.distributed, []
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    send = distributed.all_reduce

    def counting(values: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(values.numel())
        return send(values, *args, **kwargs)

    data = subject.data(1)
    distributed.all_reduce = counting
    try:
        model.train_step((torch.tensor(data["x"]), torch.tensor(data["y"])))
    finally:
        distributed.all_reduce = send
        distributed.destroy_process_group()
    return {"calls": len(sizes), "numbers": sum(sizes)}


def terms(size: Size) -> list[float]:
    """The twelve terms of the law.

    Args:
        size: Blocks, width, batch.
    """
    depth, width, batch = (float(each) for each in size)
    powers = itertools.product((1.0, depth), (1.0, width, width**2), (1.0, batch))
    return [math.prod(each) for each in powers]


class Law:
    """How a count grows, from counts at some sizes.

    Args:
        rows: Of one kind of blocks on one backend, at the sizes of the fit.
        kind: `"plain"`, or `"ours"`.
        count: Which.
    """

    def __init__(self, rows: list[harness.Row], kind: str, count: str):
        matrix = np.array([terms(row["size"]) for row in rows])
        counted = np.array([row[kind][count] for row in rows], "float64")
        scale = np.abs(matrix).max(axis=0)  # the terms are of very different sizes
        found = np.linalg.lstsq(matrix / scale, counted, rcond=None)[0]
        self._factors = found / scale

    def __call__(self, size: Size) -> float:
        """What it says of a size.

        Args:
            size: Blocks, width, batch.
        """
        return float(np.dot(terms(size), self._factors))


def summarise(rows: list[harness.Row]) -> list[harness.Row]:
    """Whether the laws hold, what they say of larger sizes, and of more devices."""
    failed = [row for row in rows if "failure" in row]
    groups: dict[tuple[str, str], list[harness.Row]] = {}
    for row in rows:
        if "failure" not in row:
            groups.setdefault((row["backend"], row["blocks"]), []).append(row)
    checks, scale, devices = [], [], []
    for (backend, blocks), own in groups.items():
        label = {"backend": backend, "blocks": blocks}
        fitted = [row for row in own if not row["is_check"]]
        laws = {
            (kind, count): Law(fitted, kind, count)
            for kind in ("plain", "ours")
            for count in own[0][kind]
        }
        found = [_checked(row, laws) for row in own if row["is_check"]]
        checks += [{"part": "check", **label, **each} for each in found]
        if all(each[key] < EXACT for each in found for key in each if "_off" in key):
            scale += [{"part": "scale", **label, **_told(far, laws)} for far in FAR]
        if ("ours", "calls") in laws:
            devices += [
                {"part": "devices", **label, **_apart(count, laws)} for count in DEVICES
            ]
    return [*failed, *checks, *scale, *devices]


def _named(size: Size) -> harness.Row:
    return dict(zip(("depth", "width", "batch"), size, strict=True))


def _checked(row: harness.Row, laws: dict[Any, Law]) -> harness.Row:
    """How far the law is from what was counted at a size that it has not seen."""
    found = _named(row["size"])
    for count in (*COUNTS, "numbers"):
        if count in row["ours"]:
            plain, ours = row["plain"][count], row["ours"][count]
            off = max(
                abs(laws[kind, count](row["size"]) / value - 1) if value else 0.0
                for kind, value in (("plain", plain), ("ours", ours))
            )
            found[f"{count}_off"] = float(f"{off:.1e}")
            if count in COUNTS:
                found[count] = round(ours / plain, 4)
    return found


def _told(size: Size, laws: dict[Any, Law]) -> harness.Row:
    found = _named(size)
    for count, unit in (("flops", 1e9), ("bytes", 2**20), ("memory", 2**20)):
        plain, ours = laws["plain", count](size), laws["ours", count](size)
        name = {"flops": "gigaflops", "bytes": "mib", "memory": "mib_of_memory"}[count]
        found[f"plain_{name}"] = float(f"{plain / unit:.4g}")
        found[count] = round(ours / plain, 4)
    if ("ours", "operations") in laws:
        plain, ours = (laws[kind, "operations"](size) for kind in ("plain", "ours"))
        found |= {"plain_operations": round(plain), "added": round(ours - plain)}
    return found


def _apart(devices: int, laws: dict[Any, Law]) -> harness.Row:
    """What goes between devices that share out batches of FAR's deepest network."""
    size = FAR[2]
    weights = round(laws["plain", "weights"](size))
    calls, numbers = (
        round(laws["ours", count](size) - laws["plain", count](size))
        * (devices > 1)  # one alone sends nothing
        for count in ("calls", "numbers")
    )
    # By a ring each device sends (and gets) this part of twice the numbers; by a tree
    # a call takes so many hops one after the other.
    part = 2 * (devices - 1) / devices
    return {
        **_named(size),
        "devices": devices,
        "gradients": weights,
        "added_calls": calls,
        "added_numbers": numbers,
        "over_gradients": float(f"{numbers / weights:.2e}"),
        "added_bytes_by_each": round(4 * part * numbers),
        "hops_of_a_tree": 2 * math.ceil(math.log2(devices)),
    }


BENCHMARK = harness.Benchmark(
    "scale",
    cases,
    measure,
    ("part", "backend", "blocks", "depth", "width", "batch", "devices"),
    summarise=summarise,
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
