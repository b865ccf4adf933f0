"""What the transport of each single sample costs, which needs no optimal transport."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lap._checks import finite_number, whole_number
from keras_lap.blocks import Selection
from keras_lap.trajectory import batches
from keras_lap.transport.states import StateReader


def each_sample(
    model: keras.Model,
    x: Any,
    *,
    p: float | None = None,
    batch_size: int = 32,
    blocks: Selection = "auto",
    include_projections: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the transport cost and the relative displacement of each sample.

    The network is run as in inference, under moving statistics.

    Args:
        model: As for `analyze`.
        x: Likewise.
        p: Exponent of the cost, above 1. Defaults to that of the model's energy, or 2.
        batch_size: Samples of a batch, for arrays. Defaults to 32.
        blocks: Which blocks count; see `keras_lap.find_residual_blocks`.
        include_projections: Likewise.

    Returns:
        ``Σ_k mean |v_k|^p``, a mean over features, `(n,)`, whose mean is the total cost
        of `analyze`; and the mean over the blocks of ``‖v_k‖/‖x_k‖``, `(n,)`, without
        those blocks where x_k is 0, NaN where it always is. Positions that a mask
        leaves out cost nothing; the sum over the others is divided by how many numbers
        a sample has on average.

    Raises:
        ValueError: If `p` or `batch_size` is outside the values above, or there is no
            block.
    """
    reader = StateReader(model, blocks, include_projections)
    p = reader.exponent if p is None else finite_number("p", p, "> 1", "Use 2.")
    batch_size = whole_number("batch_size", batch_size, 1, "Use e.g. 32.")
    costs, elements, relative = [], [], []
    for part, _ in batches(x, None, batch_size)[0]:
        moves = reader.moves(part)
        states = [
            tuple(np.reshape(each, (len(each), -1)).astype(float) for each in pair)
            for pair in ((move.before, move.after) for move in moves)
        ]
        moved = [after - before for before, after in states]
        costs.append(np.array([move.cost(p) for move in moves]))
        elements.append([move.elements for move in moves])
        sizes = np.array([np.linalg.norm(before, axis=1) for before, _ in states])
        norms = np.array([np.linalg.norm(v, axis=1) for v in moved])
        counts = np.sum(sizes > 0, axis=0)
        ratios = np.divide(norms, sizes, out=np.zeros_like(norms), where=sizes > 0)
        total = np.sum(ratios, axis=0)
        none = np.full_like(total, np.nan)
        relative.append(np.divide(total, counts, out=none, where=counts > 0))
    sums = np.concatenate(costs, axis=1)
    per_sample = np.sum(elements, axis=0) / sums.shape[1]
    return np.sum(sums / np.maximum(per_sample, 1)[:, None], axis=0), np.concatenate(
        relative
    )
