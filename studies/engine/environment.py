"""Where a run was made: versions, backend, git revision; and its threads."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import keras

_PACKAGES = ("keras", "numpy", "tensorflow", "jax", "torch", "tensorflow-datasets")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@functools.cache
def describe() -> dict[str, Any]:
    """Backend, package versions and git revision of this process.

    Returns:
        `backend`, `versions` (package to version, of those that are installed),
        `device` (name of the GPU; left out where the backend uses none) and `revision`
        (commit of this clone, with `+changes` behind it if tracked files
        differ from it, or `None` outside of one).
    """
    backend = keras.backend.backend()
    others = {"tensorflow", "jax", "torch"} - {backend}
    versions = {"python": platform.python_version()}
    for package in ("keras-lap", *_PACKAGES):
        if package not in others:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[package] = importlib.metadata.version(package)
    told = {"backend": backend, "versions": versions, "revision": _revision()}
    return {**told, "device": gpu()} if gpu() else told


@functools.cache
def gpu() -> str:
    """The name of the GPU that this process computes on, or nothing."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return str(device.device_kind) if device.platform == "gpu" else ""
    import tensorflow

    found = tensorflow.config.list_physical_devices("GPU")[:1]
    ask = tensorflow.config.experimental.get_device_details
    return str(ask(found[0]).get("device_name", "GPU")) if found else ""


def pin_threads(threads: int) -> None:
    """Limits this process to some threads; for a process that has not computed yet.

    What already runs with another number of threads keeps it.

    Args:
        threads: Number of threads, at least 1.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    backend = keras.backend.backend()
    if backend == "jax":
        _pin_jax(threads)
    elif backend == "tensorflow":
        import tensorflow

        with contextlib.suppress(RuntimeError):  # it has started already
            tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
            tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    elif backend == "torch":
        import torch

        torch.set_num_threads(threads)


def _pin_jax(threads: int) -> None:
    """Tells XLA, which reads its flags when it computes for the first time."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "intra_op_parallelism_threads" in flags:
        return
    eigen = "true" if threads > 1 else "false"
    os.environ["XLA_FLAGS"] = (
        f"{flags} --xla_cpu_multi_thread_eigen={eigen} "
        f"intra_op_parallelism_threads={threads}"
    ).strip()


def _revision() -> str | None:
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        # A folder that some unrelated repository ignores is not under its control.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
