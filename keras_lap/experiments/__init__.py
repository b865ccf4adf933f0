"""Comparisons of plain training and least action that anyone can repeat."""

from keras_lap.experiments import command_line, figures, tables
from keras_lap.experiments.running import run_study
from keras_lap.experiments.study import (
    Data,
    Initializer,
    Method,
    Network,
    Run,
    Setting,
    Study,
    Training,
    fixed_weight,
    least_action,
    plain,
)
from keras_lap.experiments.training import train

__all__ = [
    "Data",
    "Initializer",
    "Method",
    "Network",
    "Run",
    "Setting",
    "Study",
    "Training",
    "command_line",
    "figures",
    "fixed_weight",
    "least_action",
    "plain",
    "run_study",
    "tables",
    "train",
]
