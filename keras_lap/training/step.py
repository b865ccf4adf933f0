"""Steps and passes: what the pieces of one training step tell each other.

A pass is one run of the network in training; a step trains on one batch, by one pass or
several. Keras keeps the losses that layers add in one list for each layer, which it
clears at every call and which the replicas of TensorFlow's strategies share. Within a
step the passes are kept here instead, for each thread its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_lap.running_costs import Path
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
        path = self.path.given(y, sample_weight)
        self.path = None  # whose states nobody needs any more
        for index, term in enumerate(terms):
            earlier = self.prices[index]
            weighs = anew and term.weighs_samples and sample_weight is not None
            if earlier is None or weighs:
                self.prices[index] = term.price(path, self.samples, earlier)
        self.once_added += self.added


def look(terms: Sequence[Term], path: Path, samples: Any) -> Pass:
    """A pass, priced by those terms that need no targets."""
    prices = [
        None if term.needs_target else term.price(path, samples) for term in terms
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
        samples: Of how many samples.
        is_closed: Whether the loss of `passes` was computed, so that another pass
            begins anew.
        is_used: Whether the energy of the passes has gone anywhere.
        is_handed_out: Whether what they added was returned to a step of one's own.
        is_raised: Whether λ has seen a loss.
        is_settled: Whether the terms have seen L, and the step is logged.
        is_kerass: Whether Keras itself computes the loss in it, with the state of all
            variables at hand. JAX hands a changed λ on from there and nowhere else.
        task_only: Whether the losses that were added are hidden just now.
    """

    training: bool
    every: list[Pass] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    counted: list[Pass] = field(default_factory=list)
    task_loss: Any = None
    samples: Any = None
    is_closed: bool = False
    is_used: bool = False
    is_handed_out: bool = False
    is_raised: bool = False
    is_settled: bool = False
    is_kerass: bool = False
    task_only: bool = False

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
    """

    current: Step | None = None
    last: Pass | None = None

    @contextlib.contextmanager
    def within(self, training: bool) -> Iterator[Step]:
        """Runs a step in this thread, or goes on with the one that it is in."""
        if self.current is not None:
            yield self.current
            return
        self.current, self.last = Step(training), None
        try:
            yield self.current
        finally:
            self.current = None

    @contextlib.contextmanager
    def task_only(self) -> Iterator[None]:
        """Hides the losses that were added."""
        with self.within(training=True) as step:
            before, step.task_only = step.task_only, True
            try:
                yield
            finally:
                step.task_only = before


class _Recording(threading.local):
    """Whether a thread runs a network whose trajectory is recorded."""

    is_on: bool = False

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Records a network; a model within leaves the recording to it."""
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False


recording = _Recording()


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
    if step.training and step.passes and not step.is_used:
        raise forgotten(model, "train_step()")


def forgotten(model: Any, method: str) -> RuntimeError:
    """What to raise where a method of a model trains without the energy.

    Args:
        model: The model.
        method: Name of the method.
    """
    return RuntimeError(
        f"{method} of {type(model).__name__} trains without the energy of the blocks: "
        "it neither asked super().compute_loss(x, y, y_pred, sample_weight) nor read "
        "self.losses. Return super().compute_loss(...), or add sum(self.losses) to the "
        "loss; on JAX, the losses that self.stateless_call(..., return_losses=True) "
        "returns. To train without energy, train model.network."
    )
