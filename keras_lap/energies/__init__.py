"""Energies: what one displacement costs.

A block moves its state from ``x_k`` to ``x_{k+1}``. An energy turns that
displacement into one number; the transport cost of a network is the sum of the
energies of its blocks (`keras_lap.training.terms`). Where a mask leaves positions out,
or samples are weighted, they cost what they weigh.
"""

from keras_lap.energies.displacement import DisplacementEnergy, get
from keras_lap.energies.energy import Configured, Energy, deserialize, scalar
from keras_lap.energies.weights import position_weights

__all__ = [
    "Configured",
    "DisplacementEnergy",
    "Energy",
    "deserialize",
    "get",
    "position_weights",
    "scalar",
]
