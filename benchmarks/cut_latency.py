"""Time and parameters of a cut network, over a network built at that depth.

One call of `predict_on_batch`, compiled where the backend compiles. `early exit` always
stops after so many blocks; `never stops` asks at every exit and goes on. The loop over
samples is eager Python, so that it is compared with a call of the network as it is.

    python benchmarks/cut_latency.py [--quick] [--backend torch]
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import harness
import keras
import numpy as np
import timing
from keras import ops
from subjects import CLASSES

import keras_lap
from keras_lap.depth import early_exit, prune

GOAL = 1.05
BATCHES = (1, 32)
SECONDS = 4.0


def dense(blocks: int, width: int = 256) -> keras.Model:
    """Residual dense blocks of two layers."""
    x = inputs = keras.Input((width,))
    for _ in range(blocks):
        r = keras.layers.Dense(width, activation="relu")(x)
        x = keras.layers.Add()([x, keras.layers.Dense(width)(r)])
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def resnet(blocks: int) -> keras.Model:
    """The paper's ResNet9 with 32 filters, on images of 28×28."""
    return keras_lap.networks.one_representation_resnet(
        (28, 28, 1), CLASSES, filters=32, num_blocks=blocks
    )


NETWORKS: dict[str, tuple[Callable[[int], keras.Model], int]] = {
    "dense": (dense, 16),
    "ResNet9": (resnet, 9),
}


def cases(quick: bool) -> list[harness.Case]:
    """Both networks on every backend."""
    names = ["dense"] if quick else list(NETWORKS)
    backends = ["torch"] if quick else harness.BACKENDS
    return [
        {
            "backend": backend,
            "network": name,
            "depths": [1] if quick else [1, NETWORKS[name][1] // 4, 4, 8],
            "rounds": 2 if quick else 10,
            "budget": 0.0 if quick else SECONDS,
        }
        for backend, name in itertools.product(backends, names)
    ]


def measure(
    network: str, depths: list[int], rounds: int, budget: float
) -> list[harness.Row]:
    """Cuts a network at each depth, and stops it there."""
    build, blocks = NETWORKS[network]
    net = build(blocks)
    rows = []
    for kept, batch in itertools.product(sorted(set(depths)), BATCHES):
        shape = (batch, *net.input.shape[1:])
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        cut, built = prune(net, kept), build(kept)
        each = {"full": net, "cut": cut, "built": built, "built again": built}
        things = {name: timed(model, x) for name, model in each.items()}
        seconds = timing.alternate(things, rounds, budget)
        over = timing.ratio(seconds["cut"], seconds["built"])
        rows.append(
            {
                "part": "cut",
                "network": network,
                "blocks kept": kept,
                "batch": batch,
                "parameters": cut.count_params(),
                "of built": cut.count_params() / built.count_params(),
                "full_ms": timing.milliseconds(seconds["full"]),
                "cut over full": timing.ratio(seconds["cut"], seconds["full"]),
                "built again": timing.ratio(seconds["built again"], seconds["built"]),
                "cut over built": over,
                "met": over["median"] <= GOAL,
            }
        )
        rows.append(stopped(net, network, kept, x, rounds, budget))
    return rows


def timed(model: keras.Model, x: Any) -> Callable[[], Any]:
    """One prediction, whose result is an array of NumPy when it returns."""
    return functools.partial(model.predict_on_batch, x)


def stopped(
    net: keras.Model, network: str, kept: int, x: Any, rounds: int, budget: float
) -> harness.Row:
    """Early exit after some blocks, over the network that runs all of them."""
    names = [block.name for block in keras_lap.find_residual_blocks(net)]
    # Exit 0 of those blocks that count, which are the later ones.
    quick = early_exit(net, 0.0, blocks=names[kept:])
    never = early_exit(net, 1.0)
    things: dict[str, Callable[[], Any]] = {
        "full": timed(net, x),
        "batch": timed(quick, x),
        "all": timed(never, x),
        "call": lambda: ops.convert_to_numpy(net(x, training=False)),
        "samples": functools.partial(quick.predict_each, x),
    }
    seconds = timing.alternate(things, rounds, budget)
    return {
        "part": "early exit",
        "network": network,
        "after blocks": kept,
        "batch": len(x),
        "batch over full": timing.ratio(seconds["batch"], seconds["full"]),
        "never stops over full": timing.ratio(seconds["all"], seconds["full"]),
        "samples over call": timing.ratio(seconds["samples"], seconds["call"]),
    }


BENCHMARK = harness.Benchmark(
    "cut_latency",
    cases,
    measure,
    ("backend", "part", "network", "blocks kept", "after blocks", "batch"),
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
