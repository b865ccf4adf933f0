"""How deep a network has to be: its outputs after fewer blocks, and cutting it there.

In go a network and how many blocks are kept, or which; out come plain Keras models over
the network's own layers. A network can be cut where its blocks lie in the graph of a
model, nested ones included; training with `running_costs.PathLoss` makes every cut
work.
"""

from keras_lap.depth.cutting import exits, prune
from keras_lap.depth.early_exit import EarlyExit, early_exit

__all__ = ["EarlyExit", "early_exit", "exits", "prune"]
