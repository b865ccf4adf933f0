"""The three backends train alike."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from support import twenty_steps

BACKENDS = ("tensorflow", "jax", "torch")


@pytest.mark.skipif(
    keras.backend.backend() != BACKENDS[0],
    reason="starts all three backends itself, once is enough",
)
def test_twenty_steps_on_three_backends(tmp_path):
    results = {}
    for backend in BACKENDS:
        path = tmp_path / f"{backend}.npz"
        subprocess.run(
            [sys.executable, twenty_steps.__file__, path],
            env={**os.environ, "KERAS_BACKEND": backend},
            check=True,
        )
        results[backend] = np.load(path)
    reference = results.pop(BACKENDS[0])
    assert list(reference["names"]) == [
        "loss",
        "multiplier",
        "task_loss",
        "transport_cost",
    ]
    assert reference["logs"][-1, 1] > 2.5  # λ rose from 2
    for backend, result in results.items():
        for name in [*reference.files[2:], "logs"]:
            np.testing.assert_allclose(
                result[name],
                reference[name],
                rtol=1e-4,
                atol=1e-4,
                err_msg=f"{name} on {backend}",
            )
