"""Records what goes into layers and comes out of them while another layer calls them.

Keras has no hook around a layer's `call`. While a `CallTap` runs its layer, and no
longer, the layers to be watched have a stand-in for their `call`; what it sees goes to
the recording of the thread it runs in, and other threads run as if it were not there.
Checked on Keras 3.15.1, which looks `call` up on the layer at every call.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_lap.blocks import Call, View, layers_below, take_handed_on
from keras_lap.trajectory.plan import Look


class CallTap(keras.Operation):
    """Runs a layer and returns its outputs and what is to be seen inside its call.

    Args:
        layer: A layer that was looked into, or that calls layers which were asked for.
        plans: What is to be seen inside its call at any depth, of blocks and masks.
        own: Those of them whose tensors lie in the graph of the call itself.
        within: The others, by the calls in that graph that hold them.
        taps: What to run in the place of these calls; see `model_tap.tap`.
        use: Which call of `layer` this is in the one around it.
    """

    def __init__(
        self,
        layer: keras.Layer,
        plans: Sequence[Look],
        own: Sequence[Look],
        within: Mapping[Call, Sequence[Look]],
        taps: Mapping[Call, Any],
        use: int,
    ):
        super().__init__(name=f"{layer.name}.tap{use + 1}")
        self.layer = layer
        take_handed_on(self, layer)
        self._plans = plans
        self.views = defaultdict(list)
        for plan in own:
            for slot, view in enumerate(plan.views):
                self.views[id(view.layer)].append((plan, slot, view))
        self.taps = {
            (id(call.operation), call.number): (taps[call], within[call])
            for call in taps
        }
        every = (view for plan in own for view in plan.views)
        self.at_every_depth = any(view.number is None for view in every)
        wanted = {key for key, _ in self.taps} | set(self.views)
        wanted.discard(id(None))
        # A watched layer may be called inside another layer too, where it is not
        # meant: that one is watched for being left alone.
        self._watched = [
            below
            for below in layers_below(layer)
            if not wanted.isdisjoint(map(id, [below, *layers_below(below)]))
        ]
        self.watched = {id(watched) for watched in self._watched}

    def call(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Runs the layer; see the class."""
        return self.record(self.layer, args, kwargs)

    def record(
        self, call: Callable[..., Any], args: tuple, kwargs: dict
    ) -> dict[str, Any]:
        """Runs `call`, which is the layer or its `call`, and records inside it."""
        recording = _Recording(self)
        with _stand_ins(self._watched), _within(recording):
            outputs = call(*args, **kwargs)
        recording.see(None, 0, args, kwargs, outputs)
        return {
            "outputs": outputs,
            "seen": [recording.seen(plan) for plan in self._plans],
        }


class _Recording:
    """What one run of a `CallTap` has seen so far."""

    def __init__(self, tap: CallTap):
        self._tap = tap
        self._counts: Counter[int] = Counter()
        self._values: dict[tuple[Look, int], list[Any]] = defaultdict(list)
        self._inner: dict[Look, list[list[Any]]] = {}
        self._late: list[tuple[Look, int, Any]] = []

    def watches(self, layer: keras.Layer) -> bool:
        return id(layer) in self._tap.watched

    def run(
        self, layer: keras.Layer, call: Callable[..., Any], args: tuple, kwargs: dict
    ) -> Any:
        """Runs the call of a watched layer and records it."""
        self._read_late()
        number = self._counts[id(layer)]
        self._counts[id(layer)] += 1
        tap, inner = self._tap.taps.get((id(layer), number), (None, []))
        # What a call does in turn is another matter, unless it is looked for anywhere.
        with _within(self if self._tap.at_every_depth else None):
            if tap is None:
                result = call(*args, **kwargs)
            else:
                recorded = _run(tap, call, args, kwargs)
                result = recorded["outputs"]
                self._inner.update(zip(inner, recorded["seen"], strict=True))
        self.see(layer, number, args, kwargs, result)
        return result

    def see(
        self,
        layer: keras.Layer | None,
        number: int,
        args: tuple,
        kwargs: dict,
        result: Any,
    ) -> None:
        """Keeps the tensors of one call that a block wants."""
        for plan, slot, view in self._tap.views.get(id(layer), ()):
            if view.number in (None, number):
                value = _look(view, args, kwargs, result)
                if view.result is None:
                    self._values[plan, slot].append(plan.read(value))
                else:
                    self._late.append((plan, slot, value))

    def _read_late(self) -> None:
        """Reads what a call has returned, once Keras has put its mask on it.

        Keras does so after the `call`; at the next one that is watched, it has.
        """
        for plan, slot, value in self._late:
            self._values[plan, slot].append(plan.read(value))
        self._late.clear()

    def seen(self, plan: Look) -> list[list[Any]]:
        """What was to be seen of a block, once for each of its calls."""
        self._read_late()
        if plan in self._inner:
            return self._inner[plan]
        seen = [self._values[plan, slot] for slot in range(len(plan.views))]
        for view in plan.views:
            number = self._counts[id(view.layer)]
            if view.layer is not None and view.count not in (None, number):
                raise _other_way(plan, view.layer, f"{number} times", view.count)
        if not seen or not all(seen):
            raise _other_way(plan, self._tap.layer, "without it", "with it")
        return [list(each) for each in zip(*seen, strict=True)]


