"""Searches for τ, p, λ_0, s, weights of running costs and T with KerasTuner.

In one process or many. In goes any `build(hp) -> keras.Model`, out comes
`LeastActionHyperModel`, for any of KerasTuner's tuners. `write_report` writes what they
found as a table and a picture; `launch` runs a search in several processes on this
machine, and `settle` tidies a search that was killed. Used by whoever searches; nothing
here uses it.
"""

from keras_lap._extras import needs

with needs("KerasTuner", "tuner", "keras_lap.tuning"):
    import keras_tuner as _keras_tuner  # noqa: F401

from keras_lap.tuning.hypermodel import LeastActionHyperModel, UnworkableTrialError
from keras_lap.tuning.processes import launch
from keras_lap.tuning.report import TrialTable, trial_table, write_report
from keras_lap.tuning.state import settle

__all__ = [
    "LeastActionHyperModel",
    "TrialTable",
    "UnworkableTrialError",
    "launch",
    "settle",
    "trial_table",
    "write_report",
]
