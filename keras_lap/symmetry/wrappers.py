"""Around a network: its outputs averaged over a group, or its training augmented."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_lap._checks import choice, refusal
from keras_lap.symmetry.actions import Action, action_of
from keras_lap.symmetry.batches import joined, mean, moved, split, undone
from keras_lap.symmetry.groups import FiniteGroup

_register = keras.saving.register_keras_serializable("keras_lap")
_map = keras.tree.map_structure


class _Wrapper(keras.Model):
    """A network, a group, and how it acts on inputs and outputs."""

    # Read by `LeastActionModel`, which does not train the blocks in such a model.
    least_action_advice: ClassVar[str]

    def __init__(
        self,
        network: keras.Model,
        group: FiniteGroup,
        inputs: Any,
        outputs: Any,
        **kwargs: Any,
    ):
        if not isinstance(network, keras.Model):
            raise refusal("network", "be a keras.Model", network, error=TypeError)
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

    @property
    def input(self) -> Any:
        """As of the network; its `AttributeError` if it has none."""
        return self.network.input

    @property
    def inputs(self) -> list[Any]:
        """As of the network; its `AttributeError` if it has none."""
        return self.network.inputs

    @property
    def input_shape(self) -> Any:
        """As of the network; its `AttributeError` if it has none."""
        return self.network.input_shape

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
    that of probabilities a mixture; end the network with a softmax for the latter. The
    mean of half-precision outputs is computed in float32. Its mask is that which the
    network gives its output of the untouched inputs. A mask that layers before the
    average keep with its inputs does not reach the network.

    Source: Maass Martínez, Fontbona, *Symmetries in Overparametrized Neural Networks: A
    Mean-Field View*, NeurIPS 2024, arXiv 2405.19995.

    Args:
        network: Any `keras.Model`, also in `.network`. One with a `train_step` or
            `compute_loss` of its own, as a `LeastActionModel`, is averaged as any
            other, but not trained through the average.
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
            group; when called, if it cannot act on arrays of that shape; in `fit`, if
            the network trains by steps of its own.
        TypeError: If `network` is no model, `group` no group or `batched` no bool.

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

    least_action_advice = (
        "Train the network that it averages, and average afterwards: "
        "FeatureAveraging(model.network, ...)."
    )

    def __init__(
        self,
        network: keras.Model,
        group: FiniteGroup,
        inputs: Any = "vectors",
        outputs: Any = "trivial",
        batched: bool = True,
        **kwargs: Any,
    ):
        if not isinstance(batched, bool):
            raise refusal("batched", "be True or False", batched, error=TypeError)
        super().__init__(network, group, inputs, outputs, **kwargs)
        self.batched = batched

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The average for a batch."""
        order = self.group.order
        every = (moved(self._on_inputs, g, x) for g in range(order))
        if self.batched:
            stacked = self.network(joined(list(every)), training=training)
            returned = split(stacked, order)
        else:
            returned = [self.network(each, training=training) for each in every]
        back = [undone(self._on_outputs, g, each) for g, each in enumerate(returned)]
        return _map(lambda first, *each: mean(first, list(each)), returned[0], *back)

    def make_train_function(self, force: bool = False) -> Any:
        """As in `keras.Model`; refuses a network that trains by steps of its own."""
        # Here and not in a step: an error there costs a model on JAX its weights.
        _check_steps(self, "Train it by itself: it is averaged as it is.")
        return super().make_train_function(force)

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


class _Orbit(NamedTuple):
    """The inputs of a training step on the orbit of a batch.

    Attributes:
        batch: The inputs as they came.
        every: What each element makes of them, one behind the other along the batch;
            the identity first.
    """

    batch: Any
    every: Any


