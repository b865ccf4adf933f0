"""What a `LeastActionModel` does in a step: its passes, its loss, its λ, its logs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_lap.running_costs import Path
from keras_lap.training import replicas
from keras_lap.training.ascent import check_schedule
from keras_lap.training.measures import Measures, check_names
from keras_lap.training.multiplier import MultiplierAscent
from keras_lap.training.own_methods import FedLikeNetwork
from keras_lap.training.step import (
    Step,
    Steps,
    batch_size,
    check_has_loss,
    check_recorded,
    check_used,
    forgotten,
    is_symbolic,
    look,
    recording,
)
from keras_lap.training.terms import Term, check_has_multiplier
from keras_lap.training.wrapping import as_step, putting_back
from keras_lap.trajectory import Recorder, leaving_no_trace

# PyTorch's backward pass reads λ where torch.compile finds it, so λ must not change in
# place before.
_RAISES_LATE = keras.backend.backend() == "torch"
# What a compiled step of JAX gives a variable gets out of it only where Keras collects
# it, which is around `compute_loss` and nowhere later.
_RAISES_WITHIN = _HOLDS_VALUES = keras.backend.backend() == "jax"
# TensorFlow's trainer knows its metrics once the first step is traced, not before.
_BUILDS_LATE = keras.backend.backend() == "tensorflow"


def _with_energy(method: Callable) -> Callable:
    """Makes sure that a `compute_loss` does not forget the energy of a training step.

    Args:
        method: `compute_loss` of a subclass.
    """

    @functools.wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        step = self._step
        # A step of one's own may add what this leaves out; its end shows.
        keras_s = type(self).train_step is Trainer.train_step
        if step is None or not step.training or not keras_s:
            return method(self, *args, **kwargs)
        step.is_used = False
        loss = method(self, *args, **kwargs)
        check_recorded(step)
        if not step.is_used:
            raise forgotten(self, "compute_loss()")
        return loss

    wrapped._is_step = True  # type: ignore[attr-defined]
    return wrapped


class Trainer(FedLikeNetwork):
    """A model whose training adds terms to the loss of its network's task.

    What a subclass sets before it trains:

    Attributes:
        ascent: λ.
    """

    ascent: MultiplierAscent
    train_function: Any
    _terms: tuple[Term, ...]
    _record: Recorder
    _task_path: Path
    _covers: frozenset[int]
    _steps: Steps
    _measures: Measures

    def __init_subclass__(cls, **kwargs: Any):
        """Makes a step of the `train_step` and `test_step` that a subclass writes."""
        super().__init_subclass__(**kwargs)
        wrappers = {
            "train_step": as_step(training=True),
            "test_step": as_step(training=False),
        }
        for name, wrap in wrappers.items():
            if not hasattr(getattr(cls, name), "_is_step"):
                setattr(cls, name, wrap(getattr(cls, name)))
        own = cls.compute_loss is not Trainer.compute_loss
        if own and not hasattr(cls.compute_loss, "_is_step"):
            cls.compute_loss = _with_energy(cls.compute_loss)  # type: ignore[method-assign]

    @property
    def _step(self) -> Step | None:
        """The step that this thread is in the middle of, if any."""
        return self._steps.current

    @property
    def losses(self) -> list[Any]:
        """Losses added in the last call: C/λ, running costs, and the network's own.

        C/λ and those running costs that need no targets are among them after a call
        with ``training=True``, in any loop and within any other model, and not after
        inference. In a training step they are those of all its passes.
        """
        if self._steps.are_losses_hidden:
            return []
        step = self._step
        if step is None:
            return super().losses
        # What needs targets is not among them, so that reading them is not enough.
        step.is_used |= not any(term.needs_target for term in self._terms)
        # On JAX Keras hands those that it was given on to where it reads them again.
        known = super().losses
        others = step.sort_out(known)
        if step.is_handed_out and len(others) == len(known):
            return [*known, *step.late]
        return [*others, *step.added]

    @property
    def metrics(self) -> list[Any]:
        """As in `keras.Model`."""
        self._settle_late()  # a train_step of one's own reads them at its end
        return super().metrics

    @property
    def metrics_variables(self) -> list[Any]:
        """As in `keras.Model`; those that processes have to add up, within a step."""
        known, step = super().metrics_variables, self._step
        if step is None or step.logged is None:
            return known
        return [each for each in known if each is not self._measures.sums]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the network; in training, records its trajectory and adds its price."""
        step = self._step
        # A model within a network that is recorded, or read, leaves it to that.
        alone = id(self) not in recording.covers and not is_symbolic(inputs)
        if not training or not alone or (step is not None and not step.training):
            if alone:
                self._steps.last = None
            return self.network(inputs, training=training)
        with recording.on(self._covers):
            trajectory = self._record(inputs, training=training)
        path = self._task_path.seen(trajectory, inputs)
        before = step.every[0] if step is not None and step.every else None
        one = look(self._terms, path, batch_size(inputs), before)
        if step is not None:
            step.begin(one)
        else:
            self.add_loss(one.added)
            if any(term.needs_target for term in self._terms):
                self._steps.last = one
        return trajectory.outputs

    def stateless_call(self, *args: Any, **kwargs: Any) -> Any:
        """As in `keras.Model`; losses that are returned are not added once more."""
        step = self._step
        used = step is not None and step.is_used
        result = super().stateless_call(*args, **kwargs)
        if step is not None and kwargs.get("return_losses"):
            # Keras's own step hands them on to where it reads them again.
            step.is_handed_out, step.is_used = bool(step.added), used
        return result

    def set_weights(self, weights: Any) -> None:
        """As in `keras.Model`; λ may be one that is to be chosen again."""
        super().set_weights(weights)
        self.ascent.look_again()

    def make_train_function(self, force: bool = False) -> Any:
        """As in `keras.Model`; refuses processes and metrics in each other's way."""
        replicas.check_processes()
        if not _BUILDS_LATE:
            check_names(self.metrics, self._measures.names)
        before, made = self.train_function, super().make_train_function(force)
        if _HOLDS_VALUES and self.train_function is not before:
            self.train_function = putting_back(self, self.train_function)
        return made

    @as_step(training=True)
    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_step`; a step may have several passes."""
        result = super().train_step(*args, **kwargs)
        if _BUILDS_LATE:
            check_names(self.metrics, self._measures.names)
        return result

    @as_step(training=False)
    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.test_step`, on the bare network."""
        return super().test_step(*args, **kwargs)

    def stateless_compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """As in `keras.Model`."""
        step = self._step
        if step is None:
            return super().stateless_compute_loss(*args, **kwargs)
        step.is_kerass = step.was_kerass = True
        try:
            return super().stateless_compute_loss(*args, **kwargs)
        except BaseException:
            super().losses.clear()  # handed on by Keras, which the next step would read
            raise
        finally:
            step.is_kerass = False

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The objective; in a training step, also raises λ when that is due.

        It is that of all passes since the last time it was asked for; of a step that
        asks several times, λ and the logs follow the first, whose λ holds for all.
        """
        step = self._step
        if self.loss is None or step is None:
            if step is not None and step.training:
                check_has_loss(self)
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            if not training:
                return loss
            return self._with_targets(loss, y, y_pred, sample_weight)
        trains = step.training and training
        # Keras adds `self.losses` to the compiled loss; hidden, the latter is left.
        with self._steps.task_only():
            task_loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if trains:
            check_recorded(step)
            step.complete(self._terms, y, sample_weight)
        if step.task_loss is None and trains == step.training:
            # Else a subclass asks again in the same step, or looks at an evaluation.
            step.task_loss = replicas.own_mean(task_loss)
            step.samples = (
                step.passes[0].samples if trains else batch_size([x, y_pred, y])
            )
            raises = step.is_kerass or not _RAISES_WITHIN
            if raises and trains:
                step.meet(self._terms, self._other_losses, self._logged)
            if raises and not (trains and _RAISES_LATE):
                self._settle(step)
        losses = self.losses if trains else self._other_losses()
        added = [self._aggregate_additional_loss(loss) for loss in losses]
        return replicas.objective(task_loss, added)

    def _other_losses(self) -> list[Any]:
        """Losses that the network has of its own, within a step."""
        assert self._step is not None
        return self._step.sort_out(super().losses)

    def _with_targets(self, loss: Any, y: Any, y_pred: Any, weights: Any) -> Any:
        """Adds what needs the targets, of the last pass of a loop of one's own."""
        one, self._steps.last = self._steps.last, None
        if one is None or not one.has_returned(y_pred):
            return loss
        one.complete(self._terms, y, weights, anew=False)
        late = [self._aggregate_additional_loss(each) for each in one.late]
        return replicas.objective(loss, late)

    def exit_loss(self, y: Any, y_pred: Any, sample_weight: Any) -> Any:
        """The compiled loss of an exit of the network; nothing of it is logged.

        Args:
            y: Targets.
            y_pred: Nested as the outputs of the network are.
            sample_weight: Weights of the samples, or None.

        Returns:
            A scalar tensor; on several replicas, that of each one's part.
        """
        check_has_loss(self)
        # Keras logs each of several outputs' losses whenever it computes them.
        several = keras.tree.is_nested(y_pred) or keras.tree.is_nested(y)
        known = [*self.variables, *self.metrics_variables] if several else []
        unseen = leaving_no_trace(known) if several else contextlib.nullcontext()
        with self._steps.task_only(), unseen:
            loss = super().compute_loss(None, y, y_pred, sample_weight, True)
        return replicas.own_mean(loss)

    def compute_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As in `keras.Model`; on PyTorch the place where λ is raised."""
        self._settle_late()
        return super().compute_metrics(*args, **kwargs)

    def _settle_late(self) -> None:
        step = self._step
        late = _RAISES_LATE and step is not None and step.training
        if step and late and step.task_loss is not None and not step.is_settled:
            self._settle(step)

    def _settle(self, step: Step) -> None:
        """Raises λ where that is due, and logs the step."""
        step.is_settled = True
        lasts = step.settle(self._terms) if step.training else ()
        logged = self._logged() if step.logged is None else step.logged
        self._measures.add(logged, lasts)

    def _logged(self) -> Any:
        step = self._step
        assert step is not None
        prices = step.prices if step.training else ()
        return self._measures.of_batch(step.samples, step.task_loss, prices)

    def _end(self, step: Step) -> None:
        """Ends a step; called within it."""
        self._settle_late()
        check_used(self, step)

    def raise_multiplier(
        self, task_loss: Any, tau: float = 1.0, every: int = 1, loss: str = "batch"
    ) -> Any:
        """Raises λ by a task loss of one's own: ``λ ← λ + τ·L``.

        For loops of one's own, and for a model that is trained within another one: call
        it once for every optimizer step, after the gradient was taken. It works in
        compiled steps; on JAX, see `stateless_raise_multiplier`. Where a
        `MultiplierUpdate` has set a schedule, that one holds and not the arguments
        here, and a step of `fit` whose loss has raised λ already does not raise it
        again.

        Args:
            task_loss: L of the batch, scalar tensor; on several replicas, of each
                one's part, as Keras's losses return it there.
            tau: Step size τ, from 0 to 1e30. Defaults to 1.
            every: Calls between two updates, at least 1. Defaults to 1.
            loss: `"batch"` or `"mean"`; see `MultiplierUpdate`. Defaults to `"batch"`.

        Returns:
            λ after it, scalar float32 tensor.

        Raises:
            ValueError: If an argument is outside the values above, the loss is no
                scalar, or the model has no energy.
        """
        check_has_multiplier(self)
        schedule = check_schedule(tau, every, loss)
        task_loss = ops.convert_to_tensor(task_loss)
        if len(task_loss.shape) > 0:
            raise ValueError(
                "raise_multiplier takes the task loss of a batch, a scalar. Received: "
                f"a tensor of shape {tuple(task_loss.shape)}. Take its mean, e.g. by "
                "keras.ops.mean."
            )
        step = self._step
        samples = 1.0 if step is None or step.samples is None else step.samples
        later = _RAISES_LATE and step is not None and step.task_loss is not None
        again = step is not None and (step.is_raised or later)
        if step is not None and not again:
            step.is_raised = True
        numbers = self.ascent.with_seen(replicas.own_mean(task_loss))
        whole = replicas.batch_mean(numbers, samples)
        return self.ascent.step(whole, schedule, again)

    def stateless_raise_multiplier(
        self, non_trainable_variables: Sequence[Any], task_loss: Any, **kwargs: Any
    ) -> list[Any]:
        """As `raise_multiplier`, without a side effect; for steps that JAX compiles.

        Args:
            non_trainable_variables: Values of the model's variables of this name.
            task_loss: L of the batch, scalar tensor.
            **kwargs: Further arguments of `raise_multiplier`.

        Returns:
            The values after it.
        """
        variables = self.non_trainable_variables
        mapping = list(zip(variables, non_trainable_variables, strict=True))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            self.raise_multiplier(task_loss, **kwargs)
            return [scope.get_current_value(variable) for variable in variables]

    def get_metrics_result(self) -> dict[str, Any]:
        """As in `keras.Model`; with L, C and λ of a training alone."""
        self._settle_late()
        result = super().get_metrics_result()
        step, measures = self._step, self._measures
        trained = step.is_settled and step.training if step else measures.has_trained()
        if not trained:
            for name in measures.names:
                del result[name]
        return result
