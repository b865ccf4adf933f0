"""Seconds to find the residual blocks of a deep chain, against its length.

Chains of blocks of two layers each: `layers.Add` over `layers.Identity`, the cheapest
ones to build, so that a network of 10 000 layers takes seconds and not minutes. Keras
builds the graph of a Functional model by recursion, which is why the recursion limit is
raised while it is built, and only then. Prints for each length the median of the runs,
fastest and slowest, and the ratio to the shortest.

    KERAS_BACKEND=torch python benchmarks/discovery.py [--layers 1000 10000] [--runs 7]
"""

from __future__ import annotations

import argparse
import gc
import time

import keras
import numpy as np
from subjects import deep_recursion

import keras_lap

LAYERS = keras.layers


def chain(length: int) -> keras.Model:
    """A chain of `length` layers."""
    x = inputs = keras.Input((4,))
    for _ in range(length // 2):
        x = LAYERS.Add()([x, LAYERS.Identity()(x)])
    with deep_recursion():
        return keras.Model(inputs, x)


def seconds(model: keras.Model, blocks: int) -> float:
    """The time of one search, which must find all blocks."""
    gc.collect()
    start = time.perf_counter()
    report = keras_lap.find_residual_blocks(model)
    elapsed = time.perf_counter() - start
    if len(report) != blocks:
        raise RuntimeError(f"Found {len(report)} of {blocks} blocks.")
    return elapsed


def main(lengths: list[int], runs: int) -> None:
    """Measures and prints a table."""
    print(f"{'layers':>8} {'built in':>10} {'found in':>10} {'range':>19} {'ratio':>7}")
    shortest = None
    for length in lengths:
        start = time.perf_counter()
        model = chain(length)
        built = time.perf_counter() - start
        seconds(model, length // 2)
        times = [seconds(model, length // 2) for _ in range(runs)]
        median = float(np.median(times))
        shortest = shortest or median
        spread = f"{min(times):.3f} – {max(times):.3f} s"
        print(
            f"{length:>8} {built:>8.1f} s {median:>8.3f} s {spread:>19} "
            f"{median / shortest:>7.1f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Times the search for blocks.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    layers = "of each network that is searched"
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[1_000, 10_000], help=layers
    )
    parser.add_argument("--runs", type=int, default=7, help="searches of each")
    options = parser.parse_args()
    main(options.layers, options.runs)
