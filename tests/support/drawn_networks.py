"""Draws random residual networks, as `Net`s: by Hypothesis, or by the thousand."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from support.graph_specs import ADDITIONS, SUBTRACTIONS, Net, Ref

ACTS = ("relu", "tanh", "relu op", "silu op", "softmax")
PLAIN = ("conv", "pointwise", "norm", "act", "dropout", "constant", "scale")
BRANCHES = (
    "plain",
    "plain",
    "deep",
    "starts with an activation",
    "gate",
    "split",
    "nested model",
    "other output",
    "shape only",
    "blocks",
)
SHORTCUTS = (
    "projection",
    "normalised projection",
    "pooling",
    "dense",
    "activated",
    "wide",
    "copy",
    "nested model",
)


@st.composite
def networks(draw, long_skips: bool = True) -> Net:
    """A network of images `(8, 8, 4)` with residual blocks of every make."""
    return _drawn(_Hypothesis(draw), long_skips)


def random_network(seed: int) -> Net:
    """The network of a seed, of the same kinds; a hundred times as quick to draw."""
    return _drawn(_Random(seed), long_skips=True)


def _drawn(choose, long_skips: bool) -> Net:
    draft = _Draft(choose, (8, 8, 4), 0, [], long_skips)
    return draft.finish(choose.integer(1, 4))


class _Hypothesis:
    """Choices that Hypothesis can make simpler where a test fails."""

    def __init__(self, draw):
        self._draw = draw

    def pick(self, *choices):
        return self._draw(st.sampled_from(choices))

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def order(self, items: list) -> list:
        return self._draw(st.permutations(items))


class _Random:
    """Choices by a generator of random numbers."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def pick(self, *choices):
        return self._random.choice(choices)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def order(self, items: list) -> list:
        return self._random.sample(items, len(items))


