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
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_lap.blocks.graph import Node
from keras_lap.blocks.report import Site

Move = list[Any]  # the parts of the displacement, or the states before and after


class CallTap(keras.Operation):
    """Runs a layer and returns its outputs and the states inside its call.

    Args:
        layer: A layer that was opened, or that calls layers which were asked for.
        sites: The blocks inside its call, at any depth.
        depth: How many calls are around that of `layer`.
        use: Which call of `layer` this is in the one around it.
        tap: Makes the tap of a model or layer that `layer` calls, from the node of
            that call and the blocks in it.
    """

    def __init__(
        self,
        layer: keras.Layer,
        sites: tuple[Site, ...],
        depth: int,
        use: int,
        tap: Callable[[Node, tuple[Site, ...]], Any],
    ):
        super().__init__(name=f"{layer.name}.tap{use + 1}")
        self.layer = layer
        self._sites = sites
        groups: dict[Node, list[Site]] = defaultdict(list)
        self.ports = defaultdict(list)
        for site in sites:
            if len(site.path) > depth:
                groups[site.path[depth]].append(site)
            for slot, port in enumerate(site.ports if len(site.path) == depth else ()):
                self.ports[id(port.layer)].append((site, slot, port))
        self.taps = {
            (id(node.operation), node.call): (tap(node, tuple(inner)), inner)
            for node, inner in groups.items()
        }
        every = (port for entries in self.ports.values() for _, _, port in entries)
        self.at_every_depth = any(port.call is None for port in every)
        self._watched = self._layers_to_watch(groups)
        self.watched = {id(watched) for watched in self._watched}

    def _layers_to_watch(self, groups: Any) -> list[keras.Layer]:
        """The layers with ports or taps, and those that might call them in turn."""
        wanted = {id(node.operation) for node in groups} | set(self.ports)
        wanted.discard(id(None))
        # A watched layer may be called inside another layer too, where it is not
        # meant: that one is watched for being left alone.
        return [
            below
            for below in self.layer._flatten_layers(include_self=False)
            if not wanted.isdisjoint(map(id, below._flatten_layers()))
        ]

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
            "states": [recording.moves(site) for site in self._sites],
        }


class _Recording:
    """What one run of a `CallTap` has seen so far."""

    def __init__(self, tap: CallTap):
        self._tap = tap
        self._counts: Counter[int] = Counter()
        self._values: dict[tuple[Site, int], list[Any]] = defaultdict(list)
        self._inner: dict[Site, list[Move]] = {}

    def watches(self, layer: keras.Layer) -> bool:
        return id(layer) in self._tap.watched

    def run(
        self, layer: keras.Layer, call: Callable[..., Any], args: tuple, kwargs: dict
    ) -> Any:
        """Runs the call of a watched layer and records it."""
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
                self._inner.update(zip(inner, recorded["states"], strict=True))
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
        for site, slot, port in self._tap.ports.get(id(layer), ()):
            if port.call in (None, number):
                self._values[site, slot].append(port.read(args, kwargs, result))

    def moves(self, site: Site) -> list[Move]:
        """How the block moved its state, once for each of its calls."""
        if site in self._inner:
            return self._inner[site]
        seen = [self._values[site, slot] for slot in range(len(site.ports))]
        for port in site.ports:
            number = self._counts[id(port.layer)]
            if port.layer is not None and port.calls not in (None, number):
                raise _other_way(site, port.layer, f"{number} times", port.calls)
        if not seen or not all(seen):
            raise _other_way(site, self._tap.layer, "without it", "with it")
        return [list(move) for move in zip(*seen, strict=True)]


def _run(tap: Any, call: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """Runs the tap of a layer in the place of the layer's `call`."""
    if isinstance(tap, CallTap):
        return tap.record(call, args, kwargs)
    return tap(*args, **kwargs)


def _other_way(site: Site, layer: Any, now: Any, before: Any) -> RuntimeError:
    return RuntimeError(
        f"The block {site.block.name!r} was not reached as it was when its network was "
        f"looked into: {layer.name!r} was called {now} instead of {before}. A block "
        "must be called alike at every step. Leave it out by blocks=..., or name the "
        "layer around it."
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
