"""What a step costs with `PathLoss` and with `ControlCost`, over one of plain Keras.

The paper's ResNet9 with 32 filters on images of 28×28, with its own head of dense
layers and with a pooled one. `by hand` is the path loss written in plain Keras for this
one network: its states, stacked, go through the head once more, in inference. On JAX
the floating point operations and the temporary memory of the compiled step are XLA's
own account, which no noise reaches.

    python benchmarks/path_cost.py [--quick] [--backend torch]
"""

from __future__ import annotations

import itertools
from typing import Any

import harness
import keras
import timing
from counting import of_compiled
from keras import ops
from subjects import CLASSES, Subject

import keras_lap
from keras_lap.running_costs import ControlCost, PathLoss

GOALS = {"dense head": 1.25, "pooled head": 1.05}
CONTROL_GOAL = 1.03
WEIGHT, SECONDS = 0.2, 30.0
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def cases(quick: bool) -> list[harness.Case]:
    """Both heads on every backend; a quick run has the pooled one, small."""
    case: harness.Case = {"side": 28, "filters": 32, "blocks": 9, "batch": 64}
    case |= {"batches": 2, "rounds": 6, "budget": SECONDS}
    if quick:
        case = {"side": 8, "filters": 4, "blocks": 2, "batch": 8}
        case |= {"batches": 1, "rounds": 2, "budget": 0.0}
    heads = ["pooled head"] if quick else list(GOALS)
    backends = ["torch", "jax"] if quick else harness.BACKENDS
    return [
        {"backend": backend, "head": head, **case}
        for backend, head in itertools.product(backends, heads)
    ]


def build(head: str, side: int, filters: int, blocks: int) -> keras.Model:
    """The network, whose head begins at the layer `head_flatten` or `head_pool`."""
    net = keras_lap.networks.one_representation_resnet(
        (side, side, 1), CLASSES, filters=filters, num_blocks=blocks
    )
    if head == "dense head":
        return net
    state = net.get_layer("head_flatten").input
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(state)
    return keras.Model(net.input, keras.layers.Dense(CLASSES, name="logits")(x))


class ByHand(keras.Model):
    """``L(exit K) + weight · Σ_k w_k L(exit k)`` of one network, in plain Keras."""

    def __init__(self, net: keras.Model):
        super().__init__()
        blocks = keras_lap.find_residual_blocks(net)
        ends = [net.get_layer(block.name) for block in blocks]
        states = [ends[0].input[0], *(end.output for end in ends[:-1])]
        names = [layer.name for layer in net.layers]
        start = next(
            i for i, n in enumerate(names) if n in ("head_flatten", "head_pool")
        )
        self.inner = keras.Model(net.input, [net.output, *states])
        self.head = net.layers[start:]
        self.steps = (0.5, *[1.0] * (len(ends) - 1), 0.5)

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Logits, and those of the earlier exits below each other."""
        logits, *states = self.inner(x, training=training)
        early = ops.concatenate(states, axis=0)
        for layer in self.head:
            norm = isinstance(layer, keras.layers.BatchNormalization)
            early = layer(early, training=False) if norm else layer(early)
        return logits, early

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> Any:
        """The sum."""
        logits, early = y_pred
        parts = ops.split(early, len(self.steps) - 1, axis=0)
        losses = [LOSS(y, each) for each in [*parts, logits]]
        path = sum(w * loss for w, loss in zip(self.steps, losses, strict=True))
        return losses[-1] + WEIGHT * path


def models(*shape: Any) -> dict[str, keras.Model]:
    """The network plain, priced and by hand, each compiled and of its own weights."""
    priced = keras_lap.LeastActionModel
    made = {
        "plain": build(*shape),
        "path_loss": priced(build(*shape), None, running_costs=[PathLoss(WEIGHT)]),
        "control_cost": priced(build(*shape), None, running_costs=[ControlCost(1e-3)]),
        "by_hand": ByHand(build(*shape)),
    }
    for model in made.values():
        model.compile(keras.optimizers.SGD(0.001, momentum=0.9), LOSS)
    return made


def measure(
    head: str,
    side: int,
    filters: int,
    blocks: int,
    batch: int,
    batches: int,
    rounds: int,
    budget: float,
) -> list[harness.Row]:
    """Fits one network in all ways in turn, and counts what XLA counts."""
    made = models(head, side, filters, blocks)
    data = Subject(made["plain"], (side, side, 1), batch).data(batches)
    fits = {name: timing.fit(model, data) for name, model in made.items()}
    fits["plain again"] = fits["plain"]
    seconds = timing.alternate(fits, rounds, budget)
    plain = seconds["plain"]
    over = {name: timing.ratio(seconds[name], plain) for name in seconds}
    goal = GOALS[head]
    rows = [
        {
            "part": "time of a step",
            "network": head,
            "plain_ms": timing.milliseconds(plain, batches),
            "plain again": over["plain again"],
            "path loss": over["path_loss"],
            "by hand": over["by_hand"],
            "control cost": over["control_cost"],
            "met": over["path_loss"]["median"] <= goal
            and over["control_cost"]["median"] <= CONTROL_GOAL,
        }
    ]
    if keras.backend.backend() == "jax":
        counted = {name: counts(model, data) for name, model in made.items()}
        for what in ("gigaflops", "temporary_mib"):
            found = {name: each[what] for name, each in counted.items()}
            over_plain = round(found["path_loss"] / found["plain"], 4)
            row = {"part": "XLA", "network": head, "count": what.replace("_", " ")}
            rows.append({**row, **found, "path loss over plain": over_plain})
    return rows


def counts(model: keras.Model, data: dict[str, Any]) -> dict[str, float]:
    """What XLA says of one compiled gradient of the loss."""
    import jax

    size = data["batch_size"]
    x, y = (ops.convert_to_tensor(data[name][:size]) for name in "xy")
    gradient = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)
    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.metrics_variables,
        model.optimizer.variables,
    )
    values = [[variable.value for variable in each] for each in variables]

    def step(*values: Any) -> Any:
        *own, optimizer = values
        return gradient(*own, x, y, None, training=True, optimizer_variables=optimizer)

    counts = of_compiled(jax.jit(step).lower(*values).compile())
    return {
        "gigaflops": round(counts["flops"] / 1e9, 4),
        "temporary_mib": round(counts["memory"] / 2**20, 2),
    }


BENCHMARK = harness.Benchmark(
    "path_cost", cases, measure, ("backend", "part", "network", "count")
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