class _Draft:
    """A net in the making.

    Attributes:
        trunk: Where its next operation goes.
        keeps_side: Whether no image may become smaller.
        states: What lay on the trunk so far, for long skips.
        models: The nested nets so far, to be called again.
    """

    def __init__(self, choose, shape, depth: int, models: list[Net], long_skips: bool):
        self.choose, self.depth, self.models = choose, depth, models
        self.long_skips, self.keeps_side = long_skips, False
        self.net = Net("net" if depth == 0 else f"model{len(models)}")
        self.trunk = self.net.add("input", shape=shape)
        self.states: list[Ref] = []
        self.extra: list[Ref] = []
        # Calls side by side have no order, by which the report could number them.
        self.call_again = True
        models.append(self.net)

    def pick(self, *choices):
        return self.choose.pick(*choices)

    def often(self) -> bool:
        return self.pick(True, True, True, False)

    def finish(self, elements: int) -> Net:
        for _ in range(elements):
            self.states.append(self.trunk)
            if self.depth == 0 and not self.often():
                self.extra.append(self.net.add(self.pick(*ACTS), self.trunk))
            kinds = ["residual"] * 6 + ["plain", "plain", "carry", "model", "fusion"]
            getattr(self, self.pick(*kinds))()
        if self.trunk == (0, 0):
            self.plain()
        if self.depth == 0 and not self.often():
            self.extra.append(self.pick(*self.states))
        outputs = [self.trunk, *(ref for ref in self.extra if ref != (0, 0))]
        self.net.end(*(outputs if self.depth == 0 else outputs[:1]))
        self.net.sequential = self.net.is_chain() and self.pick(True, False)
        return self.net

    def plain(self) -> None:
        kind = self.pick(*PLAIN)
        size = {"conv": 3, "pointwise": 1}.get(kind)
        if size:
            self.trunk = self.conv(self.trunk, self.pick(2, 4), size=size)
        else:
            kind = {"norm": self.norm(), "act": self.pick(*ACTS)}.get(kind, kind)
            self.trunk = self.net.add(kind, self.trunk)

    def carry(self) -> None:
        self.trunk = self.net.add("carry", self.trunk)

    def norm(self) -> str:
        return self.pick("batch norm", "layer norm")

    def conv(self, x: Ref, filters: int, **options) -> Ref:
        return self.net.add("conv", x, filters=filters, **options)

    def model(self) -> None:
        self.trunk = self.nested(self.trunk)

    def nested(self, x: Ref) -> Ref:
        """Calls a nested model, a new one or one that was called before."""
        shape = self.net.shape(x)
        again = [
            net
            for net in self.models
            if self.call_again and net.outputs and net.shapes[0][0] == shape
            if len(net.outputs) == 1
            if not self.keeps_side or net.shape(net.outputs[0])[0] == shape[0]
        ]
        if again and self.pick(True, False):
            net = self.pick(*again)
        elif self.depth == 2:
            return self.conv(x, 4, size=3)
        else:
            draft = _Draft(
                self.choose, shape, self.depth + 1, self.models, self.long_skips
            )
            draft.keeps_side = self.keeps_side
            net = draft.finish(self.pick(1, 2))
        return self.net.add("model", x, net=net)

    def residual(self) -> None:
        """A sum, most often one that closes a residual block."""
        x = self.trunk
        side, _, filters = self.net.shape(x)
        shape = (side, side, filters)
        if not self.often():
            if side > 2 and not self.keeps_side and self.pick(True, False):
                side //= 2
            shape = (side, side, self.pick(2, 4))
        terms = [self.shortcut(x, shape)] if self.often() else []
        may = self.call_again, self.keeps_side
        self.keeps_side = True
        while len(terms) < 2 or (len(terms) < 3 and not self.often()):
            terms.append(self.branch(x, shape))
            self.call_again = False
        self.call_again, self.keeps_side = may
        skips = [s for s in self.states if s != x and self.net.shape(s) == shape]
        if self.long_skips and skips and not self.often():
            terms.append(self.pick(*skips))
        if self.net.shape(x) == shape and not self.often():
            terms.append(self.net.add("squeeze", x))  # broadcast by the sum
        self.trunk = self.sum(self.choose.order(list(dict.fromkeys(terms))))
        after = self.pick("nothing", "act", "act", "norm")
        if after != "nothing":
            kind = self.norm() if after == "norm" else self.pick(*ACTS)
            self.trunk = self.net.add(kind, self.trunk)

    def fusion(self) -> None:
        """The sum of two streams, each of which ends in a sum."""
        ends, may = [], (self.call_again, self.keeps_side)
        self.keeps_side = True
        for x in (self.trunk, self.conv(self.trunk, self.net.shape(self.trunk)[-1])):
            ends.append(self.sum([x, self.branch(x, self.net.shape(x))]))
            self.call_again = False
        self.call_again, self.keeps_side = may
        self.trunk = self.sum(ends)

    def sum(self, terms: list[Ref]) -> Ref:
        """All terms at once or two by two, perhaps with a constant."""
        if self.pick(True, False):
            return self.net.add("layers.Add", *terms)
        if not self.often():
            terms[0] = self.net.add(self.pick("constant", "less", "from"), terms[0])
        while len(terms) > 1:
            n = self.choose.integer(0, len(terms) - 2)
            kind = self.pick(*ADDITIONS, *ADDITIONS, *SUBTRACTIONS)
            total = self.net.add(kind, *terms[n : n + 2])
            terms[n : n + 2] = [total]
            if not self.often() and not self.often():
                self.extra.append(total)
        return terms[0]

    def shortcut(self, x: Ref, shape: tuple[int, ...]) -> Ref:
        """`x` itself, or a way from it to `shape` that may be a projection."""
        side, _, filters = shape
        if self.net.shape(x) == shape and self.often():
            return x
        strides = self.net.shape(x)[0] // side
        kind = self.pick(*SHORTCUTS)
        if kind == "copy" and self.net.shape(x) == shape:
            return self.net.add(self.pick("identity", "linear"), x)
        if kind == "nested model":
            return self.projection_model(x, filters, strides)
        if strides == 2 and kind in ("pooling", "dense"):
            x = self.net.add(self.pick("average", "maximum"), x)
            if kind == "pooling" and self.net.shape(x) == shape:
                return x
            strides = 1
        if kind == "dense":
            return self.net.add("dense", x, filters=filters)
        options = {"wide": {"size": 3}, "activated": {"activation": "relu"}}
        x = self.conv(x, filters, strides=strides, **options.get(kind, {}))
        return self.net.add(self.norm(), x) if "normalised" in kind else x

    def projection_model(self, x: Ref, filters: int, strides: int) -> Ref:
        """A projection that is a model of its own."""
        net = Net(f"model{len(self.models)}")
        self.models.append(net)
        end = net.add("input", shape=self.net.shape(x))
        end = net.add("conv", end, filters=filters, strides=strides)
        net.end(net.add(self.norm(), end) if self.often() else end)
        net.sequential = self.pick(True, False)
        return self.net.add("model", x, net=net)

    def branch(self, x: Ref, shape: tuple[int, ...]) -> Ref:
        """A way from `x` to `shape` that is no shortcut."""
        add, kind = self.net.add, self.pick(*BRANCHES)
        if kind == "deep":
            x = add("dropout", add(self.pick(*ACTS), self.conv(x, 4, size=3)))
        elif kind == "starts with an activation":
            x = add(self.pick(*ACTS), add(self.norm(), x) if self.often() else x)
        elif kind == "split":
            half, _ = add("split", x)
            x = add("concatenate", (half, 0), add("relu", (half, 1)))
        elif kind == "nested model":
            x = self.nested(x)
        elif kind == "other output":
            x = self.two_streams(x)
        elif kind == "shape only":
            x = add("zeros", x)
        elif kind == "blocks" and self.long_skips:
            trunk, self.trunk = self.trunk, self.conv(x, 4) if self.often() else x
            self.residual()
            x, self.trunk = self.trunk, trunk
            if self.net.shape(x) == shape and self.pick(True, False):
                return x
        strides = max(1, self.net.shape(x)[0] // shape[0])
        x = self.conv(x, shape[-1], size=3, strides=strides)
        if kind == "gate":
            gate = add("dense", add("squeeze", x), filters=shape[-1], activation="tanh")
            x = add("multiply", x, gate)
        return x

    def two_streams(self, x: Ref) -> Ref:
        """An output of a model whose other output alone is computed from `x`."""
        shape = self.net.shape(x)
        net = Net(f"model{len(self.models)}")
        self.models.append(net)
        ends = [net.add("input", shape=shape) for _ in range(2)]
        net.end(*(net.add("conv", end, filters=4, size=3) for end in ends))
        blank = self.net.add("zeros", x)
        call, _ = self.net.add("model", x, blank, net=net)
        return call, self.pick(0, 1)
