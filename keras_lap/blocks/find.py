"""`find_residual_blocks`: reads a network, searches it, takes what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_lap.blocks.graph import Call
from keras_lap.blocks.reading import read
from keras_lap.blocks.report import PROJECTION, BlockReport, FoundBlock, Skipped
from keras_lap.blocks.search import search
from keras_lap.blocks.selection import Selection, select


def find_residual_blocks(
    model: keras.Model,
    blocks: Selection = "auto",
    include_projections: bool = False,
) -> BlockReport:
    """Finds the residual blocks ``x_out = act?(x_in + r(x_in))`` of a model.

    A sum closes a block if one of its terms is a state that another term is
    computed from. The sum may be a `keras.layers.Add`, ``x + y``, `keras.ops.add` or
    a layer that adds up its inputs, and the other term may be taken away, as in
    ``x - r(x)``; an activation that alone reads the sum belongs to
    the block. A layer whose `call` carries its input to its output by such sums, as
    transformer layers do, is one block of kind `"layer"`; this is found out by running
    the `call` once on symbolic tensors. Blocks further inside a call, or in that of a
    subclassed model, count by themselves. Of blocks that nest the innermost counts. A
    layer whose call does not run on symbolic tensors is not counted unless `blocks`
    names it or its class sets ``is_residual_block = True``; the report says so.

    Args:
        model: A model, built: Functional, Sequential or subclassed. Of a
            `keras_lap.LeastActionModel` its own report is returned; with other
            arguments than these two defaults, what its network has.
        blocks: `"auto"`; or a list of names of merge layers, of nested models that hold
            blocks, or of any layer that keeps the shape of its input; of these layers
            themselves; of regular expressions (`re.compile`), searched for in the
            names of the blocks that `"auto"` finds; or a function from a layer to
            whether it is wanted, asked of every layer: it chooses among the blocks
            that `"auto"` finds and layers that are not Keras's own.
        include_projections: Whether to count blocks whose shortcut changes the
            shape, or is a linear layer; their displacement starts at the projected
            input. Defaults to False.

    Returns:
        A `BlockReport`, empty if nothing was found.

    Raises:
        ValueError: If the model is not built or its call cannot be looked into, a name
            or layer of `blocks` is unknown, a chosen layer changes the shape of its
            input, or one of two chosen blocks lies within the other.
        TypeError: If an argument has the wrong type.

    Examples:
        >>> network = keras_lap.networks.resnet9((8, 8, 1), 10, filters=4)
        >>> len(keras_lap.find_residual_blocks(network))
        9
    """
    everything = isinstance(blocks, str) and blocks == "auto"
    model, report = unwrapped(model)
    if report is not None and everything and not include_projections:
        return report
    _check_is_built(model)
    root = read(model, declared=not everything)
    if root.inside is None and everything:
        raise ValueError(_closed(root))
    found, skipped = search(root.inside) if root.inside else ([], [])
    if not everything:
        found, skipped = select(root, found, skipped, blocks)
    counted = []
    for block in found:
        if block.block.kind == "projection" and not include_projections:
            _check_not_named(block, blocks)
            skipped.append(Skipped(block.block.name, PROJECTION))
        else:
            counted.append(block)
    return BlockReport(model.name, tuple(counted), tuple(skipped), root)


def unwrapped(model: Any) -> tuple[Any, BlockReport | None]:
    """The network inside what wraps one, and the blocks that count there.

    What wraps a network says so by its `block_report`; any other is its own network.
    """
    report = getattr(model, "block_report", None)
    if isinstance(report, BlockReport):
        return model.network, report
    return model, None


def _check_is_built(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Residual blocks are found in a keras.Model. Received: "
            f"{model!r} (of type {type(model).__name__}). Wrap a single layer as "
            "keras.Sequential([keras.Input(shape), layer])."
        )
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} ({type(model).__name__}) is not built, so its "
            "layers are not connected yet. Call it once on a batch, or give a "
            "Sequential model a keras.Input(shape) as its first entry."
        )


def _closed(root: Call) -> str:
    return (
        f"{root.label!r} ({type(root.operation).__name__}) has a call() of its own "
        f"that cannot be looked into ({root.closed}). Name the layers that move the "
        "data with blocks=[...], or express the model with the Functional API: "
        "keras.Model(inputs, outputs)."
    )


def _check_not_named(block: FoundBlock, blocks: Selection) -> None:
    """Raises if the user named a block that is left out for its shortcut."""
    operation = block.call.operation
    names = {block.block.name, operation.name}
    named = blocks if isinstance(blocks, Sequence) and blocks != "auto" else ()
    if any(item is operation or item in names for item in named):
        raise ValueError(
            f"blocks names {block.block.name!r}, but {PROJECTION}. Pass "
            "include_projections=True, or leave it out of blocks."
        )
