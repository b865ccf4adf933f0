"""Checks of arguments, and the one sentence in which all of them are refused."""

from __future__ import annotations

import math
import numbers
from typing import Any


def refusal(
    argument: str,
    accepted: str,
    value: Any,
    advice: str = "",
    error: type[Exception] = ValueError,
) -> Exception:
    """The error that refuses a value, to be raised.

    Args:
        argument: Name of the argument.
        accepted: What follows "must", e.g. `"be a number > 0"`.
        value: What the user passed.
        advice: What to do instead, one sentence.
        error: Class of the error; a `TypeError` says of what type the value is.
    """
    plain = argument.strip("`")  # some modules write their arguments as code
    of_type = f" of type {type(value).__name__}" if issubclass(error, TypeError) else ""
    return error(
        f"{argument} must {accepted}. Received: {plain}={value!r}{of_type}. "
        f"{advice}".rstrip()
    )


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
    raise refusal(argument, f"be a finite number {bound}", value, advice)


def positive_numbers(argument: str, value: Any, advice: str) -> tuple[float, ...]:
    """Returns `value` as floats if it is a sequence of finite numbers > 0.

    Args:
        argument: Name of the argument, for the message.
        value: What the user passed.
        advice: What to do instead, one sentence.

    Raises:
        ValueError: If it is empty, or not such a sequence.
    """
    try:
        items = tuple(value)
    except TypeError:
        items = ()
    if items and all(is_number(n) and 0 < n < math.inf for n in items):
        return tuple(float(number) for number in items)
    raise refusal(argument, "be a sequence of finite numbers > 0", value, advice)


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
    raise refusal(argument, f"lie between {low:g} and {high:g}", value, why)


def whole_number(argument: str, value: Any, minimum: int, advice: str = "") -> int:
    """Returns `value` as an int if it is a whole number of at least `minimum`.

    Raises:
        ValueError: If it is not.
    """
    if is_whole(value, minimum):
        return int(value)
    accepted = f"be a whole number of at least {minimum}"
    raise refusal(argument, accepted, value, advice)


def is_whole(value: Any, minimum: float = -math.inf) -> bool:
    """Whether `value` is a whole number of at least `minimum`; True is none."""
    integral = isinstance(value, numbers.Integral) and is_number(value)
    return integral and int(value) >= minimum


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
    raise refusal(argument, f"be one of {', '.join(map(repr, accepted))}", value)


def finite_only(value: Any) -> Any:
    """Plain data with None for numbers that are not finite, which JSON lacks.

    Args:
        value: Dictionaries, lists, numbers and texts.
    """
    if isinstance(value, dict):
        return {key: finite_only(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite_only(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
