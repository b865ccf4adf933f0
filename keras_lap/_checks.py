"""Checks of arguments that several modules share."""

from __future__ import annotations

import math
import numbers
from typing import Any


def finite_number(argument: str, value: Any, bound: str, advice: str) -> float:
    """Returns `value` as a float if it is a finite number within `bound`.

    Args:
        argument: Name of the argument, for the message.
        value: What the user passed.
        bound: `"> 0"`, `"> 1"` or `">= 0"`.
        advice: What to do instead, one sentence.

    Raises:
        ValueError: If `value` is not such a number.
    """
    relation, limit = bound.split()
    if is_number(value) and math.isfinite(value):
        number = float(value)
        within = number > float(limit) if relation == ">" else number >= float(limit)
        if within:
            return number
    raise ValueError(
        f"{argument} must be a finite number {bound}. Received: "
        f"{argument}={value!r}. {advice}"
    )


def within(argument: str, value: float, low: float, high: float, why: str) -> float:
    """Returns `value` if it lies from `low` to `high`.

    Args:
        argument: Name of the argument, for the message.
        value: A number.
        low: The least value.
        high: The greatest value.
        why: What these bounds are, one sentence.

    Raises:
        ValueError: If it does not.
    """
    if low <= value <= high:
        return value
    raise ValueError(
        f"{argument} must lie between {low:g} and {high:g}. Received: "
        f"{argument}={value!r}. {why}"
    )


def whole_number(argument: str, value: Any, minimum: int, advice: str) -> int:
    """Returns `value` as an int if it is a whole number of at least `minimum`.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, numbers.Integral) and is_number(value):
        whole = int(value)
        if whole >= minimum:
            return whole
    raise ValueError(
        f"{argument} must be a whole number of at least {minimum}. Received: "
        f"{argument}={value!r}. {advice}"
    )


def is_number(value: Any) -> bool:
    """Whether `value` is a real number; True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def choice(argument: str, value: Any, accepted: tuple[str, ...]) -> str:
    """Returns `value` if it is one of `accepted`.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, str) and value in accepted:
        return value
    raise ValueError(
        f"{argument} must be one of {', '.join(map(repr, accepted))}. Received: "
        f"{argument}={value!r}."
    )
