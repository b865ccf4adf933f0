"""Networks over a time horizon: the Euler scheme of a neural ODE with K steps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_lap._checks import (
    choice,
    finite_number,
    is_whole,
    positive_numbers,
    refusal,
    whole_number,
)
from keras_lap.networks.layers import check_positive_integers, own_initializer

# The layers of a branch, in order. The name of each is that of its block before them.
BRANCHES = {
    "inside": ("activation", "dense"),
    "outside": ("dense", "activation"),
    "bottleneck": ("dense1", "activation", "dense2"),
}
# The one that the horizon scales: a branch is linear in its weights, but for "outside",
# where that takes an activation which is homogeneous itself.
SCALED = {"inside": "dense", "outside": "dense", "bottleneck": "dense2"}
_HORIZON, _STEPS = 10.0, 40
_GLOROT = "glorot_normal"
# Glorot's deviation times this over T is about 1.5 / T in two or three dimensions.
_SPREAD = 2.5


def neural_ode(
    input_shape: Sequence[int],
    num_outputs: int,
    *,
    horizon: float = _HORIZON,
    steps: int = _STEPS,
    time_steps: Sequence[float] | None = None,
    dynamics: str = "inside",
    hidden_units: int | None = None,
    activation: Any = "tanh",
    augment: int = 0,
    readout: str = "dense",
    kernel_initializer: Any = _GLOROT,
    name: str = "neural_ode",
) -> keras.Model:
    """Builds ``x_{k+1} = x_k + dt_k · v(x_k, u_k)``, k = 0 … K−1, and a readout of x_K.

    The explicit Euler scheme of ``x' = v(x, u(t))`` on ``[0, T]``, each step with
    weights of its own: ``W σ(x) + b`` with σ inside, ``σ(W x + b)`` with σ outside, or
    ``W_2 σ(W_1 x + b_1) + b_2``, the bottleneck. From Esteve-Yagüe, Geshkovski, Pighin
    and Zuazua, *Large-time asymptotics in deep learning*, arXiv 2008.02491, with the
    dynamics of their toolbox.

    The layers are `flatten` (of inputs with several axes), `pad` (with `augment`), for
    K blocks from 1 `blockK_dense`, or `blockK_dense1` and `blockK_dense2`,
    `blockK_activation`, `blockK_scale` (the time step) and `blockK_add`, then
    `readout`. All of them are Keras's own.

    Args:
        input_shape: Shape of one sample, e.g. `(2,)`.
        num_outputs: Size of the output.
        horizon: The time T > 0. Defaults to 10.0.
        steps: The number K of blocks, each with the step ``T / K``. Defaults to 40.
        time_steps: Unequal steps ``dt_k``, in place of `horizon`, their sum, and
            `steps`, their number. Defaults to None.
        dynamics: `"inside"`, `"outside"` or `"bottleneck"`. Defaults to `"inside"`.
        hidden_units: Size of the bottleneck's inner layer. Defaults to None, the size
            of the state.
        activation: σ: a name, a function, or a layer, of which each block gets a copy.
            Defaults to `"tanh"`.
        augment: How many zeros are appended to the input. Defaults to 0.
        readout: `"dense"`, a trained affine map of the state, or `"last"`, its last
            `num_outputs` coordinates. Defaults to `"dense"`.
        kernel_initializer: Initializer of every kernel. The default is Glorot's with
            the deviation times ``min(1, 2.5 / T)`` on the branches, so that the flow
            starts tame however long it is; of a bottleneck, in its last layer.
        name: Name of the model.

    Returns:
        A model from `(batch, *input_shape)` to `(batch, num_outputs)`.

    Raises:
        ValueError: If an argument is out of its range, or two contradict each other.

    Examples:
        >>> network = neural_ode((2,), 1, horizon=5.0, steps=20, augment=1)
        >>> len(keras_lap.find_residual_blocks(network))
        20
    """
    size = _size_of(input_shape)
    check_positive_integers(num_outputs=num_outputs)
    each_step = _steps_of(horizon, steps, time_steps)
    choice("`dynamics`", dynamics, tuple(BRANCHES))
    choice("`readout`", readout, ("dense", "last"))
    width = size + whole_number("`augment`", augment, 0)
    hidden = _hidden_of(hidden_units, dynamics, width)
    if readout == "last":
        _check_selection(num_outputs, width, dynamics, activation)

    def make(layer: str, name: str) -> keras.Layer:
        if layer == "activation":
            return _activation(activation, name)
        tame = layer == SCALED[dynamics]
        initializer = _initializer(kernel_initializer, sum(each_step) if tame else 0)
        units = hidden if layer == "dense1" else width
        kernel = own_initializer(initializer, name)
        return keras.layers.Dense(units, kernel_initializer=kernel, name=name)

    inputs = keras.Input(tuple(input_shape), name="input")
    x = inputs
    if len(input_shape) > 1:
        x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    if augment:
        x = _within_model(x, lambda t: keras.ops.pad(t, ((0, 0), (0, augment))), "pad")
    for number, time_step in enumerate(each_step, start=1):
        block = f"block{number}"
        branch = [make(layer, f"{block}_{layer}") for layer in BRANCHES[dynamics]]
        x = euler_step(x, branch, time_step, block)
    if readout == "last":
        outputs = _within_model(x, lambda t: t[:, -num_outputs:], "readout")
    else:
        kernel = own_initializer(_initializer(kernel_initializer, 0), "readout")
        head = keras.layers.Dense(
            num_outputs, kernel_initializer=kernel, name="readout"
        )
        outputs = head(x)
    return keras.Model(inputs, outputs, name=name)


def euler_step(
    x: Any, branch: Sequence[keras.Layer], time_step: float, block: str
) -> Any:
    """Returns ``x + dt · v(x)``.

    Args:
        x: The state, symbolic, `(batch, features)`.
        branch: The layers of v, the first one first.
        time_step: dt.
        block: Name of the block.
    """
    v = x
    for layer in branch:
        v = layer(v)
    v = keras.layers.Rescaling(time_step, name=f"{block}_scale")(v)
    return keras.layers.Add(name=f"{block}_add")([x, v])


def values(activation: keras.Layer, width: int, scale: float = 1.0) -> np.ndarray:
    """What an activation makes of `scale` times some numbers, `(numbers, width)`.

    Args:
        activation: A layer that works on each number by itself.
        width: Size of its input.
        scale: A factor of what goes in.
    """
    sizes = np.logspace(-2, 2, 9)
    numbers = scale * np.concatenate([-sizes[::-1], [0.0], sizes])
    points = np.repeat(numbers[:, None], width, axis=1).astype("float32")
    return keras.ops.convert_to_numpy(activation(points)).astype("float32")


def _size_of(input_shape: Sequence[int]) -> int:
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
    if not shape or not all(is_whole(size, 1) for size in shape):
        accepted = "be the shape of one sample, a sequence of positive integers"
        advice = "Leave out the batch axis; (2,) stands for two features."
        raise refusal("`input_shape`", accepted, input_shape, advice)
    return math.prod(shape)


def _steps_of(
    horizon: float, steps: int, time_steps: Sequence[float] | None
) -> tuple[float, ...]:
    advice = "The time step is horizon / steps; pass time_steps for unequal ones."
    horizon = finite_number("`horizon`", horizon, "> 0", advice)
    steps = whole_number("`steps`", steps, 1, advice)
    if time_steps is None:
        return (horizon / steps,) * steps
    unequal = positive_numbers("`time_steps`", time_steps, "Pass None for equal ones.")
    agree = horizon == _HORIZON or math.isclose(horizon, sum(unequal), rel_tol=1e-6)
    if not agree or steps not in (_STEPS, len(unequal)):
        raise ValueError(
            "`time_steps` stands in place of `horizon`, their sum, and `steps`, their "
            f"number. Received: time_steps={time_steps!r} with horizon={horizon!r} and "
            f"steps={steps!r}. Leave these two out."
        )
    return unequal


def _hidden_of(hidden_units: int | None, dynamics: str, width: int) -> int:
    if hidden_units is None:
        return width
    if dynamics != "bottleneck":
        accepted = f"be None with dynamics={dynamics!r}, which has no inner layer"
        advice = "Use dynamics='bottleneck', or augment=... for a larger state."
        raise refusal("`hidden_units`", accepted, hidden_units, advice)
    return whole_number("`hidden_units`", hidden_units, 1)


def _check_selection(
    num_outputs: int, width: int, dynamics: str, activation: Any
) -> None:
    """Refuses more outputs than there are; warns where they can move but one way."""
    if num_outputs > width:
        accepted = f"be at most {width}, the size of the state, with readout='last'"
        advice = "Use readout='dense', or augment=... for a larger state."
        raise refusal("`num_outputs`", accepted, num_outputs, advice)
    if dynamics == "outside":
        sigma = values(_activation(activation, "activation"), width)
        if sigma.min() >= 0:
            warnings.warn(
                f"With dynamics='outside' and activation={activation!r}, which is "
                "never negative, the coordinates of the state can only rise, and "
                "readout='last' returns them as they are. Use readout='dense', "
                "dynamics='inside' or 'bottleneck', or an activation with negative "
                "values.",
                stacklevel=3,
            )


def _activation(activation: Any, name: str) -> keras.Layer:
    if isinstance(activation, keras.Layer):
        config = {**activation.get_config(), "name": name}
        return type(activation).from_config(config)
    return keras.layers.Activation(activation, name=name)


def _initializer(initializer: Any, horizon: float) -> Any:
    """The initializer of a kernel; the default one made small for a horizon."""
    if isinstance(initializer, str) and initializer == _GLOROT:
        factor = min(1.0, _SPREAD / horizon) if horizon else 1.0
        return keras.initializers.VarianceScaling(
            factor**2, "fan_avg", "truncated_normal"
        )
    return keras.initializers.get(initializer)


def _within_model(x: Any, function: Callable[[Any], Any], name: str) -> Any:
    """Applies operations as a model by the name: files need no class of ours."""
    inner = keras.Input(x.shape[1:])
    return keras.Model(inner, function(inner), name=name)(x)
