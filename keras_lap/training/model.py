"""`LeastActionModel`: a Keras network trained by the principle of least action."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_lap import energies
from keras_lap._checks import is_number
from keras_lap.blocks import (
    BlockReport,
    ResidualBlock,
    Selection,
    find_residual_blocks,
)
from keras_lap.running_costs import Path, RunningCost
from keras_lap.training import replicas, saving
from keras_lap.training.ascent import Share
from keras_lap.training.measures import TASK_LOSS, Measures
from keras_lap.training.multiplier import MultiplierAscent
from keras_lap.training.own_methods import check_blocks, check_network
from keras_lap.training.step import Steps
from keras_lap.training.terms import terms_of
from keras_lap.training.trainer import Trainer
from keras_lap.training.voice import argument, multiplier, show_line, with_voice
from keras_lap.trajectory import Recorder

# Two means of the same losses differ by no more, in float32.
_SAME = 1e-5


@keras.saving.register_keras_serializable("keras_lap")
class LeastActionModel(Trainer):
    """Trains a network to solve its task while moving its data least.

    Each training step minimises ``C/λ + L``: the transport cost C, which is the sum
    of the energies of all residual blocks' displacements on the batch, over the
    multiplier λ, plus the compiled task loss L and whatever losses the network has
    of its own. `keras_lap.callbacks.MultiplierUpdate` raises λ while the task is
    unsolved. `compile`, `fit`, `evaluate`, `predict` and saving are Keras's own;
    evaluation and prediction run the bare network.

    The energy counts what the task counts: positions that a mask leaves out cost
    nothing, and `sample_weight` and `class_weight` weigh the energy of each sample as
    they weigh its loss, by a mean over samples, not over weights. In `model.losses`,
    where no weights are known, all samples weigh 1; so do they in running costs, unless
    one says otherwise.

    The logs of `fit` hold `loss` (the objective), `task_loss` (L), `transport_cost`
    (C), `multiplier` (λ) and the compiled metrics; on validation data `val_loss`,
    `val_task_loss` and the metrics of the bare network. A callback that monitors one
    of ours, as `keras.callbacks.EarlyStopping("val_task_loss", mode="min")` does, must
    be told whether less is better.

    Source: Karkar et al., *A Principle of Least Action for the Training of Neural
    Networks*, ECML PKDD 2020, arXiv 2009.08372.

    Args:
        network: The `keras.Model` to train, in place. A KerasHub task takes raw data,
            images or strings, here as it does by itself; a network with a `train_step`
            or `compute_loss` of its own is refused.
        energy: Exponent p > 1 of a `keras_lap.energies.DisplacementEnergy`, or any
            `keras_lap.energies.Energy`. None leaves C/λ out, and trains by running
            costs alone. Defaults to 2, kinetic energy.
        initial_multiplier: λ_0 > 0, from 1e-30 to 1e30. The smaller, the more the
            energy weighs. Or a `keras_lap.Share`, the part that the energy has of the
            first objective, which suits networks of any size; or `"auto"`, which
            switches the energy off where the network starts frugal. The first training
            step chooses then, and `ascent.decision` says how. Defaults to 1.
        blocks: Which blocks count; see `keras_lap.find_residual_blocks`. Defaults
            to `"auto"`, all of them.
        include_projections: Whether blocks whose shortcut changes the shape count,
            from the projected input on. Defaults to False.
        max_multiplier: At which λ the ascent stops, at least `initial_multiplier`.
            Defaults to None, no bound.
        running_costs: Further terms of the objective, each a
            `keras_lap.running_costs.RunningCost`; λ has no part in them, and the logs
            hold each by its name. Defaults to none.
        horizon: What time the blocks stand for, in the integrals of running costs: a
            number T > 0 that they share alike, or a list of the step of each. λ has
            no part in it. Defaults to None, a step of 1 for each block.
        mask: Name of an input that is a mask, `(batch, positions, ...)`, true or 1 if
            a position counts, as `"padding_mask"` of KerasHub's networks: a key of the
            inputs, or the name of a `keras.Input`. Defaults to None, the masks that
            Keras keeps with the states, as `Embedding(mask_zero=True)` makes them.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If the network has no residual block, or methods that would not be
            used, or an argument is outside the values above.
        TypeError: If an argument has the wrong type.

    Examples:
        >>> network = keras_lap.networks.resnet9((8, 8, 1), 10, filters=4)
        >>> model = keras_lap.LeastActionModel(network, initial_multiplier=5.0)
        >>> model.compile(
        ...     "sgd",
        ...     loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ...     metrics=["accuracy"],
        ... )
    """

    def __init__(
        self,
        network: keras.Model,
        energy: float | energies.Energy | None = 2.0,
        initial_multiplier: float | str | Share = 1.0,
        blocks: Selection = "auto",
        include_projections: bool = False,
        max_multiplier: float | None = None,
        running_costs: Sequence[RunningCost] = (),
        horizon: float | Sequence[float] | None = None,
        mask: str | None = None,
        **kwargs: Any,
    ):
        check_network(network, LeastActionModel)
        energy = None if energy is None else energies.get(energy)
        ascent = MultiplierAscent(initial_multiplier, max_multiplier)
        report = find_residual_blocks(network, blocks, include_projections)
        check_blocks(report, LeastActionModel)
        path = Path(None, network, report=report, horizon=horizon)
        steps = list(path.time_steps)
        terms = terms_of(energy, ascent, running_costs, copy.copy(path))
        # The network converts its inputs itself: cast here as well, they would reach
        # it in lower precision than without us.
        # Its precision also decides whether Keras scales the loss.
        kwargs.setdefault("dtype", network.dtype_policy)
        super().__init__(autocast=False, **kwargs)
        self.network = network
        self.ascent = ascent
        self.ascent.build(())
        self.energy = energy
        self.running_costs = tuple(running_costs)
        self.horizon = horizon if horizon is None or is_number(horizon) else steps
        self.include_projections = include_projections
        self.mask = mask
        self._selects_all = isinstance(blocks, str)
        self._report = report
        self._terms = terms
        self._task_path = path.of_task(self.exit_loss)
        self._covers = _covered(report) if energy is not None else frozenset()
        wanted = dict.fromkeys(each for term in terms for each in term.wanted)
        exits = {
            exit
            for cost in running_costs
            if "exits" in cost.wanted
            for exit in cost.exits(len(report))
        }
        self._record = Recorder(network, report, tuple(wanted), mask, exits)
        self._steps = Steps()
        self._measures = Measures(terms)
        # Built here and not at the first batch: BackupAndRestore needs it.
        self.built = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "network" and getattr(self, name, value) is not value:
            raise AttributeError(
                "The network of a LeastActionModel cannot be exchanged: its blocks, "
                "its optimizer and what was compiled belong to the one it has. "
                f"Received: network={value!r}. Wrap the other network in a model of "
                "its own: keras_lap.LeastActionModel(network)."
            )
        super().__setattr__(name, value)

    @property
    def block_report(self) -> BlockReport:
        """What was found in the network, and what was left out and why."""
        return self._report

    @property
    def blocks(self) -> tuple[ResidualBlock, ...]:
        """The residual blocks whose displacements count, in forward order."""
        return tuple(self._report)

    @property
    def multiplier(self) -> keras.Variable:
        """λ, a scalar non-trainable variable, saved; 0 until a step has chosen.

        1e30 is an energy that is switched off; the logs call it infinite.
        """
        return self.ascent.multiplier

    @property
    def block_costs(self) -> np.ndarray | None:
        """Mean energy of each block over the training batches of this epoch, `(K,)`.

        Until Keras resets its metrics, as it does before it evaluates and at the next
        epoch; None if nothing was counted since.
        """
        return self._measures.block_costs()

    @property
    def output_names(self) -> list[str] | None:
        """Names of the network's outputs, by which losses may be given."""
        return getattr(self.network, "output_names", None)

    @property
    def inputs(self) -> list[Any]:
        """As of the network; its `AttributeError` if it has none."""
        return self.network.inputs

    @property
    def outputs(self) -> list[Any]:
        """As of the network; its `AttributeError` if it has none."""
        return self.network.outputs

    @property
    def input_shape(self) -> Any:
        """As of the network; its `AttributeError` if it has none."""
        return self.network.input_shape

    @property
    def output_shape(self) -> Any:
        """As of the network; its `AttributeError` if it has none."""
        return self.network.output_shape

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.summary`, and a line on the blocks, the energy and λ."""
        super().summary(*args, **kwargs)
        parts = [self._report.summary]
        if self.energy is not None:
            now = float(replicas.read(self.multiplier))
            parts.append(f"λ = {multiplier(now)}" if now > 0 else "λ not chosen yet")
        show = argument(args, kwargs, 2, "print_fn", None) or show_line
        show(f" Least action: {', '.join(parts)}")

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`. λ stays constant without a `MultiplierUpdate`.

        Unless ``verbose=0``, a few lines beginning with "Least action:" say which
        blocks count, what part of the objective the energy is, and what became of it.
        """
        # An interrupted fit may have left the schedule of its callback behind, and
        # a callback that restores weights brings it back after the training.
        self.ascent.stop()
        targets = kwargs.get("y", args[1] if len(args) > 1 else None)
        for cost in self.running_costs:
            cost.check_targets(self._task_path.given(targets, None))
        history = super().fit(*args, **kwargs)
        self.ascent.stop()
        shape = getattr(self.network, "input_shape", None)
        if shape is not None:
            self.build(shape)
        return history

    def fit_as_keras(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`, with lines of its own; see `fit`."""
        args, kwargs = with_voice(self, args, kwargs)
        return super().fit_as_keras(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate` of the bare network.

        A dictionary holds `task_loss` besides, where it differs from `loss` by losses
        of the network's own; the validation of `fit` logs it always.
        """
        result = super().evaluate(*args, **kwargs)
        task_loss = self._measures.task_loss() if isinstance(result, dict) else None
        if task_loss is None:
            return result
        within = isinstance(kwargs.get("callbacks"), keras.callbacks.CallbackList)
        same = math.isclose(task_loss, result["loss"], rel_tol=_SAME)
        return {**result, TASK_LOSS: task_loss} if within or not same else result

    def build(self, input_shape: Any) -> None:
        """Only lets Keras note the shape, which TFLite asks for: all else is built."""

    def save(
        self,
        filepath: Any,
        overwrite: bool = True,
        zipped: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.save`; an older file stays until the new one is whole.

        Where ``overwrite=False`` makes Keras ask, it is written over. Of several
        processes that train together only the first writes.
        """
        self.get_config()
        if replicas.writes_files():
            with saving.replacing(filepath, overwrite, zipped is False) as path:
                super().save(path, overwrite, zipped, **kwargs)

    def save_weights(
        self, filepath: Any, overwrite: bool = True, max_shard_size: Any = None
    ) -> None:
        """As `keras.Model.save_weights`, and as `save`."""
        if replicas.writes_files():
            with saving.replacing(filepath, overwrite) as path:
                super().save_weights(path, overwrite, max_shard_size)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.export`, of the bare network, which is what predicts."""
        if replicas.writes_files():
            self.network.export(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for saving."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "network": serialize(self.network),
            "energy": serialize(self.energy),
            "initial_multiplier": self.ascent.initial_multiplier,
            "blocks": "auto" if self._selects_all else self._report.selection,
            "include_projections": self.include_projections,
            "max_multiplier": self.ascent.max_multiplier,
            "running_costs": [serialize(cost) for cost in self.running_costs],
            "horizon": self.horizon,
            "mask": self.mask,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> LeastActionModel:
        """Rebuilds the model from what `get_config` returned."""
        if "network" not in config:
            raise ValueError(
                "The config of a LeastActionModel holds that of its network. Received: "
                f"one with {', '.join(config) or 'nothing'}. Pass what get_config() "
                "returned, or wrap the network: keras_lap.LeastActionModel(network)."
            )
        network = keras.saving.deserialize_keras_object(
            config["network"], custom_objects=custom_objects
        )
        energy = config["energy"] and energies.deserialize(
            "energy", config["energy"], custom_objects
        )
        costs = [
            energies.deserialize("running cost", cost, custom_objects)
            for cost in config.get("running_costs", ())
        ]
        read = {"network": network, "energy": energy, "running_costs": costs}
        return cls(**{**config, **read})


def _covered(report: BlockReport) -> frozenset[int]:
    """The models within a network whose blocks are among those of the report."""
    around = (call for found in report.found for call in (*found.path, found.call))
    inner = (call.operation for call in around)
    return frozenset(id(each) for each in inner if isinstance(each, LeastActionModel))
