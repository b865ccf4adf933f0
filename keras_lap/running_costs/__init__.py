"""Running costs: what the way of the data costs, besides the energy of its steps.

An energy sees one displacement at a time; a running cost sees the whole `Path`: all
states, all displacements, the targets, the network with its weights, and the time that
each block stands for. `LeastActionModel(..., running_costs=[...])` adds
``weight · cost`` to the objective; λ has no part in it.
"""

from keras_lap.running_costs.control_cost import ControlCost
from keras_lap.running_costs.controls import controls
from keras_lap.running_costs.path import Path, time_steps
from keras_lap.running_costs.path_loss import PathLoss
from keras_lap.running_costs.running_cost import RunningCost
from keras_lap.running_costs.tracking_cost import TrackingCost

__all__ = [
    "ControlCost",
    "Path",
    "PathLoss",
    "RunningCost",
    "TrackingCost",
    "controls",
    "time_steps",
]
