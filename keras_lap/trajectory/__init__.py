"""How the data move through a network, in one pass.

In go a network and the `BlockReport` of its blocks, out come the network's outputs and
the displacements or states of these blocks. Used by training and by transport.
"""

from keras_lap.trajectory.recorder import (
    DisplacementRecorder,
    Recorder,
    StateRecorder,
    Trajectory,
)

__all__ = ["DisplacementRecorder", "Recorder", "StateRecorder", "Trajectory"]
