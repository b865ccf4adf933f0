"""How a network transports its data: how far, how straight, how far from optimal.

In go a network with residual blocks and data, out come a `TransportReport` (`analyze`)
and pictures of it (the `plot_` functions and `animate`); `callbacks.TransportMonitor`
uses it while a network trains. What compares with optimal transport, `analyze` among
it, needs POT, and the pictures need matplotlib: ``pip install POT matplotlib``.
Displacements, straightness and quotients need neither.
"""

from keras_lap.transport.curves import plot_block_costs, plot_training
from keras_lap.transport.distances import Quotients, Regularity, regularity
from keras_lap.transport.measure import Measurement, analyze
from keras_lap.transport.optimal import Matching, match, optimal_transport_score
from keras_lap.transport.plots import (
    animate,
    plot_displacements,
    plot_matching,
    plot_points,
    plot_trajectories,
)
from keras_lap.transport.report import BlockTransport, StageTransport, TransportReport
from keras_lap.transport.scores import line_shape_score, path_ratio
from keras_lap.transport.single_samples import each_sample
from keras_lap.transport.sums import NotFinite

__all__ = [
    "BlockTransport",
    "Matching",
    "Measurement",
    "NotFinite",
    "Quotients",
    "Regularity",
    "StageTransport",
    "TransportReport",
    "analyze",
    "animate",
    "each_sample",
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
