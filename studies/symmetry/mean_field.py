"""Do wide networks keep a symmetry by themselves, and what keeps narrow ones from it?

    KERAS_BACKEND=jax python -m studies.symmetry.mean_field

from the root of the clone; it goes on where it was stopped. ``--report`` rebuilds
tables, criteria and picture from the committed lines, ``--settings`` names the parts
that are run.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lap.symmetry import (
    FiniteGroup,
    MeanFieldEnsemble,
    NoisySGD,
    conjugation,
    cyclic,
    discover_invariant_subspace,
    fixed_basis,
    rmd,
    rmd_to_fixed,
    sign,
    symmetric,
    symmetrize,
)
from studies.engine import published, records
from studies.engine.environment import describe
from studies.symmetry import mean_field_report as report
from studies.symmetry import residual, students

SEEDS = range(10)
NAME = "symmetry-mean-field.jsonl"
PARTS = ("drift", "noise", "schemes", "counterexample", "discovery", "residual")
FEW, MORE, MOST = (5, 10, 50, 100), (500,), (1000,)
Labels = dict[str, Any]
Runs = Iterator[tuple[Labels, Callable[[], dict[str, Any]]]]


def students_of(part: str, plan: students.Plan, seeds: Any = SEEDS) -> Runs:
    """The runs of one plan, a seed each."""
    for seed in seeds:
        labels = {
            "part": part,
            "teacher": plan.teacher,
            "units": plan.units,
            "batch": plan.batch,
            "seed": seed,
        }
        yield labels, functools.partial(student, plan, seed)


def student(plan: students.Plan, seed: int) -> dict[str, Any]:
    """Trains all schemes of a plan from one start on the same data and noise.

    Returns:
        By scheme: `fixed` and `own`, the squared relative distances to the fixed units
        and to the symmetrised law; `fresh`, the latter of as many units that obey the
        law; `risk`, of the bare network on fresh samples. By pair of schemes their
        squared relative distance.
    """
    data = students.batches(plan, seed)
    x = np.random.default_rng([seed, 3]).normal(0, students.SPREAD, (2000, 2))
    y = students.outputs(students.TEACHERS[plan.teacher], x)
    clouds, found = {}, {}
    for scheme in plan.schemes:
        cloud, seconds = students.train(plan, scheme, seed, data)
        clouds[scheme] = cloud
        moves = np.random.default_rng([seed, 4]).integers(0, 2, len(cloud))
        lawful = students.ACTION.apply(moves, cloud)
        error = students.outputs(cloud, x) - y
        found[scheme] = {
            "fixed": rmd_to_fixed(cloud, students.ACTION) ** 2,
            "own": rmd(cloud, symmetrize(cloud, students.ACTION)) ** 2,
            "fresh": rmd(lawful, symmetrize(lawful, students.ACTION)) ** 2,
            "risk": float(np.mean(np.sum(error**2, axis=1))),
            "loop": seconds,
        }
    pairs = {
        f"{a}, {b}": rmd(clouds[a], clouds[b]) ** 2
        for a, b in itertools.combinations(plan.schemes, 2)
    }
    keep = seed == 0 and plan.teacher == "weakly invariant" and "free" in clouds
    shown = clouds["free"].tolist() if keep else None
    return {"schemes": found, "pairs": pairs, "cloud": shown}


def counterexample(seed: int) -> dict[str, Any]:
    """An even function that no fixed unit can see: free and equivariant training.

    Units ``softplus(w x + b)``, the group x → −x; the fixed ones have w = 0.
    """
    rng = np.random.default_rng(seed)
    steps, batch = 4000, 100
    x = rng.normal(size=(steps, batch, 1)).astype("float32")
    data = np.concatenate([x, np.ones_like(x)], axis=-1), students.even(x)
    nodes, weights = students.NODES
    at = np.stack([nodes, np.ones_like(nodes)], axis=1).astype("float32")
    turn = [np.eye(2), np.diag([-1.0, 1.0])]
    found = {}
    for scheme, equivariant in (("free", False), ("equivariant", True)):
        layer = MeanFieldEnsemble(
            50,
            1,
            "softplus",
            group=sign(1),
            inputs=turn,
            outputs="trivial",
            equivariant=equivariant,
            seed=seed,
        )
        model = keras.Sequential([keras.Input((2,)), layer])
        model.compile(NoisySGD(10.0, seed=seed), loss=students.squares)
        model.optimizer.build(model.trainable_variables)
        state, _ = students.loop(model)(students.state_of(model), data)
        layer.particles.assign(state[0][0])
        returned = model.predict(at, verbose=0)[:, 0]
        risk = float(weights @ (returned - students.even(nodes)) ** 2)
        found[scheme] = {"risk": risk, "spread": float(np.ptp(returned))}
    return {"schemes": found}


def discovery(problem: str, seed: int) -> dict[str, Any]:
    """Finds the fixed units of a teacher from its data alone."""
    group, teacher = _problem(problem)
    action = conjugation(group)
    rng = np.random.default_rng([seed, 5])
    x = rng.normal(0, students.SPREAD, (200_000, group.dimension))
    size = group.dimension
    y = np.concatenate(
        [_mean(teacher.reshape(-1, size, size), each) for each in np.split(x, 100)]
    )
    layer = MeanFieldEnsemble(50, size, seed=seed)
    layer.build((None, size))
    found = discover_invariant_subspace(
        layer, x.astype("float32"), y.astype("float32"), seed=seed
    )
    true = np.eye(size**2) if problem == "none" else fixed_basis(action)
    cosines = np.linalg.svd(true.T @ found.basis, compute_uv=False)
    sine = np.sqrt(max(0.0, 1 - min(cosines, default=0.0) ** 2))
    return {
        "found": found.dimension,
        "true": true.shape[1],
        "sine": float(sine),
        "steps": found.steps,
    }


def _mean(matrices: np.ndarray, x: np.ndarray) -> np.ndarray:
    inner = np.einsum("bd,nod->bno", x, matrices)
    return np.mean(1 / (1 + np.exp(-inner)), axis=1)


def _problem(name: str) -> tuple[FiniteGroup, np.ndarray]:
    """A group and a teacher that obeys it, or, of none, obeys nothing."""
    if name == "none":
        return cyclic(2), students.TEACHERS["arbitrary"]
    if name == "C2":
        return cyclic(2), students.TEACHERS["weakly invariant"]
    group = {"S3": symmetric(3), "Z3": cyclic(3)}[name]
    base = np.random.default_rng(7).normal(0, 0.5, (5, 9))
    return group, symmetrize(base, conjugation(group))


def parts() -> Runs:
    """All runs, those first that tell most for their time."""
    plan = students.Plan
    for units in FEW:
        for teacher in students.TEACHERS:
            yield from students_of("drift", plan(teacher, True, units))
    for batch in (20, 80, 320):
        one = plan("weakly invariant", True, 50, batch, ("free",))
        yield from students_of("noise", one)
    for units in FEW:
        yield from students_of("schemes", plan("weakly invariant", False, units))
    for seed in SEEDS:
        labels = {"part": "counterexample", "seed": seed}
        yield labels, functools.partial(counterexample, seed)
    for seed, name in itertools.product(range(5), ("C2", "none", "S3", "Z3")):
        labels = {"part": "discovery", "teacher": name, "seed": seed}
        yield labels, functools.partial(discovery, name, seed)
    for seed, way in itertools.product(SEEDS, residual.PLANS):
        labels = {"part": "residual", "plan": way.name, "units": way.units}
        yield {**labels, "seed": seed}, functools.partial(residual.run, way, seed)
    for units in MORE:
        yield from students_of("schemes", plan("weakly invariant", False, units))
        for teacher in ("weakly invariant", "arbitrary", "strongly invariant"):
            yield from students_of("drift", plan(teacher, True, units))
    for units in MOST:
        one = plan("weakly invariant", True, units, 20, ("free",))
        yield from students_of("drift", one)
        one = plan("weakly invariant", False, units, 20, ("free",))
        yield from students_of("schemes", one, range(1))


def run_all(path: Path, names: Sequence[str]) -> None:
    """Adds to a result file what it lacks of the parts named."""
    records.repair(path)
    done = [report.labels(each) for each in records.read(path)]
    for labels, run in parts():
        if labels["part"] in names and report.labels(labels) not in done:
            start = time.perf_counter()
            found = run()
            seconds = time.perf_counter() - start
            records.append(path, {**labels, **found, "seconds": seconds, **describe()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study, or makes its report."""
    published.main(__doc__ or "", NAME, run_all, report.write, PARTS, arguments)


if __name__ == "__main__":
    main()
