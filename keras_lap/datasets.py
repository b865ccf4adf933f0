"""The data sets of the paper, and small ones, as normalised NumPy arrays.

Experiments with little data need training subsets that are reproducible and comparable
across sizes, and a validation split to choose hyperparameters on. `load` gives both:
class-balanced subsets, which vary least, or with `balanced=False` uniformly drawn ones,
as those of Karkar et al., 2020, arXiv:2009.08372.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from keras_lap._checks import is_whole, refusal
from keras_lap._extras import needs

__all__ = ["Dataset", "Split", "load"]

_Folder: TypeAlias = str | os.PathLike[str] | None

_TFDS_NAMES = ("mnist", "fashion_mnist", "cifar10", "cifar100")
_SKLEARN_NAMES = ("digits", "circles", "moons")

_READ_BATCH = 1000
_NUM_POINTS = 2000
_TEST_FRACTION = 0.25
# The split of scikit-learn's data is part of the data set: no argument changes it.
_FIXED_SEED = 0


class Split(NamedTuple):
    """Inputs and labels, which unpack as `x, y = split`.

    Attributes:
        x: float32 inputs, `(n, height, width, channels)` or `(n, features)`.
        y: int64 labels, `(n,)`.
    """

    x: np.ndarray
    y: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, ready for `fit`.

    Attributes:
        name: The name it was loaded by.
        num_classes: Number of classes.
        input_shape: Shape of one input, without the batch axis.
        train: The training split, or the subset that was asked for.
        validation: Part of the original training split that is disjoint from `train`,
            or `None`.
        test: The data set's own, full test split.
    """

    name: str
    num_classes: int
    input_shape: tuple[int, ...]
    train: Split = dataclasses.field(repr=False)
    validation: Split | None = dataclasses.field(repr=False)
    test: Split = dataclasses.field(repr=False)


def load(
    name: str,
    train_size: int | None = None,
    validation_size: int = 0,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    balanced: bool = True,
) -> Dataset:
    """Loads a data set, or a class-balanced or uniform subset of it.

    Each channel is normalised by its mean and standard deviation over the *full*
    original training split, whatever `train_size` and `validation_size` are: subsets of
    all sizes, validation and test data share one scale.

    For one `seed`, the training subsets are nested (the 100 examples of
    `train_size=100` are among the 200 of `train_size=200`), the validation split does
    not depend on `train_size`, and a training subset does not depend on
    `validation_size` unless together they exhaust a class. Examples keep the order of
    the original data set.

    By default no validation split is set aside, so that `load(name)` is the data set as
    published. Ask for one wherever anything is chosen by its results: the test split is
    for the final figure only.

    Args:
        name: `"mnist"`, `"fashion_mnist"`, `"cifar10"` or `"cifar100"`, read by
            `tensorflow_datasets`, which downloads them once; `"digits"` (8x8 images),
            `"circles"` or `"moons"` (points in the plane), which scikit-learn has.
        train_size: Number of training examples, or `None` for all that validation
            leaves.
        validation_size: Number of validation examples; 0 for no validation split.
        seed: Seed of both choices.
        data_dir: Folder of `tensorflow_datasets`; `None` for its default, the
            environment variable `TFDS_DATA_DIR` if set. scikit-learn's sets ignore it.
        balanced: Whether the classes of both choices are as even as possible; False
            draws uniformly from all examples, as the paper's authors do.

    Returns:
        A `Dataset` of float32 images `(n, height, width, channels)` or points `(n, 2)`,
        with int64 labels `(n,)`.

    Raises:
        ValueError: If the name is unknown, a size or the seed is negative, or
            `train_size` is smaller than the number of classes or larger than what there
            is.
        TypeError: If an argument is of a wrong type.
        ImportError: If the library that reads the data is not installed.

    Examples:
        >>> data = load("digits", train_size=100, validation_size=200)
        >>> data.train.x.shape
        (100, 8, 8, 1)
        >>> data.num_classes
        10
    """
    _check_name(name)
    _check_count("validation_size", validation_size)
    _check_count("seed", seed)
    if not isinstance(balanced, bool):
        advice = "False draws uniformly from all examples."
        raise refusal("`balanced`", "be True or False", balanced, advice, TypeError)
    if train_size is not None:
        _check_count("train_size", train_size)
    library, read = "scikit-learn", _read_sklearn
    if name in _TFDS_NAMES:
        library, read = "tensorflow_datasets", _read_tfds
    with needs(library, "datasets", f'The data set "{name}"'):
        train, test, num_classes = read(name, data_dir)
    _check_sizes(train_size, validation_size, len(train.y), num_classes)
    chosen, held_out = _choose(train.y, train_size, validation_size, seed, balanced)
    mean, std = _channel_statistics(train.x)

    def prepare(split: Split, indices: Any = ...) -> Split:
        x = split.x[indices].astype(np.float32)
        x -= mean
        x /= std
        return Split(x, split.y[indices].astype(np.int64))

    return Dataset(
        name=name,
        num_classes=num_classes,
        input_shape=train.x.shape[1:],
        train=prepare(train, chosen),
        validation=prepare(train, held_out) if validation_size else None,
        test=prepare(test),
    )


