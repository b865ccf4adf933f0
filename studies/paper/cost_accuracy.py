"""Transport cost against test accuracy over many plainly trained networks.

The slides read a low-energy bias from such pictures: among plainly trained networks,
those that move their data less would be the more accurate ones.

    python -m studies.paper.cost_accuracy --preset small
    python -m studies.paper.cost_accuracy --report
"""

from __future__ import annotations

from studies.engine import (
    Data,
    Initializer,
    Network,
    Setting,
    Study,
    Training,
    command_line,
    figures,
    plain,
    tables,
)
from studies.engine.protocol import like_the_authors

INITIALIZERS = (
    Initializer("kaiming"),
    Initializer("orthogonal", 1.0),
    Initializer("normal", 0.05),
    Initializer("normal", 0.2),
    Initializer("normal", 1.0),
)


def study(
    filters: int, samples: tuple[tuple[Data, Training], ...], seeds: int
) -> Study:
    """Plain training on each data set from every initialisation."""
    return Study(
        name="cost_accuracy",
        title="Plain training from several initialisations",
        settings=tuple(
            Setting(
                f"{data.name}, {initializer}",
                Network(filters=filters, initializer=initializer),
                data,
                training,
                methods=(plain(),),
            )
            for data, training in samples
            for initializer in INITIALIZERS
        ),
        seeds=tuple(range(seeds)),
    )


FULL = Training(300, 128)
PRESETS = {
    "paper": like_the_authors(
        study(
            64,
            (
                (Data("mnist", 500, validation_size=5000), FULL),
                (Data("cifar10", 5000, validation_size=5000), FULL),
            ),
            50,
        )
    ),
    "small": study(
        8,
        (
            (Data("mnist", 100, test_size=500), Training(20, 50)),
            (Data("cifar10", 1000, test_size=500), Training(8, 50)),
        ),
        10,
    ),
}

TABLES = (tables.comparison, tables.correlation)

if __name__ == "__main__":
    command_line.main(PRESETS, TABLES, make_figures=(figures.cost_against_accuracy,))
