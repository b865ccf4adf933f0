"""How deep a network has to be: its outputs after fewer blocks, and cutting it there.

In go a network and how many blocks are kept, or which, or how sure it has to be; out
come Keras models over the network's own layers. In go a network and data, and out comes
a `DepthReport` (`analyze`) that says how many blocks are needed. Training with
`running_costs.PathLoss` makes every cut work.
"""

from keras_lap.depth.advice import Advice
from keras_lap.depth.analysis import analyze
from keras_lap.depth.cutting import exits, prune
from keras_lap.depth.decay import Decay, fit_decay
from keras_lap.depth.early_exit import EarlyExit, early_exit
from keras_lap.depth.monitor import DepthMonitor
from keras_lap.depth.pictures import plot_decisions, plot_layers
from keras_lap.depth.report import BlockDepth, DepthReport, ExitDepth
from keras_lap.depth.scores import Scores

__all__ = [
    "Advice",
    "BlockDepth",
    "Decay",
    "DepthMonitor",
    "DepthReport",
    "EarlyExit",
    "ExitDepth",
    "Scores",
    "analyze",
    "early_exit",
    "exits",
    "fit_decay",
    "plot_decisions",
    "plot_layers",
    "prune",
]
