"""What is done to a trained network, and to its training: attacks, noise, other data.

Pixels are told in parts of their range: from the least to the greatest of the training
images, to which every disturbed image is clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np
from keras import ops

ATTACKS, NOISE = (0.05, 0.1), 0.2
_BINS = 15


def wrong_labels(y: np.ndarray, classes: int, part: float, seed: int) -> np.ndarray:
    """Labels of which a part is wrong, each other class equally often.

    Args:
        y: The right ones `(n,)`.
        classes: Number of classes.
        part: Of the labels, 0 to 1, rounded to a whole number of them.
        seed: Of which are wrong, and how.
    """
    generator = np.random.default_rng((seed, 1))
    chosen = generator.permutation(len(y))[: round(part * len(y))]
    wrong = y.copy()
    wrong[chosen] = (y[chosen] + generator.integers(1, classes, len(chosen))) % classes
    return wrong


class Harm:
    """Measures one network, whose weights may change, on one set of test data.

    Args:
        network: From images to logits.
        test: Images `(n, height, width, channels)` and labels.
        pixels: The least and the greatest.
    """

    def __init__(
        self,
        network: keras.Model,
        test: tuple[np.ndarray, np.ndarray],
        pixels: tuple[float, float],
    ):
        self.network, (self.x, self.y), self.pixels = network, test, pixels

        def logits(variables: Any, x: Any) -> Any:
            return network.stateless_call(*variables, x, training=False)[0]

        def loss(x: Any, variables: Any, y: Any) -> Any:
            of_each = keras.losses.sparse_categorical_crossentropy(
                y, logits(variables, x), from_logits=True
            )
            return ops.sum(of_each)

        self._logits, self._slope = jax.jit(logits), jax.jit(jax.grad(loss))

    def measure(self, seed: int) -> dict[str, float]:
        """All measures.

        Args:
            seed: Of the noise.

        Returns:
            Accuracies under `fgsm_0.05` and `fgsm_0.1` (Goodfellow et al., 2015,
            arXiv:1412.6572: one step along the sign of the gradient) and `noise`;
            `nll`, `ece`; and `inverted` and `turned`, AUROC of the greatest softmax
            between the test images and these.
        """
        variables = (
            [v.value for v in self.network.trainable_variables],
            [v.value for v in self.network.non_trainable_variables],
        )

        def accuracy(x: np.ndarray) -> float:
            found = np.array(self._logits(variables, x)).argmax(axis=-1)
            return float(np.mean(found == self.y))

        span = self.pixels[1] - self.pixels[0]
        sign = np.sign(np.array(self._slope(self.x, variables, self.y)))
        normal = np.random.default_rng((seed, 2)).normal(size=self.x.shape)
        result = {
            f"fgsm_{size:g}": accuracy(self._clipped(size * span * sign))
            for size in ATTACKS
        }
        result["noise"] = accuracy(self._clipped(NOISE * span * normal))

        def sure(x: np.ndarray) -> np.ndarray:
            return probabilities(self._logits(variables, x)).max(axis=1)

        own = probabilities(self._logits(variables, self.x))
        # Not below what float32 keeps of a softmax.
        right = np.maximum(own[np.arange(len(self.y)), self.y], 1e-30)
        result["nll"] = float(-np.log(right).mean())
        result["ece"] = calibration_error(own, self.y)
        return result | _detected(own.max(axis=1), sure, others(self.x, self.pixels))

    def _clipped(self, change: np.ndarray) -> np.ndarray:
        return np.clip(self.x + change, *self.pixels).astype("float32")


def others(x: np.ndarray, pixels: tuple[float, float]) -> dict[str, np.ndarray]:
    """Images of no class: inverted ones, and such as are turned by a quarter.

    Args:
        x: `(n, size, size, channels)`.
        pixels: The least and the greatest.
    """
    return {"inverted": sum(pixels) - x, "turned": np.rot90(x, axes=(1, 2)).copy()}


def _detected(
    own: np.ndarray, sure: Callable[[Any], Any], strange: dict[str, np.ndarray]
) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    truth = np.repeat([1, 0], len(own))
    return {
        name: float(roc_auc_score(truth, np.concatenate([own, sure(x)])))
        for name, x in strange.items()
    }


def probabilities(logits: Any) -> np.ndarray:
    """The softmax in float64, `(n, classes)`, of logits of that shape."""
    values = np.array(logits, dtype="float64")
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


def calibration_error(predicted: np.ndarray, y: np.ndarray) -> float:
    """Expected calibration error, of 15 bins of equal width of the greatest softmax.

    ``Σ_bins (count/n) · |accuracy − confidence|``; Guo et al., 2017, arXiv:1706.04599.

    Args:
        predicted: Probabilities `(n, classes)`.
        y: Labels `(n,)`.
    """
    confidence = predicted.max(axis=1)
    gap = (predicted.argmax(axis=1) == y) - confidence
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return float(np.abs(np.bincount(bins, gap, _BINS)).sum() / len(y))
