"""Lets calls run on symbolic tensors where Keras gives up early.

Backends differ in how early that is; what is read of a network must not.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras


class _Nothing(keras.KerasTensor):
    """Stands for an output that is None, which Keras refuses in its graphs."""


def output_spec(
    layer: keras.Layer, incomplete: list[keras.Layer], *args: Any, **kwargs: Any
) -> Any:
    """Stands in for a layer's `compute_output_spec`, and does not give up as early.

    Where the layer cannot say what it returns, its call is run on placeholders of the
    backend; and an output may be None.
    """
    # A number times a tensor counts as sparse, seen on Keras 3.15.1.
    args, kwargs = keras.tree.map_structure(_dense, (args, kwargs))
    try:
        result = type(layer).compute_output_spec(layer, *args, **kwargs)
    except Exception:
        kwargs = accepted(layer, kwargs)
        result = keras.Operation.compute_output_spec(layer, *args, **kwargs)
    flat = keras.tree.flatten(result)
    if any(leaf is None for leaf in flat):
        incomplete.append(layer)
        flat = [_Nothing(()) if leaf is None else leaf for leaf in flat]
        result = keras.tree.pack_sequence_as(result, flat)
    return result


@contextlib.contextmanager
def returning_none(layers: list[keras.Layer]) -> Iterator[None]:
    """Lets layers return the None that `_Nothing` stands for, as they do otherwise.

    GPT-NeoX, T5 and XLNet cannot be looked into without.
    """
    unique = {id(layer): (layer, type(layer)) for layer in layers}.values()
    for layer, own in unique:
        object.__setattr__(layer, "__class__", _with_none(own))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for layer, own in unique:
            object.__setattr__(layer, "__class__", own)


@functools.cache
def _with_none(own: type[keras.Layer]) -> type[keras.Layer]:
    def call(self: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        result = own.__call__(self, *args, **kwargs)
        return keras.tree.map_structure(
            lambda leaf: None if isinstance(leaf, _Nothing) else leaf, result
        )

    return type(own.__name__, (own,), {"__call__": call, "__module__": own.__module__})


_OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
_patched = threading.RLock()


@contextlib.contextmanager
def symbols_first() -> Iterator[None]:
    """Lets symbolic tensors take part in whatever a `call` computes.

    An array or variable beside one hands the operator on to it, as in
    ``self.scale * x``; and an operation of Keras that cannot say what it returns is run
    on placeholders of the backend.
    """
    patches: list[tuple[type, str, Any]] = [
        (keras.KerasTensor, "__array_ufunc__", None),  # for arrays of NumPy
        (keras.KerasTensor, "__array__", _refuse),
        (keras.Operation, "symbolic_call", _symbolic_call),
        *((keras.Variable, f"__{name}__", _deferring(name)) for name in _OPERATORS),
    ]
    with _patched, contextlib.ExitStack() as undo:
        for owner, name, value in patches:
            undo.enter_context(_attribute(owner, name, value))
        if "__jax_array__" in vars(keras.KerasTensor):
            refuses = vars(keras.KerasTensor)["__jax_array__"]
            undo.callback(setattr, keras.KerasTensor, "__jax_array__", refuses)
            del keras.KerasTensor.__jax_array__
        yield


@contextlib.contextmanager
def _attribute(owner: type, name: str, value: Any) -> Iterator[None]:
    """Sets an attribute of a class, and leaves it as it was."""
    before = vars(owner).get(name, _MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


_MISSING = object()


def _refuse(self: keras.KerasTensor, *args: Any, **kwargs: Any) -> Any:
    raise ValueError("A symbolic tensor has no values.")


def _deferring(name: str) -> Callable[[Any, Any], Any]:
    own = getattr(keras.Variable, f"__{name}__")

    def operator(self: keras.Variable, other: Any) -> Any:
        return NotImplemented if is_symbol(other) else own(self, other)

    return operator


def _symbolic_call(self: keras.Operation, *args: Any, **kwargs: Any) -> Any:
    try:
        return _BY_KERAS(self, *args, **kwargs)
    except Exception:
        by_call = functools.partial(keras.Operation.compute_output_spec, self)
        vars(self)["compute_output_spec"] = by_call
        try:
            return _BY_KERAS(self, *args, **kwargs)
        finally:
            del vars(self)["compute_output_spec"]


_BY_KERAS = keras.Operation.symbolic_call


def _dense(leaf: Any) -> Any:
    if is_symbol(leaf) and leaf.sparse:
        return keras.KerasTensor(leaf.shape, leaf.dtype)
    return leaf


def accepted(operation: keras.Operation, kwargs: dict) -> dict:
    """Those of the arguments that a call takes; Keras adds some of its own."""
    parameters = inspect.signature(operation.call).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return kwargs
    return {name: value for name, value in kwargs.items() if name in parameters}


def is_symbol(leaf: Any) -> bool:
    """Whether a leaf of a structure is a symbolic tensor."""
    return isinstance(leaf, keras.KerasTensor)
