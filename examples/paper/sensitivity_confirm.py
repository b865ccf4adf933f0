"""In which regime does least action help? What the search found, on fresh seeds.

The setting with the largest gain of best validation accuracy in
`sensitivity_search.py`, the one with the largest loss, and the best λ_0 from the
initialisation that suits plain training.

    python examples/paper/sensitivity_confirm.py --preset small
    python examples/paper/sensitivity_confirm.py --report
"""

from __future__ import annotations

from keras_lap.experiments import (
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

BAD, GOOD = Initializer("normal", 1.0), Initializer("normal", 0.05)
# Initialisation, learning rate and method, as the search chose them.
CHOSEN = (
    ("best", BAD, 0.1, least_action(0.5)),
    ("worst", GOOD, 0.1, least_action(0.05)),
    ("best from a good start", GOOD, 0.1, least_action(50.0)),
)


def study(filters: int, training: tuple[int, int], data: Data, seeds: int) -> Study:
    """The chosen settings; the seeds are those of no other study."""

    def setting(
        name: str, initializer: Initializer, rate: float, method: Method
    ) -> Setting:
        return Setting(
            f"{name}: {initializer}, learning rate {rate:g}",
            Network(filters=filters, initializer=initializer),
            data,
            Training(*training, learning_rate=rate),
            (plain(), method),
        )

    return Study(
        name="sensitivity_confirm",
        title=f"Best and worst of the search on fresh seeds, {data.train_size} images",
        settings=tuple(setting(*chosen) for chosen in CHOSEN),
        seeds=tuple(range(3000, 3000 + seeds)),
    )


PRESETS = {
    "paper": study(64, (300, 128), Data("mnist", 100, 5000), seeds=50),
    "small": study(8, (30, 50), Data("mnist", 100, 200, 500), seeds=10),
}

if __name__ == "__main__":
    command_line.main(PRESETS, make_figures=(figures.accuracies,))
