"""Says as plain data what a run is made of, so that a result file can tell it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from keras_lap.datasets import Dataset


class Described:
    """Base of dataclasses that are equal exactly if their configurations are.

    The configuration is made once, when the thing is defined: what no file could name
    is refused then, and processes that receive the thing read what was written.
    """

    _text: str
    # Attributes added later, which say nothing at their defaults either.
    _LATER: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        said = {name: plain_data(name, value) for name, value in self._said().items()}
        text = json.dumps(_without_none(said))
        object.__setattr__(self, "_text", text)  # the dataclasses are frozen

    def _said(self) -> dict[str, Any]:
        """The attributes that decide what is run."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {field.name: getattr(self, field.name) for field in fields}
        for field in fields:
            if field.name in self._LATER and values[field.name] == field.default:
                del values[field.name]
        return values

    def configuration(self) -> dict[str, Any]:
        """All of it as plain data.

        What is `None` says nothing and is left out, so that attributes added later
        leave the fingerprints of earlier results as they are.
        """
        found: dict[str, Any] = json.loads(self._text)
        return found

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that are the same for equal configurations."""
        text = json.dumps(self.configuration(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True)
class Recipe:
    """An object of Keras or of its kind, as what makes it anew.

    Attributes:
        made: Its class.
        config: What its `get_config` returned.
    """

    made: Any
    config: dict[str, Any]

    @classmethod
    def of(cls, value: Any) -> Recipe:
        """The recipe of an object."""
        return cls(type(value), value.get_config())

    def make(self) -> Any:
        """A new one."""
        return self.made.from_config(self.config)

    def description(self, argument: str) -> dict[str, Any]:
        """Its class and config as plain data."""
        said = {"class": _name(argument, self.made), "config": self.config}
        return _dictionary(argument, said)


def plain_data(argument: str, value: Any) -> Any:
    """`value` as what JSON can hold.

    Args:
        argument: Where it was passed, for the message.
        value: Plain data, a function or class of a module, a `functools.partial` of
            one, an object with a `get_config`, or a `Dataset`.

    Raises:
        ValueError: If it would be described by a name that does not say what it is.
    """
    tell = functools.partial(plain_data, argument)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [tell(each) for each in value]
    if isinstance(value, dict):
        return _dictionary(argument, value)
    if isinstance(value, Described):
        return value.configuration()
    if isinstance(value, Recipe):
        return value.description(argument)
    if isinstance(value, Dataset):
        return {"dataset": value.name, "sha256": _digest(value)}
    if isinstance(value, functools.partial):
        call = {"function": value.func, "arguments": value.args}
        return tell({**call, "options": value.keywords})
    if inspect.isfunction(value) or inspect.isclass(value):
        return _name(argument, value)
    if hasattr(value, "get_config"):
        return Recipe.of(value).description(argument)
    raise _unnamed(argument, value)


def _dictionary(argument: str, value: dict[Any, Any]) -> dict[str, Any]:
    """A dictionary; of an object of which Keras made one, its class and config."""
    if value.keys() >= {"class_name", "config"}:
        if value["class_name"] == "__lambda__":
            raise _unnamed(argument, value)
        named = f"{value['module']}.{value['class_name']}"
        value = {"class": named, "config": value["config"]}
    if value.keys() == {"class", "config"} and isinstance(value["config"], dict):
        # Keras counts names up: they would tell apart what is the same.
        config = {key: each for key, each in value["config"].items() if key != "name"}
        value = {**value, "config": config}
    return {str(key): plain_data(argument, each) for key, each in value.items()}


def _name(argument: str, value: Any) -> str:
    """The name by which a function or class is found."""
    name: str = value.__qualname__
    if "<" in name:
        raise _unnamed(argument, value)
    if value.__module__.startswith("keras."):
        return _public_name(value) or f"{value.__module__}.{name}"
    if value.__module__ != "__main__":
        return f"{value.__module__}.{name}"
    # What the module that was started is called elsewhere.
    main = sys.modules["__main__"]
    specification = getattr(main, "__spec__", None)
    if specification is not None:
        return f"{specification.name}.{name}"
    file = str(getattr(main, "__file__", None) or "<session>")
    if file.startswith("<"):
        raise _unnamed(argument, value)
    return f"{Path(file).stem}.{name}"


def _public_name(value: Any) -> str | None:
    """The name of something of Keras that is the same on every backend."""
    for each in getattr(value, "__mro__", (value,)):
        name = each.__name__
        for space in ("initializers", "losses", "optimizers"):
            if getattr(getattr(keras, space), name, None) is each:
                return f"keras.{space}.{name}"
    return None


def _unnamed(argument: str, value: Any) -> ValueError:
    return ValueError(
        f"{argument} must be plain data, a function or class at the top of a module, a "
        "functools.partial of one, a Dataset, or an object with a get_config(). "
        f"Received: {argument}={value!r}. Of a lambda, of what is defined inside a "
        "function or typed into a session, and of other objects the result file could "
        "not say what was run. Give it a name at the top of a module."
    )


@functools.lru_cache
def _digest(dataset: Dataset) -> str:
    """Stands for all examples of a data set."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.validation, dataset.test):
        for values in split or ():
            digest.update(f"{values.dtype} {values.shape} ".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value
