"""Training by least action: the model, its multiplier and the terms it minimises.

In goes a network, out comes a `keras.Model` whose training step adds C/λ and running
costs to the task loss. Used by callbacks, the search of hyperparameters and users.
"""

from keras_lap.training.ascent import Share, check_schedule
from keras_lap.training.costs import (
    block_costs,
    energy_term,
    total_cost,
    transport_cost,
    unit_cost,
)
from keras_lap.training.measures import Measures
from keras_lap.training.model import LeastActionModel
from keras_lap.training.multiplier import AUTO, MultiplierAscent, check_start
from keras_lap.training.own_methods import FedLikeNetwork
from keras_lap.training.replicas import read
from keras_lap.training.terms import check_has_multiplier

__all__ = [
    "AUTO",
    "FedLikeNetwork",
    "LeastActionModel",
    "Measures",
    "MultiplierAscent",
    "Share",
    "block_costs",
    "check_has_multiplier",
    "check_schedule",
    "check_start",
    "energy_term",
    "read",
    "total_cost",
    "transport_cost",
    "unit_cost",
]