def _read_tfds(name: str, data_dir: _Folder) -> tuple[Split, Split, int]:
    """Returns the original training and test splits and the number of classes."""
    import tensorflow_datasets as tfds

    # Not `batch_size=-1`: it sizes its one batch by metadata which mocked data lack.
    splits, info = tfds.load(
        name,
        split=["train", "test"],
        data_dir=data_dir,
        batch_size=_READ_BATCH,
        as_supervised=True,
        with_info=True,
    )
    train, test = (_concatenate(tfds.as_numpy(split)) for split in splits)
    return train, test, info.features["label"].num_classes


def _concatenate(batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Split:
    images, labels = zip(*batches, strict=True)
    return Split(np.concatenate(images), np.concatenate(labels))


def _read_sklearn(name: str, data_dir: _Folder) -> tuple[Split, Split, int]:
    """Returns a fixed training and test split and the number of classes."""
    from sklearn import datasets, model_selection

    if name == "digits":
        digits = datasets.load_digits()
        x, y = digits.images[..., np.newaxis], digits.target
    elif name == "circles":
        x, y = datasets.make_circles(
            _NUM_POINTS, factor=0.5, noise=0.05, random_state=_FIXED_SEED
        )
    else:
        x, y = datasets.make_moons(_NUM_POINTS, noise=0.1, random_state=_FIXED_SEED)
    x_train, x_test, y_train, y_test = model_selection.train_test_split(
        x, y, test_size=_TEST_FRACTION, random_state=_FIXED_SEED, stratify=y
    )
    return Split(x_train, y_train), Split(x_test, y_test), len(np.unique(y))


def _channel_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of each channel, the last axis."""
    axes = tuple(range(x.ndim - 1))
    mean, std = (each(axis=axes, dtype=np.float64) for each in (x.mean, x.std))
    return mean.astype(np.float32), std.astype(np.float32)


def _choose(
    labels: np.ndarray,
    train_size: int | None,
    validation_size: int,
    seed: int,
    balanced: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the training and of the validation examples."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    # From opposite ends of one permutation, so that neither choice moves the other.
    backwards = shuffled[::-1]
    candidates = shuffled
    if balanced:
        backwards = _alternate_classes(labels, backwards)
        candidates = _alternate_classes(labels, candidates)
    held_out = backwards[:validation_size]
    chosen = candidates[~np.isin(candidates, held_out)][:train_size]
    return np.sort(chosen), np.sort(held_out)


def _alternate_classes(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Reorders `order` so that each class comes once a round, as long as it lasts."""
    rounds = np.empty(len(order), dtype=np.int64)
    for label in np.unique(labels):
        members = labels[order] == label
        rounds[members] = np.arange(np.count_nonzero(members))
    return order[np.argsort(rounds, kind="stable")]


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        advice = 'Pass a name such as "mnist".'
        raise refusal("`name`", "be a string", name, advice, TypeError)
    names = _TFDS_NAMES + _SKLEARN_NAMES
    if name not in names:
        raise ValueError(
            f"Unknown data set: name={name!r}. Accepted are: {', '.join(names)}. Pass "
            "arrays of your own to `fit` for any other data."
        )


def _check_count(argument: str, value: Any) -> None:
    if not is_whole(value):
        advice = "Sizes are numbers of examples, not fractions."
        raise refusal(f"`{argument}`", "be an integer", value, advice, TypeError)
    if value < 0:
        advice = "Pass an integer of at least 0."
        raise refusal(f"`{argument}`", "not be negative", value, advice)


def _check_sizes(
    train_size: int | None, validation_size: int, available: int, num_classes: int
) -> None:
    wanted = num_classes if train_size is None else train_size
    if wanted < num_classes:
        accepted = f"be at least {num_classes}, one example of each class"
        advice = "Pass a larger number, or None for all examples."
        raise refusal("`train_size`", accepted, train_size, advice)
    if wanted + validation_size > available:
        raise ValueError(
            f"`train_size` and `validation_size` share {available} training examples, "
            f"of which at least {num_classes} are for training. Received: "
            f"train_size={train_size}, validation_size={validation_size}. Lower either "
            "of them."
        )
