"""How the authors train, as far as their code says it.

Known: gradient descent at 0.1 with momentum 0.9, coupled L2 decay 1e-4 of all weights,
the rate divided by ten at epochs 150, 225 and 250 of 300, batches of 128, p = 2, λ
raised before the objective of its step, random crops and flips of CIFAR, uniformly
drawn training subsets, and as score the best epoch on a random half of the test data.
Not known: λ_0, τ, s and the initialisation of each table. The figures of the studies
for these are choices of their own.
"""

from __future__ import annotations

import dataclasses

import keras_lap
from studies.engine.methods import FIXED_WEIGHT, LEAST_ACTION
from studies.engine.study import Setting, Study, Training

EPOCHS = 300
DROPS = (150, 225, 250)
DECAY = 1e-4


def like_the_authors(study: Study, both_orders: bool = False) -> Study:
    """A study in the authors' protocol, at its own epochs, batches, rates and widths.

    All else of its training is replaced. Of a ResNeXt all blocks count, those with a
    projection too, as in the authors' code.

    Args:
        study: Networks, data, epochs, batch sizes, rates and methods. Of fewer epochs
            than 300, the rate drops after the same parts, rounded down.
        both_orders: Whether least action comes a second time with λ raised after the
            step, as on the slides and elsewhere in these studies.
    """
    settings = tuple(_setting(setting, both_orders) for setting in study.settings)
    return dataclasses.replace(study, settings=settings)


def _setting(setting: Setting, both_orders: bool) -> Setting:
    network, data, training = setting.network, setting.data, setting.training
    if network.kind in keras_lap.networks.__all__:
        network = dataclasses.replace(network, like_the_paper=True)
    projected = str(network.kind).startswith("resnext")
    methods = []
    for each in setting.methods:
        ascends = each.kind == LEAST_ACTION
        method = each
        if projected and each.kind in (LEAST_ACTION, FIXED_WEIGHT):
            method = dataclasses.replace(each, include_projections=True)
        if both_orders or not ascends:
            methods.append(method)
        if ascends:
            methods.append(dataclasses.replace(method, before_step=True))
    return dataclasses.replace(
        setting,
        network=network,
        data=dataclasses.replace(data, balanced=False),
        training=Training(
            training.epochs,
            training.batch_size,
            training.learning_rate,
            drop_epochs=tuple(training.epochs * drop // EPOCHS for drop in DROPS),
            coupled_decay=DECAY,
            crop_and_flip=str(data.name).startswith("cifar"),
        ),
        methods=tuple(methods),
    )
