"""Residual blocks of mean-field units, trained with and without the energy.

Two blocks ``x + Φ_k(x)`` learn ``x + 2 teacher(x)`` of a teacher whose law the group
keeps: units σ(z x) of centred x are 1/2 in the mean, whatever z is.
All units start among the fixed ones; on whole orbits of data the loss keeps them there,
and so does ``C/λ + L``, since the energy of a block does not change along an orbit.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import keras_lap
from keras_lap.symmetry import MeanFieldEnsemble, NoisySGD, rmd_to_fixed
from studies.symmetry import students

BLOCKS, MULTIPLIER, SNAPSHOTS = 2, 1.0, 10
RATE = 15.0  # more, and rounding grows with the steps
TEACHER = "weakly invariant"


@dataclass(frozen=True)
class Plan:
    """One way of training.

    Attributes:
        units: N of each block.
        energy: Whether C/λ is added, with a λ that is held.
        closed: Whether each batch holds whole orbits.
    """

    units: int
    energy: bool
    closed: bool

    @property
    def name(self) -> str:
        """As in the tables."""
        data = "whole orbits" if self.closed else "samples"
        return f"{data}, {'C/λ + L' if self.energy else 'L'}"


PLANS = [
    Plan(units, energy, closed)
    for units in (5, 50, 100)
    for closed in (False, True)
    for energy in (False, True)
]


def build(plan: Plan) -> tuple[keras.Model, list[MeanFieldEnsemble]]:
    """A compiled model and the units of its blocks."""
    blocks = [
        MeanFieldEnsemble(
            plan.units, 2, group=students.GROUP, regularization=students.DECAY
        )
        for _ in range(BLOCKS)
    ]
    h = inputs = keras.Input((2,))
    for block in blocks:
        h = keras.layers.Add()([h, block(h)])
    model = keras.Model(inputs, h)
    if plan.energy:
        model = keras_lap.LeastActionModel(model, 2.0, initial_multiplier=MULTIPLIER)
    # No noise: what leaves the fixed units is the noise of the batches.
    model.compile(NoisySGD(RATE), loss=students.squares)
    model.optimizer.build(model.trainable_variables)
    return model, blocks


@functools.cache
def _prepared(plan: Plan) -> tuple[Any, ...]:
    model, blocks = build(plan)
    return model, blocks, students.loop(model)


def batches(plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of every step, `(steps, batch, 2)`, and what is to be returned."""
    x, y = students.batches(students.Plan(TEACHER, True, plan.units), seed)
    if plan.closed:
        x, y = (np.concatenate([v, v[..., ::-1]], axis=1) for v in (x, y))
    return x, x + BLOCKS * y


def run(plan: Plan, seed: int) -> dict[str, Any]:
    """Trains once.

    Returns:
        Of each block `fixed`, the squared relative distance to the fixed units; `cost`,
        C at the end; `risk`; and `path`, how long the way of the first block's cloud
        was over the straight one.
    """
    model, blocks, steps = _prepared(plan)
    rng = np.random.default_rng([seed, 1])
    for block in blocks:
        cloud = rng.normal(0, 0.25, (plan.units, 4))
        cloud = keras_lap.symmetry.project(cloud, students.ACTION)
        block.particles.assign(cloud.reshape(block.particles.shape))
    data, state = batches(plan, seed), students.state_of(model)
    parts = [np.split(each, SNAPSHOTS) for each in data]
    clouds = [blocks[0].cloud().astype(float)]
    for part in zip(*parts, strict=True):
        state, _ = steps(state, part)
        for group, values in zip(students.groups(model), state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        clouds.append(blocks[0].cloud().astype(float))
    network = model.network if plan.energy else model
    x = np.random.default_rng([seed, 3]).normal(0, students.SPREAD, (2000, 2))
    y = x + BLOCKS * students.outputs(students.TEACHERS[TEACHER], x)
    found = keras_lap.transport.analyze(network, x, verbose=0)
    error = network.predict(x, batch_size=2000, verbose=0) - y
    return {
        "fixed": [
            rmd_to_fixed(b.cloud().astype(float), students.ACTION) ** 2 for b in blocks
        ],
        "cost": float(found.total_cost),
        "risk": float(np.mean(np.sum(error**2, axis=1))),
        "path": float(np.mean(keras_lap.transport.path_ratio(clouds))),
    }