def _look(view: View, args: tuple, kwargs: dict, result: Any) -> Any:
    """The tensor at a view, given what went into the call and came out."""
    if view.result is not None:
        return keras.tree.flatten(result)[view.result]
    value: Any = (args, kwargs)
    if view.path is None:
        return _first_state(view.layer, args, kwargs, result)
    for key in view.path:
        value = value[key]
    return value


def _first_state(layer: Any, args: tuple, kwargs: dict, result: Any) -> Any:
    """The state that a layer moves, if its first argument tells."""
    first = keras.tree.flatten([*args, *kwargs.values()][0])
    if len(first) == 1:
        return first[0]
    shape = keras.tree.flatten(result)[0].shape
    able = [each for each in first if tuple(each.shape) == tuple(shape)]
    if len(able) == 1:
        return able[0]
    raise ValueError(
        f"blocks names {layer.name!r}, which is called where nobody can look, with "
        f"{len(able)} tensors of the shape of its output: which of them is its state "
        "is not known. Pass the state alone as the first argument of the layer, or "
        "name the layer around it."
    )


def _run(tap: Any, call: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """Runs the tap of a layer in the place of the layer's `call`."""
    if isinstance(tap, CallTap):
        return tap.record(call, args, kwargs)
    return tap(*args, **kwargs)


def _other_way(plan: Look, layer: Any, now: Any, before: Any) -> RuntimeError:
    return RuntimeError(
        f"The block {plan.found.block.name!r} was not reached as it was when its "
        f"network was looked into: {layer.name!r} was called {now} instead of "
        f"{before}. A block must be called alike at every step. Leave it out by "
        "blocks=..., or name the layer around it."
    )


_threads = threading.local()
_lock = threading.Lock()
_holders: Counter[int] = Counter()


@contextlib.contextmanager
def _within(recording: _Recording | None) -> Iterator[None]:
    """Makes `recording` the one that this thread's watched calls go to."""
    outer = getattr(_threads, "recording", None)
    _threads.recording = recording
    try:
        yield
    finally:
        _threads.recording = outer


@contextlib.contextmanager
def _stand_ins(layers: list[keras.Layer]) -> Iterator[None]:
    """Gives layers a stand-in for their `call` until the last holder leaves."""
    with _lock:
        for layer in layers:
            if not _holders[id(layer)]:
                vars(layer)["call"] = _StandIn(layer, vars(layer).get("call"))
            _holders[id(layer)] += 1
    try:
        yield
    finally:
        with _lock:
            for layer in layers:
                _holders[id(layer)] -= 1
                if not _holders[id(layer)]:
                    del _holders[id(layer)]
                    vars(layer)["call"].leave()


class _StandIn:
    """Stands in for a layer's `call`: tells the thread's recording, if it is meant."""

    def __init__(self, layer: keras.Layer, own: Callable[..., Any] | None):
        self._layer = layer
        self._own = own  # what the user had put on the layer, if anything
        self._call = own or functools.partial(type(layer).call, layer)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        recording = getattr(_threads, "recording", None)
        if recording is None or not recording.watches(self._layer):
            return self._call(*args, **kwargs)
        return recording.run(self._layer, self._call, args, kwargs)

    def leave(self) -> None:
        """Puts back what was there before."""
        del vars(self._layer)["call"]
        if self._own is not None:
            vars(self._layer)["call"] = self._own
