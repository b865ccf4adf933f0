"""What the calls of a network are made with again, for batches of any size.

The graph of a `call` was read on stand-ins for unknown sizes, which may be among the
arguments of what it calls. So the call is read once more, on tensors whose sizes are
left open; the two graphs correspond call by call, and the first one is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_lap.blocks.graph import LAYER, Call, Graph, Tensor
from keras_lap.blocks.reading import given_arguments
from keras_lap.blocks.sizes import Sizes
from keras_lap.blocks.specs import accepted, is_symbol
from keras_lap.blocks.tracing import Traced, trace_call

_OTHER = "it calls other layers or functions where the size of a batch is not known"
_SIZES = "it does not run where the size of a batch is not known ({})"
_TRAINING = "it calls other layers or functions in training"
_FIXED = "it calls {!r} with training=False, whatever it is called with"
_OWN = "{!r} is called with a weight, an array or a function in that call"


class NotAgain(ValueError):
    """A call that cannot be made again, and why."""


class Script:
    """The arguments of calls, and the symbolic tensors among them.

    For the graph of a model these are its own; that of a `call` has to be opened.
    """

    def __init__(self) -> None:
        self._arguments: dict[Call, Any] = {}
        self._symbols: dict[Tensor, keras.KerasTensor] = {}
        self._reasons: dict[Call, str] = {}

    def open(self, call: Call) -> str:
        """Makes ready what is inside of a layer or model that was looked into.

        Args:
            call: Its call, after that of what is around it.

        Returns:
            Why that cannot be called again; empty if it can.
        """
        if call not in self._reasons:
            self._reasons[call] = self._opened(call)
        return self._reasons[call]

    def symbol(self, tensor: Tensor) -> keras.KerasTensor:
        """The symbolic tensor of any size of the batch."""
        return self._symbols.get(tensor, tensor.symbol)

    def call(self, call: Call, values: Mapping[Tensor, Any], operation: Any) -> Any:
        """Makes a call again.

        Args:
            call: What was called.
            values: What its inputs are now.
            operation: What is called in its place.

        Raises:
            NotAgain: If it takes weights, arrays or functions of the call around it.
        """
        arguments = self._arguments.get(call, call.arguments)
        inputs = {id(self.symbol(each)): values[each] for each in call.inputs}

        def filled(leaf: Any) -> Any:
            if call.in_call and id(leaf) not in inputs and _is_own(leaf):
                raise NotAgain(_OWN.format(call.label))
            return inputs.get(id(leaf), leaf)

        args, kwargs = keras.tree.map_structure(
            filled, (arguments.args, arguments.kwargs)
        )
        return operation(*args, **kwargs)

    def why_not_trained(self, call: Call) -> str:
        """Why its inside, called again, is not that call while a network trains.

        Args:
            call: A call that was opened.

        Returns:
            The reason; empty if it is.
        """
        graph = call.inside
        if graph is None or not graph.is_call:
            return ""
        twin = self._trace(call, _Training(call.operation)).graph
        if twin is None or not _alike(graph, twin):
            return _TRAINING
        for each in twin.calls:
            if each.arguments.kwargs.get("training", True) is False:
                return _FIXED.format(each.label)
        return ""

    def _opened(self, call: Call) -> str:
        graph = call.inside
        assert graph is not None  # as of what was looked into
        if not graph.is_call:
            return ""
        if call.sealed:
            return call.sealed
        traced = self._trace(call, call.operation)
        again = traced.graph
        if again is None:
            return _SIZES.format(traced.reason)
        if not _alike(graph, again):
            return _OTHER
        for own, other in zip(graph.calls, again.calls, strict=True):
            self._arguments[own] = other.arguments
            self._note(own.outputs, other.outputs)
            self._note(own.inputs, other.inputs)
        self._note(graph.inputs, again.inputs)
        self._note(graph.outputs, again.outputs)
        return ""

    def _trace(self, call: Call, operation: Any) -> Traced:
        """Reads a call once more, on tensors whose sizes are left open."""
        given = given_arguments(call, self._arguments.get(call, call.arguments))
        arguments = keras.tree.map_structure(
            functools.partial(_as_received, call.operation), given
        )
        leaves = keras.tree.flatten(arguments)
        sizes = Sizes({id(x): x.shape for x in leaves if is_symbol(x)})
        return trace_call(operation, arguments, (), sizes=sizes)

    def _note(self, own: Any, other: Any) -> None:
        self._symbols.update(
            (ours, theirs.symbol) for ours, theirs in zip(own, other, strict=True)
        )


class _Training(keras.layers.Layer):
    """Calls what a layer does as if a network trained around it.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: keras.Layer):
        super().__init__()
        self.layer = layer

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it."""
        kwargs = accepted(self.layer, {**kwargs, "training": True})
        return _Around(functools.partial(self.layer.call, *args, **kwargs))(
            training=True
        )


class _Around(keras.layers.Layer):
    """Tells layers that a function calls whether a network trains."""

    def __init__(self, run: Callable[[], Any]):
        super().__init__()
        self._run, self.built = run, True

    def call(self, training: bool) -> Any:
        """Runs it."""
        return self._run()


def _alike(graph: Graph, other: Graph) -> bool:
    """Whether two graphs of a `call` have the same calls of the same tensors."""
    return _outline(graph) == _outline(other)


def _outline(graph: Graph) -> list[Any]:
    numbers: dict[Tensor, int] = {}

    def number(tensors: Any) -> list[int]:
        return [numbers.setdefault(each, len(numbers)) for each in tensors]

    inputs = number(graph.inputs)
    calls = [
        (
            id(call.operation) if LAYER in call.roles else call.label,
            number(call.inputs),
            number(call.outputs),
        )
        for call in graph.calls
    ]
    return [inputs, calls, number(graph.outputs)]


def _as_received(layer: Any, leaf: Any) -> Any:
    """An argument as it reaches the `call` of a layer: in the layer's precision."""
    if not is_symbol(leaf) or not getattr(layer, "autocast", False):
        return leaf
    floats = keras.backend.is_float_dtype(leaf.dtype)
    return keras.KerasTensor(leaf.shape, layer.input_dtype if floats else leaf.dtype)


def _is_own(leaf: Any) -> bool:
    """Whether it is of the call around, and no graph would keep it as what it is."""
    if keras.ops.is_tensor(leaf):
        return bool(keras.backend.is_float_dtype(leaf.dtype))
    return isinstance(leaf, (keras.KerasTensor, keras.Variable)) or callable(leaf)
