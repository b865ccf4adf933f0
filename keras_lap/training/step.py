"""Steps: what the pieces of one training or test step tell each other."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from keras_lap.training.terms import Price
from keras_lap.trajectory import Trajectory


@dataclass
class Step:
    """One step, from its forward pass to its metrics."""

    training: bool
    trajectory: Trajectory | None = None
    prices: Sequence[Price] = ()
    task_loss: Any = None
    samples: Any = None
    task_only: bool = False


class Steps(threading.local):
    """The step that each thread is in the middle of, if any."""

    current: Step | None = None

    @contextlib.contextmanager
    def within(self, training: bool) -> Iterator[None]:
        """Runs a step in this thread."""
        self.current = Step(training)
        try:
            yield
        finally:
            self.current = None
