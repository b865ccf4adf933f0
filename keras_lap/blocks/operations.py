"""Which operation can play which role on the way of a state."""

from __future__ import annotations

from typing import Any

import keras

from keras_lap.blocks import graph as roles

_POOLING = tuple(
    getattr(keras.layers, f"{mode}Pooling{rank}D")
    for mode in ("Average", "Max")
    for rank in (1, 2, 3)
)
# Padding makes the windows of a pooling fit.
_PADDING = tuple(getattr(keras.layers, f"ZeroPadding{rank}D") for rank in (1, 2, 3))
_NORMALIZATION = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)
_CONVOLUTION = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_ACTIVATION = (
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
)
_NONE: frozenset[str] = frozenset()
_ACTIVATES = frozenset({roles.ACTIVATION, roles.KEEPS_STATE})
_KEEPS = frozenset({roles.KEEPS_STATE})
_MIXES = frozenset({roles.MIXES})
_SHAPE = frozenset({roles.SHAPE_ONLY})
# Of the operations that functions of `keras.ops` are, by the names of their classes.
_FUNCTIONS: dict[str, frozenset[str]] = {
    "Add": frozenset({roles.SUM, roles.KEEPS_STATE}),
    "Subtract": frozenset({roles.DIFFERENCE, roles.KEEPS_STATE}),
    "Cast": frozenset({roles.COPY, roles.KEEPS_STATE}),
    **dict.fromkeys(["Divide", "Multiply", "Reshape"], _KEEPS),
    **dict.fromkeys(["Dot", "Einsum", "Matmul", "Tensordot"], _MIXES),
    # They take a tensor for its shape and leave its values alone.
    **dict.fromkeys(["FullLike", "OnesLike", "ZerosLike"], _SHAPE),
    **dict.fromkeys(
        ["Celu", "Elu", "Gelu", "HardSilu", "HardTanh", "LeakyRelu", "Relu", "Relu6"],
        _ACTIVATES,
    ),
    **dict.fromkeys(["Selu", "Sigmoid", "Silu", "Softplus", "Tanh"], _ACTIVATES),
}


def roles_of(operation: keras.Operation) -> frozenset[str]:
    """All roles that an operation can play; see `keras_lap.blocks.graph`."""
    kind = type(operation)
    if not isinstance(operation, keras.Layer):
        return _FUNCTIONS.get(kind.__name__, _NONE) if is_kerass(kind) else _NONE
    found = {roles.LAYER, roles.MIXES, *_of_layer(operation)}
    if not is_kerass(kind):  # may merge in another way
        found -= {roles.SUM, roles.DIFFERENCE}
    if has_graph(operation):
        found.add(roles.MODEL)
    if not _call_is_of(operation, "layers"):
        found.add(roles.OWN)
    if getattr(kind, "is_residual_block", False):
        found.add(roles.DECLARED)
    return frozenset(found)


def is_kerass(kind: type) -> bool:
    """Whether a class is one of Keras's own."""
    return kind.__module__.startswith("keras.")


def _of_layer(layer: keras.Layer) -> set[str]:
    """What a layer of one of Keras's classes does to a state."""
    if isinstance(layer, keras.layers.Add):
        return {roles.SUM}
    if isinstance(layer, keras.layers.Subtract):
        return {roles.DIFFERENCE}
    if isinstance(layer, _NORMALIZATION):
        return {roles.NORM, roles.KEEPS_STATE, roles.PROJECTS}
    if isinstance(layer, keras.layers.Identity):
        return {roles.COPY, roles.KEEPS_STATE, roles.PROJECTS}
    if isinstance(layer, keras.layers.Dropout):
        return {roles.KEEPS_STATE}
    if isinstance(layer, keras.layers.Activation):
        if layer.activation is keras.activations.softmax:
            return set()  # the head's: it normalises over classes and moves no state
        copies = {roles.COPY, roles.PROJECTS} if _is_linear(layer) else set()
        return copies | _ACTIVATES
    if isinstance(layer, _ACTIVATION):
        return set(_ACTIVATES)
    pointwise = isinstance(layer, keras.layers.Dense) or (
        isinstance(layer, _CONVOLUTION) and set(layer.kernel_size) == {1}
    )
    if pointwise and _is_linear(layer):
        return {roles.PROJECTS, roles.POINTWISE}
    return {roles.PROJECTS} if isinstance(layer, _POOLING + _PADDING) else set()


def _is_linear(layer: keras.Layer) -> bool:
    return layer.activation is keras.activations.linear


def has_graph(operation: Any) -> bool:
    """Whether `operation` is a Functional or Sequential model that is its graph.

    A model whose class overrides ``call`` may do anything, whatever graph it was
    built from, so it has none here; nor has a Sequential that is not built yet.
    """
    is_graph = isinstance(operation, keras.Model) and isinstance(
        operation, (keras.Function, keras.Sequential)
    )
    return (
        is_graph
        and _call_is_of(operation, "models")
        and bool(getattr(operation, "inputs", None))
    )


def _call_is_of(layer: keras.Layer, folder: str) -> bool:
    """Whether the `call` of a layer is Keras's, and lies in a folder of it.

    None in `layers` has a residual connection; those in `applications` may have.
    """
    package, *folders = type(layer).call.__module__.split(".")
    return package == "keras" and folder in folders
