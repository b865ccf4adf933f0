"""A second model over the layers of one that is its graph, with more outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_lap.blocks import Call, Graph, Script, Tensor
from keras_lap.trajectory.call_tap import CallTap
from keras_lap.trajectory.cuts import call_of
from keras_lap.trajectory.plan import Look, split

Seen = list[list[list[Any]]]  # for each plan, of each call of it, the tensors


def tap(
    operation: keras.Layer,
    graph: Graph | None,
    plans: Sequence[Look],
    depth: int = 0,
    use: int = 0,
) -> Any:
    """What runs a model or layer and also returns what is to be seen within.

    Args:
        operation: A model, or a layer with blocks inside its call.
        graph: What it does; None if it is closed.
        plans: What is to be seen, of blocks and of masks.
        depth: How many calls of models and layers are around its graph.
        use: Which call of `operation` this is in the one around it.

    Returns:
        Something to call as `operation`, which returns a dictionary of its `outputs`
        and of what was `seen`: for each plan, of each call of it, the tensors.
    """
    own, within = split(plans, depth)
    instead = {
        call: tap(call.operation, call.inside, below, depth + 1, call.use)
        for call, below in within.items()
    }
    if graph is None or graph.is_call:
        return CallTap(operation, plans, own, within, instead, use)
    inputs, outputs = structure(operation)
    values: dict[Tensor, Any] = {}
    inner: dict[Look, Any] = {}
    if instead:
        starts = {tensor: tensor.symbol for tensor in graph.inputs}
        values, results = replay(graph, starts, instead)
        for call, seen in results.items():
            inner.update(zip(within[call], seen, strict=True))
        ends = [values[tensor] for tensor in graph.outputs]
        outputs = keras.tree.pack_sequence_as(outputs, ends)
    seen = [
        inner.get(plan) or [[plan.read(values.get(t, t.symbol)) for t in plan.tensors]]
        for plan in plans
    ]
    # The network's own name keeps the paths of the layers' outputs, which Keras's
    # distribution strategies go by; a second use needs another one.
    name = f"{operation.name}.use{use + 1}" if use else operation.name
    result = {"outputs": outputs, "seen": _copied(inputs, seen)}
    return keras.Model(inputs, result, name=name)


def replay(
    graph: Graph,
    starts: Mapping[Tensor, Any],
    instead: Mapping[Call, Any],
    same: Mapping[Tensor, Tensor] | None = None,
    script: Script | None = None,
) -> tuple[dict[Tensor, Any], dict[Call, Seen]]:
    """Calls the operations of a graph again, some of them through their taps.

    Args:
        graph: The graph.
        starts: The values of its inputs.
        instead: What to call in the place of some operations; see `tap`.
        same: Tensors that take the value of an earlier one. Defaults to none.
        script: What to call the operations with. Defaults to None, what the graph of a
            model called them with.

    Returns:
        The new value of every tensor, and what the taps have seen.
    """
    script = script or Script()
    values = dict(starts)
    seen: dict[Call, Seen] = {}
    for call in graph.calls:
        result = call_of(script, call, values, instead.get(call, call.operation))
        if call in instead:
            result, seen[call] = result["outputs"], result["seen"]
        values.update(zip(call.outputs, keras.tree.flatten(result), strict=True))
        for tensor in call.outputs:
            if same and tensor in same:
                values[tensor] = values[same[tensor]]
    return values, seen


def structure(model: keras.Model) -> tuple[Any, Any]:
    """The symbolic inputs and outputs of a model's own graph, as it nests them.

    A Sequential has ``input`` and ``output`` only once it was called elsewhere, and
    then they are those of that call.
    """
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def _copied(inputs: Any, seen: Seen) -> Seen:
    """The same tensors, those that are inputs of the model as copies.

    Keras takes a model that returns its very input, called on another shape than it
    was built for, for a cycle.
    """
    ends = {id(symbol) for symbol in keras.tree.flatten(inputs)}
    copy = keras.layers.Identity()
    return keras.tree.map_structure(
        lambda symbol: copy(symbol) if id(symbol) in ends else symbol, seen
    )
