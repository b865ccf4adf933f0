"""What is put around the functions of a model that train it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras


def as_step(training: bool) -> Callable[[Callable], Callable]:
    """Makes a method of a model one step, unless it is called within one.

    Args:
        training: Whether the step trains.
    """

    def decorate(method: Callable) -> Callable:
        @functools.wraps(method)
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self._step is not None and self._step.training == training:
                return method(self, *args, **kwargs)
            with self._steps.within(training) as step:
                result = method(self, *args, **kwargs)
                self._end(step)
            return result

        wrapped._is_step = True  # type: ignore[attr-defined]
        return wrapped

    return decorate


def putting_back(
    model: keras.Model, function: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], Any]:
    """A train function of JAX, after whose errors the model has its values again.

    Keras takes them out of the variables before the first step and brings those of the
    last step back. A first step that fails, as by targets that do not fit, would leave
    a network without weights.

    Args:
        model: What is trained.
        function: What Keras made for it, from the state and batches to logs and state.
    """

    @functools.wraps(function)
    def guarded(state: Any, batches: Any) -> Any:
        try:
            return function(state, batches)
        except StopIteration:
            raise  # no error, but the end of an epoch
        except BaseException:
            kinds = (
                *(model.trainable_variables, model.non_trainable_variables),
                *(model.optimizer.variables, model.metrics_variables),
            )
            for variables, values in zip(kinds, state, strict=True):
                for variable, value in zip(variables, values, strict=True):
                    if not value.is_deleted():  # by a step that was under way
                        variable.assign(value)
            raise

    return guarded
