"""A shallow network as the mean of its units, and how a group acts on one of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import choice, finite_number, refusal, whole_number
from keras_lap.symmetry.actions import Linear, Trivial, action_of, projector
from keras_lap.symmetry.groups import FiniteGroup
from keras_lap.symmetry.wrappers import config_of

# So many units are evaluated at once: (batch, units, output_dim) numbers.
CHUNK = 1000
# A greater violation of joint equivariance is no rounding of numbers of order 1.
VIOLATION = 1e-4
_register = keras.saving.register_keras_serializable("keras_lap")


@_register
class MeanFieldEnsemble(keras.layers.Layer):
    """The mean of N units: ``Φ(x) = (1/N) Σ_i σ*(x; θ_i)``.

    Units are ``σ(z x)`` with a matrix z, or ``v σ(uᵀx / d)``. With the readout 1/N the
    learning rate goes with N: `NoisySGD(α)` moves a unit at the rate α/N.

    A group may act on inputs, outputs, and by M_g on the parameters of one unit, such
    that ``σ*(ρ_g x; M_g θ) = ρ̂_g σ*(x; θ)``. That depends on the activation: one that
    is applied to each coordinate commutes with permutations alone, an odd one with
    signs, too. The dense unit allows any ρ and ρ̂. The first build checks it. M_g are
    matrices of a unit's D numbers, ``|G|·D²`` floats of 8 bytes: a group on more than a
    few hundred inputs takes gigabytes.

    Source: Maass Martínez, Fontbona, *Symmetries in Overparametrized Neural Networks: A
    Mean-Field View*, NeurIPS 2024, arXiv 2405.19995, by the units of a reproduction.

    Args:
        units: N, how many.
        output_dim: o, the length of outputs.
        activation: σ, as in `keras.layers.Dense`. Defaults to `"sigmoid"`.
        group: A `keras_lap.symmetry.FiniteGroup`. Defaults to None, none.
        inputs: How it acts on the inputs: `"vectors"`, by its matrices; `"trivial"`;
            matrices `(n, d, d)`; or a `Linear` action. Defaults to `"vectors"`.
        outputs: How it acts on the outputs, likewise. Defaults to `"vectors"`.
        equivariant: Whether each unit is projected on what the group leaves fixed,
            ``P θ_i`` with ``P = mean_g M_g``, so that Φ is exactly equivariant.
            Defaults to False.
        regularization: τ in ``τ mean_i |θ_i|²``, which is added to the loss; of the
            projected units where they are projected. Defaults to 0.
        initial_std: Standard deviation of the initial parameters. Defaults to 0.25.
        seed: Of the initial parameters. Defaults to None, one that
            `keras.utils.set_random_seed` decides.
        unit: `"matrix"`, ``σ(z x)``, θ the rows of z one after the other; or `"dense"`,
            ``v σ(uᵀx / d)``, ``θ = (u, v)``. Defaults to `"matrix"`.
        parameters: M_g, matrices `(n, D, D)` or a `Linear` action. Several may fit one
            group, with different fixed units. Defaults to None: ``ρ̂_g z ρ_gᵀ``, or
            ``(ρ_g u, ρ̂_g v)``.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is outside the values above, does not fit the group,
            or `equivariant` has none; when built, if shapes do not fit or the unit is
            not jointly equivariant.
        TypeError: If `group` is no group.

    Examples:
        >>> swap = keras_lap.symmetry.cyclic(2)
        >>> layer = keras_lap.symmetry.MeanFieldEnsemble(50, 2, group=swap)
        >>> layer(np.ones((3, 2), "float32")).shape[1], layer.cloud().shape
        (2, (50, 4))

        Units ``v tanh(w x + b)``, two ways to follow x → −x, y → −y: the fixed ones
        have w = v = 0, or b = 0.

        >>> odd = {"group": keras_lap.symmetry.sign(1), "unit": "dense"}
        >>> odd |= {"activation": "tanh", "inputs": [np.eye(2), np.diag([-1, 1])]}
        >>> other = keras_lap.symmetry.MeanFieldEnsemble(
        ...     50, 1, parameters=[np.eye(3), np.diag([1, -1, 1])], **odd
        ... )
        >>> other(np.ones((3, 2), "float32")).shape[1]  # (x, 1): b is a weight
        1
        >>> keras_lap.symmetry.fixed_basis(other.parameter_action).shape
        (3, 2)
    """

    def __init__(
        self,
        units: int,
        output_dim: int,
        activation: Any = "sigmoid",
        group: FiniteGroup | None = None,
        inputs: Any = "vectors",
        outputs: Any = "vectors",
        equivariant: bool = False,
        regularization: float = 0.0,
        initial_std: float = 0.25,
        seed: int | None = None,
        unit: str = "matrix",
        parameters: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = whole_number("units", units, 1)
        self.output_dim = whole_number("output_dim", output_dim, 1)
        self.activation = keras.activations.get(activation)
        self.unit = choice("unit", unit, ("matrix", "dense"))
        self.regularization = finite_number(
            "regularization", regularization, ">= 0", "0 adds nothing."
        )
        self.initial_std = finite_number(
            "initial_std", initial_std, ">= 0", "0 starts all units at 0."
        )
        if group is None and (equivariant or parameters is not None):
            given = {"equivariant": equivariant, "parameters": parameters}
            raise ValueError(
                "equivariant=True and parameters= say how a group is used. Received: "
                f"group=None beside {given}. Pass a FiniteGroup as group=."
            )
        self.group: Any = group
        self.equivariant = bool(equivariant)
        self.seed = seed
        self.parameter_action: Any = None  # a Linear, when built with a group
        self._on_inputs = self._on_outputs = self._on_units = None
        if group is not None:
            self._on_inputs = _linear("inputs", inputs, group)
            self._on_outputs = _linear("outputs", outputs, group)
            if parameters is not None:
                self._on_units = _linear("parameters", parameters, group)
        self._given = {
            "inputs": config_of(inputs),
            "outputs": config_of(outputs),
            "parameters": None if parameters is None else config_of(parameters),
        }

    def build(self, input_shape: Any) -> None:
        """Makes the units, and checks that the group acts on them."""
        d, o = input_shape[-1], self.output_dim
        if len(input_shape) < 2 or d is None:
            raise ValueError(
                "Inputs must have a shape (batch, d), with d known. Received: "
                f"{tuple(input_shape)}. Add keras.layers.Flatten() before."
            )
        if self.group is not None:
            rho = _matrices("inputs", self._on_inputs, d)
            hat = _matrices("outputs", self._on_outputs, o)
            action = self._action(rho, hat)
            x = np.random.default_rng(0).normal(size=(16, d))
            # A new thread is outside of whatever is being traced, and computes.
            with ThreadPoolExecutor(1) as pool:
                violation = pool.submit(_violation, self, x, action).result()
            if not violation <= VIOLATION:
                raise ValueError(self._refusal(violation))
            self.parameter_action = action
        shape = (self.units, o, d) if self.unit == "matrix" else (self.units, d + o)
        self._projector = None
        if self.equivariant:
            self._projector = projector(self.parameter_action)
        self.particles = self.add_weight(
            shape=shape,
            initializer=keras.initializers.RandomNormal(0, self.initial_std, self.seed),
            regularizer=self._cost if self.regularization else None,
            name="particles",
        )

    def _action(self, rho: np.ndarray, hat: np.ndarray) -> Linear:
        """How the group acts on the parameters of a unit."""
        if self.unit == "matrix":
            own = [np.kron(b, a) for a, b in zip(rho, hat, strict=True)]
        else:
            own = [_blocks(a, b) for a, b in zip(rho, hat, strict=True)]
        if self._on_units is None:
            return Linear(self.group, own)
        size = len(own[0])
        return Linear(self.group, _matrices("parameters", self._on_units, size))

    def _refusal(self, violation: float) -> str:
        way = (
            "A unit σ(z x) is so only if σ commutes with what the group does to the "
            "outputs: an activation of each coordinate does with permutations, an odd "
            "one, as tanh, with signs, too. Pass unit='dense', or outputs='trivial' if "
            "they must not change."
            if self.unit == "matrix"
            else "A unit v σ(uᵀx / d) is so by (u, v) → (ρ_g u, ρ̂_g v), and by other "
            "actions where σ is odd. Leave parameters=None, or pass an odd activation."
        )
        return (
            "Units must be jointly equivariant: σ*(ρ_g x; M_g θ) = ρ̂_g σ*(x; θ). "
            f"Received: activation={self.activation!r}, unit={self.unit!r} with group "
            f"{self.group.name!r}, which violate it by {violation:.2g}. {way}"
        )

    def call(self, x: Any) -> Any:
        """The mean of the units, `(batch, output_dim)`."""
        units = self._projected(self.particles)
        parts = range(0, self.units, CHUNK)
        return sum(self._sum(x, units[k : k + CHUNK]) for k in parts)

    def _sum(self, x: Any, units: Any) -> Any:
        """What some of the units add to the mean."""
        if self.unit == "matrix":
            inner = self.activation(ops.einsum("...d,nod->...no", x, units))
            return ops.mean(inner, axis=-2) * (units.shape[0] / self.units)
        d = units.shape[1] - self.output_dim
        inner = self.activation(x @ ops.transpose(units[:, :d]) / d)
        return inner @ units[:, d:] / self.units

    def _cost(self, units: Any) -> Any:
        """What the units add to the loss: the mean over them, not Keras's sum."""
        total = ops.sum(ops.square(self._projected(units)))
        return self.regularization / self.units * total

    def _projected(self, units: Any) -> Any:
        if self._projector is None:
            return ops.convert_to_tensor(units)
        matrix = ops.convert_to_tensor(self._projector, units.dtype)
        flat = ops.reshape(units, (self.units, -1)) @ matrix  # P is symmetric
        return ops.reshape(flat, units.shape)

    def cloud(self) -> np.ndarray:
        """The parameters of the units, `(units, D)`, projected where they are.

        Raises:
            ValueError: If the layer is not built.
        """
        if not self.built:
            raise refusal("layer", "be built", self, "Call it on data first.")
        flat = np.reshape(ops.convert_to_numpy(self.particles), (self.units, -1))
        return flat if self._projector is None else flat @ self._projector

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """That of the input, with `output_dim` at the end."""
        return (*input_shape[:-1], self.output_dim)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        group = self.group
        names = ("units", "output_dim", "equivariant", "regularization", "initial_std")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in (*names, "seed", "unit")},
            "activation": keras.activations.serialize(self.activation),
            "group": group and keras.saving.serialize_keras_object(group),
            **self._given,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MeanFieldEnsemble:
        """Rebuilds the layer from what `get_config` returned."""
        read = keras.saving.deserialize_keras_object
        names = ("group", "inputs", "outputs", "parameters")
        packed = {n: read(config[n]) for n in names if isinstance(config[n], dict)}
        return cls(**{**config, **packed})


