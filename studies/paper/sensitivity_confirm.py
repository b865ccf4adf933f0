"""In which regime does least action help? What the search found, on fresh seeds.

By best validation accuracy in `sensitivity_search.py`: the largest gain of all, the
largest gain from another start than normal(0, 1), and the largest loss; and beside the
loss, from the same start, a λ_0 a thousand times as large.

    python -m studies.paper.sensitivity_confirm --preset small
    python -m studies.paper.sensitivity_confirm --report
"""

from __future__ import annotations

from studies.engine import (
    Data,
    Initializer,
    Method,
    Network,
    Setting,
    Study,
    Training,
    command_line,
    figures,
    least_action,
    plain,
)
from studies.engine.protocol import like_the_authors

# Initialisation, learning rate and methods.
BEST = (Initializer("normal", 1.0), 0.03, (least_action(0.5),))
BEST_ELSEWHERE = (Initializer("orthogonal", 1.0), 0.1, (least_action(0.5),))
WORST = (Initializer("normal", 0.05), 0.1, (least_action(0.05), least_action(50.0)))


def study(filters: int, training: tuple[int, int], data: Data, seeds: int) -> Study:
    """The chosen settings; the seeds are those of no other study."""

    def setting(
        name: str, initializer: Initializer, rate: float, methods: tuple[Method, ...]
    ) -> Setting:
        return Setting(
            f"{name}: {initializer}, learning rate {rate:g}",
            Network(filters=filters, initializer=initializer),
            data,
            Training(*training, learning_rate=rate),
            (plain(), *methods),
        )

    return Study(
        name="sensitivity_confirm",
        title=f"Best and worst of the search on fresh seeds, {data.train_size} images",
        settings=(
            setting("best", *BEST),
            setting("best elsewhere", *BEST_ELSEWHERE),
            setting("worst", *WORST),
        ),
        seeds=tuple(range(3000, 3000 + seeds)),
    )


PRESETS = {
    "paper": like_the_authors(
        study(64, (300, 128), Data("mnist", 100, 5000), seeds=50)
    ),
    "small": study(8, (30, 50), Data("mnist", 100, 200, 500), seeds=10),
}

if __name__ == "__main__":
    command_line.main(PRESETS, make_figures=(figures.accuracies,))
