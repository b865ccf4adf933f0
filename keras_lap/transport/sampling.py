"""A sample of bounded size from a stream of unknown length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Reservoir:
    """Keeps at most `capacity` rows, each row of the stream as likely as any other.

    A stream that fits is kept as a whole and in order. Rows that belong together, in
    several arrays, are kept together.

    Source: Vitter, *Random Sampling with a Reservoir*, 1985, algorithm R.

    Args:
        capacity: How many rows to keep.
        seed: Seed of the choice.
    """

    def __init__(self, capacity: int, seed: int = 0):
        self.capacity = capacity
        self._generator = np.random.default_rng(seed)
        self._seen = 0
        self._buffers: list[np.ndarray] = []

    def add(self, rows: Sequence[np.ndarray]) -> None:
        """Offers arrays of shape `(batch, ...)`, the same ones in every call."""
        if not self._buffers:
            self._buffers = [
                np.empty((self.capacity, *array.shape[1:]), array.dtype)
                for array in rows
            ]
        count = len(rows[0])
        slots = np.arange(self._seen, self._seen + count)
        late = slots >= self.capacity
        slots[late] = self._generator.integers(0, slots[late] + 1)
        kept = np.flatnonzero(slots < self.capacity)
        # Of two rows for one slot, one at a time would leave the later one.
        last = {slot: row for row, slot in zip(kept, slots[kept], strict=True)}
        for buffer, array in zip(self._buffers, rows, strict=True):
            buffer[list(last)] = array[list(last.values())]
        self._seen += count

    def rows(self) -> list[np.ndarray]:
        """The kept rows of each array, of shape `(kept, ...)`."""
        return [buffer[: min(self._seen, self.capacity)] for buffer in self._buffers]
