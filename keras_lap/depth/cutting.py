"""`exits` and `prune`: a network with fewer blocks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import keras

from keras_lap._checks import is_number, is_whole, refusal
from keras_lap.blocks import BlockReport, Selection, find_residual_blocks
from keras_lap.trajectory import all_exits, without


def exits(net: keras.Model, blocks: Selection = "auto") -> keras.Model:
    """What a network returns if only its first 0, 1, …, K blocks run.

    A block is left out by ``x_{k+1} := x_k``, an activation of its sum included. A
    projection block is none of these, as in `keras_lap.find_residual_blocks`, and runs
    as a whole. All exits are computed in one pass: what follows a block that is left
    out, the head and later transitions, runs once more, in inference even while the
    network trains. Saved, it is the network and the names of the blocks.

    Args:
        net: A network, built; of a `keras_lap.LeastActionModel`, the one that it
            trains.
        blocks: Which blocks count; see `keras_lap.find_residual_blocks`. Defaults to
            `"auto"`, all of them.

    Returns:
        A model over the same layers with a list of K + 1 outputs, each nested as those
        of the network; the last is the network's own.

    Raises:
        ValueError: If there is no block, or one lies in the `call` of a layer or model
            that cannot be made again: one that does not run on batches of unknown
            size, or computes behind the block with weights or functions of its own;
            and as `keras_lap.find_residual_blocks`.
        TypeError: As `keras_lap.find_residual_blocks`.

    Examples:
        >>> first, *others, last = keras_lap.depth.exits(network)(images)
    """
    return Exits(net, blocks)


@keras.saving.register_keras_serializable("keras_lap")
class Exits(keras.Model):
    """What `exits` returns; its arguments are the same."""

    def __init__(self, net: keras.Model, blocks: Selection = "auto"):
        report = find_residual_blocks(net, blocks)
        made = all_exits(report)
        super().__init__(made.input, made.output, name=made.name)
        self._network, self._selection = report.root.operation, tuple(report.selection)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        net = keras.saving.serialize_keras_object(self._network)
        return {"net": net, "blocks": list(self._selection)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Exits:
        """Rebuilds the model from what `get_config` returned."""
        net = keras.saving.deserialize_keras_object(
            config["net"], custom_objects=custom_objects
        )
        return cls(net, config["blocks"])


def prune(
    net: keras.Model, keep: int | Sequence[str], blocks: Selection = "auto"
) -> keras.Model:
    """A network with some of its blocks, without retraining.

    Args:
        net: As in `exits`.
        keep: The number of blocks that are kept, from 0 to all of them, the first ones;
            or the names of those that are, which may leave holes.
        blocks: Which blocks count; the others are always kept. Defaults to `"auto"`,
            all of them.

    Returns:
        A Functional model over the same layers, plain Keras and not compiled; models
        nested in it that held a block which is gone are new ones, as is a Functional
        model in the place of a layer or model whose `call` held one. It shares its
        weights with the network: train or save it, and load that, for a copy of its
        own.

    Raises:
        ValueError: If `keep` is none of these, or the `call` around a block calls
            something else in training; and as `exits`.
        TypeError: As `exits`.

    Examples:
        >>> small = keras_lap.depth.prune(network, 2)
        >>> names = [block.name for block in keras_lap.find_residual_blocks(network)]
        >>> with_holes = keras_lap.depth.prune(network, names[::2])
    """
    report = find_residual_blocks(net, blocks)
    kept = _kept(report, keep)
    skipped = [index for index in range(len(report)) if index not in kept]
    return without(report, skipped, report.root.operation.name)


def _kept(report: BlockReport, keep: Any) -> set[int]:
    """The indices of the blocks that are kept."""
    count = len(report)
    if is_whole(keep, 0) and keep <= count:
        return set(range(int(keep)))
    accepted = f"be a whole number of blocks from 0 to {count}, or a list of names"
    advice = "print(keras_lap.find_residual_blocks(network)) lists the blocks."
    is_list = isinstance(keep, Sequence) and not isinstance(keep, str)
    if is_number(keep) or not is_list or not all(isinstance(k, str) for k in keep):
        raise refusal("keep", accepted, keep, advice)
    names = {found.exact_name: index for index, found in enumerate(report.found)}
    names |= {found.block.name: index for index, found in enumerate(report.found)}
    for name in keep:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=5, cutoff=0.4)
            known = ", ".join(close or list(names)[-count:][:5]) or "none"
            raise ValueError(
                f"keep names {name!r}, which is no block of {report.model_name!r} that "
                f"counts. Close names: {known}. {advice}"
            )
    return {names[name] for name in keep}
