"""What becomes of the methods of a network's own once it is wrapped.

Keras asks the model that it trains for its methods, never a model inside it. So a
wrapped network's way of preparing data is taken over, and all else refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_lap.blocks import BlockReport

_STEPS = (
    "train_step",
    "test_step",
    "predict_step",
    "compute_loss",
    "stateless_compute_loss",
    "compute_metrics",
    "get_metrics_result",
    "make_train_function",
    "make_test_function",
    "make_predict_function",
)
_FEEDS = (
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
)


def check_network(network: Any, wrapper: type[keras.Model]) -> None:
    """Refuses a network whose own methods of training would silently not be used.

    Args:
        network: What is to be wrapped; what is no `keras.Model` is left to others.
        wrapper: The class that wraps, a subclass of `FedLikeNetwork`.

    Raises:
        ValueError: If the network is wrapped already, has such methods, or a
            `least_action_advice`, what to do instead.
    """
    if not isinstance(network, keras.Model):
        return
    if isinstance(network, wrapper):
        raise ValueError(
            f"The network is a {wrapper.__name__} already. Received: "
            f"network={network!r}. Train it as it is, or wrap what it wraps: "
            f"{wrapper.__name__}(model.network)."
        )
    if advice := getattr(network, "least_action_advice", ""):
        raise _around(network, wrapper, advice)
    feeds = () if hasattr(network, "preprocess_samples") else _FEEDS
    own = [f"{name}()" for name in _STEPS + feeds if _is_own(network, name)]
    if own:
        raise ValueError(
            f"A {wrapper.__name__} trains and predicts by methods of its own; those of "
            f"the network would not be used. Received: network={network!r}, a "
            f"{type(network).__name__} with {', '.join(own)} of its own. If it trains "
            "a model that it holds, wrap that one, as in keras.distillation.Distiller("
            f"teacher, {wrapper.__name__}(student)), and let the outer model add "
            "sum(self.losses) to its loss. If the methods are yours, move "
            f"them to a subclass of {wrapper.__name__}. To do without them, wrap the "
            "layers alone: keras.Model(network.input, network.output)."
        )


def check_blocks(report: BlockReport, wrapper: type[keras.Model]) -> None:
    """Refuses blocks that run for every element of a group, as of an average.

    Args:
        report: The blocks that were found.
        wrapper: The class that is to train them.

    Raises:
        ValueError: If a model that has a `least_action_advice` is around one.
    """
    for found in report.found:
        for call in found.path:
            if advice := getattr(call.operation, "least_action_advice", ""):
                raise _around(call.operation, wrapper, advice)


def _around(model: Any, wrapper: type[keras.Model], advice: str) -> ValueError:
    return ValueError(
        f"A {wrapper.__name__} does not train the blocks in a {type(model).__name__}. "
        f"Received: {model!r}. {advice}"
    )


class FedLikeNetwork(keras.Model):
    """A model around a `network`, fed with whatever that network is fed with.

    KerasHub's tasks preprocess raw images and strings by `preprocess_samples`, in a
    `fit`, `evaluate`, ... of their own. Those run here too, and Keras's after them.
    """

    network: keras.Model

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `fit` of the network."""
        return _through(self.network, "fit", self.fit_as_keras)(*args, **kwargs)

    def fit_as_keras(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`, on data as the layers take them."""
        return super().fit(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `evaluate` of the network."""
        return _through(self.network, "evaluate", super().evaluate)(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As `predict` of the network."""
        return _through(self.network, "predict", super().predict)(*args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `train_on_batch` of the network."""
        ours = super().train_on_batch
        return _through(self.network, "train_on_batch", ours)(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `test_on_batch` of the network."""
        ours = super().test_on_batch
        return _through(self.network, "test_on_batch", ours)(*args, **kwargs)

    def predict_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `predict_on_batch` of the network."""
        ours = super().predict_on_batch
        return _through(self.network, "predict_on_batch", ours)(*args, **kwargs)


def _through(network: keras.Model, name: str, ours: Callable[..., Any]) -> Any:
    """The network's own method, with `ours` where its `super()` would reach Keras's.

    Without a method of its own, `ours`. The network's data thus pass all that its
    class does to them, whatever that is and whatever they come in.
    """
    if not _is_own(network, name):
        return ours

    def hand_over(_: Any, *args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    # `super()` goes through an object's classes in their order. In this one's, `last`
    # comes after all of the network's own and before Keras's.
    last = type("Last", (keras.Model,), {name: hand_over})
    kind = type(type(network).__name__, (type(network), last), {})
    twin: Any = object.__new__(kind)
    object.__setattr__(twin, "__dict__", vars(network))  # the same preprocessor, ...
    return getattr(twin, name)


def _is_own(network: keras.Model, name: str) -> bool:
    method = getattr(network, name)
    return getattr(method, "__func__", method) is not getattr(keras.Model, name)
