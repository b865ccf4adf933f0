"""Which parts of a network move its data.

In goes a built model, out comes a `BlockReport`: its residual blocks in forward order,
and what was left out and why. Used by all that record, train, measure or draw blocks.
"""

from keras_lap.blocks.picture import plot_blocks
from keras_lap.blocks.report import BlockReport, ResidualBlock, Skipped
from keras_lap.blocks.search import find_residual_blocks
from keras_lap.blocks.selection import Selection

__all__ = [
    "BlockReport",
    "ResidualBlock",
    "Selection",
    "Skipped",
    "find_residual_blocks",
    "plot_blocks",
]
