"""`TrackingCost`: how far the states are from where they should end, all the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import refusal
from keras_lap.blocks import require_blocks
from keras_lap.running_costs.path import Path
from keras_lap.running_costs.running_cost import RunningCost
from keras_lap.trajectory import at_least_float32


@keras.saving.register_keras_serializable("keras_lap")
class TrackingCost(RunningCost):
    """The integral of the squared distance between the states and a target x̄.

    ``½ Σ_k w_k mean_i |x_{k,i} − x̄_i|²`` over the states x_0 … x_K, with the weights
    ``w_k`` of the trapezoidal rule. A `sample_weight` multiplies the square of its
    sample, as it does the task loss. Logged as `tracking_cost`.

    A target that is no equilibrium of the network without controls, as where its blocks
    normalise, costs something at every time, and the last states move away from it.

    Source: Esteve-Yagüe et al., *Large-time asymptotics in deep learning*, arXiv
    2008.02491.

    Args:
        weight: From 0. Defaults to 1.0.
        target: The point for all, an array of the shape of a state, `(features,)`; one
            for each class, `(classes, features)`, of which integer targets y choose;
            or a function from y to `(batch, features)`. Register a function with
            `keras.saving.register_keras_serializable`, and it can be saved. A class
            without a point is an error where `fit` is given arrays. In batches that a
            data set hands out, which a compiled step does not look at, it gives NaN.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> centres = np.eye(10, 6)  # of ten classes, among states of six features
        >>> cost = keras_lap.running_costs.TrackingCost(0.1, centres)
        >>> model = keras_lap.LeastActionModel(network, running_costs=[cost])
    """

    wanted = ("states",)
    needs_target = True

    def __init__(self, weight: float = 1.0, target: Callable[[Any], Any] | Any = None):
        super().__init__(weight)
        self.target: Any = target if callable(target) else _points(target)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        target = self.target
        if callable(target):
            kept = keras.saving.serialize_keras_object(target)
        else:
            kept = target.tolist()
        return {**super().get_config(), "target": kept}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TrackingCost:
        """Rebuilds it from what `get_config` returned."""
        target = config["target"]
        if isinstance(target, dict):
            target = keras.saving.deserialize_keras_object(target)
        return cls(**{**config, "target": target})

    def check(self, path: Path) -> None:
        """Refuses states of several shapes, and points of another one."""
        require_blocks(path.report, "whose states could be compared with a target")
        first = path.report[0]
        for block in path.report:
            if block.shape != first.shape:
                raise ValueError(
                    "A tracking cost compares all states with one target, so they need "
                    f"one shape. Received: {first.name!r} with states {first.shape} "
                    f"and {block.name!r} with {block.shape}. Choose blocks of one "
                    "stage by blocks=[...]."
                )
        if not callable(self.target):
            self._check_points(first.shape[1:])

    def check_targets(self, path: Path) -> None:
        """Refuses an array of classes, some of which have no point."""
        y = path.y
        chooses = not callable(self.target) and self.target.ndim == len(
            path.report[0].shape
        )
        if not chooses or not isinstance(y, np.ndarray) or y.dtype.kind not in "iu":
            return
        if y.size and not (y.min() >= 0 and y.max() < len(self.target)):
            raise ValueError(
                f"The target of a tracking cost has {len(self.target)} points, for the "
                f"classes 0 to {len(self.target) - 1}. Received: y from {y.min()} to "
                f"{y.max()}. Give a point for every class, or a function from y to "
                "points."
            )

    def __call__(self, path: Path) -> Any:
        """As in `RunningCost`."""
        starts = [before for before, _ in path.states]
        states = [*starts, path.states[-1][1]]
        if len(states) != len(path.weights):
            raise ValueError(
                f"The {len(path.weights) - 1} blocks of this network moved the data "
                f"{len(states) - 1} times, so the time of each state is not known: "
                "one of them lies in a call that cannot be looked into. Leave it out "
                "by blocks=..., or name the layer around it."
            )
        target = self._of_batch(path.y, states[0])
        sample_weight = _weights(path.sample_weight, target.dtype)
        cost = 0.0
        for weight, state in zip(path.weights, states, strict=True):
            gap = ops.reshape(ops.square(state - target), (ops.shape(state)[0], -1))
            cost += 0.5 * weight * ops.mean(sample_weight * ops.sum(gap, axis=1))
        return cost

    def _of_batch(self, y: Any, state: Any) -> Any:
        """The target of each sample, `(batch, ...)` or `(1, ...)`."""
        if callable(self.target):
            target = at_least_float32(self.target(y))
            shape, own = tuple(state.shape), tuple(target.shape)
            # TensorFlow may not know the size of a batch before it runs.
            sizes = (1, None, shape[0]) if shape[0] else own[:1]
            if own[1:] != shape[1:] or own[0] not in sizes:
                raise ValueError(
                    "The function target of a tracking cost must return (batch, "
                    f"{_sizes(shape[1:])}) as the states. Received: a target of shape "
                    f"{own} for states of shape {shape}."
                )
            return target
        self._check_points(tuple(state.shape[1:]))
        points = ops.cast(self.target, state.dtype)
        if self.target.ndim < len(state.shape):
            return points[None]
        labels = _labels(y)
        classes = len(self.target)
        known = ops.logical_and(labels >= 0, labels < classes)
        chosen = ops.take(points, ops.where(known, labels, 0), axis=0)
        known = ops.reshape(known, (-1, *[1] * (len(state.shape) - 1)))
        return ops.where(known, chosen, float("nan"))

    def _check_points(self, shape: tuple[int | None, ...]) -> None:
        points = self.target.shape
        per_class = len(points) == len(shape) + 1
        sizes = zip(points[per_class:], shape, strict=False)
        same = len(points) - per_class == len(shape)
        if not same or any(state not in (None, size) for size, state in sizes):
            raise ValueError(
                "The target of a tracking cost has the shape of one state, or with one "
                f"axis more in front a point for each class. Received: a target of "
                f"shape {points} for states of shape {shape}. Pass an array of shape "
                f"{shape} or (classes, {_sizes(shape)}), or a function of y."
            )


def _points(target: Any) -> np.ndarray:
    try:
        points = np.asarray(keras.ops.convert_to_numpy(target), "float64")
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim and points.size and np.isfinite(points).all():
        return points
    accepted = "be a function of y, or an array of finite numbers"
    advice = "Its shape is (features,), or (classes, features) to choose from by y."
    raise refusal("target", accepted, target, advice)


def _labels(y: Any) -> Any:
    if _is_column(y):
        y = ops.reshape(ops.convert_to_tensor(y), (-1,))
        if "float" not in keras.backend.standardize_dtype(y.dtype):
            return ops.cast(y, "int32")
    raise ValueError(
        "A tracking cost with a point for each class chooses by integer targets y, "
        f"(batch,) or (batch, 1). Received: y of {_described(y)}. Pass integers, or as "
        "target a function from y to points."
    )


def _weights(sample_weight: Any, dtype: Any) -> Any:
    if sample_weight is None:
        return 1.0
    if _is_column(sample_weight):
        return ops.reshape(ops.cast(sample_weight, dtype), (-1,))
    raise ValueError(
        "A tracking cost takes one weight for each sample, (batch,) or (batch, 1). "
        f"Received: sample_weight of {_described(sample_weight)}. Pass such weights, "
        "or leave the cost out."
    )


def _is_column(value: Any) -> bool:
    """Whether a value is `(batch,)` or `(batch, 1)`."""
    shape = getattr(value, "shape", None)
    return shape is not None and (len(shape) == 1 or (*shape[1:],) == (1,))


def _described(value: Any) -> str:
    if hasattr(value, "shape"):
        dtype = keras.backend.standardize_dtype(value.dtype)
        return f"shape {tuple(value.shape)} and type {dtype}"
    return f"type {type(value).__name__}"


def _sizes(shape: tuple[int | None, ...]) -> str:
    return ", ".join(map(str, shape))
