"""Steps: what the pieces of one training or test step tell each other."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Step:
    """One step, from its forward pass to its metrics."""

    training: bool
    costs: Any = None
    cost: Any = None
    unit_cost: Any = None
    multiplier: Any = None
    task_loss: Any = None
    samples: Any = None
    task_only: bool = False


class Steps:
    """The step that each thread is in the middle of."""

    def __init__(self) -> None:
        self._threads = threading.local()

    @property
    def current(self) -> Step | None:
        """The step of this thread, if any."""
        return getattr(self._threads, "step", None)

    @contextlib.contextmanager
    def within(self, training: bool) -> Iterator[None]:
        """Runs a step in this thread."""
        self._threads.step = Step(training)
        try:
            yield
        finally:
            self._threads.step = None
