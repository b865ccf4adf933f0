"""Which initialisation is the best for plain training? Chosen by validation accuracy.

Table 1 compares least action with the best-initialised plain network; this study
chooses it, on seeds that no other study uses.

    python -m studies.paper.initialisations --preset small
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
    plain,
    tables,
)
from studies.engine.protocol import like_the_authors

CANDIDATES = (
    Initializer("kaiming"),
    Initializer("orthogonal", 1.0),
    Initializer("normal", 0.05),
    Initializer("normal", 1.0),
)


def study(filters: int, epochs: int, batch_size: int) -> Study:
    """Plain training on 100 images from every candidate."""
    return Study(
        name="initialisations",
        title="Plain training on 100 MNIST images from several initialisations",
        settings=tuple(
            Setting(
                str(initializer),
                Network(filters=filters, initializer=initializer),
                Data("mnist", 100, validation_size=300, test_size=100),
                Training(epochs, batch_size),
                methods=(plain(),),
            )
            for initializer in CANDIDATES
        ),
        seeds=tuple(range(1000, 1010)),
    )


PRESETS = {
    "paper": like_the_authors(study(filters=64, epochs=300, batch_size=128)),
    "small": study(filters=8, epochs=40, batch_size=50),
}

TABLES = (tables.search,)

if __name__ == "__main__":
    command_line.main(PRESETS, TABLES)
