"""Displacements: how far each residual block moves its state, from one pass."""

from __future__ import annotations

from typing import Any

import keras

from keras_lap._graph import Graph, structure
from keras_lap.blocks import BlockReport, Site
from keras_lap.energies import at_least_float32


class DisplacementRecorder:
    """Runs a network once and returns its outputs and all displacements.

    The network is run as a second Keras model over the same layers whose outputs
    are those of the network and the states around each block. The network itself
    is left as it is, and nothing is computed twice.

    Args:
        network: The model that was searched.
        report: Its blocks, from `find_residual_blocks`.

    Example:
        >>> report = keras_lap.find_residual_blocks(network)
        >>> record = DisplacementRecorder(network, report)
        >>> outputs, displacements = record(images)
    """

    def __init__(self, network: keras.Model, report: BlockReport):
        self._tap = _tap(network, report.sites)

    def __call__(self, inputs: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
        """Runs the network.

        Args:
            inputs: What the network takes.
            **kwargs: Further arguments of the network's `call`, e.g. `training`.

        Returns:
            The network's outputs, and for each block ``x_{k+1} − x_k``, of shape
            `(batch, ...)`.
        """
        result = self._tap(inputs, **kwargs)
        return result["outputs"], [_displacement(s) for s in result["states"]]


def _displacement(states: list[Any]) -> Any:
    """``after − before``; the difference of two states needs full precision."""
    if len(states) == 1:
        return states[0]
    before, after = states
    return at_least_float32(after) - at_least_float32(before)


def _tap(
    network: keras.Model, sites: tuple[Site, ...], depth: int = 0, use: int = 0
) -> keras.Model:
    """A model over the network's layers that also returns the blocks' states.

    Args:
        network: A model that is its graph.
        sites: The blocks in it, and in models nested in it.
        depth: How many models are around `network`.
        use: Which call of `network` this is in the model around it.
    """
    inputs, outputs = structure(network)
    if all(len(site.path) == depth for site in sites):
        states = [_states(site, {}) for site in sites]
    else:
        values, states = _replay(network, sites, depth)
        outputs = keras.tree.map_structure(lambda t: values[id(t)], outputs)
    # The network's own name keeps the paths of the layers' outputs, which Keras's
    # distribution strategies go by; a second use needs another one.
    name = f"{network.name}.use{use + 1}" if use else network.name
    result = {"outputs": outputs, "states": states}
    return keras.Model(inputs, result, name=name)


def _states(site: Site, values: dict[int, Any]) -> list[Any]:
    """The displacement if the graph holds it, else the states before and after."""
    merge = site.merge
    tensors = [merge.branch]
    if merge.branch is None:
        tensors = [merge.shortcut, merge.output]
    return [values.get(id(tensor), tensor) for tensor in tensors]


def _replay(
    network: keras.Model, sites: tuple[Site, ...], depth: int
) -> tuple[dict[int, Any], list[list[Any]]]:
    """Calls the network's operations again, tapping the models nested in it."""
    graph = Graph.of(network)
    values = {id(tensor): tensor for tensor in graph.inputs}
    inner_states: dict[Site, list[Any]] = {}
    for node in graph.nodes:
        inside = tuple(s for s in sites if s.path[depth : depth + 1] == (node,))
        operation = node.operation
        if inside:
            operation = _tap(operation, inside, depth + 1, node.use)
        args, kwargs = node.call_arguments(values)
        result = operation(*args, **kwargs)
        if inside:
            inner_states.update(zip(inside, result["states"], strict=True))
            result = result["outputs"]
        for tensor, value in zip(node.outputs, keras.tree.flatten(result), strict=True):
            values[id(tensor)] = value
    states = [inner_states.get(site) or _states(site, values) for site in sites]
    return values, states
