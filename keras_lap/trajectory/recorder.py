"""Displacements: how far each residual block moves its state, from one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from keras_lap.blocks.graph import Graph, Node, has_graph, structure
from keras_lap.blocks.search import BlockReport, Site
from keras_lap.energies import at_least_float32
from keras_lap.trajectory.call_tap import CallTap


class DisplacementRecorder:
    """Runs a network once and returns its outputs and all displacements.

    A Functional network is run as a second Keras model over the same layers whose
    outputs are those of the network and the states around each block. Where blocks
    lie inside the `call` of a layer or of a subclassed model, their states are noted
    while it runs. The network itself is left as it is, and nothing is computed twice.

    Args:
        network: The model that was searched.
        report: Its blocks, from `find_residual_blocks`.

    Examples:
        >>> report = keras_lap.find_residual_blocks(network)
        >>> record = DisplacementRecorder(network, report)
        >>> outputs, displacements = record(images)
    """

    def __init__(self, network: keras.Model, report: BlockReport):
        self._sites = report.sites
        self._tap = _tap(network, self._sites)

    def __call__(self, inputs: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
        """Runs the network.

        Args:
            inputs: What the network takes.
            **kwargs: Further arguments of the network's `call`, e.g. `training`.

        Returns:
            The network's outputs, and for each block ``x_{k+1} − x_k``, of shape
            `(batch, ...)`; for a layer chosen inside a call that cannot be looked
            into, one of them for every time it was called.
        """
        result = self._tap(inputs, **kwargs)
        displacements = [
            _total(move) if site.on_branches else _difference(*move)
            for site, moves in zip(self._sites, result["states"], strict=True)
            for move in moves
        ]
        return result["outputs"], displacements


class StateRecorder:
    """Runs a network once and returns its outputs and the states around each block.

    As `DisplacementRecorder`, for those who look at where the data are and not only
    at how far they move.

    Args:
        network: The model that was searched.
        report: Its blocks, from `find_residual_blocks`.

    Raises:
        ValueError: If the states of a block cannot be seen; this can be so inside the
            `call` of a layer.

    Examples:
        >>> report = keras_lap.find_residual_blocks(network)
        >>> record = StateRecorder(network, report)
        >>> outputs, [[(before, after)], *others] = record(images)
    """

    def __init__(self, network: keras.Model, report: BlockReport):
        self._sites = tuple(site.with_states() for site in report.sites)
        self._tap = _tap(network, self._sites)

    def __call__(self, inputs: Any, **kwargs: Any) -> tuple[Any, list[list[Any]]]:
        """Runs the network.

        Args:
            inputs: What the network takes.
            **kwargs: Further arguments of the network's `call`, e.g. `training`.

        Returns:
            The network's outputs, and for each block a list with ``(x_k, x_{k+1})``,
            two tensors of shape `(batch, ...)`; for a layer chosen inside a call that
            cannot be looked into, one such pair for every time it was called.
        """
        result = self._tap(inputs, **kwargs)
        pairs = [
            [_pair(site, *move) for move in moves]
            for site, moves in zip(self._sites, result["states"], strict=True)
        ]
        return result["outputs"], pairs


def _pair(site: Site, before: Any, *end: Any) -> tuple[Any, Any]:
    """Both states in full precision; `end` may be the parts of the displacement."""
    if site.ends_on_branches:
        return at_least_float32(before), _total([before, *end])
    return at_least_float32(before), at_least_float32(*end)


def _total(parts: Sequence[Any]) -> Any:
    """The sum of the parts; of one alone, itself, in the precision that it has."""
    first, *rest = parts
    for part in rest:
        first = at_least_float32(first) + at_least_float32(part)
    return first


def _difference(before: Any, after: Any) -> Any:
    """``after − before``; the difference of two states needs full precision."""
    if tuple(before.shape) != tuple(after.shape):
        raise ValueError(
            f"A layer chosen by blocks= takes a state of shape {tuple(before.shape)} "
            f"and returns one of shape {tuple(after.shape)}, so there is no "
            "displacement between them. Choose layers that keep the shape."
        )
    return at_least_float32(after) - at_least_float32(before)


def _tap(
    operation: keras.Layer, sites: tuple[Site, ...], depth: int = 0, use: int = 0
) -> Any:
    """What runs a model or layer and also returns the states of blocks within.

    Args:
        operation: A model, or a layer with blocks inside its call.
        sites: These blocks.
        depth: How many calls of models and layers are around that of `operation`.
        use: Which call of `operation` this is in the one around it.

    Returns:
        Something to call as `operation`, which returns a dictionary of its `outputs`
        and, for each block, of the list of its `states` in each call.
    """
    if has_graph(operation):
        return _graph_tap(operation, sites, depth, use)
    return CallTap(
        operation,
        sites,
        depth,
        use,
        lambda node, inner: _tap(node.operation, inner, depth + 1, node.use),
    )


def _graph_tap(
    network: keras.Model, sites: tuple[Site, ...], depth: int, use: int
) -> keras.Model:
    """A second model over the layers of one that is its graph."""
    inputs, outputs = structure(network)
    if all(len(site.path) == depth for site in sites):
        states = [[_states(site, {})] for site in sites]
    else:
        values, states = _replay(network, sites, depth)
        outputs = keras.tree.map_structure(lambda t: values[id(t)], outputs)
    # The network's own name keeps the paths of the layers' outputs, which Keras's
    # distribution strategies go by; a second use needs another one.
    name = f"{network.name}.use{use + 1}" if use else network.name
    # Keras takes a model that returns its very input, called on another shape than it
    # was built for, for a cycle.
    ends = {id(tensor) for tensor in keras.tree.flatten(inputs)}
    copy = keras.layers.Identity()
    states = keras.tree.map_structure(
        lambda tensor: copy(tensor) if id(tensor) in ends else tensor, states
    )
    result = {"outputs": outputs, "states": states}
    return keras.Model(inputs, result, name=name)


def _states(site: Site, values: dict[int, Any]) -> list[Any]:
    """The parts of the displacement if the graph holds them, else both states."""
    assert site.merge is not None  # as of every block that was found in a graph
    return [values.get(id(tensor), tensor) for tensor in site.merge.tensors]


def _replay(
    network: keras.Model, sites: tuple[Site, ...], depth: int
) -> tuple[dict[int, Any], list[list[list[Any]]]]:
    """Calls the network's operations again, tapping those with blocks within."""
    graph = Graph.of(network)
    values = {id(tensor): tensor for tensor in graph.inputs}
    inner_states: dict[Site, list[list[Any]]] = {}
    groups: dict[Node, list[Site]] = defaultdict(list)
    for site in sites:
        for node in site.path[depth : depth + 1]:
            groups[node].append(site)
    for node in graph.nodes:
        operation = node.operation
        if inside := tuple(groups.get(node, ())):
            operation = _tap(operation, inside, depth + 1, node.use)
        args, kwargs = node.call_arguments(values)
        result = operation(*args, **kwargs)
        if inside:
            inner_states.update(zip(inside, result["states"], strict=True))
            result = result["outputs"]
        for tensor, value in zip(node.outputs, keras.tree.flatten(result), strict=True):
            values[id(tensor)] = value
    states = [inner_states.get(site) or [_states(site, values)] for site in sites]
    return values, states


