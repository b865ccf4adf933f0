"""The ways of training that are compared, each with one strength.

All start from the same weights and train by the same loss, data, order of batches and
optimizer; each adds one thing to plain training, and one number says how much of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

import keras_lap
from studies.layers.networks import with_branches

PATH_WEIGHT = 0.2


@dataclass(frozen=True)
class Method:
    """One way of training.

    Attributes:
        name: As in the tables.
        make: From a network and its horizon to what is trained.
        strengths: What is tried on validation data; one value is no trial.
        further: What is tried besides, in the settings that are quick to train.
    """

    name: str
    make: Callable[[keras.Model, float], Subject]
    strengths: tuple[float, ...]
    further: tuple[float, ...] = ()

    def tried(self, widely: bool) -> tuple[float, ...]:
        """The strengths that are tried in a setting, from weak to strong."""
        return self.strengths + self.further if widely else self.strengths


@dataclass
class Subject:
    """What is trained, and what is read from it.

    Attributes:
        network: Holds the layers that get the initial weights of the seed.
        model: What is compiled and trained.
        exits: Its K + 1 outputs.
        set_strength: Sets the method's strength.
        decay: Whether the strength is the optimizer's weight decay.
        schedules: Callbacks that say how λ rises.
    """

    network: keras.Model
    model: keras.Model
    exits: keras.Model
    set_strength: Callable[[float], None] = lambda strength: None
    decay: bool = False
    schedules: Sequence[keras.callbacks.Callback] = ()

    @property
    def can_be_cut(self) -> bool:
        """Whether `depth.prune` makes the networks that the exits are."""
        return not isinstance(self.model, DeepSupervision)


def plain(network: keras.Model, horizon: float) -> Subject:
    """Plain training."""
    return Subject(network, network, keras_lap.depth.exits(network))


def weight_decay(network: keras.Model, horizon: float) -> Subject:
    """AdamW; the strength is its weight decay, of all weights."""
    subject = plain(network, horizon)
    subject.decay = True
    return subject


def stochastic_depth(network: keras.Model, horizon: float) -> Subject:
    """Drops block k of K with probability ``k/K · strength``, for each sample."""
    blocks = len(keras_lap.find_residual_blocks(network))
    drops = [RandomDepth(k, name=f"block{k}_drop") for k in range(1, blocks + 1)]
    changed = with_branches(network, lambda k, v: drops[k - 1](v))
    subject = plain(changed, horizon)

    def set_strength(strength: float) -> None:
        for k, drop in enumerate(drops, start=1):
            drop.rate.assign(k / blocks * strength)

    subject.set_strength = set_strength
    return subject


def gates(network: keras.Model, horizon: float) -> Subject:
    """A trained factor of each branch, from 1, whose amount costs the strength."""
    layers: list[Gate] = []

    def change(k: int, v: Any) -> Any:
        layers.append(Gate(name=f"block{k}_gate"))
        return layers[-1](v)

    subject = plain(with_branches(network, change), horizon)

    def set_strength(strength: float) -> None:
        for gate in layers:
            gate.price.assign(strength)

    subject.set_strength = set_strength
    return subject


def deep_supervision(network: keras.Model, horizon: float) -> Subject:
    """A head for each exit; the mean of their losses counts the strength."""
    found = keras_lap.find_residual_blocks(network)
    sums = [network.get_layer(block.name) for block in found]
    states = [sums[0].input[0], *(layer.output for layer in sums[:-1])]
    head = keras.Model(sums[-1].output, network.output)
    outputs = []
    for k, state in enumerate(states):
        own = keras.models.clone_model(head)
        own.name = f"head{k}"
        own.set_weights(head.get_weights())
        outputs.append(own(state))
    exits = keras.Model(network.input, [*outputs, network.output])
    model = DeepSupervision(exits)
    return Subject(network, model, exits, model.strength.assign)


def least_action(network: keras.Model, horizon: float) -> Subject:
    """``C/λ + L``, λ rising by the loss at every fifth step; the strength is λ_0."""
    return _least_action(network, horizon, 2.0, [])


def held_action(network: keras.Model, horizon: float) -> Subject:
    """``C/λ + L`` with a λ that is held; the strength is 1/λ."""
    return _held(network, horizon, 2.0)


def group_norm(network: keras.Model, horizon: float) -> Subject:
    """``Σ_k |v_k| / λ + L``, λ held; the strength is 1/λ."""
    return _held(network, horizon, RootMeanSquare())


def path_loss(network: keras.Model, horizon: float) -> Subject:
    """The strength is the weight of `PathLoss`."""
    subject = _least_action(network, horizon, None, [_path(1.0)])
    (cost,) = subject.model.running_costs
    # A variable in the place of the number, to compile the step once for all.
    subject.model.strength = cost.weight = _scalar("strength")
    subject.set_strength = cost.weight.assign
    return subject


def both(network: keras.Model, horizon: float) -> Subject:
    """`PathLoss` of weight .2, and least action; the strength is λ_0."""
    return _least_action(network, horizon, 2.0, [_path(PATH_WEIGHT)])


def _held(
    network: keras.Model, horizon: float, energy: float | keras_lap.energies.Energy
) -> Subject:
    subject = _least_action(network, horizon, energy, [])
    subject.schedules = ()
    multiplier = subject.model.ascent.multiplier
    subject.set_strength = lambda strength: multiplier.assign(1 / strength)
    return subject


def _path(weight: float) -> keras_lap.running_costs.PathLoss:
    return keras_lap.running_costs.PathLoss(weight)


def _least_action(
    network: keras.Model,
    horizon: float,
    energy: float | keras_lap.energies.Energy | None,
    costs: list[Any],
) -> Subject:
    model = keras_lap.LeastActionModel(
        network, energy, running_costs=costs, horizon=horizon
    )
    subject = Subject(network, model, keras_lap.depth.exits(network))
    if energy is not None:
        subject.set_strength = model.ascent.multiplier.assign
        subject.schedules = [keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)]
    return subject


def _scalar(name: str) -> keras.Variable:
    return keras.Variable(0.0, trainable=False, dtype="float32", name=name)


@keras.saving.register_keras_serializable("studies.layers")
class RootMeanSquare(keras_lap.energies.Energy):
    """How far a block moves a batch, as a group norm: whole blocks become idle."""

    def __call__(self, displacement: Any) -> Any:
        """``sqrt(mean_bi v_bi²)``, with a gradient of 0 where nothing moves."""
        square = ops.mean(ops.square(displacement))
        moves = square > 0
        root = ops.sqrt(ops.where(moves, square, 1.0))
        return ops.where(moves, root, 0.0)


class RandomDepth(keras.layers.Layer):
    """Leaves out what a branch returns for some samples, and enlarges the others.

    Args:
        seed: Of what is drawn.
        **kwargs: `name`.
    """

    def __init__(self, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = _scalar("rate")
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, v: Any, training: bool = False) -> Any:
        """What is added to the state."""
        if not training:
            return v
        shape = (ops.shape(v)[0], *(1,) * (len(v.shape) - 1))
        drawn = keras.random.uniform(shape, seed=self.generator)
        kept = ops.cast(drawn >= self.rate, v.dtype)
        return v * kept / (1 - self.rate)


class Gate(keras.layers.Layer):
    """Multiplies by a trained number, whose amount is added to the loss."""

    def build(self, shape: Any) -> None:
        """Makes the number, 1 at first, and its price."""
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")
        self.price = _scalar("price")

    def call(self, v: Any) -> Any:
        """What is added to the state."""
        self.add_loss(self.price * ops.abs(self.factor))
        return v * self.factor


class DeepSupervision(keras.Model):
    """Trains all outputs of a network by one target.

    Args:
        exits: The network; its last output is that of the task.
    """

    def __init__(self, exits: keras.Model):
        super().__init__()
        self.exits = exits
        self.strength = _scalar("strength")
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        """The outputs."""
        return self.exits(x, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kw: Any
    ) -> Any:
        """``L(ŷ_K) + strength · mean_k L(ŷ_k)``, k < K."""
        entropy = keras.losses.sparse_categorical_crossentropy
        *others, last = [ops.mean(entropy(y, p, from_logits=True)) for p in y_pred]
        return last + self.strength * ops.mean(ops.stack(others))


METHODS = (
    Method("plain", plain, (0.0,)),
    Method("weight decay", weight_decay, (0.03, 0.1, 0.3, 1.0), (0.01, 3.0)),
    Method("stochastic depth", stochastic_depth, (0.2, 0.35, 0.5, 0.7), (0.8, 0.9)),
    Method("deep supervision", deep_supervision, (0.1, 0.3, 1.0, 3.0), (10.0, 30.0)),
    Method("L1 gates", gates, (1e-4, 1e-3, 1e-2, 3e-2), (0.1, 0.3)),
    Method("least action", least_action, (0.1, 0.5, 2.0, 5.0), (0.02, 20.0)),
    Method("λ held", held_action, (0.02, 0.1, 0.5, 2.0), (5.0, 20.0)),
    Method("group norm, λ held", group_norm, (0.003, 0.01, 0.03, 0.1), (0.3, 1.0)),
    Method("path loss", path_loss, (0.05, 0.1, 0.2, 0.5), (1.0, 2.0)),
    Method("both", both, (0.1, 0.5, 2.0, 5.0), (0.02, 20.0)),
)
