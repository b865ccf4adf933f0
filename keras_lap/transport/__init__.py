"""How a network transports its data: how far, how straight, how far from optimal.

`analyze` runs data through any trained network with residual blocks and returns a
`TransportReport`; the `plot_` functions and `animate` draw it. Needs POT, and for the
pictures matplotlib: ``pip install "keras-lap[transport,plots]"``.
"""

from keras_lap.transport._analyze import analyze
from keras_lap.transport._curves import plot_block_costs, plot_training
from keras_lap.transport._optimal import Matching, match, optimal_transport_score
from keras_lap.transport._plots import (
    animate,
    plot_displacements,
    plot_matching,
    plot_points,
    plot_trajectories,
)
from keras_lap.transport._regularity import Quotients, Regularity, regularity
from keras_lap.transport._report import (
    BlockTransport,
    StageTransport,
    TransportReport,
)
from keras_lap.transport._scores import line_shape_score, path_ratio

__all__ = [
    "BlockTransport",
    "Matching",
    "Quotients",
    "Regularity",
    "StageTransport",
    "TransportReport",
    "analyze",
    "animate",
    "line_shape_score",
    "match",
    "optimal_transport_score",
    "path_ratio",
    "plot_block_costs",
    "plot_displacements",
    "plot_matching",
    "plot_points",
    "plot_training",
    "plot_trajectories",
    "regularity",
]