def check_joint_equivariance(layer: MeanFieldEnsemble, x: Any) -> float:
    """The greatest violation of ``σ*(ρ_g x; M_g θ) = ρ̂_g σ*(x; θ)``.

    Over all g, samples, and 16 units with parameters drawn from N(0, 1).

    Args:
        layer: A `MeanFieldEnsemble` with a group, built.
        x: Samples, `(batch, d)`.

    Returns:
        The greatest absolute difference of a coordinate; of the order of 1e-7 in exact
        cases.

    Raises:
        ValueError: If the layer has no group or is not built.
    """
    if getattr(layer, "parameter_action", None) is None:
        advice = "Pass group= and call it on data first."
        raise refusal("layer", "be built and have a group", layer, advice)
    return _violation(layer, x, layer.parameter_action)


def _violation(layer: MeanFieldEnsemble, x: Any, action: Linear) -> float:
    x = np.asarray(ops.convert_to_numpy(x), float)
    rho = _matrices("inputs", layer._on_inputs, x.shape[-1])
    hat = _matrices("outputs", layer._on_outputs, layer.output_dim)
    moves = action.matrices
    theta = np.random.default_rng(1).normal(size=(16, moves.shape[-1]))
    own = _units(layer, x, theta)
    differences = [
        _units(layer, x @ a.T, theta @ m.T) - own @ b.T
        for a, b, m in zip(rho, hat, moves, strict=True)
    ]
    return float(np.abs(differences).max())


