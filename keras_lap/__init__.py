"""Training of Keras networks by the principle of least action.

Among the networks that solve a task, take the one that moves its data least
through its layers: `LeastActionModel` around any residual network, and
`callbacks.MultiplierUpdate` in `fit`.
"""

import importlib
from typing import Any

from keras_lap import callbacks, datasets, energies, experiments, networks, transport
from keras_lap._picture import plot_blocks
from keras_lap._version import __version__
from keras_lap.blocks import BlockReport, ResidualBlock, find_residual_blocks
from keras_lap.displacements import DisplacementRecorder
from keras_lap.model import LeastActionModel
from keras_lap.multiplier import MultiplierAscent

__all__ = [
    "BlockReport",
    "DisplacementRecorder",
    "LeastActionModel",
    "MultiplierAscent",
    "ResidualBlock",
    "__version__",
    "callbacks",
    "datasets",
    "energies",
    "experiments",
    "find_residual_blocks",
    "networks",
    "plot_blocks",
    "transport",
]


def __getattr__(name: str) -> Any:
    """Imports `keras_lap.tuning` when it is used: it needs KerasTuner, we do not."""
    if name == "tuning":
        return importlib.import_module("keras_lap.tuning")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
