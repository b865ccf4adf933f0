"""Steps and passes: what the pieces of one training step tell each other.

A pass is one run of the network in training; a step trains on one batch, by one pass or
several. Keras keeps the losses that layers add in one list for each layer, which it
clears at every call and which the replicas of TensorFlow's strategies share. Within a
step the passes are kept here instead, for each thread its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from keras_lap.running_costs import Path
from keras_lap.training import replicas
from keras_lap.training.terms import Price, Term, add_up


@dataclass
class Pass:
    """One run of the network in training, and what the terms take for it.

    Attributes:
        path: What it saw; None once all terms have read it.
        samples: How many samples that were.
        prices: Of each term; None for one that needs the targets.
        once_added: What was added at any time, before it was priced anew too.
    """

    path: Path | None
    samples: Any
    prices: list[Price | None]
    once_added: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.once_added += self.added
        self._are_late = [price is None for price in self.prices]

    @property
    def late(self) -> list[Any]:
        """Of what is added, that which needed the targets."""
        pairs = zip(self.prices, self._are_late, strict=True)
        return [price.added for price, late in pairs if late and price is not None]

    def has_returned(self, outputs: Any) -> bool:
        """Whether the network returned these very tensors; not once all is priced."""
        own = self.path and self.path.trajectory and self.path.trajectory.outputs
        flat = keras.tree.flatten(own), keras.tree.flatten(outputs)
        return [*map(id, flat[0])] == [*map(id, flat[1])]

    @property
    def added(self) -> list[Any]:
        """What is added to the loss, as far as it is known."""
        return [price.added for price in self.prices if price is not None]

    def complete(
        self, terms: Sequence[Term], y: Any, sample_weight: Any, anew: bool = True
    ) -> None:
        """Prices what needs the targets, and anew what the weights of samples weigh."""
        if self.path is None:
            return  # the same loss was asked for before
        if not _fit(sample_weight, self.samples):
            sample_weight = None  # those of another pass
        path = self.path.given(y, sample_weight)
        self.path = None  # whose states nobody needs any more
        for index, term in enumerate(terms):
            earlier = self.prices[index]
            weighs = anew and term.weighs_samples and sample_weight is not None
            if earlier is None or weighs:
                self.prices[index] = term.price(path, self.samples, earlier)
        self.once_added += self.added


def _fit(sample_weight: Any, samples: Any) -> bool:
    """Whether weights may be those of so many samples, as far as that is known."""
    sizes = {
        each.shape[0]
        for each in keras.tree.flatten(sample_weight)
        if hasattr(each, "shape")
    }
    return not isinstance(samples, int) or sizes <= {samples, None}


def look(
    terms: Sequence[Term], path: Path, samples: Any, before: Pass | None = None
) -> Pass:
    """A pass, priced by those terms that need no targets.

    Args:
        terms: All terms.
        path: What it saw.
        samples: How many samples that were.
        before: An earlier pass of the same step, whose λ holds for all of it.
    """
    earlier = before.prices if before is not None else [None] * len(terms)
    prices = [
        None if term.needs_target else term.price(path, samples, known)
        for term, known in zip(terms, earlier, strict=True)
    ]
    return Pass(path, samples, prices)


@dataclass
class Step:
    """One step, from its first pass to its metrics.

    Attributes:
        training: Whether it trains.
        every: All passes.
        passes: Those that the next loss is of, or the last one was.
        counted: Those of the first loss that was computed; they are logged.
        task_loss: L, of the first loss that was computed.
        whole_loss: L of the whole batch, on several replicas.
        samples: Of how many samples.
        logged: What the whole batch adds to the logs, where replicas have told it.
        is_closed: Whether the loss of `passes` was computed, so that another pass
            begins anew.
        is_used: Whether the energy of the passes has gone anywhere.
        is_handed_out: Whether what they added was returned to a step of one's own.
        is_raised: Whether λ has seen a loss.
        is_settled: Whether the terms have seen L, and the step is logged.
        is_kerass: Whether Keras itself computes the loss in it, with the state of all
            variables at hand. JAX hands a changed λ on from there and nowhere else.
        was_kerass: Whether it ever was so.
    """

    training: bool
    every: list[Pass] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    counted: list[Pass] = field(default_factory=list)
    task_loss: Any = None
    whole_loss: Any = None
    samples: Any = None
    logged: Any = None
    is_closed: bool = False
    is_used: bool = False
    is_handed_out: bool = False
    is_raised: bool = False
    is_settled: bool = False
    is_kerass: bool = False
    was_kerass: bool = False

    def begin(self, one: Pass) -> None:
        """Adds a pass."""
        if self.is_closed:
            self.passes, self.is_closed, self.is_handed_out = [], False, False
        self.passes.append(one)
        self.every.append(one)

    def complete(self, terms: Sequence[Term], y: Any, sample_weight: Any) -> None:
        """Prices the passes of one loss in full."""
        for one in self.passes:
            one.complete(terms, y, sample_weight)
        self.counted = self.counted or self.passes
        self.is_closed = self.is_used = True

    def meet(
        self,
        terms: Sequence[Term],
        losses: Callable[[], list[Any]],
        logged: Callable[[], Any],
    ) -> None:
        """Prices the passes of the first loss by it, before the gradient is taken.

        Args:
            terms: All terms.
            losses: Returns what is added to the loss besides, should a term ask.
            logged: Returns what this replica's part of the batch adds to the logs.
        """
        by_term = [
            [price for one in self.counted if (price := one.prices[i]) is not None]
            for i in range(len(terms))
        ]
        asked = []
        for term, own in zip(terms, by_term, strict=True):
            others = [p.added for ps in by_term if ps is not own for p in ps]

            def rest(others: list[Any] = others) -> list[Any]:
                return [self.task_loss, *losses(), *others]

            asked.append(term.asks(own, rest))
        # All at once: replicas have to wait for each other whenever they gather.
        several = [ops.cast(x, "float32") for each in asked for x in each]
        loss = self.task_loss
        if several:
            loss = ops.stack([ops.cast(loss, "float32"), *several])
        loss, self.logged = replicas.batch_mean_and_sums(loss, self.samples, logged)
        known = [loss[i + 1] for i in range(len(several))]
        self.whole_loss = loss[0] if several else loss
        for index, (term, prices) in enumerate(zip(terms, by_term, strict=True)):
            own, known = known[: len(asked[index])], known[len(asked[index]) :]
            task_loss = None if self.is_raised else self.whole_loss
            anew = term.meet(prices, task_loss, own)
            for one, price in zip(self.counted, anew, strict=True):
                one.prices[index] = price
                one.once_added.append(price.added)

    def settle(self, terms: Sequence[Term]) -> list[Any]:
        """Raises λ where that is due; returns what the terms log of it."""
        seen, self.is_raised = self.is_raised, True
        task_loss = None if seen else self.whole_loss
        return [last for term in terms for last in term.settle(task_loss)]

    def sort_out(self, losses: Sequence[Any]) -> list[Any]:
        """The losses that no pass has added."""
        own = {id(added) for one in self.every for added in one.once_added}
        return [loss for loss in losses if id(loss) not in own]

    @property
    def added(self) -> list[Any]:
        """What the terms add to the loss of `passes`."""
        return [added for one in self.passes for added in one.added]

    @property
    def late(self) -> list[Any]:
        """Of this, what is not known before the loss."""
        return [added for one in self.passes for added in one.late]

    @property
    def prices(self) -> list[Price]:
        """What each term takes for the passes that are logged."""
        by_pass = [one.prices for one in self.counted]
        return [add_up(prices) for prices in zip(*by_pass, strict=True)]


class Steps(threading.local):
    """What each thread is in the middle of.

    Attributes:
        current: The step, if any.
        last: Without a step, the last pass, as long as a term needs targets for it.
        are_losses_hidden: Whether only the loss of the task is asked for just now.
    """

    def __init__(self) -> None:
        # Called in every thread. As defaults of the class they would be missing in a
        # new thread's own dictionary, on which torch.compile lays its guards.
        self.current: Step | None = None
        self.last: Pass | None = None
        self.are_losses_hidden = False

    @contextlib.contextmanager
    def within(self, training: bool) -> Iterator[Step]:
        """Runs a step in this thread, perhaps within another one."""
        around, self.current, self.last = self.current, Step(training), None
        try:
            yield self.current
        finally:
            self.current = around

    @contextlib.contextmanager
    def task_only(self) -> Iterator[None]:
        """Hides the losses that were added."""
        before, self.are_losses_hidden = self.are_losses_hidden, True
        try:
            yield
        finally:
            self.are_losses_hidden = before


class _Recording(threading.local):
    """Whether a thread runs a network whose trajectory is recorded.

    Attributes:
        covers: Models within that network whose blocks the one around it prices.
    """

    def __init__(self) -> None:
        self.covers: Collection[int] = ()  # in every thread, as in `Steps`

    @contextlib.contextmanager
    def on(self, covers: Collection[int]) -> Iterator[None]:
        """Records a network; the models that it `covers`, by `id`, leave it to that."""
        before, self.covers = self.covers, {*self.covers, *covers}
        try:
            yield
        finally:
            self.covers = before


recording = _Recording()


def is_symbolic(inputs: Any) -> bool:
    """Whether inputs, nested in any way, have symbolic tensors among them."""
    return any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten(inputs))


def batch_size(x: Any) -> Any:
    """How many samples a batch has, of the first of some arrays or tensors."""
    first = next(each for each in keras.tree.flatten(x) if each is not None)
    size = ops.shape(first)[0]
    # Keras does not tell that of TensorFlow's ragged tensors.
    return first.nrows() if size is None else size


def check_has_loss(model: keras.Model) -> None:
    """Raises if a model was compiled without a loss.

    Args:
        model: The model.
    """
    if model.loss is None:
        raise ValueError(
            "Least action needs a task: the model was compiled without a loss. "
            "Received: loss=None. Pass loss=... to compile()."
        )


def check_recorded(step: Step) -> None:
    """Raises if a training step asks for its loss and no pass was recorded.

    Args:
        step: The step.
    """
    if not step.passes:
        raise RuntimeError(
            "The terms of the objective price a pass of the network in training, and "
            "none was recorded before compute_loss() in this training step. Call the "
            "model itself, self(x, training=True), and let a call() of your own "
            "return super().call(inputs, training=training)."
        )


def check_used(model: Any, step: Step) -> None:
    """Raises if a training step has recorded a pass and trained without its energy.

    Args:
        model: The model.
        step: At its end.
    """
    own_loss = step.is_handed_out and not step.was_kerass
    if step.training and step.passes and not (step.is_used or own_loss):
        raise forgotten(model, "train_step()")


def forgotten(model: Any, method: str) -> RuntimeError:
    """What to raise where a method of a model trains without the energy.

    Args:
        model: The model.
        method: Name of the method.
    """
    return RuntimeError(
        f"{method} of {type(model).__name__} trains without the terms of the model's "
        "objective: it neither asked super().compute_loss(x, y, y_pred, sample_weight) "
        "nor read self.losses, which hold those that need no targets. Return "
        "super().compute_loss(...), or add sum(self.losses) to the loss; on JAX, the "
        "losses that self.stateless_call(..., return_losses=True) returns. For a pass "
        "that is not to count call self.network(x, training=True)."
    )
