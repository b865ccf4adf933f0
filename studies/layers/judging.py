"""What the study takes from accuracies: a strength, an advice, a need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from studies.engine.records import Record

KEY = ("setting", "method", "blocks", "strength", "seed")
TOLERANCE = 0.01
# Accuracies are kept to four digits, and are fractions of a thousand examples or fewer.
_EQUAL = 1e-4


def key(line: Record) -> tuple:
    """What tells a run from all others."""
    return tuple(line[name] for name in KEY)


def advise(validation: Sequence[float], tolerance: float = TOLERANCE) -> int:
    """The fewest blocks from which on every cut is within a tolerance of no cut.

    Args:
        validation: Accuracies after 0, …, K blocks.
        tolerance: By how much an accuracy may fall.

    Examples:
        >>> advise([0.5, 0.98, 0.9, 0.97, 0.975])
        3
    """
    enough = np.asarray(validation) >= validation[-1] - tolerance - _EQUAL
    failing = np.flatnonzero(~enough)
    return int(failing[-1]) + 1 if len(failing) else 0


def needed(by_depth: Mapping[int, float], tolerance: float = TOLERANCE) -> int:
    """The fewest blocks that do, by networks of each depth trained by themselves.

    Args:
        by_depth: Mean accuracy by number of blocks.
        tolerance: By how much it may be below the best.
    """
    best = max(by_depth.values())
    return min(k for k, acc in by_depth.items() if acc >= best - tolerance - _EQUAL)


def choose(lines: Mapping[float, Sequence[Any]], cuts: Sequence[int]) -> float:
    """The strength whose cuts are best, of those that cost the full network nothing.

    Args:
        lines: Of each strength its trials, with accuracies `validation`.
        cuts: The numbers of blocks that it is judged at.

    Returns:
        Of the strengths whose full accuracy is within the tolerance of the best one,
        that of the highest mean accuracy at the cuts; the first of equal ones.
    """
    curves = {
        strength: np.mean([line["validation"] for line in of_one], axis=0)
        for strength, of_one in lines.items()
    }
    best = max(curve[-1] for curve in curves.values())
    allowed = [s for s, c in curves.items() if c[-1] >= best - TOLERANCE - _EQUAL]
    return max(allowed, key=lambda s: float(np.mean([curves[s][k] for k in cuts])))
