"""Does `initial_multiplier="auto"` leave good starts alone and mend bad ones?

Plain training, two fixed λ_0 and `"auto"` from a bad start (normal kernels of standard
deviation 1, at two sizes) and from three starts that suit the plain network.

    python -m studies.paper.automatic --preset small
    python -m studies.paper.automatic --report
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

BAD = Initializer("normal", 1.0)
GOOD = (
    Initializer("normal", 0.05),
    Initializer("kaiming"),
    Initializer("orthogonal", 1.0),
)
METHODS = (plain(), least_action(5.0), least_action(0.5), least_action("auto"))


def study(
    filters: int,
    batch_size: int,
    epochs: dict[int, int],
    validation: int,
    test: int | None,
    seeds: int,
) -> Study:
    """Every start with the least data; the bad one also with more."""
    fewest = min(epochs)

    def setting(initializer: Initializer, train_size: int) -> Setting:
        return Setting(
            f"{initializer}, {train_size} images",
            Network(filters=filters, initializer=initializer),
            Data("mnist", train_size, validation, test),
            Training(epochs[train_size], batch_size),
            METHODS,
        )

    return Study(
        name="automatic",
        title="λ_0 chosen by the first step against fixed ones and plain training",
        settings=(
            *(setting(BAD, size) for size in epochs),
            *(setting(initializer, fewest) for initializer in GOOD),
        ),
        seeds=tuple(range(4000, 4000 + seeds)),
    )


PRESETS = {
    "paper": like_the_authors(
        study(64, 128, {100: 300, 200: 300}, validation=5000, test=None, seeds=50)
    ),
    "small": study(8, 50, {100: 30, 200: 20}, validation=200, test=500, seeds=10),
}

if __name__ == "__main__":
    command_line.main(PRESETS, make_figures=(figures.accuracies,))
