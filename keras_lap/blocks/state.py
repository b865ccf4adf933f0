"""Which of a layer's inputs is the state that it moves, where only its call is known.

That is asked of a layer that is taken as a whole, because it was named or says itself
that it is a block; of a sum, its definition knows it.
"""

from __future__ import annotations

from keras_lap.blocks.graph import Call, Tensor, flows


def moved_input(call: Call) -> Tensor | None:
    """The input of a call that its first output is the moved state of.

    Of inputs with the shape of that output it is the one that the others are computed
    from: alone, or else where they are given together, as ``layer([f(x), x])``. Given
    one by one, as ``layer(x, context)``, the first argument is the state, as it is
    throughout Keras.

    Returns:
        The input; None if each of several could be the state.
    """
    shape = call.outputs[0].shape
    able = [each for each in dict.fromkeys(call.inputs) if each.shape == shape]
    if len(able) < 2:
        return [*able, call.inputs[0]][0]
    for each in able:
        if all(_only_from(each, other) for other in able):
            return each
    if able[0] is call.inputs[0] and not _given_together(call):
        return able[0]
    for each in able:
        if all(flows(each, other) for other in able):
            return each
    return None


def _only_from(source: Tensor, tensor: Tensor) -> bool:
    """Whether all that `tensor` is computed from comes through `source`."""
    stack, seen = [tensor], {source}
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current.producer is None:
            return False
        stack += current.producer.inputs
    return True


def _given_together(call: Call) -> bool:
    """Whether the first argument is a list or another structure of tensors."""
    if call.arguments is None:
        return True
    symbols = {id(tensor.symbol): tensor.symbol for tensor in call.inputs}
    args, kwargs = call.arguments.fill_in(symbols)
    first = [*args, *kwargs.values()][0]
    return isinstance(first, (list, tuple, dict))
