"""Packages that only some of the transport tools need, and how to get them."""

from __future__ import annotations

import importlib
from typing import Any


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
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {package}, which is not installed: "
            f'pip install "keras-lap[{extra}]". ({error})'
        ) from error
