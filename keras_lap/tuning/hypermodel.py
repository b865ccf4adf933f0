"""`LeastActionHyperModel`: a network and the search for τ and p around it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.errors import FatalTypeError, FatalValueError

from keras_lap._checks import refusal
from keras_lap.blocks import Selection
from keras_lap.callbacks import MultiplierUpdate
from keras_lap.running_costs import RunningCost
from keras_lap.training import LeastActionModel, Measures, Share
from keras_lap.tuning import space

# What tells why a trial failed, in its directory: KerasTuner's workers do not send
# the reason to their chief.
REASON_FILE = "failure.txt"
_LOSSES = ("loss", "task_loss", "transport_cost", "val_loss", "val_task_loss")
# Both change with λ and p for one and the same network.
_INCOMPARABLE = ("loss", "transport_cost")


class UnworkableTrialError(keras_tuner.errors.FailedTrialError, ValueError):
    """Values or a network that cannot be trained by least action.

    Within a trial it fails that trial, and the search goes on; before the first trial
    it is the `ValueError` that says what to change.
    """


class LeastActionHyperModel(keras_tuner.HyperModel):
    """Searches τ and p, λ_0 and s, weights of running costs and the horizon.

    Goes into every tuner of KerasTuner, with any objective. Each trial trains a
    `keras_lap.LeastActionModel` around the network that `build` returns, compiled as
    that was (or by the tuner's `loss`, `optimizer` and `metrics`), with a
    `keras_lap.callbacks.MultiplierUpdate` of the trial's τ and s. The hyperparameters
    are called `tau`, `p`, `initial_multiplier` or `share`, `every` and `horizon`, and a
    weight as its cost is in the logs, e.g. `path_loss`. λ is saved with the weights:
    `get_best_models` and Hyperband's longer trials have it back.

    Each is given as one of

    * a number: fixed;
    * a range `(low, high)`: anything between, logarithmic for all but p;
    * a list: one of these values;
    * for τ also `(0, low, high)`: 0, or one of ten values from low to high, evenly
      spaced on a logarithmic scale.

    A trial whose loss is not finite, or whose values cannot be used, is failed with
    its reason; after as many in a row as the tuner's `max_consecutive_failed_trials`
    KerasTuner ends the search. Trials start from the random state in which the last
    one ended: set a seed in `build` if they are to be the same in any order.

    Args:
        build: `build(hp) -> keras.Model`, built and with residual blocks, or a
            `keras_tuner.HyperModel` whose `build` is such a function and whose `fit`
            is then used.
        tau: τ, at least 0. Defaults to `(0, 0.01, 10.0)`.
        p: Exponent of the energy, above 1; None, with `tau=None`, for no energy.
            Defaults to `(1.2, 3.0)`.
        initial_multiplier: λ_0 > 0, or `"auto"` for all trials. Defaults to `None`:
            that of `LeastActionModel`.
        every: s, at least 1. Defaults to `None`: that of `MultiplierUpdate`.
        callbacks: Callbacks of every trial, copied for each, beside those passed to
            `search`.
        blocks: Which blocks count; see `keras_lap.find_residual_blocks`.
        include_projections: See `keras_lap.LeastActionModel`.
        running_costs: See there. Defaults to none.
        weights: Weights of running costs by their names, e.g.
            `{"path_loss": (0.01, 1.0)}`, which take the place of their own. Defaults
            to none.
        horizon: The time T that the blocks share, above 0. `build(hp)` may read it as
            `hp.get("horizon")`, to give a network the same. Defaults to None, not
            given.
        share: The part s of `keras_lap.Share`, between 0 and 1, by which λ_0 is chosen
            in each trial, so that a range suits trials of any p and width. Defaults to
            None, not given.

    Raises:
        ValueError: If a range is empty or has values that cannot be used, a weight
            belongs to no cost, or λ_0 is given in two ways. The tuner's
            constructor raises it if the network has no residual block, or uses one of
            the names above for a hyperparameter of its own.
        TypeError: If an argument has a wrong type, or, when a tuner is constructed,
            `build` returns no model.

    Examples:
        >>> hypermodel = keras_lap.tuning.LeastActionHyperModel(
        ...     build, tau=(0.01, 10.0), p=(1.2, 3.0)
        ... )
        >>> tuner = keras_tuner.RandomSearch(hypermodel, "val_accuracy", max_trials=4)
        >>> tuner.search(x, y, epochs=5, validation_data=validation, verbose=0)
        >>> tau = tuner.get_best_hyperparameters()[0]["tau"]
    """

    def __init__(
        self,
        build: Callable[[Any], keras.Model] | keras_tuner.HyperModel,
        tau: Any = (0, 0.01, 10.0),
        p: Any = (1.2, 3.0),
        initial_multiplier: Any = None,
        every: Any = None,
        callbacks: Iterable[keras.callbacks.Callback] | None = None,
        *,
        blocks: Selection = "auto",
        include_projections: bool = False,
        running_costs: Sequence[RunningCost] = (),
        weights: Mapping[str, Any] | None = None,
        horizon: Any = None,
        share: Any = None,
    ):
        super().__init__()
        self._network = _as_hypermodel(build)
        self._raises = p is not None
        starts = {"initial_multiplier": initial_multiplier, "share": share}
        _check_energy(p, {"tau": tau, **starts, "every": every})
        if None not in starts.values():
            raise ValueError(
                "λ_0 is given by a number or by a share. Received: "
                f"initial_multiplier={initial_multiplier!r} and share={share!r}. Leave "
                "one of them out."
            )
        self.dimensions = [space.tau(tau), space.p(p)] if self._raises else []
        asked = (
            (space.initial_multiplier, initial_multiplier),
            (space.share, share),
            (space.every, every),
            (space.horizon, horizon),
        )
        self.dimensions += [read(each) for read, each in asked if each is not None]
        self._costs = tuple(running_costs)
        weights = dict(weights or {})
        _check_weights(self._costs, weights)
        self.dimensions += [space.weight(*each) for each in weights.items()]
        self._callbacks = list(callbacks or [])
        _check_callbacks(self._callbacks)
        self._options: dict[str, Any] = {
            "blocks": blocks,
            "include_projections": include_projections,
        }
        self._warned = False

    def declare_hyperparameters(self, hp: Any) -> None:
        """Declares what the network's own hypermodel declares in advance, if any."""
        self._network.declare_hyperparameters(self._reserving(hp))

    def _reserving(self, hp: Any) -> Any:
        """What the network's own hypermodel sees of a trial's hyperparameters."""
        return space.reserving(hp, [each.name for each in self.dimensions])

    def build(self, hp: Any) -> LeastActionModel:
        """Builds the network and wraps it, compiled as it was."""
        for each in self.dimensions:
            if each.name == "horizon":  # for the network to read
                each.declare(hp)
        network = self._network.build(self._reserving(hp))
        values = {each.name: each.declare(hp) for each in self.dimensions}
        if not isinstance(network, keras.Model):
            accepted = "return a keras.Model with residual blocks"
            advice = "End it with `return model`."
            raise refusal("build(hp)", accepted, network, advice, FatalTypeError)
        if isinstance(network, LeastActionModel):
            accepted = "return the bare network, which is wrapped here"
            advice = "Return what you wrapped in it."
            raise refusal("build(hp)", accepted, network, advice, FatalTypeError)
        options = self._options | _chosen(values, "initial_multiplier", "horizon")
        if "share" in values:
            options["initial_multiplier"] = Share(values["share"])
        costs = [_weighed(cost, values) for cost in self._costs]
        try:
            model = LeastActionModel(
                network, energy=values.get("p"), running_costs=costs, **options
            )
        except (ValueError, TypeError) as error:
            raise UnworkableTrialError(
                f"Least action cannot train this with {_text(values)}: {error}"
            ) from error
        _compile_like(network, model)
        return model

    def fit(
        self,
        hp: Any,
        model: LeastActionModel,
        *args: Any,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **kwargs: Any,
    ) -> Any:
        """Trains the model of a trial, λ rising by the trial's τ and s."""
        _check_callbacks(callbacks)
        _check_compiled(model)
        names, directory = _of_trial(callbacks)
        self._warn_if_incomparable(names)
        values = {each.name: hp.get(each.name) for each in self.dimensions}
        # First, so that weights of a failed trial are not saved.
        guard = _FiniteGuard((*_LOSSES, *names), _text(values), directory)
        own = copy.deepcopy(self._callbacks)
        if self._raises:
            own.insert(0, MultiplierUpdate(**_chosen(values, "tau", "every")))
        kwargs["callbacks"] = [guard, *own, *callbacks]
        return self._network.fit(hp, model, *args, **kwargs)

    def _warn_if_incomparable(self, names: Iterable[str]) -> None:
        found = [name for name in names if name in _INCOMPARABLE]
        if found and not self._warned:
            self._warned = True
            warnings.warn(
                f"The objective {found[0]!r} is not comparable between trials: the "
                "transport cost C changes with p, and the training loss contains C/λ "
                "and running costs by their weights. "
                "Use 'val_loss', which is the bare network's, or a metric such as "
                "'val_accuracy'.",
                stacklevel=2,
            )


class _FiniteGuard(keras.callbacks.Callback):
    """Fails the trial if a loss or the objective is not finite after an epoch."""

    def __init__(self, names: Sequence[str], values: str, directory: Path | None):
        super().__init__()
        self._names = names
        self._values = values
        self._directory = directory

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        found = {name: float(logs[name]) for name in self._names if name in logs}
        bad = [f"{k} = {v}" for k, v in found.items() if not math.isfinite(v)]
        if not bad:
            return
        reason = f"{', '.join(bad)} after epoch {epoch + 1} with {self._values}"
        if self.model.energy is not None:
            # Under a strategy of TensorFlow λ is no number by itself.
            multiplier = keras.ops.convert_to_numpy(self.model.multiplier)
            reason += f" and λ = {float(multiplier):g}"
        if self._directory is not None:
            (self._directory / REASON_FILE).write_text(f"{reason}.", encoding="utf-8")
        raise UnworkableTrialError(f"{reason}.")


class _Function(keras_tuner.HyperModel):
    """A function as a hypermodel."""

    def __init__(self, function: Callable[[Any], keras.Model]):
        self._function = function
        super().__init__()

    def build(self, hp: Any) -> keras.Model:
        return self._function(hp)


def _as_hypermodel(build: Any) -> keras_tuner.HyperModel:
    if isinstance(build, keras_tuner.HyperModel):
        return build
    if callable(build) and not isinstance(build, keras.Model):
        return _Function(build)
    accepted = "be a function build(hp) that returns a keras.Model, or a HyperModel"
    advice = "Pass the function itself, not the network."
    raise refusal("build", accepted, build, advice, TypeError)


def _check_energy(p: Any, of_the_multiplier: Mapping[str, Any]) -> None:
    given = [name for name, value in of_the_multiplier.items() if value is not None]
    if p is None and given:
        raise ValueError(
            "Without an energy there is no λ to raise. Received: p=None with "
            f"{' and '.join(given)}. Pass tau=None too and leave the others out, or "
            "give p."
        )


def _check_weights(costs: Iterable[Any], weights: Mapping[str, Any]) -> None:
    names = [cost.name for cost in costs if isinstance(cost, RunningCost)]
    for name in weights:
        if name not in names:
            accepted = (
                f"be named as the running costs are: {', '.join(names) or 'none'}"
            )
            advice = "Pass running_costs=[...] with a cost for every weight."
            raise refusal("weights", accepted, name, advice)


def _weighed(cost: RunningCost, values: Mapping[str, Any]) -> RunningCost:
    """The cost with the weight of a trial, if that is searched."""
    if not isinstance(cost, RunningCost) or cost.name not in values:
        return cost  # the model refuses what is no cost
    weighed = copy.copy(cost)
    weighed.weight = values[cost.name]
    return weighed


def _compile_like(network: keras.Model, model: LeastActionModel) -> None:
    """Compiles the model with what the network was compiled with, if it was."""
    if not network.compiled:
        # KerasTuner reads the optimizer before it compiles with one of its own.
        model.compile()
        return
    # The very objects: `get_compile_config` has them serialised, and metrics of the
    # user's own could not be read back unless registered. The optimizer is not among
    # them, since mixed precision may have wrapped it.
    arguments = network._compile_config.config
    others = {name: value for name, value in arguments.items() if name != "optimizer"}
    model.compile(optimizer=network.optimizer, **others)


def _check_compiled(model: LeastActionModel) -> None:
    if model.loss is None:
        raise FatalValueError(
            "The network is not compiled with a loss. Compile it in build(hp), or pass "
            "optimizer=, loss= and metrics= to the tuner."
        )
    metrics = keras.tree.flatten(model._compile_config.config["metrics"])
    if any(isinstance(metric, Measures) for metric in metrics):
        raise FatalValueError(
            "KerasTuner compiled the model anew with metrics that belong to the "
            "LeastActionModel itself. Pass metrics= to the tuner beside optimizer= or "
            "loss=, or compile the network in build(hp) only."
        )


def _check_callbacks(callbacks: Iterable[Any]) -> None:
    for callback in callbacks:
        if isinstance(callback, MultiplierUpdate):
            raise FatalValueError(
                "The search adds a MultiplierUpdate with the τ and s of each trial. "
                "Received: another one among the callbacks. Leave it out and pass "
                "tau=... and every=... to LeastActionHyperModel."
            )
        if not isinstance(callback, keras.callbacks.Callback):
            accepted = "be keras.callbacks.Callback objects"
            raise refusal("callbacks", accepted, callback, error=FatalTypeError)


def _of_trial(callbacks: Iterable[Any]) -> tuple[list[str], Path | None]:
    """Names of the objectives, and the trial's directory, by KerasTuner's callback."""
    for callback in callbacks:
        tuner, trial = (getattr(callback, name, None) for name in ("tuner", "trial"))
        if tuner is not None and trial is not None:
            objective = tuner.oracle.objective
            several = getattr(objective, "objectives", [objective])
            directory = Path(tuner.get_trial_dir(trial.trial_id))
            return [each.name for each in several], directory
    return [], None


def _chosen(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """Those of the values that the search has."""
    return {name: values[name] for name in names if name in values}


def _text(values: dict[str, Any]) -> str:
    shown = {k: v if isinstance(v, str) else f"{v:g}" for k, v in values.items()}
    return ", ".join(f"{name} = {value}" for name, value in shown.items())
