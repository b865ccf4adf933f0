"""Training through a wrapper on two devices equals that on one, batch for batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("train_on_devices.py")


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="spreads a batch over devices by JAX"
)
def test_two_devices_train_as_one_does(tmp_path):
    found = []
    for devices in (1, 2):
        file = tmp_path / f"{devices}.npz"
        flags = f"--xla_force_host_platform_device_count={devices}"
        flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
        result = subprocess.run(
            [sys.executable, SCRIPT, file],
            env={**os.environ, "XLA_FLAGS": flags, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        found.append(dict(np.load(file)))
        assert found[-1].pop("devices") == devices
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        # float32 sums in another order; four steps.
        np.testing.assert_allclose(
            found[1][name], found[0][name], rtol=1e-5, atol=1e-5, err_msg=name
        )