@_register
class DataAugmentation(_Wrapper):
    """Trains a network on transformed data: ``mean_g L(f(ρ_g x), ρ̂_g y)``.

    Targets are transformed with the inputs, and each sample keeps its weight.
    Evaluation and prediction run the bare network, `network`, which is also what is
    exported.

    In orbit mode each step runs the network once, on the whole orbit of the batch, n
    times its size: batch normalisation takes its statistics from all of it, and what
    layers add by `add_loss` is that of this run. The loss is the mean of those of the
    elements, each with the mask that the network gives its outputs. Compiled metrics
    compare `f(x)` with the `y` of the batch, the part of the identity. In random mode a
    step costs as much as a plain one, and metrics are those of the transformed data.

    In a loop of your own, `compute_loss(x, y, training=True)` in orbit mode runs the
    network on the orbit itself. Targets `(batch,)` of one coordinate are transformed as
    `(batch, 1)`.

    Source: as `keras_lap.symmetry.FeatureAveraging`.

    Args:
        network: Any `keras.Model`, also in `.network`. One with a `train_step` or
            `compute_loss` of its own, as a `LeastActionModel`, is refused.
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
        ValueError: As `keras_lap.symmetry.FeatureAveraging`; for another `elements`;
            for a network that trains by steps of its own.
        TypeError: If `network` is no model or `group` no group.

    Examples:
        >>> group = keras_lap.symmetry.sign(64)
        >>> model = keras_lap.symmetry.DataAugmentation(network, group)
        >>> model.compile("sgd", loss="sparse_categorical_crossentropy")
        >>> history = model.fit(x, labels, verbose=0)
    """

    least_action_advice = (
        "Put a GroupAugmentation layer first in the network that is trained."
    )

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
        advice = "A GroupAugmentation layer in the network augments its own training."
        _check_steps(self, advice)
        self.elements = elements
        self.seed = seed
        self._random = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool | None = None) -> Any:
        """What the bare network returns."""
        x = x.every if isinstance(x, _Orbit) else x
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

        Arguments as in `keras.Model.compute_loss`; in orbit mode, the outputs for x are
        computed anew unless `train_step` did so.
        """
        if not training or self.elements == "random":
            return super().compute_loss(x, y, y_pred, sample_weight, training=training)
        if not isinstance(x, _Orbit):
            x = self._orbit(x)
            y_pred = self.network(x.every, training=True)
        total = 0.0
        for g, returned in enumerate(split(y_pred, self.group.order)):
            target = moved(self._on_outputs, g, y)
            total += super().compute_loss(
                x.batch, target, returned, sample_weight, training=training
            )
        return total / self.group.order

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        """As `keras.Model.compute_metrics`, of the identity's part of an orbit."""
        if isinstance(x, _Orbit):
            x, y_pred = x.batch, split(y_pred, self.group.order)[0]
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def train_step(self, *args: Any) -> Any:
        """As `keras.Model.train_step`, of the orbit of the batch, or of random images.

        Arguments as there: on JAX the state of all variables, then the data.
        """
        *state, data = args
        if self.elements == "orbit":
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            x = self._orbit(x)
            data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        elif keras.backend.backend() != "jax":
            data = self._drawn(data)
        else:
            (trainable, others, *rest), variables = *state, self.non_trainable_variables
            mapping = list(zip(variables, others, strict=True))  # the seed's among them
            with keras.StatelessScope(state_mapping=mapping) as scope:
                data = self._drawn(data)
                others = [scope.get_current_value(variable) for variable in variables]
            state = [(trainable, others, *rest)]
        return super().train_step(*state, data)

    def _orbit(self, x: Any) -> _Orbit:
        every = [moved(self._on_inputs, g, x) for g in range(self.group.order)]
        return _Orbit(x, joined(every))

    def _drawn(self, data: Any) -> Any:
        """The batch, each sample transformed by an element of its own."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        index = draw(keras.tree.flatten(x)[0], self.group, self._random)
        x, y = moved(self._on_inputs, index, x), moved(self._on_outputs, index, y)
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


def _check_steps(wrapper: _Wrapper, advice: str) -> None:
    """Refuses to train a network whose own way of training would not be used."""
    network = wrapper.network
    own = [
        name
        for name in ("train_step", "compute_loss")
        if getattr(getattr(network, name), "__func__", None)
        is not getattr(keras.Model, name)
    ]
    if own:
        raise ValueError(
            f"{type(wrapper).__name__} trains by Keras's own steps, and would not use "
            f"the {' and '.join(own)} of the network. Received: network={network!r}. "
            f"{advice} To train its layers by the compiled loss, pass model.network of "
            "a LeastActionModel or DataAugmentation; of another class, keras.Model(x, "
            "network(x)) with x = keras.Input(...)."
        )


def config_of(value: Any) -> Any:
    """What `inputs=` received, as a file can hold it."""
    if isinstance(value, Action):
        return keras.saving.serialize_keras_object(value)
    return value if isinstance(value, str) else np.asarray(value).tolist()
