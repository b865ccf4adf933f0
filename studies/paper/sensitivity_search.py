"""In which regime does least action help? A search by validation accuracy.

λ_0, τ, s, p, the initialisation and the learning rate are varied, mostly one at a time,
on 100 MNIST images and few seeds. What comes out best and worst is measured on fresh
seeds by `sensitivity_confirm.py`; nothing is concluded here.

    python -m studies.paper.sensitivity_search --preset small
    python -m studies.paper.sensitivity_search --report
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
    least_action,
    plain,
    tables,
)
from studies.engine.protocol import like_the_authors

BAD, BEST = Initializer("normal", 1.0), Initializer("normal", 0.05)
OTHERS = (Initializer("kaiming"), Initializer("orthogonal", 1.0))
MULTIPLIERS = (0.05, 0.5, 5.0, 50.0, 500.0)
FEW_MULTIPLIERS = (0.5, 5.0, 50.0)
ONE_AT_A_TIME = (
    *(least_action(0.5, tau=tau) for tau in (0.0, 0.1, 10.0)),
    *(least_action(0.5, every=every) for every in (1, 20)),
    *(least_action(0.5, p=p) for p in (1.5, 3.0)),
)


def multipliers(values: tuple[float, ...]) -> tuple[Method, ...]:
    """Plain training and least action with several λ_0."""
    return (plain(), *(least_action(value) for value in values))


def study(filters: int, training: tuple[int, int], data: Data, seeds: int) -> Study:
    """The search; its seeds are those of no other study."""

    def setting(
        initializer: Initializer, rate: float, methods: tuple[Method, ...]
    ) -> Setting:
        return Setting(
            f"{initializer}, learning rate {rate:g}",
            Network(filters=filters, initializer=initializer),
            data,
            Training(*training, learning_rate=rate),
            methods,
        )

    main = multipliers(MULTIPLIERS)
    return Study(
        name="sensitivity_search",
        title=f"Search on {data.train_size} MNIST images, by validation accuracy",
        settings=(
            setting(BAD, 0.1, main + ONE_AT_A_TIME),
            setting(BEST, 0.1, main + ONE_AT_A_TIME),
            *(setting(other, 0.1, multipliers(FEW_MULTIPLIERS)) for other in OTHERS),
            *(
                setting(initializer, rate, multipliers((0.5,)))
                for rate in (0.01, 0.03)
                for initializer in (BAD, BEST)
            ),
        ),
        seeds=tuple(range(2000, 2000 + seeds)),
    )


PRESETS = {
    "paper": like_the_authors(
        study(64, (300, 128), Data("mnist", 100, 1000), seeds=10)
    ),
    "small": study(8, (30, 50), Data("mnist", 100, 300, 100), seeds=2),
}

TABLES = (tables.search,)

if __name__ == "__main__":
    command_line.main(PRESETS, TABLES)
