"""Within a network: a layer that augments its inputs, a constraint on its kernels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lap.symmetry.actions import Images, action_of
from keras_lap.symmetry.groups import FiniteGroup
from keras_lap.symmetry.wrappers import config_of, draw

_register = keras.saving.register_keras_serializable("keras_lap")


@_register
class GroupAugmentation(keras.layers.Layer):
    """Transforms each sample by an element of a group of its own, in training alone.

    Elements are uniform and independent. Targets stay as they are: it is for tasks
    whose outputs must not change. Put first in a network it augments the training of a
    `keras_lap.LeastActionModel`, which knows nothing of it. In inference, and in a call
    without `training=True`, it does nothing. A mask that earlier layers keep with its
    inputs does not get past it: put it before those that make one.

    Args:
        group: A `keras_lap.symmetry.FiniteGroup`.
        inputs: How it acts on the inputs; see `keras_lap.symmetry.FeatureAveraging`.
            Defaults to `"images"`.
        seed: A whole number. Defaults to None, one that `keras.utils.set_random_seed`
            decides.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `inputs` does not fit the group; when called, if the group cannot
            act on arrays of that shape.
        TypeError: If `group` is no group.

    Examples:
        >>> layer = keras_lap.symmetry.GroupAugmentation(keras_lap.symmetry.mirror())
        >>> images = np.random.default_rng(0).random((2, 8, 8, 1))
        >>> moved = layer(images, training=True)
    """

    def __init__(
        self,
        group: FiniteGroup,
        inputs: Any = "images",
        seed: int | None = None,
        **kwargs: Any,
    ):
        action = action_of("inputs", inputs, group)
        super().__init__(**kwargs)
        self.group = group
        self.seed = seed
        self._action = action
        self._given = config_of(inputs)
        self._random = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The batch, transformed while training."""
        if not training:
            return x
        return self._action.apply(draw(x, self.group, self._random), x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        group = keras.saving.serialize_keras_object(self.group)
        own = {"group": group, "inputs": self._given, "seed": self.seed}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GroupAugmentation:
        """Rebuilds the layer from what `get_config` returned."""
        return cls(**{**config, **_read(config, "group", "inputs")})


@_register
class FixedKernel(keras.constraints.Constraint):
    """Projects convolution kernels on those that a group leaves as they are.

    ``k ← mean_g ρ_g k``, after every step of the optimizer. Layers of stride 1 with
    such kernels commute with the group, and a global pooling behind them makes the
    network invariant. Kernels drawn at random are projected at the first step, not
    before.

    Silently lost is this with stride 2 on even sizes, with pooling by 2 on odd sizes,
    with "same" padding and a stride, and with Flatten:
    `keras_lap.symmetry.equivariance_report` tells. It is a smaller class of networks,
    which may fit less; augmentation and averaging keep the whole class.

    Args:
        group: A `keras_lap.symmetry.FiniteGroup` of quarter turns and mirror images, as
            `keras_lap.symmetry.Images` takes.

    Raises:
        ValueError: If the group has other elements; when called, if the kernel has no
            shape `(height, width, ...)`, or quarter turns meet one that is not square.
        TypeError: If `group` is no group.

    Examples:
        >>> constraint = keras_lap.symmetry.FixedKernel(keras_lap.symmetry.dihedral(4))
        >>> layer = keras.layers.Conv2D(8, 3, kernel_constraint=constraint)
    """

    def __init__(self, group: FiniteGroup):
        self._action = Images(group)
        self.group = group

    def __call__(self, w: Any) -> Any:
        """The projected kernel, of the same shape."""
        if len(w.shape) < 3:
            raise ValueError(
                "FixedKernel is for the kernels of convolutions, (height, width, "
                f"channels, filters). Received: shape {tuple(w.shape)}."
            )
        orbit = self._action.orbit(ops.expand_dims(ops.convert_to_tensor(w), 0))
        return ops.squeeze(ops.mean(orbit, axis=0), 0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        return {"group": keras.saving.serialize_keras_object(self.group)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FixedKernel:
        """Rebuilds the constraint from what `get_config` returned."""
        return cls(**_read(config, "group"))


def _read(config: dict[str, Any], *names: str) -> dict[str, Any]:
    """What was serialised under these names."""
    read = keras.saving.deserialize_keras_object
    return {
        name: read(config[name]) for name in names if isinstance(config[name], dict)
    }
