"""How a network transports its data: how far, how straight, how far from optimal.

`analyze` runs data through any trained network with residual blocks and returns a
`TransportReport`; the `plot_` functions and `animate` draw it. Needs POT, and for the
pictures matplotlib: ``pip install "keras-lap[transport,plots]"``.
"""

from keras_lap.transport.curves import plot_block_costs, plot_training
from keras_lap.transport.distances import Quotients, Regularity, regularity
from keras_lap.transport.measure import analyze
from keras_lap.transport.optimal import Matching, match, optimal_transport_score
from keras_lap.transport.plots import (
    animate,
    plot_displacements,
    plot_matching,
    plot_points,
    plot_trajectories,
)
from keras_lap.transport.report import (
    BlockTransport,
    StageTransport,
    TransportReport,
)
from keras_lap.transport.scores import line_shape_score, path_ratio

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
