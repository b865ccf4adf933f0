"""What the tests of studies share: a tiny study, and results nobody trained."""

from __future__ import annotations

import dataclasses

from studies.engine import (
    Data,
    Initializer,
    Network,
    Setting,
    Study,
    Training,
    least_action,
    plain,
)

TINY = Setting(
    "tiny",
    Network("dense_resnet", 4, 2, initializer=Initializer("normal", 0.5)),
    Data("moons", 20, validation_size=20, test_size=30),
    Training(epochs=3, batch_size=8),
    (plain(), least_action(0.5)),
    (("plain", "56.4 [54.9, 58.0]"),),
)


def tiny_study(seeds=(0, 1), **changes):
    """Two methods on twenty points: 3 steps an epoch, 3 epochs."""
    setting = dataclasses.replace(TINY, **changes)
    return Study("tiny", "A tiny study", (setting,), tuple(seeds))


def fake_result(accuracies, validation=(0.5, 0.9, 0.7), cost=3.0, multiplier=None):
    """What `train` returns, with chosen figures."""
    result = {
        "test_accuracy": list(accuracies),
        "validation_accuracy": list(validation),
        "task_loss": [2.0, 1.0, 0.5],
        "block_costs": [cost / 2, cost / 2],
        "epoch_seconds": 0.25,
        "seconds": 1.0,
    }
    return result if multiplier is None else {**result, "multiplier": multiplier}


def fake_record(run, result):
    """A record as `run_study` writes it, of a run that nobody trained."""
    return {
        "study": "tiny",
        "fingerprint": run.fingerprint(),
        "run": run.configuration(),
        "seed": run.seed,
        "backend": "jax",
        "versions": {"keras": "3.15.1"},
        "revision": "0123456789abcdef",
        "result": result,
    }
