"""Around a network: its outputs averaged over a group, or its training augmented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lap._checks import choice, refusal
from keras_lap.symmetry.actions import Action, action_of
from keras_lap.symmetry.groups import FiniteGroup

_register = keras.saving.register_keras_serializable("keras_lap")
_map = keras.tree.map_structure


class _Wrapper(keras.Model):
    """A network, a group, and how it acts on inputs and outputs."""

    def __init__(
        self,
        network: keras.Model,
        group: FiniteGroup,
        inputs: Any,
        outputs: Any,
        **kwargs: Any,
    ):
        _check(network, type(self).__name__)
        acts = action_of("inputs", inputs, group), action_of("outputs", outputs, group)
        # The network converts its inputs itself; its precision decides on loss scaling.
        kwargs.setdefault("dtype", network.dtype_policy)
        super().__init__(autocast=False, **kwargs)
        self.network = network
        self.group = group
        self._on_inputs, self._on_outputs = acts
        self._given = {"inputs": config_of(inputs), "outputs": config_of(outputs)}
        self.built = network.built

    @property
    def output_names(self) -> list[str] | None:
        """Names of the network's outputs, by which losses may be given."""
        return getattr(self.network, "output_names", None)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        serialize = keras.saving.serialize_keras_object
        network, group = serialize(self.network), serialize(self.group)
        config = super().get_config()
        return {**config, "network": network, "group": group, **self._given}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        """Rebuilds the model from what `get_config` returned."""
        read = {
            name: keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
            for name in ("network", "group", "inputs", "outputs")
            if isinstance(config[name], dict)
        }
        return cls(**{**config, **read})


