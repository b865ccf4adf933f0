"""A network in parts: from one block's end to the next, and from there to the output.

The parts are models over the network's own layers. What one of them computes goes to
those after it: the state, and whatever a long skip needs later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import keras

from keras_lap.blocks import BlockReport, Call, Tensor, require_blocks
from keras_lap.trajectory.cuts import call_again, find_cuts
from keras_lap.trajectory.made_again import Again, HandlingMasks

Values = dict[Tensor, Any]  # what is known of a batch, `(batch, ...)` each


class Segments:
    """Runs a network block by block, in inference.

    Args:
        report: What was found in it.

    Attributes:
        blocks: Their number K.

    Raises:
        ValueError: If there is no block, or one that cannot be left out.
    """

    def __init__(self, report: BlockReport):
        require_blocks(report, "that could be left out")
        self._cuts = find_cuts(report)
        self.blocks = len(self._cuts.states)
        graph = report.root.inside
        assert graph is not None  # as of a network whose blocks are found
        self._inputs = list(graph.inputs)
        self._makes = {made: call for call in self._cuts.calls for made in call.outputs}
        self._ends = {after: k for k, (_, after) in enumerate(self._cuts.states)}
        states = [self._cuts.states[0][0], *(after for _, after in self._cuts.states)]
        known, numbers = set(self._inputs), range(self.blocks + 1)
        within, onwards = [], []
        for k in numbers:
            within.append(self._needed([states[k]], known, self.blocks))
            known = known.union(*(call.outputs for call in within[k]))
            onwards.append(self._needed(self._cuts.outputs, known, k))
        uses = [self._taken(calls, (), self.blocks) for calls in within]
        ends = [self._taken(onwards[k], self._cuts.outputs, k) for k in numbers]
        self._steps, self._exits = [], []
        known = set(self._inputs)
        for k in numbers:
            later = set().union(*ends[k:], *uses[k + 1 :])
            made = [t for call in within[k] for t in call.outputs if t in later]
            self._steps.append(self._part(within[k], made, self.blocks, f"step{k}"))
            self._exits.append(
                self._part(onwards[k], self._cuts.outputs, k, f"exit{k}")
            )
            known = (known | set(made)) & later
            self._steps[k].keeps = frozenset(known)

    def begin(self, inputs: Iterable[Any]) -> Values:
        """What is known before anything ran.

        Args:
            inputs: The network's inputs, `(batch, ...)` each.
        """
        return dict(zip(self._inputs, inputs, strict=True))

    def step(self, k: int, values: Values) -> Values:
        """Runs on to the end of block k; for k = 0 to the begin of the first.

        Args:
            k: From 0 to K.
            values: What the step before returned.
        """
        part = self._steps[k]
        values = {**values, **dict(zip(part.makes, part(values), strict=True))}
        return {each: values[each] for each in values if each in part.keeps}

    def exit(self, k: int, values: Values) -> list[Any]:
        """The outputs of the network with its first k blocks alone, flat.

        Args:
            k: From 0 to K.
            values: What step k returned.
        """
        return self._exits[k](values)

    def _needed(
        self, targets: Iterable[Tensor], known: Collection[Tensor], kept: int
    ) -> list[Call]:
        """The calls that some tensors take beyond what is known, in order."""
        waiting = [self._resolved(each, kept) for each in targets]
        found: set[Call] = set()
        while waiting:
            tensor = waiting.pop()
            call = self._makes.get(tensor)
            if tensor in known or call is None or call in found:
                continue
            found.add(call)
            waiting += [self._resolved(x, kept) for x in self._cuts.inputs(call)]
        return [call for call in self._cuts.calls if call in found]

    def _resolved(self, tensor: Tensor, kept: int) -> Tensor:
        """The tensor itself, or the state in its place where a block is left out."""
        while self._ends.get(tensor, -1) >= kept:
            tensor = self._cuts.states[self._ends[tensor]][0]
        return tensor

    def _taken(
        self, calls: list[Call], outputs: Iterable[Tensor], kept: int
    ) -> dict[Tensor, None]:
        """What some calls and outputs take from before, in order."""
        made = {tensor for call in calls for tensor in call.outputs}
        inputs = [x for call in calls for x in self._cuts.inputs(call)]
        taken = (self._resolved(each, kept) for each in [*inputs, *outputs])
        return dict.fromkeys(each for each in taken if each not in made)

    def _part(
        self, calls: list[Call], results: Iterable[Tensor], kept: int, name: str
    ) -> _Part:
        results = [self._resolved(each, kept) for each in results]
        taken = list(self._taken(calls, results, kept))
        values = {each: self._input(each) for each in taken}
        symbols = [values[each] for each in taken]
        for number, call in enumerate(calls):
            own = dict.fromkeys(self._cuts.inputs(call))
            inputs = {each: values[self._resolved(each, kept)] for each in own}
            again = Again(call.operation, f"{name}.call{number}")
            made = call_again(call, self._cuts, inputs, again)
            values.update(zip(call.outputs, made, strict=True))
        computed = [each for each in dict.fromkeys(results) if each not in taken]
        outputs = [values[each] for each in computed]
        model = HandlingMasks(symbols, outputs, name=name) if outputs else None
        return _Part(model, taken, computed, results)

    def _input(self, tensor: Tensor) -> keras.KerasTensor:
        symbol = self._cuts.script.symbol(tensor)
        return keras.Input(batch_shape=(None, *symbol.shape[1:]), dtype=symbol.dtype)


class _Part:
    """A model that computes some of the results that are wanted; the rest is known."""

    keeps: Collection[Tensor] = ()

    def __init__(
        self,
        model: keras.Model | None,
        takes: list[Tensor],
        computes: list[Tensor],
        makes: list[Tensor],
    ):
        self._model, self._takes, self._computes = model, takes, computes
        self.makes = makes

    def __call__(self, values: Values) -> list[Any]:
        found = dict(values)
        if self._model is not None:
            results = self._model([values[x] for x in self._takes], training=False)
            flat = keras.tree.flatten(results)  # Keras returns one output alone
            found.update(zip(self._computes, flat, strict=True))
        return [found[each] for each in self.makes]
