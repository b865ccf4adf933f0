"""Does least action make networks robust, calibrated, or wary of other data?

Plain training, least action (λ constant at a `Share`), weight decay and dropout, on
right labels and with 40 % of the training labels wrong. Of each of the three, three
strengths are tried on seeds 100 and 101 and the one of the best validation accuracy is
taken, for each setting and each kind of labels; validation labels are right. What is
reported is of seeds 200 to 209. `studies.defaults.harm` says what is measured.

From the root of the clone (JAX; a stopped study goes on where it stopped):

    python -m studies.defaults.robustness
    python -m studies.defaults.robustness --report     # tables alone

It writes into `out/results/`; what is published, in `studies/results/`, is a copy, and
what `--report` takes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

from studies.defaults import judging
from studies.defaults.growing import Growing
from studies.defaults.harmed import Dropped
from studies.defaults.methods import CONSTANT, DECAYS, PLAIN, Method
from studies.defaults.settings import SETTINGS, Trained, load
from studies.engine import published, records

NAME = "defaults-robustness.jsonl"
KEY = ("setting", "wrong_labels", "method", "seed")
TRIALS, SEEDS = (100, 101), tuple(range(200, 210))
NAMES = ("digits 1000, MLP", "digits 200, ResNet9")
PARTS = (0.0, 0.4)
FAMILIES: dict[str, tuple[Method, ...]] = {
    "least action": CONSTANT[1:],
    "weight decay": DECAYS,
    "dropout": tuple(Dropped(f"dropout {r:g}", dropout=r) for r in (0.1, 0.2, 0.4)),
}


def chosen(
    lines: Mapping[tuple, records.Record], setting: str, part: float
) -> dict[str, Method]:
    """By the family, the strength that is confirmed.

    Args:
        lines: All trials, by their keys.
        setting: Name of the setting.
        part: Of the labels that are wrong.
    """
    trials = {
        (name, method, seed): line
        for (name, wrong, method, seed), line in lines.items()
        if wrong == part
    }

    def best(methods: tuple[Method, ...]) -> Method:
        names = [method.name for method in methods]
        name = judging.most_accurate(trials, [setting], names, PLAIN.name, TRIALS)
        return next(method for method in methods if method.name == name)

    return {family: best(methods) for family, methods in FAMILIES.items()}


class Study:
    """Trains what the result file lacks, setting by setting.

    Args:
        path: The result file.
    """

    def __init__(self, path: Path):
        self.lines = Growing(path, KEY)
        self._trainers: dict[tuple, Any] = {}

    def run(self, names: Sequence[str] = NAMES) -> None:
        """Runs everything; wherever it stops, what there is is paired.

        Args:
            names: Of the settings.
        """
        settings = [setting for setting in SETTINGS if setting.name in names]
        tried = (PLAIN, *(m for methods in FAMILIES.values() for m in methods))
        for setting in settings:
            for part in PARTS:
                for seed in TRIALS:
                    for method in tried:
                        self._train(setting, part, method, seed)
            for seed in SEEDS:
                for part in PARTS:
                    found = chosen(self.lines.found, setting.name, part)
                    for method in (PLAIN, *found.values()):
                        self._train(setting, part, method, seed)

    def _train(self, setting: Trained, part: float, method: Method, seed: int) -> None:
        def run() -> dict[str, Any]:
            trainer = self._trainer(setting, method.has_energy)
            return trainer.train_from(method, seed, part, seed in TRIALS)

        self.lines.add((setting.name, part, method.name, seed), run)

    def _trainer(self, setting: Trained, has_energy: bool) -> Any:
        from studies.defaults.harmed import HarmedTrainer

        key = setting.name, has_energy
        if key not in self._trainers:
            self._trainers[key] = HarmedTrainer(setting, load(setting), has_energy)
        return self._trainers[key]


def main() -> None:
    """Runs the study, or makes its report."""

    def write(path: Path) -> list[Path]:
        from studies.defaults.robustness_report import write  # which reads this file

        return write(path)

    published.main(
        __doc__, NAME, lambda path, names: Study(path).run(names), write, NAMES
    )


if __name__ == "__main__":
    main()
