"""Plain training against least action: same network, same data, same seeds.

Trains each network twice per seed, once plainly and once by least action, from a bad
and from a good initialisation, and prints test accuracy, transport cost, λ and time
side by side; then the accuracy of the same networks with fewer blocks, not trained
again, and what they do once channels that were silent in training are bounded. Saves a
picture of what each block costs.

    python examples/quickstart.py                       # digits, 100 training images
    python examples/quickstart.py --dataset mnist       # downloads MNIST once
    python examples/quickstart.py --help
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

import keras_lap

INITIALIZERS = {
    "normal-1": keras.initializers.RandomNormal(stddev=1.0),
    "normal-0.05": keras.initializers.RandomNormal(stddev=0.05),
    "kaiming": keras.initializers.VarianceScaling(
        2.0, mode="fan_out", distribution="untruncated_normal"
    ),
    "orthogonal": keras.initializers.Orthogonal(),
}
METHODS = ("plain", "least action")


@dataclass
class Raised:
    """How many channels were silent, and test cost and accuracy without them."""

    channels: int
    cost: float
    accuracy: float


@dataclass
class Run:
    """What one training left behind, measured on test data.

    `exits` are the accuracies with the first 0, 1, …, K blocks alone; `raised` is of
    the network with the variances of channels raised that were silent in training.
    """

    exits: np.ndarray
    block_costs: np.ndarray
    multiplier: float | None
    seconds: float
    raised: Raised

    @property
    def accuracy(self) -> float:
        """Of the whole network."""
        return self.exits[-1]


def parse_arguments() -> argparse.Namespace:
    """Reads the options from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--dataset",
        default="digits",
        help="digits, mnist, fashion_mnist, cifar10, cifar100, circles or moons",
    )
    parser.add_argument("--train-size", type=int, default=100, help="examples")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each kind")
    parser.add_argument(
        "--initializer",
        nargs="+",
        choices=sorted(INITIALIZERS),
        default=["normal-1", "kaiming"],
        help="one row of the table for each",
    )
    parser.add_argument("--tau", type=float, default=1.0, help="step of λ's ascent")
    parser.add_argument("--every", type=int, default=5, help="steps between updates")
    parser.add_argument("--p", type=float, default=2.0, help="exponent of the energy")
    parser.add_argument("--initial-multiplier", type=float, default=5.0, help="λ_0")
    parser.add_argument("--epochs", type=int, default=60, help="of a training")
    parser.add_argument("--filters", type=int, default=16, help="width of the network")
    out = Path("out/quickstart.png")
    parser.add_argument("--out", type=Path, default=out, help="where to draw the costs")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FOLDER",
        help="keep the first seed's networks and logs, for transport_report.py; its "
        "trainings take longer, as the transport is measured every 10 epochs",
    )
    return parser.parse_args()


def build_network(
    data: keras_lap.datasets.Dataset, initializer: str, filters: int
) -> keras.Model:
    """A ResNet9 for images; for points, nine dense residual blocks."""
    kernel_initializer = INITIALIZERS[initializer]
    if len(data.input_shape) == 3:
        return keras_lap.networks.resnet9(
            data.input_shape,
            data.num_classes,
            filters=filters,
            kernel_initializer=kernel_initializer,
        )

    def dense(units: int) -> keras.Layer:
        return keras.layers.Dense(units, kernel_initializer=kernel_initializer.clone())

    inputs = keras.Input(data.input_shape)
    x = dense(filters)(inputs)
    for _ in range(9):
        x = x + dense(filters)(keras.activations.relu(dense(filters)(x)))
    return keras.Model(inputs, dense(data.num_classes)(x))


