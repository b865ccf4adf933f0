"""What devices tell each other in a step that JAX compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/devices.py"

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="XLA puts collectives together"
)


def calls(start):
    flags = "--xla_force_host_platform_device_count=2"
    found = subprocess.run(
        [sys.executable, SCRIPT, "--case", json.dumps({"devices": 2, "start": start})],
        env={**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    (line,) = (each for each in found.stdout.splitlines() if each.startswith("rows: "))
    return json.loads(line.removeprefix("rows: "))[0]["calls"]


def test_the_gradient_does_not_wait_for_the_loss_of_all_devices():
    """Where it did, as λ hung on it, there were two calls, one after the other."""
    assert calls(5.0) == {"all-reduce": 1}
