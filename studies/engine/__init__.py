"""Comparisons of plain training and least action that anyone can repeat.

In goes a `Study`: networks, data, training, methods and seeds, as data. Out come a
result file with one line for every training, and tables and figures made from it.
`studies.paper` uses it, and whoever compares methods in this clone.
"""

from studies.engine import command_line, figures, report, rivals, tables
from studies.engine.methods import Method, fixed_weight, least_action, plain, rival
from studies.engine.networks import Initializer, Network
from studies.engine.running import run_study
from studies.engine.study import Data, Run, Setting, Study, Training
from studies.engine.training import train

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
    "report",
    "rival",
    "rivals",
    "run_study",
    "tables",
    "train",
]
