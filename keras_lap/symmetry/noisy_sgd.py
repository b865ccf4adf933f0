"""Stochastic gradient descent with noise, as a mean-field limit has it."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import finite_number, refusal

_ADVICE = "0 adds no noise."


@keras.saving.register_keras_serializable("keras_lap")
class NoisySGD(keras.optimizers.SGD):
    """Gradient descent with Gaussian noise: ``θ_i ← θ_i − α ∂_i + √(2βα/N) ξ_i``.

    N is the first axis of each variable, its number of units. With the readout 1/N of
    a `MeanFieldEnsemble` in the gradient ``∂_i``, the rate of the theory is α/N a unit
    and step, and N·T steps reach the time T. The state of the noise is a variable of
    the optimizer: it differs from step to step under every compiler, and what was saved
    goes on with the noise that would have come.

    Source: Maass Martínez, Fontbona, arXiv 2405.19995, by a reproduction's settings.

    Args:
        learning_rate: α, a number or a schedule of Keras.
        temperature: β, a number >= 0. Defaults to 0, no noise.
        projector: A matrix `(D, D)` that the noise of each unit of D parameters is
            multiplied by; `projector(action)` keeps units that a group leaves fixed
            where they are. Defaults to None.
        seed: A whole number. Defaults to None, one that `keras.utils.set_random_seed`
            decides.
        **kwargs: `name` and other arguments of `keras.optimizers.SGD`; the theory has
            no momentum.

    Raises:
        ValueError: If `temperature` is no such number, or `projector` no square matrix;
            when built, if a variable has units of another size.

    Examples:
        >>> optimizer = keras_lap.symmetry.NoisySGD(5.0, temperature=1e-6, seed=0)
    """

    def __init__(
        self,
        learning_rate: Any,
        temperature: float = 0.0,
        projector: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(learning_rate, **kwargs)
        self.temperature = finite_number("temperature", temperature, ">= 0", _ADVICE)
        self.projector = None if projector is None else _square(projector)
        self.seed = seed
        self._random = keras.random.SeedGenerator(seed)
        # A SeedGenerator of its own is not among an optimizer's variables: a compiled
        # step of JAX would draw the same noise for ever.
        state = self._random.state
        first = ops.convert_to_numpy(state)
        self._random.state = self.add_variable(
            state.shape,
            lambda shape, dtype=None: ops.convert_to_tensor(first, dtype),
            state.dtype,
            name="noise_seed",
        )

    def build(self, variables: Any) -> None:
        """Checks that the projector fits the variables."""
        if self.built:
            return
        wanted = None if self.projector is None else len(self.projector)
        for variable in variables:
            size = math.prod(variable.shape[1:]) if variable.shape else 0
            if wanted not in (None, size):
                raise ValueError(
                    f"projector is for units of {wanted} parameters. "
                    f"Received: {variable.path} of shape {tuple(variable.shape)}. "
                    "Train the units alone, others with projector=None."
                )
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """A step of one variable."""
        super().update_step(gradient, variable, learning_rate)
        if not self.temperature:
            return
        shape, dtype = tuple(variable.shape), variable.dtype
        noise = keras.random.normal(shape, dtype=dtype, seed=self._random)
        if self.projector is not None:
            matrix = ops.convert_to_tensor(self.projector.T, dtype)
            noise = ops.reshape(ops.reshape(noise, (shape[0], -1)) @ matrix, shape)
        units = shape[0] if shape else 1
        # Two roots: 2β/N itself is less than half precision can tell from 0.
        rate = ops.sqrt(ops.cast(learning_rate, dtype))
        scale = rate * math.sqrt(2 * self.temperature / units)
        self.assign_add(variable, scale * noise)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        matrix = None if self.projector is None else self.projector.tolist()
        own = {"temperature": self.temperature, "projector": matrix, "seed": self.seed}
        return {**super().get_config(), **own}


def _square(projector: Any) -> np.ndarray:
    """A square matrix of finite numbers, in float64."""
    try:
        matrix = np.asarray(projector, float)
    except (TypeError, ValueError):  # of no numbers, such as an action
        matrix = np.zeros(0)
    if matrix.ndim == 2 and len(set(matrix.shape)) == 1 and np.isfinite(matrix).all():
        return matrix
    advice = "Pass projector(action) of keras_lap.symmetry."
    raise refusal("projector", "be a square matrix", projector, advice)
