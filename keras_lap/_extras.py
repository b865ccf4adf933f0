"""Packages that only a part of keras-lap needs, and how to get them."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

# What pip is to be told where that is not what the package is called.
_NAMES = {
    "KerasTuner": "keras-tuner",
    "pydot with graphviz": "pydot",
    "tensorflow_datasets": "tensorflow-datasets",
}


def require(module: str, package: str, extra: str, purpose: str) -> Any:
    """Imports a module of an optional package.

    Args:
        module: What to import, e.g. `"ot"`.
        package: The package that holds it, e.g. `"POT"`.
        extra: The extra of keras-lap that installs it.
        purpose: What needs it, for the message.

    Raises:
        ImportError: If it is not installed; the message names the extra.
    """
    with needs(package, extra, purpose), _alone(module):
        return importlib.import_module(module)


@contextlib.contextmanager
def _alone(module: str) -> Iterator[None]:
    """Keeps POT from importing every library of tensors, which takes seconds.

    Those that are imported already stay known to it, for what else uses it.
    """
    if module.partition(".")[0] != "ot":
        yield
        return
    names = {"tensorflow": "TENSORFLOW", "torch": "PYTORCH", "jax": "JAX"}
    absent = [f"POT_BACKEND_DISABLE_{names[n]}" for n in names if n not in sys.modules]
    before = {name: os.environ.get(name) for name in absent}
    os.environ.update(dict.fromkeys(absent, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def needs(
    package: str,
    extra: str,
    purpose: str,
    beside: str = "",
    errors: type[Exception] | tuple[type[Exception], ...] = ImportError,
) -> Iterator[None]:
    """As `require`, around code that imports the package itself.

    Args:
        package: The package, or several: `"pydot with graphviz"`.
        extra: The extra of keras-lap that installs it.
        purpose: What needs it, for the message.
        beside: What else is to be installed, and how; it follows the command.
        errors: What tells that it is missing.
    """
    try:
        yield
    except errors as error:
        raise ImportError(
            f"{purpose} needs {package}, which is not installed: pip install "
            f"{_NAMES.get(package, package)}, or in a clone of keras-lap pip install "
            f'".[{extra}]"{beside}. ({error})'
        ) from error


def tensorboard_writer(log_dir: Any, purpose: str) -> Any:
    """What writes numbers for TensorBoard, of tensorboardX; None without a folder.

    Args:
        log_dir: The folder, or None.
        purpose: What needs it, for the message.

    Raises:
        ImportError: If it is not installed.
    """
    if log_dir is None:
        return None
    module = require("tensorboardX", "tensorboardX", "tensorboard", purpose)
    return module.SummaryWriter(logdir=str(log_dir))
