"""What is searched: fixed values, choices and ranges of hyperparameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.errors import FatalValueError

from keras_lap._checks import finite_number, is_number, refusal, whole_number
from keras_lap.training import AUTO, Share

Check = Callable[[str, Any], float]

# As many as KerasTuner's grid search takes from a continuous range.
_GRID = 10


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter and the values it may take.

    Attributes:
        name: Its name in the search.
        kind: The method of `keras_tuner.HyperParameters` that adds it.
        values: What this method takes: one value, all choices, or the ends of a range.
        options: By which keywords.
    """

    name: str
    kind: str
    values: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def declare(self, hp: Any) -> Any:
        """Adds the hyperparameter to a search space and returns its value there.

        Args:
            hp: `keras_tuner.HyperParameters`.
        """
        return getattr(hp, self.kind)(self.name, *self.values, **self.options)


def reserving(hp: Any, names: Collection[str]) -> Any:
    """The hyperparameters of a trial, for a `build` that declares others.

    In all trials but the first the search's own are among them already. KerasTuner
    would take one of the same name, whatever its range, for the one that it knows.

    Args:
        hp: `keras_tuner.HyperParameters`.
        names: Of the search's own.

    Returns:
        `keras_tuner.HyperParameters` that are `hp`, and refuse these names.
    """
    taken = type("HyperParameters", (_Reserving,), {"names": names})
    same: Any = object.__new__(taken)
    same.__dict__ = vars(hp)
    return same