@_register
class FeatureAveraging(_Wrapper):
    """Averages what a network returns over a group: ``mean_g ρ̂_g⁻¹ f(ρ_g x)``.

    The inputs are transformed, and that is undone on the outputs before the mean, so
    that the average is exactly equivariant, whatever the network is. It does so in
    training, evaluation and prediction; train it, or put it around a network that is
    trained already (test-time augmentation). After training through it, ship it and not
    `network` alone, of which only the average was fitted.

    It averages what the network returns. The mean of logits is a product of experts,
    that of probabilities a mixture; end the network with a softmax for the latter.

    Source: Maass Martínez, Fontbona, *Symmetries in Overparametrized Neural Networks: A
    Mean-Field View*, NeurIPS 2024, arXiv 2405.19995.

    Args:
        network: Any `keras.Model`, also in `.network`. A network that trains by steps
            of its own, as a `LeastActionModel`, is refused: pass its `network`.
        group: A `keras_lap.symmetry.FiniteGroup`.
        inputs: How it acts on the inputs: `"trivial"`; `"vectors"`, by its matrices on
            the last axis; `"rows"`, on axis 1; `"images"`; matrices `(n, d, d)` for the
            last axis; or a `keras_lap.symmetry.Action`. Of several inputs, on each.
            Defaults to `"vectors"`.
        outputs: How it acts on the outputs, likewise. Defaults to `"trivial"`, for
            outputs that must not change.
        batched: Whether the network runs once on all transformed inputs, n times the
            batch, of which batch normalisation then takes its statistics in training;
            otherwise n times, in less memory; what layers add to the loss, as an
            activity regulariser does, then counts n times. Defaults to True.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If `inputs` or `outputs` is none of these, or does not fit the
            group; when called, if it cannot act on arrays of that shape.
        TypeError: If `network` is no model or `group` no group.

    Examples:
        >>> inputs = keras.Input((8, 8, 1))
        >>> flat = keras.layers.Flatten()(inputs)
        >>> network = keras.Model(inputs, keras.layers.Dense(10)(flat))
        >>> group = keras_lap.symmetry.rotations(4)
        >>> model = keras_lap.symmetry.FeatureAveraging(network, group, "images")
        >>> images = np.random.default_rng(0).random((2, 8, 8, 1))
        >>> turned = model.predict(np.rot90(images, axes=(1, 2)), verbose=0)
        >>> bool(np.allclose(turned, model.predict(images, verbose=0), atol=1e-5))
        True
    """

    def __init__(
        self,
        network: keras.Model,
        group: FiniteGroup,
        inputs: Any = "vectors",
        outputs: Any = "trivial",
        batched: bool = True,
        **kwargs: Any,
    ):
        super().__init__(network, group, inputs, outputs, **kwargs)
        self.batched = bool(batched)

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The average for a batch."""
        order = self.group.order
        if self.batched:
            every = [_moved(self._on_inputs, g, x) for g in range(order)]
            returned = _split(self.network(_joined(every), training=training), order)
        else:
            returned = [
                self.network(_moved(self._on_inputs, g, x), training=training)
                for g in range(order)
            ]
        back = [_map(self._undo(g), returned[g]) for g in range(order)]
        return _map(lambda *each: sum(each[1:], each[0]) / order, *back)

    def _undo(self, g: int) -> Callable[[Any], Any]:
        return lambda each: self._on_outputs.invert(g, each)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.export`, before it was called, too."""
        is_list = isinstance(self.network, keras.Sequential)  # of one tensor
        inputs = getattr(self.network, "inputs" if is_list else "input", None)
        if inputs is None:
            super().export(*args, **kwargs)
        else:
            inputs = inputs[0] if is_list else inputs
            keras.Model(inputs, self(inputs)).export(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        return {**super().get_config(), "batched": self.batched}


@_register
class DataAugmentation(_Wrapper):
    """Trains a network on transformed data: ``mean_g L(f(ρ_g x), ρ̂_g y)``.

    Targets are transformed with the inputs, and each sample keeps its weight.
    Evaluation and prediction run the bare network, `network`, which is also what is
    exported.

    In orbit mode each step runs the network on the whole orbit of the batch, n times a
    plain step. Compiled metrics compare `f(x)` with the `y` of the batch, the term of
    the identity. In random mode a step costs as much as a plain one, and metrics are
    those of the transformed data. What layers add to the loss by `add_loss` is averaged
    over the orbit, too; on JAX it is that of the untouched batch.

    Source: as `keras_lap.symmetry.FeatureAveraging`.

    Args:
        network: As in `keras_lap.symmetry.FeatureAveraging`.
        group: A `keras_lap.symmetry.FiniteGroup`.
        inputs: How it acts on the inputs; see `keras_lap.symmetry.FeatureAveraging`.
            Defaults to `"vectors"`.
        outputs: How it acts on the targets, likewise. Defaults to `"trivial"`.
        elements: `"orbit"`, the mean over the group, or `"random"`, an element for each
            sample and step, uniform and independent. Defaults to `"orbit"`.
        seed: Of the random elements, a whole number. Defaults to None, one that
            `keras.utils.set_random_seed` decides.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: As `keras_lap.symmetry.FeatureAveraging`; for another `elements`.
        TypeError: If `network` is no model or `group` no group.

    Examples:
        >>> group = keras_lap.symmetry.sign(64)
        >>> model = keras_lap.symmetry.DataAugmentation(network, group)
        >>> model.compile("sgd", loss="sparse_categorical_crossentropy")
        >>> history = model.fit(x, labels, verbose=0)
    """

    def __init__(
        self,
        network: keras.Model,
        group: FiniteGroup,
        inputs: Any = "vectors",
        outputs: Any = "trivial",
        elements: str = "orbit",
        seed: int | None = None,
        **kwargs: Any,
    ):
        choice("elements", elements, ("orbit", "random"))
        super().__init__(network, group, inputs, outputs, **kwargs)
        self.elements = elements
        self.seed = seed
        self._random = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool | None = None) -> Any:
        """What the bare network returns."""
        return self.network(x, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The compiled loss; in training in orbit mode, its mean over the orbit.

        Arguments as in `keras.Model.compute_loss`.
        """
        loss = super().compute_loss(x, y, y_pred, sample_weight, training=training)
        others = range(1, self.group.order)
        if not training or self.elements == "random" or not others:
            return loss
        inputs = [_moved(self._on_inputs, g, x) for g in others]
        outputs = self.network(_joined(inputs), training=True)
        for g, moved, returned in zip(
            others, inputs, _split(outputs, len(others)), strict=True
        ):
            target = _moved(self._on_outputs, g, y)
            loss += super().compute_loss(
                moved, target, returned, sample_weight, training=training
            )
        return loss / self.group.order

    def train_step(self, *args: Any) -> Any:
        """As `keras.Model.train_step`; in random mode, of the transformed batch."""
        if self.elements == "orbit":
            return super().train_step(*args)
        if keras.backend.backend() != "jax":
            return super().train_step(self._drawn(*args))
        (trainable, others, *state), data = args
        variables = self.non_trainable_variables  # the state of the seed among them
        mapping = list(zip(variables, others, strict=True))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            data = self._drawn(data)
            others = [scope.get_current_value(variable) for variable in variables]
        return super().train_step((trainable, others, *state), data)

    def _drawn(self, data: Any) -> Any:
        """The batch, each sample transformed by an element of its own."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        index = draw(keras.tree.flatten(x)[0], self.group, self._random)
        x, y = _moved(self._on_inputs, index, x), _moved(self._on_outputs, index, y)
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.export`, of the bare network, which is what predicts."""
        self.network.export(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        own = {"elements": self.elements, "seed": self.seed}
        return {**super().get_config(), **own}


def draw(x: Any, group: FiniteGroup, seed: Any) -> Any:
    """An element of a group for each sample, uniform and independent.

    Args:
        x: The samples, `(batch, ...)`.
        group: The group.
        seed: A `keras.random.SeedGenerator`.

    Returns:
        Their indices, `(batch,)`.
    """
    return keras.random.randint((ops.shape(x)[0],), 0, group.order, seed=seed)


def _check(network: Any, wrapper: str) -> None:
    if not isinstance(network, keras.Model):
        raise refusal("network", "be a keras.Model", network, error=TypeError)
    own = [
        name
        for name in ("train_step", "compute_loss")
        if getattr(type(network), name) is not getattr(keras.Model, name)
    ]
    if own:
        raise ValueError(
            f"{wrapper} trains a network by its own steps, and would not use the "
            f"{' and '.join(own)} of this one. Received: network={network!r}. Pass "
            "model.network of a trained LeastActionModel or DataAugmentation; a "
            "GroupAugmentation layer in its network augments its training."
        )


def _moved(action: Action, index: Any, x: Any) -> Any:
    """The action on every array of a structure; None stays None."""
    return _map(lambda t: t if t is None else action.apply(index, t), x)


def _joined(every: list[Any]) -> Any:
    """Structures of arrays, one behind the other along the batch."""
    return _map(lambda *each: ops.concatenate(each, axis=0), *every)


def _split(joined: Any, count: int) -> list[Any]:
    """What `_joined` put together."""
    flat = [ops.split(t, count, axis=0) for t in keras.tree.flatten(joined)]
    return [
        keras.tree.pack_sequence_as(joined, parts) for parts in zip(*flat, strict=True)
    ]


def config_of(value: Any) -> Any:
    """What `inputs=` received, as a file can hold it."""
    if isinstance(value, Action):
        return keras.saving.serialize_keras_object(value)
    return value if isinstance(value, str) else np.asarray(value).tolist()
