"""How the data move through a network, in one pass.

In go a network and the `BlockReport` of its blocks, out comes a `Trajectory`: the
network's outputs, the displacements or states of these blocks, with the masks of their
positions, and the outputs of the network cut after each of them, as is wanted. Used by
training, which prices it, and by transport, which measures it.
"""

from keras_lap.trajectory.batching import batches
from keras_lap.trajectory.exits import leaving_no_trace
from keras_lap.trajectory.fewer_blocks import all_exits, output_structure, without
from keras_lap.trajectory.made_again import Rows
from keras_lap.trajectory.masks import fits
from keras_lap.trajectory.plan import WANTED, at_least_float32
from keras_lap.trajectory.recorder import DisplacementRecorder, Recorder, Trajectory
from keras_lap.trajectory.segments import Segments
from keras_lap.trajectory.statistics import (
    batch_statistics,
    count_silent_channels,
    has_moving_statistics,
    raise_variances,
    recalibrate,
    recalibrated,
)

__all__ = [
    "WANTED",
    "DisplacementRecorder",
    "Recorder",
    "Rows",
    "Segments",
    "Trajectory",
    "all_exits",
    "at_least_float32",
    "batch_statistics",
    "batches",
    "count_silent_channels",
    "fits",
    "has_moving_statistics",
    "leaving_no_trace",
    "output_structure",
    "raise_variances",
    "recalibrate",
    "recalibrated",
    "without",
]
