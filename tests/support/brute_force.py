"""Which sums of a `Net` are residual blocks, decided by the definition alone.

    x_out = act?(x_in ± r(x_in))

with `x_in` unchanged (identity) or through a shortcut that changes its shape or mixes
its features (projection), and `r` computed from the value of `x_in`. Everything is
written as quantifiers over all tensors, whatever it costs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from support.graph_specs import ADDITIONS, SIGNS, SUBTRACTIONS, Net, called

ACTIVATIONS = (
    "relu",
    "tanh",
    "linear",
    "relu op",
    "silu op",
)  # a softmax is the head's
NORMS = ("batch norm", "layer norm")
COPIES = ("identity", "linear")
SUMS = (*ADDITIONS, *SUBTRACTIONS)
SHIFTS = ("constant", "less", "from")
PROJECTING = ("average", "maximum", *NORMS, *COPIES)

# A tensor of the network with every nested model written out: the calls of models
# around it, the number of its operation and its own number there.
Key = tuple[tuple[str, ...], int, int]
Term = tuple[Key, int]  # with 1, or −1 for what is taken away


@dataclass
class Value:
    """One tensor of the network."""

    kind: str
    shape: tuple[int, ...]
    inputs: list[Key]
    options: dict
    readers: list[Key | None] = field(default_factory=list)  # None: a nested model
    leaves: bool = False  # is an output of its model


@dataclass(frozen=True)
class Block:
    """A sum that closes a residual block, by the definition."""

    kind: str
    total: Key
    source: Key  # x_in
    before: Key  # x_in or its projection
    after: Key = ((), -1, -1)
    branch: frozenset[Key] = frozenset()  # all that r is computed from, and r


class Truth:
    """All that the definition says about a net.

    Attributes:
        blocks: The blocks, each after those that it is computed from.
        outer: Blocks that hold another one on their branch, which counts instead.
        others: Sums of two or more that close no block and are no part of another.
    """

    def __init__(self, net: Net):
        self.values: dict[Key, Value] = {}
        self._write_out(net, (), None)
        self.above: dict[Key, set[Key]] = {}
        for key in self.values:  # each after those that it is computed from
            self.above[key] = self._above(key)
        sums = [k for k, v in self.values.items() if v.kind in SUMS]
        whole = [key for key in sums if not self._is_part(key)]
        options = {key: self._readings(key, self._terms(key)) for key in whole}
        for key, value in self.values.items():
            if value.kind == "carry":
                (x_in,) = value.inputs
                options[key] = [Block("layer", key, x_in, x_in)]
        self.others = [key for key in whole if not options[key]]
        self.blocks: list[Block] = []
        self.outer: list[Block] = []
        bare: set[Key] = set()
        for key in self.values:
            found = options.get(key, [])
            fitting = [
                b for b in found if not any(self._holds(b, i) for i in self.blocks)
            ]
            for block in (fitting or found)[:1]:
                block = replace(block, after=self._after(block, bare))
                if block.after == block.total and block.kind != "layer":
                    bare.add(block.total)
                (self.blocks if fitting else self.outer).append(block)

    def _write_out(self, net: Net, path: tuple[str, ...], given: list | None) -> list:
        """Adds the tensors of a net; returns the keys of its outputs."""
        keys: list[list[Key]] = []
        uses: Counter = Counter()
        given = list(given) if given is not None else None
        for i, op in enumerate(net.ops):
            inputs = [keys[a][b] for a, b in op.inputs]
            if op.kind == "input" and given is not None:
                keys.append([given.pop(0)])
                continue
            if op.kind == "model":
                inner = op.options["net"]
                uses[inner.name] += 1
                for key in inputs:
                    self.values[key].readers.append(None)
                inside = (*path, called(inner.name, uses[inner.name]))
                keys.append(self._write_out(inner, inside, inputs))
                continue
            keys.append([(path, i, j) for j in range(len(net.shapes[i]))])
            for key, shape in zip(keys[-1], net.shapes[i], strict=True):
                self.values[key] = Value(op.kind, shape, inputs, op.options)
            for key in inputs:
                self.values[key].readers.append(keys[-1][0])
        outputs = [keys[i][j] for i, j in net.outputs]
        for key in outputs:
            self.values[key].leaves = True
        return outputs

    def _above(self, key: Key) -> set[Key]:
        """All tensors whose values `key` is computed from, itself included."""
        value = self.values[key]
        used = [] if value.kind == "zeros" else value.inputs
        return {key}.union(*(self.above[k] for k in used))

    def _around(self, key: Key) -> Key | None:
        """The sum of the same model that alone reads a sum, if there is one."""
        value = self.values[key]
        if value.leaves or len(value.readers) != 1 or value.readers[0] is None:
            return None
        (reader,) = value.readers
        adds = self.values[reader].kind in SUMS
        return reader if adds and reader[0] == key[0] else None

    def _is_addition(self, key: Key) -> bool:
        return self.values[key].kind in (*SUMS, *SHIFTS)

    def _signed(self, key: Key) -> list[Term]:
        """What a sum adds up, each with 1 or, if it is taken away, −1."""
        value = self.values[key]
        signs = SIGNS.get(value.kind, (1,) * len(value.inputs))
        return list(zip(value.inputs, signs, strict=True))

    def _opened(self, key: Key, opens=lambda term: True) -> list[Term]:
        """The terms of a sum and of sums that only it reads, all or some of them."""
        terms = []
        for term, sign in self._signed(key):
            inner = self._is_addition(term) and self._around(term) == key
            if inner and opens(term):
                terms += [(t, sign * s) for t, s in self._opened(term, opens)]
            else:
                terms.append((term, sign))
        return terms

    def _is_part(self, key: Key) -> bool:
        """``(x + a) + b`` is one sum, unless the inner one has another shortcut.

        A block of its own, it may not be taken away either.
        """
        around = self._around(key)
        if around is None:
            return False
        own = self._before(key)
        siblings = {
            self._before(term)
            for term in self.values[around].inputs
            if self._is_addition(term) and self._around(term) == around
        }
        alike = self._before(around) == own and siblings <= {own, None}
        return own is None or (alike and (key, -1) not in self._signed(around))

    def _before(self, key: Key) -> Key | None:
        """The state before a sum that is taken with all sums that only it reads."""
        readings = self._readings(key, self._opened(key))
        return readings[0].before if readings else None

    def _terms(self, key: Key) -> list[Term]:
        """The terms of a sum and of those that are its parts."""
        return self._opened(key, self._is_part)

    def _readings(self, total: Key, terms: list[Term]) -> list[Block]:
        """Every way in which a sum is ``x_in ± r(x_in)``, from the earliest `x_in`."""
        shape = self.values[total].shape
        found = []
        states = list(dict.fromkeys(term for term, sign in terms if sign > 0))
        branches = {}
        for term in states:
            rest = [self.above[t] for t, _ in terms if t != term]
            branches[term] = branch = frozenset().union(*rest)
            copied = [s for s in (term, *self._shortcut(term, COPIES)) if s in branch]
            if self.values[term].shape == shape and copied:
                found.append(Block("identity", total, copied[0], term, branch=branch))
        if found:
            return sorted(found, key=lambda block: len(self.above[block.source]))
        for term in states:
            branch = branches[term]
            # Where the shortcut and the branch part.
            way = [term, *self._shortcut(term)]
            source = next((s for s in way[1:] if s in branch), None)
            if source is None or self.values[term].shape != shape:
                continue
            steps = {self.values[key].kind for key in way[: way.index(source)]}
            keeps = self.values[source].shape == shape
            if keeps and steps.isdisjoint({"conv", "dense"}):
                continue
            others = ((t, *self._shortcut(t)) for t, _ in terms if t != term)
            if not any(source in way for way in others):
                found.append(Block("projection", total, source, term, branch=branch))

        def order(block: Block) -> tuple[bool, int]:
            keeps = self.values[block.source].shape == shape
            return keeps, len(self.above[block.source])

        return sorted(found, key=order)

    def _shortcut(self, key: Key, kinds: tuple = PROJECTING) -> list[Key]:
        """The tensors that `key` is a shortcut from, the nearest first."""
        value = self.values[key]
        linear = value.options.get("activation") is None
        pointwise = value.kind == "dense" or (
            value.kind == "conv" and value.options.get("size", 1) == 1
        )
        if value.kind in kinds or (kinds is PROJECTING and pointwise and linear):
            (x,) = value.inputs
            return [x, *self._shortcut(x, kinds)]
        return []

    def _holds(self, outer: Block, inner: Block) -> bool:
        """Whether `inner` lies on the branch of `outer`."""
        return inner.total in outer.branch and outer.source in self.above[inner.source]

    def _after(self, block: Block, bare: set[Key]) -> Key:
        """Where a block's state ends: behind the activation that alone reads the sum.

        Not so in a stream of bare sums, which are states themselves, nor if the branch
        begins with a normalisation or an activation: the next one may, too. All of it
        is looked for in the model that holds the sum, so each use of it is the same.
        """
        here = block.total[0]
        value, before = self.values[block.total], self.values[block.source]
        early = {
            self.values[key].kind
            for key in before.readers
            if key in block.branch and key[0] == here
        }
        bare_stream = block.before in bare and block.before[0] == here
        pre_activated = early & {*ACTIVATIONS, *NORMS}
        if block.kind == "layer" or value.leaves or bare_stream or pre_activated:
            return block.total
        (reader, *more) = value.readers
        same = reader is not None and reader[0] == here
        acts = same and self.values[reader].kind in ACTIVATIONS
        return reader if acts and not more else block.total
