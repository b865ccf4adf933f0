"""Table 2: CIFAR-10, ResNet9, training sets of 4 000 to 50 000 images.

python -m studies.paper.table2_cifar10 --preset small
python -m studies.paper.table2_cifar10 --preset protocol
python -m studies.paper.table2_cifar10 --report
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
    least_action,
    plain,
)
from studies.engine.protocol import like_the_authors

# Mean of the highest test accuracy over 20 runs, as on the slides.
PUBLISHED = {
    4000: (("plain", "67.80 [67.55, 68.07]"), ("least action", "70.12 [69.81, 70.42]")),
    5000: (("plain", "70.32 [70.00, 70.63]"), ("least action", "72.58 [72.36, 72.79]")),
    10000: (
        ("plain", "79.25 [79.00, 79.49]"),
        ("least action", "80.90 [80.74, 81.06]"),
    ),
    20000: (
        ("plain", "85.73 [85.59, 85.87]"),
        ("least action", "86.74 [86.61, 86.87]"),
    ),
    30000: (
        ("plain", "88.61 [88.47, 88.75]"),
        ("least action", "89.41 [89.31, 89.50]"),
    ),
    50000: (
        ("plain", "91.49 [91.40, 91.59]"),
        ("least action", "91.94 [91.84, 92.04]"),
    ),
}


def study(
    title: str,
    sizes: tuple[int, ...],
    filters: int,
    held_out: tuple[int, int | None],
    training: Training,
    seeds: int,
    pool: int | None = None,
) -> Study:
    """One setting for each size; the full training set leaves none for validation."""
    validation_size, test_size = held_out

    def data(size: int) -> Data:
        return Data(
            "cifar10",
            size,
            min(validation_size, 50_000 - size),
            test_size=test_size,
            pool=pool,
        )

    return Study(
        name="table2_cifar10",
        title=title,
        settings=tuple(
            Setting(
                f"{size} images",
                Network(filters=filters, initializer=Initializer("orthogonal", 1.0)),
                data(size),
                training,
                (plain(), least_action(5.0)),
                PUBLISHED[size],
            )
            for size in sizes
        ),
        seeds=tuple(range(seeds)),
    )


PRESETS = {
    "paper": like_the_authors(
        study(
            "CIFAR-10, ResNet9",
            tuple(PUBLISHED),
            64,
            (5000, None),
            Training(300, 128),
            20,
        )
    ),
    # Images averaged to 16x16, whose states have 8x8: what two cores can train.
    "protocol": like_the_authors(
        study(
            "JPEG copy of CIFAR-10 at 16x16 pixels, ResNet9 with 8 filters",
            (4000, 5000),
            8,
            (500, 1000),
            Training(12, 100),
            10,
            pool=2,
        )
    ),
    "small": study(
        "JPEG copy of CIFAR-10, ResNet9 with 8 filters",
        (4000, 5000),
        8,
        (500, 1000),
        Training(8, 100, drop_epochs=(6,)),
        5,
    ),
}

if __name__ == "__main__":
    command_line.main(PRESETS, make_figures=(figures.accuracies, figures.training))
