"""Training by least action: the model, its multiplier and the terms it minimises.

In goes a network, out comes a `keras.Model` whose training step adds C/λ to the task
loss. Used by callbacks, by the search of hyperparameters, and by whoever trains.
"""

from keras_lap.training.model import LeastActionModel
from keras_lap.training.multiplier import MultiplierAscent

__all__ = ["LeastActionModel", "MultiplierAscent"]
