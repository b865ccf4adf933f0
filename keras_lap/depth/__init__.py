"""How deep a network has to be: its outputs after fewer blocks, and cutting it there.

In go a network and how many blocks are kept, or which, or how sure it has to be; out
come Keras models over the network's own layers. Training with
`running_costs.PathLoss` makes every cut work.
"""

from keras_lap.depth.cutting import exits, prune
from keras_lap.depth.early_exit import EarlyExit, early_exit

__all__ = ["EarlyExit", "early_exit", "exits", "prune"]
