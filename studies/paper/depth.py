"""Figure 5: accuracy against depth without batch normalisation.

Where do plain networks stop training, and does least action still train there? The
presets `paper` and `protocol` have the authors' blocks, which without normalisation
are `x + conv(relu(x))`, and a head that keeps its own; `small` has two convolutions in
a block and no norm at all. The learning rate of the figure is not known; 0.1 of the
authors' code is too much for networks without norm, so all take 0.01.

    python -m studies.paper.depth --preset small
    python -m studies.paper.depth --preset protocol
    python -m studies.paper.depth --report
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

METHODS = (plain(), least_action(5.0))
# Of many blocks of the authors' an energy at λ_0 = 5 weighs too much: lighter ones.
LIGHTER = (*METHODS, least_action(50.0), least_action(500.0))
KAIMING, ORTHOGONAL = Initializer("kaiming"), Initializer("orthogonal", 1.0)


def study(
    title: str,
    data: Data,
    training: Training,
    filters: int,
    depths: tuple[tuple[Initializer, tuple[int, ...]], ...],
    seeds: int,
    methods: tuple[Method, ...] = METHODS,
) -> Study:
    """One setting for each initialisation and depth, no normalisation."""

    def network(initializer: Initializer, depth: int) -> Network:
        kind = "one_representation_resnet"
        return Network(kind, filters, depth, False, initializer)

    return Study(
        name="depth",
        title=title,
        settings=tuple(
            Setting(
                f"{initializer}, {depth} blocks",
                network(initializer, depth),
                data,
                training,
                methods,
            )
            for initializer, several in depths
            for depth in several
        ),
        seeds=tuple(range(seeds)),
    )


DEEP = (3, 6, 9, 12, 15, 20, 25, 30)
PRESETS = {
    "paper": like_the_authors(
        study(
            "CIFAR-10 without batch normalisation",
            Data("cifar10", 45000, validation_size=5000),
            Training(300, 128, 0.01),
            64,
            ((KAIMING, DEEP), (ORTHOGONAL, DEEP)),
            20,
        )
    ),
    "protocol": like_the_authors(
        study(
            "300 digits without batch normalisation in the blocks, 8 filters",
            Data("digits", 300, validation_size=300),
            Training(20, 50, 0.01),
            8,
            ((KAIMING, (3, 9, 15)), (ORTHOGONAL, (3, 15, 30))),
            10,
            LIGHTER,
        )
    ),
    "small": study(
        "300 digits without batch normalisation, 8 filters",
        Data("digits", 300, validation_size=300),
        Training(20, 50, 0.01),
        8,
        ((KAIMING, (3, 9)), (ORTHOGONAL, (3, 15, 30))),
        10,
    ),
}

if __name__ == "__main__":
    command_line.main(PRESETS, make_figures=(figures.depth,))
