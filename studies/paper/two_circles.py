"""Two circles, after every block: the slides' Figures 1 to 4.

Nine residual blocks in the plane: plain; from normal kernels of standard deviation 5;
these with batch normalisation; and with batch normalisation and least action.

    python -m studies.paper.two_circles --preset small
    python -m studies.paper.two_circles --report
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
    report,
)

WIDE = Initializer("normal", 5.0)


def study(filters: int, epochs: int, seeds: int) -> Study:
    """The four figures; the first seed's test points are kept."""

    def setting(label: str, initializer: Initializer, batch_norm: bool) -> Setting:
        methods = (plain(), least_action(1.0)) if batch_norm else (plain(),)
        return Setting(
            label,
            Network("dense_resnet", filters, 9, batch_norm, initializer),
            Data("circles", 1000, validation_size=500),
            Training(epochs, 100, learning_rate=0.05, clip_norm=1.0),
            methods,
        )

    return Study(
        name="two_circles",
        title="Two circles through nine blocks in the plane",
        settings=(
            setting("orthogonal 0.5", Initializer("orthogonal", 0.5), False),
            setting("normal 5", WIDE, False),
            setting("normal 5, batch norm", WIDE, True),
        ),
        seeds=tuple(range(seeds)),
        keep_states=200,
    )


PRESETS = {
    "full": study(filters=64, epochs=200, seeds=20),
    "small": study(filters=16, epochs=30, seeds=10),
}

# The slides do not say how their circles were trained: the rate, the bound on the
# gradient and λ_0 are ours in both.
REFERENCE = report.Reference("preset full", PRESETS["full"])

if __name__ == "__main__":
    command_line.main(PRESETS, make_figures=(figures.states,), reference=REFERENCE)
