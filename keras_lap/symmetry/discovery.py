"""Finds the space of units that a symmetry of data leaves fixed, without the group."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import finite_number, refusal, whole_number
from keras_lap._drawing import html_table, text_table
from keras_lap.symmetry.ensemble import MeanFieldEnsemble

# Batches of the second training, in those of the first. Noise falls as 1/B.
LARGER = 4


@dataclass(frozen=True, eq=False)
class Discovery:
    """What `discover_invariant_subspace` found; `str()` is a table of its steps.

    Attributes:
        basis: An orthonormal basis of the space, as columns, `(D, dimension)`.
        dimension: Its dimension.
        steps: For each space tried, never the whole, a dictionary: its `dimension`;
            `rmd2`, the squared relative distance to it after training with large
            batches; `drift`, the same without the noise of batches; `error`, the
            standard error of that.
    """

    basis: np.ndarray
    dimension: int
    steps: list[dict[str, Any]]

    @property
    def summary(self) -> str:
        """One line: the dimension that was found."""
        return f"Fixed units: {self.dimension} of {len(self.basis)} dimensions"

    def __repr__(self) -> str:
        return f"<{self.summary}>"

    def __str__(self) -> str:
        head, *rows = self._rows()
        return "\n".join([self.summary, "", *text_table(head, rows, ">")])

    def _repr_html_(self) -> str:
        return f"<p>{self.summary}</p>{html_table(self._rows())}"

    def _rows(self) -> list[tuple[str, ...]]:
        return [("tried", *_COLUMNS)] + [
            (str(each["dimension"]), *(f"{each[n]:.2g}" for n in _COLUMNS))
            for each in self.steps
        ]


_COLUMNS = ("rmd2", "drift", "error")


def discover_invariant_subspace(
    layer: MeanFieldEnsemble,
    x: Any,
    y: Any,
    loss: Any = None,
    learning_rate: float = 20.0,
    steps: int = 250,
    batch_size: int = 500,
    repeats: int = 3,
    initial_std: float = 0.25,
    floor: float = 1e-3,
    significance: float = 3.0,
    seed: int = 0,
) -> Discovery:
    """Finds the space of fixed units by trying where free training stays.

    From E_0 = {0} on, units start in E_j and train freely on batches of B and, from
    the same start, of 4B samples; r is the squared relative distance of what comes out
    to E_j. The noise of batches, of order 1/B, drives units out of any space, so that
    ``drift = (4 r(4B) − r(B)) / 3`` is compared: the units have left E_j if its mean
    over the repeats is above the floor and above `significance` standard errors. Then
    E_{j+1} takes in the direction in which they left furthest; otherwise E_j is it.

    It is a heuristic, for where no group is known. Where candidates are, `law_test`
    answers exactly which of them data obey, and `fixed_basis` has the fixed units of
    each. What data do not tell from symmetric at this floor counts as
    symmetric; a finite sample is not symmetric itself, so let it be large. Where all
    units 0 are a stationary point, as of `unit="dense"` with an odd activation, it
    cannot leave E_0. The idea is that of Maass Martínez and Fontbona (arXiv
    2405.19995), whose choice of directions and thresholds was not to be had; the two
    batch sizes and the rule are ours.

    Args:
        layer: A `MeanFieldEnsemble`, built: how many units of which kind. Its group, if
            any, is not used, its regularisation is, and it stays as it is.
        x: Samples, `(samples, d)`.
        y: Targets, `(samples, output_dim)`.
        loss: A loss of Keras, or a function of targets and outputs. Defaults to None,
            the summed squared error, averaged over the batch.
        learning_rate: α, of plain gradient descent. Defaults to 20; for units that are
            not bounded take less.
        steps: Of each training. Defaults to 250, time 5 with 50 units.
        batch_size: B. Defaults to 500.
        repeats: Trainings of each kind, at least 2. Defaults to 3.
        initial_std: Standard deviation of the start in each direction of E_j. Defaults
            to 0.25.
        floor: The least drift that counts. Defaults to 1e-3.
        significance: How many standard errors it has to be above. Defaults to 3.
        seed: Of starts and batches. Defaults to 0.

    Returns:
        A `Discovery`.

    Raises:
        ValueError: If an argument is outside the values above, or x and y are not as
            many or not finite; if a training does not stay finite.

    Examples:
        >>> layer = keras_lap.symmetry.MeanFieldEnsemble(50, 2)
        >>> layer.build((None, 2))
        >>> points = np.random.default_rng(0).normal(0, 4, size=(1000, 2))
        >>> targets = np.tanh(points)  # from 20 000 points on the default 250 steps
        >>> found = keras_lap.symmetry.discover_invariant_subspace(
        ...     layer, points, targets, steps=2, repeats=2
        ... )
    """
    if not isinstance(layer, MeanFieldEnsemble) or not layer.built:
        advice = "Call it on data first."
        raise refusal("layer", "be a MeanFieldEnsemble that is built", layer, advice)
    whole_number("steps", steps, 1)
    whole_number("batch_size", batch_size, 1)
    whole_number("repeats", repeats, 2, "One has no standard error.")
    finite_number("initial_std", initial_std, "> 0", "The default is 0.25.")
    finite_number("learning_rate", learning_rate, "> 0", "The default is 20.")
    finite_number("floor", floor, ">= 0", "The default is 1e-3.")
    finite_number("significance", significance, ">= 0", "The default is 3.")
    x, y = (np.asarray(ops.convert_to_numpy(each)) for each in (x, y))
    if len(x) != len(y) or not len(x):
        raise ValueError(
            f"x and y must be as many, at least one. Received: {len(x)} and {len(y)}."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite. Received: NaN or infinite numbers.")
    d = layer.particles.shape[-1] - (layer.unit == "dense") * layer.output_dim
    if x.shape[1:] != (d,):
        raise ValueError(f"x must have shape (samples, {d}). Received: {x.shape}.")
    if loss is None and y.size != len(y) * layer.output_dim:
        raise ValueError(
            f"y must have shape (samples, {layer.output_dim}), as the default loss "
            f"compares it with outputs. Received: {y.shape}."
        )
    train = _Free(layer, x, y, loss, learning_rate, steps)
    generator = np.random.default_rng(whole_number("seed", seed, 0))
    basis = np.zeros((train.size, 0))
    tried: list[dict[str, Any]] = []
    while basis.shape[1] < train.size:
        drifts, finals = [], []
        for _ in range(repeats):
            shape = (layer.units, basis.shape[1])
            start = generator.normal(0, initial_std, shape) @ basis.T
            small = train(start, batch_size, generator)
            finals.append(train(start, LARGER * batch_size, generator))
            noisy, better = _left(small, basis), _left(finals[-1], basis)
            drifts.append((LARGER * better - noisy) / (LARGER - 1))
        drift, error = float(np.mean(drifts)), _error(drifts)
        rmd2 = float(np.mean([_left(each, basis) for each in finals]))
        dimension = basis.shape[1]
        record = {"dimension": dimension, "rmd2": rmd2, "drift": drift, "error": error}
        tried.append(record)
        if drift <= max(floor, significance * error):
            break
        cloud = np.concatenate(finals)
        rest = cloud - cloud @ basis @ basis.T
        direction = np.linalg.svd(rest, full_matrices=False)[2][0]
        direction -= basis @ (basis.T @ direction)
        direction /= np.linalg.norm(direction)
        basis = np.concatenate([basis, direction[:, None]], axis=1)
    return Discovery(basis, basis.shape[1], tried)


class _Free:
    """Free training of units like those of a layer, from any start."""

    def __init__(
        self,
        layer: MeanFieldEnsemble,
        x: np.ndarray,
        y: np.ndarray,
        loss: Any,
        learning_rate: float,
        steps: int,
    ):
        config = layer.get_config()
        for name in ("group", "parameters", "name"):
            config[name] = None
        config |= {"equivariant": False, "trainable": True}
        self.layer = MeanFieldEnsemble.from_config(config)
        self.x, self.y, self.steps = x, y, steps
        self.model = keras.Sequential([keras.Input(x.shape[1:]), self.layer])
        optimizer = keras.optimizers.SGD(learning_rate)
        self.model.compile(optimizer, loss=loss or _squares)
        self.shape = tuple(self.layer.particles.shape)
        self.size = math.prod(self.shape[1:])

    def __call__(
        self, start: np.ndarray, batch_size: int, generator: np.random.Generator
    ) -> np.ndarray:
        """The units after all steps, `(units, D)`."""
        self.layer.particles.assign(start.reshape(self.shape))
        chosen = generator.integers(0, len(self.x), self.steps * batch_size)
        how = {"batch_size": batch_size, "shuffle": False, "verbose": 0}
        self.model.fit(self.x[chosen], self.y[chosen], **how)
        cloud = self.layer.cloud().astype(float)
        if not np.isfinite(cloud).all():
            raise ValueError(
                "A training did not stay finite. Lower learning_rate, or scale x and y."
            )
        return cloud


def _squares(y_true: Any, y_pred: Any) -> Any:
    return ops.sum(ops.square(y_pred - y_true), axis=-1)


def _left(cloud: np.ndarray, basis: np.ndarray) -> float:
    """The squared relative distance between a cloud and its projection."""
    inside = cloud @ basis
    rest = cloud - inside @ basis.T
    whole = np.sum(cloud**2)
    return float(np.sum(rest**2) / (2 * (whole + np.sum(inside**2)))) if whole else 0.0


def _error(values: list[float]) -> float:
    """The standard error of a mean."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
