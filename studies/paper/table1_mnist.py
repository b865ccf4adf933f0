"""Table 1: MNIST, ResNet9, training sets of 100 to 500 images.

Two regimes: kernels that start as normal(0, 1), where a plain network does badly, and
the initialisation from which the plain network does best (chosen by validation
accuracy in `initialisations.py`).

    python -m studies.paper.table1_mnist --preset small
    python -m studies.paper.table1_mnist --preset protocol
    python -m studies.paper.table1_mnist --report
"""

from __future__ import annotations

import dataclasses

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
    tables,
)
from studies.engine.protocol import like_the_authors

BAD = Initializer("normal", 1.0)
BEST = Initializer("normal", 0.05)
METHODS = (plain(), least_action(5.0), least_action(0.5))
# Mean of the highest test accuracy over 50 runs, as on the slides.
PUBLISHED = {
    100: (("plain", "56.4 [54.9, 58.0]"), ("least action", "70.0 [69.0, 71.0]")),
    200: (("plain", "74.9 [73.9, 75.9]"), ("least action", "82.0 [81.5, 82.5]")),
    300: (("plain", "83.5 [83.0, 84.1]"), ("least action", "86.2 [85.8, 86.6]")),
    400: (("plain", "88.4 [88.0, 88.8]"), ("least action", "88.4 [88.0, 88.8]")),
    500: (("plain", "90.8 [90.4, 91.2]"), ("least action", "90.9 [90.7, 91.1]")),
}


def setting(
    size: int, initializer: Initializer, filters: int, data: Data, training: Training
) -> Setting:
    """One row of the table."""
    return Setting(
        f"{size} images, {initializer}",
        Network(filters=filters, initializer=initializer),
        data,
        training,
        METHODS,
        PUBLISHED[size],
    )


def paper() -> Study:
    """The authors' protocol: 64 filters, 300 epochs, 50 runs."""
    training = Training(300, 128)
    study = Study(
        name="table1_mnist",
        title="MNIST, ResNet9, small training sets",
        settings=tuple(
            setting(size, initializer, 64, Data("mnist", size, 5000), training)
            for size in PUBLISHED
            for initializer in (BAD, BEST)
        ),
        seeds=tuple(range(50)),
    )
    return like_the_authors(study)


def protocol() -> Study:
    """The small preset in the authors' protocol, with both orders of λ."""
    few = small()
    settings = tuple(
        setting(size, initializer, 8, Data("mnist", size, 200, 500), Training(30, 50))
        for size in (100, 200)
        for initializer in (BAD, BEST)
    )
    few = dataclasses.replace(few, settings=settings)
    return like_the_authors(few, both_orders=True)


def small() -> Study:
    """8 filters, 60 to 150 steps of 50 images, 500 test images, 10 runs."""
    epochs = {100: 30, 200: 25, 300: 20, 500: 15}
    return Study(
        name="table1_mnist",
        title="MNIST, ResNet9 with 8 filters, small training sets",
        settings=tuple(
            setting(
                size, initializer, 8, Data("mnist", size, 200, 500), Training(count, 50)
            )
            for size, count in epochs.items()
            for initializer in (BAD, BEST)
        ),
        seeds=tuple(range(10)),
    )


def on_gpu() -> Study:
    """Of the authors' protocol what fits into minutes of a GPU."""
    full = paper()
    settings = tuple(
        dataclasses.replace(
            setting,
            data=dataclasses.replace(setting.data, validation_size=200, test_size=1000),
            methods=tuple(
                m for m in setting.methods if m.initial_multiplier in (None, 5.0)
            ),
        )
        for setting in full.settings
        if setting.data.train_size in (100, 200)
    )
    return dataclasses.replace(
        full, settings=settings, seeds=tuple(range(10)), one_by_one=True
    )


PRESETS = {
    "paper": paper(),
    "small": small(),
    "protocol": protocol(),
    "gpu": on_gpu(),
}

TABLES = (tables.comparison, tables.correlation)

if __name__ == "__main__":
    command_line.main(PRESETS, TABLES, (figures.accuracies, figures.training))
