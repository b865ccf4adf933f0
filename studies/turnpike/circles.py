"""Two circles through forty layers: does the path loss decide where they are used?

    python -m studies.turnpike.circles --results studies/results

Trainings that are not yet in `out/turnpike/` take about half an hour on one core with
JAX; all others are read from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from studies.turnpike.runs import DYNAMICS, Lazy, Run, Setting

SEEDS = (0, 1, 2, 3, 4)
OTHER_SEED = 100  # on which the rates are chosen, with the path loss
RATES = (0.003, 0.01)
BETAS = (1.0, 0.0)
FOLDER = Path("out/turnpike/circles")

Runs = Mapping[tuple[str, float], list[Run]]


def trained() -> tuple[Runs, dict[str, dict[float, Run]]]:
    """All runs by dynamics and path loss, and those that the rates were chosen by."""
    runs: dict[tuple[str, float], list[Run]] = {}
    tried: dict[str, dict[float, Run]] = {}
    for dynamics in DYNAMICS:
        for beta in BETAS:
            trainer = Lazy(Setting(dynamics, beta), FOLDER)
            if beta:
                tried[dynamics] = {
                    rate: trainer.run(OTHER_SEED, rate) for rate in RATES
                }
            rate = chosen(tried[dynamics])
            runs[dynamics, beta] = [trainer.run(s, rate) for s in SEEDS]
    return runs, tried


def chosen(tried: Mapping[float, Run]) -> float:
    """The rate with the least objective."""
    return min(tried, key=lambda rate: tried[rate].objective)


if __name__ == "__main__":
    trained()