def _units(layer: MeanFieldEnsemble, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """What each unit returns, `(batch, n, o)`, with products in float64."""

    def activate(inner: np.ndarray) -> np.ndarray:
        returned = layer.activation(ops.convert_to_tensor(inner, "float32"))
        return np.asarray(ops.convert_to_numpy(returned), float)

    d = x.shape[-1]
    if layer.unit == "matrix":
        matrices = theta.reshape(len(theta), -1, d)
        return activate(np.einsum("bd,nod->bno", x, matrices))
    return activate(x @ theta[:, :d].T / d)[..., None] * theta[:, d:]


def _linear(argument: str, value: Any, group: FiniteGroup) -> Any:
    action = action_of(argument, value, group)
    if isinstance(action, Trivial) or (
        isinstance(action, Linear) and action.axis in (-1, 1)
    ):
        return action
    accepted = "be 'vectors', 'trivial', matrices or a Linear action on the last axis"
    raise refusal(argument, accepted, value)


def _matrices(argument: str, action: Any, size: int) -> np.ndarray:
    """The matrices of an action, which have to be of that size."""
    if isinstance(action, Trivial):
        return np.broadcast_to(np.eye(size), (action.group.order, size, size))
    if action.dimension != size:
        raise ValueError(
            f"{argument} must be an action on {size} coordinates. Received: one of "
            f"{action.group.name!r} on {action.dimension}. Pass matrices "
            f"(n, {size}, {size}), or 'trivial'."
        )
    matrices: np.ndarray = action.matrices
    return matrices


def _blocks(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One matrix behind the other on the diagonal."""
    size = len(a) + len(b)
    both = np.zeros((size, size))
    both[: len(a), : len(a)], both[len(a) :, len(a) :] = a, b
    return both
