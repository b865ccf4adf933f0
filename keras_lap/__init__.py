"""Training of Keras networks by the principle of least action.

Among the networks that solve a task, take the one that moves its data least
through its layers: `LeastActionModel` around any residual network, and
`callbacks.MultiplierUpdate` in `fit`.
"""

import importlib
from typing import Any

from keras_lap import (
    callbacks,
    datasets,
    depth,
    energies,
    networks,
    running_costs,
    symmetry,
    transport,
)
from keras_lap.blocks import (
    BlockReport,
    ResidualBlock,
    find_residual_blocks,
    plot_blocks,
)
from keras_lap.compare import Comparison, compare
from keras_lap.training import LeastActionModel, MultiplierAscent, Share
from keras_lap.trajectory import DisplacementRecorder

__all__ = [
    "BlockReport",
    "Comparison",
    "DisplacementRecorder",
    "LeastActionModel",
    "MultiplierAscent",
    "ResidualBlock",
    "Share",
    "__version__",
    "callbacks",
    "compare",
    "datasets",
    "depth",
    "energies",
    "find_residual_blocks",
    "networks",
    "plot_blocks",
    "running_costs",
    "symmetry",
    "transport",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports `keras_lap.tuning` when it is used: it needs KerasTuner, we do not."""
    if name == "tuning":
        return importlib.import_module("keras_lap.tuning")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
