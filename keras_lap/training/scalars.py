"""Operations on a few scalars, of which a training step has dozens.

PyTorch starts each of them by itself, and there `keras.ops` spends several times the
operation on its arguments. So these are PyTorch's own there, and Keras's elsewhere,
where a step is compiled. They take tensors; only `where` takes numbers beside them.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

if keras.backend.backend() == "torch":
    import torch

    where, stack, concatenate, copy = torch.where, torch.stack, torch.cat, torch.clone

    def cast(x: Any, dtype: str) -> Any:
        """`x` in another precision."""
        return x.to(getattr(torch, dtype))

    def constant(array: Any, like: Any) -> Any:
        """A NumPy array as a tensor where another one is."""
        return torch.as_tensor(array, device=like.device)

    def number(x: Any, dtype: str = "float32") -> Any:
        """A tensor, or a number, in one precision and without gradient."""
        x = x if isinstance(x, torch.Tensor) else ops.convert_to_tensor(x)
        return cast(x.detach(), dtype)

else:
    where, stack, concatenate, copy = ops.where, ops.stack, ops.concatenate, ops.copy
    cast = ops.cast

    def constant(array: Any, like: Any) -> Any:
        """A NumPy array as a tensor where another one is."""
        return ops.convert_to_tensor(array)

    def number(x: Any, dtype: str = "float32") -> Any:
        """A tensor, or a number, in one precision and without gradient."""
        return ops.cast(ops.stop_gradient(ops.convert_to_tensor(x)), dtype)
