"""`controls`: the weights by which each block moves the data."""

from __future__ import annotations

import keras

from keras_lap.blocks import BlockReport, FoundBlock, Selection, find_residual_blocks


def controls(
    net: keras.Model, blocks: Selection = "auto"
) -> list[list[keras.Variable]]:
    """The controls u_k of a network: the trainable weights on each block's branch.

    Biases are among them; stem, head and frozen weights are not. Weights that blocks
    share are in the list of each of them. A weight that the `call` of a model works on
    before it meets the state, as by transposing it, is not seen; one of a layer is.

    Args:
        net: A model, built.
        blocks: Which blocks count; see `keras_lap.find_residual_blocks`. Defaults to
            `"auto"`, all of them.

    Returns:
        For each of the K blocks, in forward order, a list of variables, each of them
        once.

    Raises:
        ValueError: As `keras_lap.find_residual_blocks`.
        TypeError: Likewise.

    Examples:
        >>> first, *others = keras_lap.running_costs.controls(network)
        >>> [variable.path for variable in first]
    """
    return of_report(find_residual_blocks(net, blocks))


def of_report(report: BlockReport) -> list[list[keras.Variable]]:
    """As `controls`, of blocks that were found already."""
    return [_trainable(found) for found in report.found]


def _trainable(found: FoundBlock) -> list[keras.Variable]:
    variables = [v for layer in found.layers for v in layer.trainable_variables]
    variables += [v for v in found.variables if v.trainable]
    return list({id(variable): variable for variable in variables}.values())
