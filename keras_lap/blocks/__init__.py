"""Which parts of a network move its data.

In goes a built model, out comes a `BlockReport`: its residual blocks in forward order,
where each was found, and what was left out and why. Used by all that record, train,
measure, cut or draw blocks; `Call`, `Graph`, `Tensor` and `View` are for recorders.
"""

from keras_lap.blocks.again import NotAgain, Script
from keras_lap.blocks.find import find_residual_blocks
from keras_lap.blocks.graph import (
    ACTIVATION,
    COPY,
    DIFFERENCE,
    LAYER,
    MODEL,
    NORM,
    OWN,
    SUM,
    Call,
    Graph,
    Tensor,
    every_call,
    used,
)
from keras_lap.blocks.picture import plot_blocks
from keras_lap.blocks.reading import mask_rank, take_handed_on
from keras_lap.blocks.report import (
    BlockReport,
    FoundBlock,
    ResidualBlock,
    Skipped,
    require_blocks,
)
from keras_lap.blocks.selection import Selection
from keras_lap.blocks.sizes import measure
from keras_lap.blocks.tracing import layers_below
from keras_lap.blocks.views import View, view, why_hidden

__all__ = [
    "ACTIVATION",
    "COPY",
    "DIFFERENCE",
    "LAYER",
    "MODEL",
    "NORM",
    "OWN",
    "SUM",
    "BlockReport",
    "Call",
    "FoundBlock",
    "Graph",
    "NotAgain",
    "ResidualBlock",
    "Script",
    "Selection",
    "Skipped",
    "Tensor",
    "View",
    "every_call",
    "find_residual_blocks",
    "layers_below",
    "mask_rank",
    "measure",
    "plot_blocks",
    "require_blocks",
    "take_handed_on",
    "used",
    "view",
    "why_hidden",
]
