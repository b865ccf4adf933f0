"""`Energy`: from the displacement of one block to one number, and how it is saved."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_lap.energies.weights import only_weighted, position_weights


class Configured:
    """Base class of what a model saves by the arguments of its constructor.

    An energy, or a running cost. Give a class with arguments a `get_config` that
    returns them.
    """

    # Arguments that a base class takes and keeps.
    _kept: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving.

        Raises:
            NotImplementedError: If the class takes arguments and does not say which.
        """
        own = set(inspect.signature(type(self)).parameters) - set(self._kept)
        if own and type(self).get_config is Configured.get_config:
            raise NotImplementedError(
                f"{type(self).__name__} takes arguments, so it needs a get_config() "
                "that returns them to be saved with a model."
            )
        return {name: getattr(self, name) for name in self._kept}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Rebuilds it from what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        try:
            config = self.get_config()
        except NotImplementedError:
            config = {}
        arguments = ", ".join(f"{key}={value!r}" for key, value in config.items())
        return f"{type(self).__name__}({arguments})"


class Energy(Configured, abc.ABC):
    """Base class of energies: a function from a displacement to a scalar.

    Subclass it to penalise displacements in another way. Give the class a
    `get_config` that returns its constructor's arguments and decorate it with
    `keras.saving.register_keras_serializable`, and models that use it can be saved
    and loaded.

    Attributes:
        averages: Whether it is a mean over positions and features, so that positions
            which a mask leaves out are not to lower it. Set it to False in the class of
            a sum or a maximum. Defaults to True.

    Examples:
        >>> @keras.saving.register_keras_serializable("my_project")
        ... class LogEnergy(keras_lap.energies.Energy):
        ...     def __call__(self, displacement):
        ...         return keras.ops.mean(keras.ops.log1p(displacement**2))
    """

    averages: bool = True

    @abc.abstractmethod
    def __call__(self, displacement: Any) -> Any:
        """Computes the energy of one block on one batch.

        Args:
            displacement: ``x_{k+1} − x_k``, tensor of shape `(batch, ...)`.

        Returns:
            A scalar tensor.
        """

    def weighted(self, displacement: Any, weights: Any) -> Any:
        """Computes the energy of one block on a batch whose positions weigh unequally.

        An energy that overrides it weighs its terms, for a mean over positions by
        ``mean(weights · term)``. By default a position or sample of weight 0 is taken
        not to move, and where the energy `averages` it is divided by the share of the
        others; beyond that, weights have no influence.

        Args:
            displacement: As in the call.
            weights: Tensor whose axes are the first of the displacement; see
                `weights_for`.

        Returns:
            A scalar tensor.
        """
        energy = self(only_weighted(ops.convert_to_tensor(displacement), weights))
        if not self.averages:
            return energy
        share = ops.mean(ops.cast(ops.not_equal(weights, 0), "float32"))
        return energy / ops.cast(ops.where(share > 0, share, 1.0), energy.dtype)

    def weights_for(self, displacement: Any, mask: Any, sample_weight: Any) -> Any:
        """What `weighted` and `of_blocks` take, from a mask and sample weights.

        Args:
            displacement: As in the call.
            mask: See `position_weights`; None if all positions count.
            sample_weight: Likewise; None if all samples weigh 1.

        Returns:
            By default what `position_weights` returns; None if all weigh 1.
        """
        return position_weights(mask, sample_weight, displacement)

    def of_blocks(
        self, displacements: Sequence[Any], weights: Sequence[Any] | None = None
    ) -> Any:
        """Computes the energies of several blocks on one batch.

        Override it where that is cheaper together than one by one.

        Args:
            displacements: One tensor of shape `(batch, ...)` per block, at least one.
            weights: For each of them what `weights_for` returned, a tensor or None. By
                default all positions of all blocks weigh 1.

        Returns:
            A tensor of shape `(blocks,)`.

        Raises:
            ValueError: If the energy returns anything but a scalar.
        """
        weights = [None] * len(displacements) if weights is None else weights
        costs = [
            self(each) if own is None else self.weighted(each, own)
            for each, own in zip(displacements, weights, strict=True)
        ]
        return ops.stack([scalar(cost, self) for cost in costs])


def deserialize(
    what: str, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
) -> Any:
    """Rebuilds what `keras.saving.serialize_keras_object` made of an energy or cost.

    Args:
        what: `"energy"` or `"running cost"`, for the message.
        config: The energy or running cost as a file of a model holds it.
        custom_objects: Classes by name, beside those registered with Keras.

    Raises:
        ValueError: If its class is not registered.
    """
    try:
        return keras.saving.deserialize_keras_object(
            config, custom_objects=custom_objects
        )
    except TypeError as error:
        name, registered = config["class_name"], config["registered_name"]
        if keras.saving.get_registered_object(registered, custom_objects) is not None:
            raise
        package = registered.rpartition(">")[0]
        register = "@keras.saving.register_keras_serializable"
        raise ValueError(
            f"The model in this file was trained with the {what} {name}, which Keras "
            f"cannot find: no class is registered as {registered!r}. Pass "
            f"custom_objects={{{registered!r}: {name}}} to keras.saving.load_model, "
            + (
                f"or import the module that registers it by {register}({package!r})."
                if package
                else f"and decorate the class by {register}('my_project') before it "
                "is saved again."
            )
        ) from error


def scalar(cost: Any, source: Any) -> Any:
    """Returns `cost` as a tensor if it is one number.

    Args:
        cost: What an energy or a running cost has returned.
        source: Which one, for the message.

    Raises:
        ValueError: If it has axes.
    """
    cost = ops.convert_to_tensor(cost)
    if len(cost.shape) > 0:
        raise ValueError(
            "Energies and running costs must return a scalar. Received: shape "
            f"{tuple(cost.shape)} from {source!r}. Reduce over the batch and the "
            "features, e.g. by keras.ops.mean."
        )
    return cost