def train(
    data: keras_lap.datasets.Dataset,
    initializer: str,
    method: str,
    seed: int,
    options: argparse.Namespace,
) -> Run:
    """Trains one network and measures it on the test data."""
    keras.utils.set_random_seed(seed)
    network = build_network(data, initializer, options.filters)
    model, callbacks = network, [EpochBar(f"{initializer:11} {method:12} seed {seed}")]
    if method == "least action":
        model = keras_lap.LeastActionModel(
            network,
            energy=options.p,
            initial_multiplier=options.initial_multiplier,
        )
        callbacks.append(
            keras_lap.callbacks.MultiplierUpdate(options.tau, options.every)
        )
    kept = options.save if seed == 0 else None
    if kept:
        kept = kept / f"{initializer}-{method.replace(' ', '-')}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        callbacks += [
            keras_lap.callbacks.TransportMonitor(
                data.test.x[:200], every_n_epochs=10, logs="all"
            ),
            keras.callbacks.CSVLogger(f"{kept}.csv"),
        ]
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    start = time.perf_counter()
    model.fit(
        *data.train,
        batch_size=min(100, len(data.train.y)),
        epochs=options.epochs,
        callbacks=callbacks,
        verbose=0,
    )
    seconds = time.perf_counter() - start
    if kept:
        network.save(f"{kept}.keras")
    multiplier = float(model.multiplier) if method == "least action" else None
    costs = block_costs(network, data.test.x[:1000], options.p)
    exits = exit_accuracies(network, data.test)
    changed = Raised(0, costs.sum(), exits[-1])
    if channels := sum(keras_lap.trajectory.raise_variances(network).values()):
        cost = block_costs(network, data.test.x[:1000], options.p).sum()
        accuracy = exit_accuracies(network, data.test)[-1]
        changed = Raised(channels, cost, accuracy)
    return Run(exits, costs, multiplier, seconds, changed)


class EpochBar(keras.callbacks.Callback):
    """One Keras progress bar for a whole training instead of one for each epoch."""

    def __init__(self, label: str):
        super().__init__()
        self.label = label

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Prints what is trained and opens the bar."""
        print(self.label, flush=True)
        names = ["accuracy", "loss", "task_loss", "transport_cost", "multiplier"]
        self.bar = keras.utils.Progbar(
            self.params["epochs"], unit_name="epoch", stateful_metrics=names
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Moves the bar on."""
        self.bar.update(epoch + 1, list((logs or {}).items()))


def block_costs(network: keras.Model, x: np.ndarray, p: float) -> np.ndarray:
    """Energy of each block's displacement, for any network, however trained."""
    record = keras_lap.DisplacementRecorder(
        network, keras_lap.find_residual_blocks(network)
    )
    energy = keras_lap.energies.DisplacementEnergy(p)
    _, displacements = record(x, training=False)
    return np.array([float(energy(displacement)) for displacement in displacements])


def exit_accuracies(network: keras.Model, test: keras_lap.datasets.Split) -> np.ndarray:
    """Test accuracy in percent with the first 0, 1, …, K blocks alone."""
    outputs = keras_lap.depth.exits(network).predict(test.x, verbose=0)
    return np.array([100 * np.mean(out.argmax(-1) == test.y) for out in outputs])


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half-width of the 95 % Student-t interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan")
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def print_table(runs: dict[tuple[str, str], list[Run]]) -> None:
    """Prints one row for each initialisation and method."""
    print(
        f"\n{'initialiser':12} {'training':13} {'test accuracy [95 % CI]':25} "
        f"{'transport cost':>14} {'final λ':>8} {'seconds':>8}"
    )
    for (initializer, method), row in runs.items():
        mean, half = interval([run.accuracy for run in row])
        accuracy = f"{mean:.1f} [{mean - half:.1f}, {mean + half:.1f}]"
        if len(row) < 2:
            accuracy = f"{mean:.1f} (one seed)"
        cost = np.mean([run.block_costs.sum() for run in row])
        multipliers = [run.multiplier for run in row if run.multiplier is not None]
        multiplier = f"{np.mean(multipliers):.2f}" if multipliers else "-"
        seconds = np.mean([run.seconds for run in row])
        print(
            f"{initializer:12} {method:13} {accuracy:25} {cost:14.4g} "
            f"{multiplier:>8} {seconds:8.1f}"
        )