class Trajectory(NamedTuple):
    """What one pass of a network has seen; None where it was not asked for."""

    outputs: Any
    displacements: list[Any] | None = None
    states: list[list[tuple[Any, Any]]] | None = None


class Recorder:
    """Runs a network once and returns what was wanted of it, in a `Trajectory`."""

    def __init__(
        self,
        network: keras.Model,
        report: BlockReport,
        wanted: Sequence[str] = ("displacements",),
    ):
        self._sites = {
            "displacements": report.sites,
            "states": tuple(site.with_states() for site in report.sites)
            if "states" in wanted
            else (),
        }
        self._wanted = tuple(wanted)
        every = dict.fromkeys(site for each in wanted for site in self._sites[each])
        self._all = tuple(every)
        self._tap = _tap(network, self._all)

    def __call__(self, inputs: Any, **kwargs: Any) -> Trajectory:
        """Runs the network."""
        result = self._tap(inputs, **kwargs)
        moves = dict(zip(self._all, result["states"], strict=True))
        seen: dict[str, Any] = {}
        if "displacements" in self._wanted:
            seen["displacements"] = [
                _total(move) if site.on_branches else _difference(*move)
                for site in self._sites["displacements"]
                for move in moves[site]
            ]
        if "states" in self._wanted:
            seen["states"] = [
                [_pair(site, *move) for move in moves[site]]
                for site in self._sites["states"]
            ]
        return Trajectory(result["outputs"], **seen)
