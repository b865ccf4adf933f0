"""The exits of a network: what it returns if only its first blocks run.

Exit k is the output with ``x_{j+1} := x_j`` for all blocks j from k on. What runs
before a block that is left out was recorded in the one pass; only what follows it, the
head and later transitions, runs again. It does so in inference: moving statistics would
see K + 1 distributions in the place of one. States of one shape go through it stacked
on the axis of the batch, in one call for all exits.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_lap._checks import refusal
from keras_lap.blocks import (
    ACTIVATION,
    COPY,
    DIFFERENCE,
    LAYER,
    MODEL,
    OWN,
    SUM,
    BlockReport,
    Call,
    Tensor,
    every_call,
    view,
    why_hidden,
)
from keras_lap.trajectory.cuts import ADVICE, Cuts, call_again, find_cuts
from keras_lap.trajectory.made_again import Again, HandlingMasks, Parts
from keras_lap.trajectory.plan import Look

# Functions of tensors that have nothing to do with other samples of the batch.
_ALONE = {ACTIVATION, COPY, DIFFERENCE, SUM}


@contextlib.contextmanager
def leaving_no_trace(variables: Sequence[keras.Variable]) -> Iterator[None]:
    """Runs something of which no new value of a variable and no added loss remains.

    Args:
        variables: What it may read; gradients by their values of now are taken.
    """
    # A scope on JAX lies within that of the step, which knows their values.
    values = [(variable, variable.value) for variable in variables]
    with keras.StatelessScope(values):
        yield


@dataclass(frozen=True, eq=False)
class RecordedInput(Look):
    """A tensor that the exits begin with.

    Attributes:
        around: The calls around its graph.
    """

    around: tuple[Call, ...] = ()

    @property
    def path(self) -> tuple[Call, ...]:
        """As in `Look`; the tensor may lie elsewhere than a block."""
        return self.around


class Exits:
    """How the exits of a network are computed from what one pass records.

    Args:
        report: The blocks of the network.
        wanted: Which exits, from 0 to K; the last is the output of the network itself.

    Attributes:
        looks: What the pass has to record.

    Raises:
        ValueError: If a block cannot be left out, or there is no such exit.
    """

    def __init__(self, report: BlockReport, wanted: Collection[int]):
        self._wanted, self._blocks = set(wanted), len(report)
        if not self._wanted <= set(range(self._blocks + 1)):
            accepted = (
                f"be whole numbers from 0 to {self._blocks}, the number of blocks"
            )
            raise refusal("exits", accepted, wanted)
        cuts = find_cuts(report)
        skipping = sorted(self._wanted - {self._blocks})
        rerun = _Rerun(cuts, skipping) if skipping else None
        found = rerun.outputs() if rerun else {}
        self._places = list(found)
        self._layer = None
        self.looks: Sequence[RecordedInput] = ()
        if rerun and found:
            self.looks = [_look(report, tensor) for tensor in rerun.recorded]
            inputs = list(rerun.recorded.values())
            model = HandlingMasks(inputs, list(found.values()), name="exits.rerun")
            self._layer = InInference(model, [output for _, output in found])

    def with_exits(self, tap: Any) -> Any:
        """What records, with one more result for the exits.

        Args:
            tap: What `tap` returns; the last that it sees are `looks`. A model that is
                a graph stays one.
        """
        if self._layer is None:
            return tap
        if isinstance(tap, keras.Model):
            return keras.Model(tap.input, self._and_exits(tap.output), name=tap.name)
        return lambda *args, **kwargs: self._and_exits(tap(*args, **kwargs))

    def _and_exits(self, result: dict[str, Any]) -> dict[str, Any]:
        assert self._layer is not None  # as of exits that are not those of the network
        seen = result["seen"][-len(self.looks) :]
        outputs = keras.tree.flatten(result["outputs"])
        inputs = {"inputs": [calls[0][0] for calls in seen], "outputs": outputs}
        return {**result, "exits": self._layer(inputs)}

    def of(self, result: dict[str, Any]) -> list[Any]:
        """The exits 0 to K, each nested as the network's outputs; None if not wanted.

        Args:
            result: What the model returned.
        """
        rerun = dict(zip(self._places, result.get("exits", ()), strict=True))
        outputs = result["outputs"]
        flat = keras.tree.flatten(outputs)
        exits: list[Any] = [None] * (self._blocks + 1)
        for k in self._wanted:
            own = [rerun.get((k, index), one) for index, one in enumerate(flat)]
            exits[k] = keras.tree.pack_sequence_as(outputs, own)
        return exits


def _look(report: BlockReport, tensor: Tensor) -> RecordedInput:
    """Where a tensor that the exits begin with is to be seen.

    Raises:
        ValueError: If it cannot be.
    """
    around = () if tensor.producer is None else tensor.producer.path
    graph = around[-1].inside if around else report.root.inside
    assert graph is not None  # as of what holds a tensor
    made_of_nothing = tensor.producer is None and tensor not in graph.inputs
    reason = "it is made of weights alone" if made_of_nothing else ""
    reason = reason or why_hidden(graph, (tensor,))
    if reason:
        label = (around[-1] if around else report.root).label
        raise ValueError(
            f"A tensor between the blocks in the call() of {label!r}, of shape "
            f"{tensor.shape}, cannot be seen while it runs ({reason}), so they cannot "
            f"be left out. {ADVICE}"
        )
    views = (view(graph, tensor),) if graph.is_call else ()
    return RecordedInput(report.found[0], (tensor,), views, around)


class _Rerun:
    """Calls again what follows the blocks that are left out, on symbolic tensors.

    At exit k a tensor depends on which of the blocks before it are left out: those from
    k on. So it has one value for each of these blocks, and the one that was recorded.

    Args:
        cuts: The graph of a network.
        exits: Which exits, in order; not the last one.

    Attributes:
        recorded: Tensors that were recorded, and what stands for them.
    """

    def __init__(self, cuts: Cuts, exits: Sequence[int]):
        self._cuts, self._exits = cuts, exits
        self.recorded: dict[Tensor, keras.KerasTensor] = {}
        self._blocks: dict[Tensor, tuple[int, ...]] = {}
        self._values: dict[Tensor, _Values] = {}
        ends = {after: (k, before) for k, (before, after) in enumerate(cuts.states)}
        needed = cuts.needed(range(len(cuts.states)))
        for call in cuts.calls:
            before = {k for each in cuts.inputs(call) for k in self._before(each)}
            again = []
            for tensor in call.outputs:
                self._blocks[tensor] = tuple(sorted(before))
                if tensor in ends:
                    block, start = ends[tensor]
                    self._blocks[tensor] = (*self._before(start), block)
                    if tensor in needed:
                        alike = self._alike(tensor)
                        parts = [self._at(start, exit) for exit in alike]
                        self._values[tensor] = _Values(alike, parts)
                elif tensor in needed and self._alike(tensor):
                    again.append(tensor)
            if again:
                values = self._call(call, self._alike(again[0]))
                self._values.update((each, values[each]) for each in again)

    def outputs(self) -> dict[tuple[int, int], Any]:
        """The exits of each output of the network that are not this output itself."""
        found = {}
        for index, tensor in enumerate(self._cuts.outputs):
            for exit in self._exits:
                if self._first(tensor, exit) is not None:
                    found[exit, index] = self._at(tensor, exit)
        ends = {id(symbol) for symbol in self.recorded.values()}
        copy = keras.layers.Identity(autocast=False, name="exits.copy")
        # See `model_tap` on models that return their very input.
        return {k: copy(x) if id(x) in ends else x for k, x in found.items()}

    def _before(self, tensor: Tensor) -> tuple[int, ...]:
        """The blocks that a tensor depends on."""
        return self._blocks.get(tensor, ())

    def _first(self, tensor: Tensor, exit: int) -> int | None:
        """The first exit that a tensor has the same value at; None if recorded."""
        blocks = self._before(tensor)
        index = bisect_left(blocks, exit)
        if index == len(blocks):
            return None
        start = blocks[index - 1] + 1 if index else 0
        return self._exits[bisect_left(self._exits, start)]

    def _alike(self, tensor: Tensor) -> list[int]:
        """The first of all exits that are alike, where a tensor is not as recorded."""
        firsts = (self._first(tensor, exit) for exit in self._exits)
        return list(dict.fromkeys(each for each in firsts if each is not None))

    def _at(self, tensor: Tensor, exit: int) -> Any:
        """The value of a tensor at an exit."""
        first = self._first(tensor, exit)
        if first is not None:
            return self._values[tensor].at(first)
        if tensor not in self.recorded:
            symbol = self._cuts.script.symbol(tensor)
            name = f"exits.input{len(self.recorded)}"
            self.recorded[tensor] = keras.Input(
                batch_shape=symbol.shape, dtype=symbol.dtype, name=name
            )
        return self.recorded[tensor]

    def _call(self, call: Call, exits: list[int]) -> dict[Tensor, _Values]:
        """Calls an operation again for some exits, at once if that is possible."""
        inputs = dict.fromkeys(self._cuts.inputs(call))
        operation = Again(call.operation, f"exits.call{call.index}.{len(self._values)}")
        if len(exits) > 1 and _treats_samples_alone(call):
            stacked = {each: self._stacked(each, exits) for each in inputs}
            results = call_again(call, self._cuts, stacked, operation)
            values = [_Values(exits, whole=result) for result in results]
        else:
            given = [{each: self._at(each, exit) for each in inputs} for exit in exits]
            each = [call_again(call, self._cuts, one, operation) for one in given]
            values = [_Values(exits, list(one)) for one in zip(*each, strict=True)]
        return dict(zip(call.outputs, values, strict=True))

    def _stacked(self, tensor: Tensor, exits: list[int]) -> Any:
        values = self._values.get(tensor)
        if values is None or values.exits != exits:
            values = _Values(exits, [self._at(tensor, exit) for exit in exits])
        return values.stacked()


class _Values:
    """The values of a tensor at some exits: each, or all on the axis of the batch."""

    def __init__(self, exits: list[int], parts: Any = None, whole: Any = None):
        self.exits, self._parts, self._whole = exits, parts, whole

    def at(self, exit: int) -> Any:
        if self._parts is None:
            self._parts = Parts(len(self.exits))(self._whole)
        return self._parts[self.exits.index(exit)]

    def stacked(self) -> Any:
        if self._whole is None:
            first, *others = self._parts
            together = keras.layers.Concatenate(axis=0, autocast=False)
            self._whole = together(self._parts) if others else first
        return self._whole


def _treats_samples_alone(call: Call) -> bool:
    """Whether what an operation makes of a sample is known to need no other sample.

    In inference, as all layers of Keras do. Sizes of a batch that are known may be in
    what the operation was called with.
    """
    tensors = (*call.inputs, *call.outputs)
    if any(tensor.shape[:1] != (None,) for tensor in tensors) or OWN in call.roles:
        return False
    if MODEL in call.roles:
        return all(map(_treats_samples_alone, every_call(call.inside)))
    return LAYER in call.roles or not _ALONE.isdisjoint(call.roles)


class InInference(keras.layers.Layer):
    """Runs a model in inference within one that trains, and leaves no trace of it.

    Args:
        model: The model.
        outputs: Of each of its outputs, the index of that of the network around it
            which has the same mask.
    """

    def __init__(self, model: keras.Model, outputs: Sequence[int]):
        super().__init__(autocast=False, dtype="float32", name="exits")
        self.model = model
        self.supports_masking = True
        self._outputs = list(outputs)
        self._end = keras.layers.Identity()
        again = (each for each in model.operations if isinstance(each, Again))
        self._read = [
            variable
            for each in again
            for variable in getattr(each.operation, "variables", ())
        ]
        self.built = True

    def call(self, values: dict[str, Any], training: bool | None = None) -> list[Any]:
        """The outputs of the model.

        Args:
            values: Its `inputs`, and the `outputs` of the network.
            training: Whether the network trains.
        """
        with leaving_no_trace(self._read):
            results = self.model(values["inputs"], training=False)
        # The layers that are called next take this from the last call.
        self._end(values["outputs"][0], training=training)
        return keras.tree.flatten(results)

    def compute_mask(self, values: Any, previous_mask: Any) -> list[Any]:
        """The masks of the network's outputs."""
        masks = keras.tree.flatten(previous_mask["outputs"])
        return [masks[index] for index in self._outputs]

    def compute_output_spec(self, values: Any, training: Any = None) -> Any:
        """The shapes and types of the model's outputs."""
        return [keras.KerasTensor(x.shape, x.dtype) for x in self.model.outputs]
