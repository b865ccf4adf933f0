"""What stands in for the sizes of a network that are not known before it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

import keras

from keras_lap.blocks.graph import Graph

# The size that stands in for that of an unknown batch.
BATCH = 2
# And for other unknown sizes, as many layers compute with those of their input. Small,
# and even, as attention heads and patches want them; then one for short tables of
# positions, and one for models of sound.
LENGTHS = (16, 4, 1024)

# Stand-ins for unknown sizes, of the batch and of others, which `Tensor.shape` has as
# None; None where there are none.
Unknown = tuple[int | None, int | None]
KNOWN: Unknown = (None, None)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the tensors of a graph.

    Attributes:
        known: Measured shapes, by the `id` of the symbolic tensor.
        length: What stands in for an unknown size that is not the batch's.
    """

    known: dict[int, tuple[int, ...]] = field(default_factory=dict)
    length: int = LENGTHS[0]

    def fresh(self, symbol: keras.KerasTensor) -> keras.KerasTensor:
        """Another of the measured shape, or of its own with unknown sizes filled in."""
        sizes = [self.length if size is None else size for size in symbol.shape]
        if sizes and symbol.shape[0] is None:
            sizes[0] = BATCH
        shape = self.known.get(id(symbol), tuple(sizes))
        return keras.KerasTensor(shape, symbol.dtype)


def measure(graph: Graph) -> Sizes:
    """The sizes that the tensors of a graph really have, as layers may tell wrong ones.

    Returns:
        The usual stand-ins if the graph runs on no length that is tried.
    """
    inputs = [tensor.symbol for tensor in graph.inputs]
    tensors = [tensor.symbol for call in graph.calls for tensor in call.outputs]
    for length in LENGTHS:
        sizes = Sizes(length=length)
        placeholders = [sizes.fresh(each) for each in inputs]
        try:
            function = keras.Function(inputs, tensors)
            outputs = keras.Operation.compute_output_spec(function, placeholders)
        except Exception:  # whatever it is, another length may do
            continue
        pairs = zip([*inputs, *tensors], [*placeholders, *outputs], strict=True)
        known = {id(s): tuple(spec.shape) for s, spec in pairs if spec is not None}
        return Sizes(known, length)
    return Sizes()