def print_cuts(runs: dict[tuple[str, str], list[Run]]) -> None:
    """Prints the accuracy of the same networks with fewer blocks."""
    blocks = len(next(iter(runs.values()))[0].exits) - 1
    keeps = sorted({blocks, blocks // 2, blocks // 4, 1}, reverse=True)
    print("\nThe same networks, cut and not trained again: test accuracy with")
    columns = "".join(f"{f'{keep} of {blocks}':>10}" for keep in keeps)
    print(f"{'initialiser':12} {'training':13} {columns} blocks")
    for (initializer, method), row in runs.items():
        means = np.mean([run.exits for run in row], axis=0)
        cells = "".join(f"{means[keep]:10.1f}" for keep in keeps)
        print(f"{initializer:12} {method:13} {cells}")


def print_raised(runs: dict[tuple[str, str], list[Run]]) -> None:
    """Prints what changes where channels that were silent in training are bounded."""
    print("\nThe same networks, their smallest variances raised by raise_variances:")
    print(
        f"{'initialiser':12} {'training':13} {'networks changed':>16} "
        f"{'transport cost':>14} {'test accuracy':>13}"
    )
    for (initializer, method), row in runs.items():
        changed = f"{sum(run.raised.channels > 0 for run in row)} of {len(row)}"
        cost = np.mean([run.raised.cost for run in row])
        accuracy = np.mean([run.raised.accuracy for run in row])
        print(
            f"{initializer:12} {method:13} {changed:>16} {cost:14.4g} {accuracy:13.1f}"
        )


def summary(runs: dict[tuple[str, str], list[Run]]) -> str:
    """One sentence on what was seen, whichever way it fell."""
    parts = []
    for initializer in dict.fromkeys(initializer for initializer, _ in runs):
        plain, least = (runs[initializer, method] for method in METHODS)
        gains = [b.accuracy - a.accuracy for a, b in zip(plain, least, strict=True)]
        mean, half = interval(gains)
        change = f"{mean:+.1f} ± {half:.1f} points (no sure difference)"
        if len(gains) < 2:
            change = f"{mean:+.1f} points (one seed, which says little)"
        elif abs(mean) > half:
            verdict = "better" if mean > 0 else "worse"
            change = f"{mean:+.1f} ± {half:.1f} points ({verdict})"
        costs = [np.mean([r.block_costs.sum() for r in row]) for row in (plain, least)]
        parts.append(
            f"from {initializer}, least action moved the test data at {costs[1]:.3g} "
            f"instead of {costs[0]:.3g} and changed test accuracy by {change}"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def plot_costs(runs: dict[tuple[str, str], list[Run]], path: Path) -> None:
    """Draws the cost of each block: mean over the seeds, band from least to most."""
    initializers = list(dict.fromkeys(initializer for initializer, _ in runs))
    figure, axes = plt.subplots(
        1, len(initializers), figsize=(4.5 * len(initializers), 3.6), squeeze=False
    )
    for axis, initializer in zip(axes[0], initializers, strict=True):
        styles = zip(METHODS, ("#D55E00", "#0072B2"), ("o", "s"), strict=True)
        for method, color, marker in styles:
            costs = np.array([run.block_costs for run in runs[initializer, method]])
            blocks = np.arange(1, costs.shape[1] + 1)
            axis.plot(blocks, costs.mean(0), color=color, marker=marker, label=method)
            axis.fill_between(
                blocks, costs.min(0), costs.max(0), color=color, alpha=0.2, lw=0
            )
        axis.set(title=f"initialiser {initializer}", xlabel="block", yscale="log")
        axis.set_xticks(blocks)
    axes[0, 0].set_ylabel("transport cost on test data")
    axes[0, -1].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Runs everything."""
    options = parse_arguments()
    data = keras_lap.datasets.load(options.dataset, options.train_size)
    print(
        f"{options.dataset}: {len(data.train.y)} training and {len(data.test.y)} test "
        f"examples, {options.seeds} seeds, Keras on {keras.backend.backend()}"
    )
    runs = {
        (initializer, method): [
            train(data, initializer, method, seed, options)
            for seed in range(options.seeds)
        ]
        for initializer in options.initializer
        for method in METHODS
    }
    print_table(runs)
    print_cuts(runs)
    print_raised(runs)
    print(f"\n{summary(runs)}")
    plot_costs(runs, options.out)
    print(f"Cost of each block, plain and least action: {options.out}")


if __name__ == "__main__":
    main()
