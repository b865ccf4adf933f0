"""Does a schedule, or clipping, take the harm away; and does a capped rule pay?

Rates constant or falling as a cosine, gradients clipped to a norm of 5 or not, and in
each of these four cells plain training, the least action that
`studies.defaults.one_default` chose (λ constant at `Share(0.1)`), the class's default
(λ_0 = 1 with `MultiplierUpdate()`), and a rule that keeps the loss at ε and λ below λ_0
(`studies.defaults.capped`), on the relative energy.

ε and λ_0 of that rule are chosen on validation data, with the schedule and without
clipping, on seeds 100 and 101, by the rule of `studies.defaults.one_default` and from
as many candidates: ten. What is reported is of seeds 200 to 209, which no other study
here has used.

From the root of the clone (JAX; a stopped study goes on where it stopped):

    python -m studies.defaults.clipping
    python -m studies.defaults.clipping --report     # tables and figure alone

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
from studies.defaults.capped import Capped
from studies.defaults.growing import Growing
from studies.defaults.methods import CONSTANT, PLAIN, Method
from studies.defaults.settings import SETTINGS, Trained, load
from studies.engine import published, records

NAME = "defaults-clipping.jsonl"
KEY = ("setting", "rate", "clipped", "method", "seed")
TRIALS, SEEDS = (100, 101), tuple(range(200, 210))
NAMES = ("digits 1000, MLP", "digits 200, ResNet9")
CHOSEN = next(method for method in CONSTANT if method.share == 0.1)
DEFAULT = Method("λ_0 = 1", multiplier=1.0)
CAPPED = tuple(
    Capped(f"ε = {loss:g}, Share({share:g})", share=share, loss=loss)
    for share in (0.01, 0.1)
    for loss in (0.003, 0.01, 0.03, 0.1, 0.3)
)
# By rate and clipping; that of the trials is first.
CELLS = (("cosine", False), ("constant", False), ("cosine", True), ("constant", True))


def trials(lines: Mapping[tuple, records.Record]) -> judging.Lines:
    """The trials as the rule takes them.

    Args:
        lines: All lines by their keys.
    """
    return {
        (setting, method, seed): line
        for (setting, rate, is_clipped, method, seed), line in lines.items()
        if seed in TRIALS and (rate, is_clipped) == CELLS[0]
    }


def chosen(lines: Mapping[tuple, records.Record]) -> Method:
    """The capped rule that is confirmed.

    Args:
        lines: All trials, by their keys.
    """
    names = [method.name for method in CAPPED]
    name = judging.choose(trials(lines), NAMES, names, PLAIN.name, TRIALS)
    return next(method for method in CAPPED if method.name == name)


class Study:
    """Trains what the result file lacks, setting by setting.

    Args:
        path: The result file.
    """

    def __init__(self, path: Path):
        self.lines = Growing(path, KEY)
        self._trainers: dict[tuple, Any] = {}

    def run(self, names: Sequence[str] = NAMES) -> None:
        """Runs all trials, then the rest; wherever it stops, what there is is paired.

        Args:
            names: The settings that are confirmed.
        """
        for setting in self._settings(NAMES):
            for seed in TRIALS:
                for method in (PLAIN, *CAPPED):
                    self._train(setting, CELLS[0], method, seed)
        capped = chosen(self.lines.found)
        print("confirmed:", capped.name)
        for setting in self._settings(names):
            for methods in ((PLAIN, CHOSEN), (DEFAULT, capped)):
                for seed in SEEDS:
                    self._confirm(setting, methods, seed)

    def _confirm(self, setting: Trained, methods: Sequence[Method], seed: int) -> None:
        for cell in CELLS:
            for method in methods:
                self._train(setting, cell, method, seed)

    def _settings(self, names: Sequence[str]) -> list[Trained]:
        return [setting for setting in SETTINGS if setting.name in names]

    def _train(
        self, setting: Trained, cell: tuple[str, bool], method: Method, seed: int
    ) -> None:
        rate, is_clipped = cell

        def run() -> dict[str, Any]:
            trainer = self._trainer(setting, method)
            result = trainer.train_in(method, seed, rate == "constant", is_clipped)
            # Of trials nobody is to look at the test data.
            hidden = ("test", "cost", "relative") if seed in TRIALS else ()
            return {k: v for k, v in result.items() if k not in hidden}

        self.lines.add((setting.name, rate, is_clipped, method.name, seed), run)

    def _trainer(self, setting: Trained, method: Method) -> Any:
        from studies.defaults.switched import SwitchedTrainer

        key = setting.name, method.has_energy, isinstance(method, Capped)
        if key not in self._trainers:
            self._trainers[key] = SwitchedTrainer(setting, load(setting), method)
        return self._trainers[key]


def main() -> None:
    """Runs the study, or makes its report."""

    def write(path: Path) -> list[Path]:
        from studies.defaults.clipping_report import write  # which reads this file

        return write(path)

    published.main(
        __doc__, NAME, lambda path, names: Study(path).run(names), write, NAMES
    )


if __name__ == "__main__":
    main()
