"""A student of a teacher in the plane: its data, its units, its training in one loop.

On JAX, where all steps of a training are one compiled loop.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import jax
import keras
import numpy as np
from keras import ops

from keras_lap.symmetry import (
    DataAugmentation,
    FeatureAveraging,
    MeanFieldEnsemble,
    NoisySGD,
    conjugation,
    cyclic,
    fixed_basis,
    project,
    projector,
    symmetrize,
)

GROUP = cyclic(2)
ACTION = conjugation(GROUP)
RATE, DECAY, TEMPERATURE, TIME = 50.0, 1e-4, 1e-6, 20
SPREAD = 4.0  # standard deviation of each coordinate of x
SCHEMES = ("free", "augmented", "averaged", "equivariant")
_BASE = 0.5 * np.array(
    [
        *([-1, 0, 0, 0.5], [0.5, 1, 0, 1], [-0.5, 0.3, 1, 0]),
        *([0, -1, -0.5, 1], [0.7, -0.7, 0.5, 0.7]),
    ]
)
_FIXED = 0.5 * np.array([[1, 0], [0.5, 1], [-0.5, 0.3], [0, -1], [0.7, 0.7]])
_BASIS = np.array([[1, 0, 0, 1], [0, 1, 1, 0]]) / np.sqrt(2)
TEACHERS = {
    "arbitrary": _BASE,
    "weakly invariant": symmetrize(_BASE, ACTION),
    "strongly invariant": _FIXED @ _BASIS,
}
assert fixed_basis(ACTION).shape[1] == len(_BASIS)
# Nodes and weights: expectations of smooth functions of a standard normal number.
_AT, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
NODES = _AT, _WEIGHTS / _WEIGHTS.sum()


def even(x: np.ndarray) -> np.ndarray:
    """``(softplus(x) + softplus(−x)) / 2``, which two units make, and no fixed one."""
    return (np.logaddexp(0, x) + np.logaddexp(0, -x)) / 2


@dataclass(frozen=True)
class Plan:
    """What is trained on what.

    Attributes:
        teacher: One of `TEACHERS`.
        strong: Whether all units start fixed by the group, or by a symmetric law.
        units: N.
        batch: B.
        schemes: Some of `SCHEMES`.
    """

    teacher: str
    strong: bool
    units: int
    batch: int = 20
    schemes: tuple[str, ...] = SCHEMES


def outputs(cloud: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The mean of units σ(z x) of a cloud `(n, 4)`, in NumPy."""
    inner = np.einsum("bd,nod->bno", x, cloud.reshape(len(cloud), 2, -1))
    return np.mean(1 / (1 + np.exp(-inner)), axis=1)


def squares(y_true: Any, y_pred: Any) -> Any:
    """The summed squared error of each sample."""
    return ops.sum(ops.square(y_pred - y_true), axis=-1)


def first(plan: Plan, seed: int) -> np.ndarray:
    """The cloud that all schemes of a seed start at."""
    cloud = np.random.default_rng([seed, 1]).normal(0, 0.25, (plan.units, 4))
    return project(cloud, ACTION) if plan.strong else cloud


def batches(plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fresh samples for every step, `(steps, batch, 2)`."""
    shape = (plan.units * TIME, plan.batch, 2)
    x = np.random.default_rng([seed, 2]).normal(0, SPREAD, shape).astype("float32")
    # Cut in pieces: all at once would take batch · steps · teacher's units numbers.
    y = [outputs(TEACHERS[plan.teacher], each) for each in x]
    return x, np.stack(y).astype("float32")


def build(plan: Plan, scheme: str, seed: int) -> tuple[keras.Model, MeanFieldEnsemble]:
    """A compiled student with its units."""
    layer = MeanFieldEnsemble(
        plan.units,
        2,
        group=GROUP,
        equivariant=scheme == "equivariant",
        regularization=DECAY,
    )
    model: Any = keras.Sequential([keras.Input((2,)), layer])
    if scheme in ("augmented", "averaged"):
        wrap = DataAugmentation if scheme == "augmented" else FeatureAveraging
        model = wrap(model, GROUP, "vectors", "vectors")
    noise = projector(ACTION) if plan.strong else None
    optimizer = NoisySGD(RATE, temperature=TEMPERATURE, projector=noise, seed=seed)
    model.compile(optimizer, loss=squares)
    optimizer.build(model.trainable_variables)
    layer.particles.assign(first(plan, seed).reshape(layer.particles.shape))
    return model, layer


def groups(model: keras.Model) -> tuple[list[keras.Variable], ...]:
    """The variables as `train_step` of JAX takes them."""
    return (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )


def state_of(model: keras.Model) -> tuple[list[Any], ...]:
    """Their values."""
    return tuple([variable.value for variable in group] for group in groups(model))


def loop(model: keras.Model) -> Any:
    """All steps of a training as one compiled function of its state and batches."""

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        logs, state = model.train_step(state, batch)
        return tuple(map(list, state)), logs["loss"]

    return jax.jit(lambda state, data: jax.lax.scan(step, state, data))


@functools.cache
def _loop(plan: Plan, scheme: str) -> Any:
    """That of a plan, whose teacher and seed it does not depend on."""
    return loop(build(plan, scheme, 0)[0])


def train(plan: Plan, scheme: str, seed: int, data: Any) -> tuple[np.ndarray, float]:
    """The cloud after all steps, and the seconds that they took."""
    anyone = Plan("", plan.strong, plan.units, plan.batch)
    model, layer = build(plan, scheme, seed)
    steps = _loop(anyone, scheme)
    start = time.perf_counter()
    state, _ = steps(state_of(model), data)
    layer.particles.assign(jax.block_until_ready(state)[0][0])
    return layer.cloud().astype(float), time.perf_counter() - start