class _Reserving(keras_tuner.HyperParameters):
    """See `reserving`. Within a scope of names, no name is the search's."""

    names: Collection[str] = ()
    scopes = 0

    @contextlib.contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        type(self).scopes += 1
        try:
            with super().name_scope(name):
                yield
        finally:
            type(self).scopes -= 1

    def Choice(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return super().Choice(self._own(name), *args, **kwargs)

    def Int(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return super().Int(self._own(name), *args, **kwargs)

    def Float(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return super().Float(self._own(name), *args, **kwargs)

    def Boolean(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return super().Boolean(self._own(name), *args, **kwargs)

    def Fixed(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return super().Fixed(self._own(name), *args, **kwargs)

    def _own(self, name: str) -> str:
        if name in self.names and not self.scopes:
            raise FatalValueError(
                "build(hp) has hyperparameters of its own under names that the search "
                f"needs. Received: {name}. Give them other names."
            )
        return name


def tau(wanted: Any) -> Dimension:
    """The dimension of τ: at least 0, logarithmic, 0 beside a range if asked for."""
    advice = "Use 0 to keep the multiplier constant."
    if isinstance(wanted, tuple) and len(wanted) == 3 and wanted[0] == 0:
        positive = _range("tau", wanted[1:], _above(0, advice), log=True)
        # Ordered and evenly spaced by ratio, so to a tuner the choices are as a
        # logarithmic scale; four digits are enough and can be read.
        low, high = positive.values
        steps = np.geomspace(low, high, _GRID)
        rounded = {float(f"{step:.4g}") for step in steps[1:-1]}
        return _one_of("tau", {0.0, low, high, *rounded})
    if isinstance(wanted, tuple) and len(wanted) == 2:
        advice = (
            "A range is searched on a logarithmic scale, which has no 0: name 0 as a "
            "choice of its own by (0, low, high)."
        )
        return _range("tau", wanted, _above(0, advice), log=True)
    check = partial(finite_number, bound=">= 0", advice=advice)
    return _dimension("tau", wanted, check)


def p(wanted: Any) -> Dimension:
    """The dimension of the energy's exponent: above 1."""
    advice = "At 1 and below the energy has no useful gradient; 2 is kinetic energy."
    return _dimension("p", wanted, _above(1, advice))


def initial_multiplier(wanted: Any) -> Dimension:
    """The dimension of λ_0: above 0, logarithmic; or `"auto"`, fixed."""
    if isinstance(wanted, str) and wanted == AUTO:
        return Dimension("initial_multiplier", "Fixed", (AUTO,))
    if isinstance(wanted, Share):
        accepted = 'be a number, a range (low, high), a list of choices, or "auto"'
        advice = f"Pass share={wanted.part:g} instead; it can be a range too."
        raise refusal("initial_multiplier", accepted, wanted, advice, TypeError)
    advice = "Small values weigh the energy more: 1 is a start, 5 a gentler one."
    return _dimension("initial_multiplier", wanted, _above(0, advice), log=True)


def share(wanted: Any) -> Dimension:
    """The dimension of the part s of a `Share`: between 0 and 1, logarithmic."""

    def check(name: str, value: Any) -> float:
        if not is_number(value) or not 0 < value < 1:
            raise refusal(name, "be a number above 0 and below 1", value, advice)
        return float(value)

    advice = "It is the part that the energy has of the first objective."
    return _dimension("share", wanted, check, log=True)


def every(wanted: Any) -> Dimension:
    """The dimension of s: whole numbers of at least 1, logarithmic."""
    check = partial(whole_number, minimum=1, advice="It counts optimizer steps.")
    return _dimension("every", wanted, check, log=True)


def weight(name: str, wanted: Any) -> Dimension:
    """The dimension of a running cost's weight: at least 0; ranges are logarithmic.

    Args:
        name: Of the cost.
        wanted: What the user passed.
    """
    advice = "Use 0 to log a cost without training by it; a range starts above 0."
    bound = "> 0" if isinstance(wanted, tuple) else ">= 0"
    check = partial(finite_number, bound=bound, advice=advice)
    return _dimension(name, wanted, check, log=True)


def horizon(wanted: Any) -> Dimension:
    """The dimension of the time T of all blocks: above 0, logarithmic."""
    return _dimension("horizon", wanted, _above(0, "It is a time."), log=True)


def _dimension(name: str, wanted: Any, check: Check, log: bool = False) -> Dimension:
    """Reads a number, a range ``(low, high)`` or a list of choices.

    Args:
        name: Name of the hyperparameter.
        wanted: What the user passed.
        check: Raises for a value that cannot be used, or returns it.
        log: Whether a range is searched on a logarithmic scale.

    Raises:
        ValueError: If a value cannot be used, a range is empty or there is no choice.
        TypeError: If `wanted` is none of the three.
    """
    if is_number(wanted):
        return Dimension(name, "Fixed", (check(name, wanted),))
    if isinstance(wanted, tuple):
        return _range(name, wanted, check, log)
    if isinstance(wanted, list):
        values = {check(name, value) for value in wanted}
        if not wanted or len(values) < len(wanted):
            raise ValueError(
                f"The choices of {name} must be one or more different numbers. "
                f"Received: {name}={wanted!r}."
            )
        return _one_of(name, values)
    accepted = "be a number, a range (low, high) or a list of choices"
    raise refusal(name, accepted, wanted, error=TypeError)


def _range(name: str, wanted: Any, check: Check, log: bool) -> Dimension:
    accepted = "(low, high)" if name != "tau" else "(low, high) or (0, low, high)"
    if len(wanted) != 2:
        raise ValueError(
            f"A tuple is a range, {accepted}. Received: {name}={wanted!r}. Pass "
            f"choices as a list: {name}={list(wanted)!r}."
        )
    low, high = (check(name, value) for value in wanted)
    if low >= high:
        raise ValueError(
            f"The range of {name} is empty. Received: {name}={wanted!r}. Accepted: "
            f"{accepted} with low < high. Pass a single number to fix it."
        )
    kind = "Int" if isinstance(low, int) else "Float"
    options = {"sampling": "log" if log else "linear"}
    return Dimension(name, kind, (low, high), options)


def _one_of(name: str, values: set[float]) -> Dimension:
    if len(values) == 1:
        return Dimension(name, "Fixed", tuple(values))
    return Dimension(name, "Choice", (sorted(values),), {"ordered": True})


def _above(limit: int, advice: str) -> Check:
    return partial(finite_number, bound=f"> {limit}", advice=advice)
