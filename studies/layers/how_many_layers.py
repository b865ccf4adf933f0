"""One run tells how deep a task is, and every cut of it works: is it so?

A deep network is trained once by each of eight methods, and cut after 0, 1, …, K blocks
without retraining. The advice is the fewest blocks from which on every cut is within
one point of the full network's validation accuracy. The truth is what networks of each
depth reach by themselves: the fewest blocks within one point of the best of them, by
their mean test accuracy.

Each method but plain training has one strength. Values of it are tried on seeds of
their own, 100 and 101, on validation data alone: six, in the largest setting four.
Decided before any test accuracy was looked at: of the strengths whose full network is
within one point of the method's best one, that whose cuts to a quarter and to a half
are best on average. There were four values at first. Where the best of them was the
last, more were tried later, of all methods, when the first test accuracies were known.
What is reported comes from seeds 0 to 9, which all methods share: initial weights and
order of batches. The data are the same for all seeds.

From the root of the clone (JAX; a stopped study goes on where it stopped):

    python -m studies.layers.how_many_layers                  # as far as is published
    python -m studies.layers.how_many_layers --preset full    # all seeds of everything
    python -m studies.layers.how_many_layers --report         # tables and figure alone

It writes into `out/results/`; what is published, in `studies/results/`, is a copy, and
what `--report` takes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

from studies.engine import published, records
from studies.engine.environment import describe, pin_threads
from studies.layers import judging
from studies.layers.data import Parts, load
from studies.layers.methods import METHODS, Method
from studies.layers.settings import SETTINGS, Setting

NAME = "how_many_layers.jsonl"
TRIALS = (100, 101)
SEEDS = tuple(range(10))
PLAIN = METHODS[0]
# What fits into some hours of one core: seeds to train by each method, seeds to train
# at each depth, and the seeds of a trial.
SMALL = {
    "digits, MLP": (10, 5, 2),
    "spirals, MLP": (10, 5, 2),
    "MNIST 2000, MLP": (10, 5, 2),
    "digits, ResNet9": (10, 3, 1),
    "CIFAR 4000, 16 conv": (10, 5, 1),
    "digits, ViT": (10, 3, 1),
}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        setting: What is trained on what.
        method: How.
        blocks: At which depth.
        strength: How much of the method.
        seed: Of initial weights and order.
    """

    setting: Setting
    method: Method
    blocks: int
    strength: float
    seed: int

    @property
    def key(self) -> tuple:
        """What a line of the result file says of it."""
        names = self.setting.name, self.method.name
        return (*names, self.blocks, self.strength, self.seed)


class Study:
    """Trains what the result file lacks, in an order that is worth most first.

    Args:
        path: The result file.
        preset: `"small"` or `"full"`.
        settings: The names of those that are run. Defaults to all.
    """

    def __init__(self, path: Path, preset: str, settings: Sequence[str] = ()):
        self.path = path
        self.names = tuple(settings) or tuple(SMALL)
        self.small = preset == "small"
        records.repair(path)
        self.found = {judging.key(line): line for line in records.read(path)}
        self._data: dict[str, Parts] = {}
        self._trainers: dict[tuple, Any] = {}

    def run(self) -> None:
        """Runs everything, setting by setting."""
        by_name = {setting.name: setting for setting in SETTINGS}
        for name in self.names:
            seeds, depth_seeds, trials = SMALL[name]
            setting = by_name[name]
            if not self.small:
                seeds, depth_seeds, trials = len(SEEDS), len(SEEDS), len(TRIALS)
            for run in self._trials(setting, trials):
                self._train(run, of_trial=True)
            for seed in SEEDS[:seeds]:
                for method in METHODS:
                    strength = self._chosen(setting, method, trials)
                    self._train(Run(setting, method, setting.blocks, strength, seed))
                if seed < depth_seeds:
                    for blocks in set(setting.depths) - {setting.blocks}:
                        self._train(Run(setting, PLAIN, blocks, 0.0, seed))
            self._trainers.clear()
            self._data.clear()

    def _trials(self, setting: Setting, trials: int) -> Iterator[Run]:
        for method in METHODS:
            tried = method.tried(setting.widely)
            for strength in tried if len(tried) > 1 else ():
                for seed in TRIALS[:trials]:
                    yield Run(setting, method, setting.blocks, strength, seed)

    def _chosen(self, setting: Setting, method: Method, trials: int) -> float:
        tried = method.tried(setting.widely)
        if len(tried) == 1:
            return tried[0]
        lines = {
            strength: [
                self.found[Run(setting, method, setting.blocks, strength, seed).key]
                for seed in TRIALS[:trials]
            ]
            for strength in tried
        }
        return judging.choose(lines, setting.cuts)

    def _train(self, run: Run, of_trial: bool = False) -> None:
        if run.key in self.found:
            return
        result = self._trainer(run).run(run.seed, run.strength)
        if of_trial:  # of which nobody is to look at the test data
            result = {key: result[key] for key in ("validation", "seconds")}
        line = {
            **dict(zip(judging.KEY, run.key, strict=True)),
            **result,
            "environment": describe(),
        }
        records.append(self.path, line)
        self.found[run.key] = line
        print(*run.key, result["validation"][-1], f"{result['seconds']:.1f} s")

    def _trainer(self, run: Run) -> Any:
        from studies.layers.training import Trainer

        setting, method = run.setting, run.method
        decays = method.name == "weight decay"
        key = (setting.name, method.name, run.blocks, run.strength if decays else None)
        if key not in self._trainers:
            if setting.name not in self._data:
                self._data[setting.name] = load(*setting.data)
            data, decay = self._data[setting.name], run.strength if decays else None
            self._trainers[key] = Trainer(setting, method, data, run.blocks, decay)
        return self._trainers[key]


def main() -> None:
    """Runs the study, or makes its report."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, presets = parser.add_argument, ("small", "full")
    add("--preset", choices=presets, default="small", help="how much is run")
    which = "the settings that are run, in this order, where not all"
    add("--settings", choices=SMALL, nargs="+", default=(), help=which)
    published.add_options(parser, NAME)
    options = parser.parse_args()
    path = published.path_of(options, NAME)
    if not options.report:
        pin_threads(1)
        Study(path, options.preset, options.settings).run()
    from studies.layers.report import write

    for written in write(path):
        print(written)


if __name__ == "__main__":
    main()
