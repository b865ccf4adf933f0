"""Table 3: CIFAR-100, ResNeXt50, training sets of 12 500 to 50 000 images.

Meant for a GPU: on two processor cores one run of the small preset takes hours.

    python -m studies.paper.table3_cifar100 --preset paper
    python -m studies.paper.table3_cifar100 --preset paper --report
"""

from __future__ import annotations

from studies.engine import (
    Data,
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

# Mean of the highest test accuracy over 10 runs, as on the slides.
PUBLISHED = {
    12500: (
        ("plain", "45.90 [43.16, 48.67]"),
        ("least action", "48.23 [46.39, 50.07]"),
    ),
    25000: (
        ("plain", "62.55 [60.18, 64.92]"),
        ("least action", "64.11 [62.25, 65.96]"),
    ),
    50000: (
        ("plain", "72.97 [71.79, 74.14]"),
        ("least action", "76.11 [75.32, 76.89]"),
    ),
}


def study(network: Network, sizes: tuple[int, ...], training: Training) -> Study:
    """One setting for each size; the full training set leaves none for validation."""
    return Study(
        name="table3_cifar100",
        title="CIFAR-100, ResNeXt50",
        settings=tuple(
            Setting(
                f"{size} images",
                network,
                Data("cifar100", size, min(5000, 50_000 - size)),
                training,
                (plain(), least_action(5.0)),
                PUBLISHED[size],
            )
            for size in sizes
        ),
        seeds=tuple(range(10)),
    )


PRESETS = {
    "paper": like_the_authors(
        study(Network("resnext50"), tuple(PUBLISHED), Training(300, 128))
    ),
    "small": like_the_authors(
        study(Network("resnext50", 16, cardinality=8), (12500,), Training(20, 128))
    ),
}

if __name__ == "__main__":
    command_line.main(PRESETS, make_figures=(figures.accuracies, figures.training))
