"""The data sets: real ones, mocked ones, and the choice of subsets."""

from __future__ import annotations

import itertools
import os
import pathlib
import sys

import numpy as np
import pytest
from support.basics import ON_ONE

from keras_lap import datasets

pytestmark = ON_ONE

SKLEARN_NAMES = ["digits", "circles", "moons"]
NUM_CLASSES = {"digits": 10, "circles": 2, "moons": 2}
every_sklearn_set = pytest.mark.parametrize("name", SKLEARN_NAMES)


def rows(split):
    """Each example as bytes, to be compared as a set."""
    return {x.tobytes() for x in split.x}


def assert_even(labels, num_classes):
    counts = np.bincount(labels, minlength=num_classes)
    assert counts.max() - counts.min() <= 1


def assert_same(first, second):
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.y, second.y)


def whole_training_split(data):
    return np.concatenate([data.train.x, data.validation.x])


def assert_standardised(x, atol=1e-4):
    axes = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(x.mean(axis=axes, dtype="float64"), 0, atol=atol)
    np.testing.assert_allclose(x.std(axis=axes, dtype="float64"), 1, atol=atol)


# scikit-learn's data sets, for real.


@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [
        ("digits", (8, 8, 1), (1347, 450)),
        ("circles", (2,), (1500, 500)),
        ("moons", (2,), (1500, 500)),
    ],
)
def test_sklearn_sets_have_their_shapes_and_types(name, shape, sizes):
    data = datasets.load(name)
    assert (data.name, data.num_classes) == (name, NUM_CLASSES[name])
    assert data.input_shape == shape
    assert data.validation is None
    for split, size in zip((data.train, data.test), sizes, strict=True):
        assert split.x.shape == (size, *shape)
        assert split.x.dtype == np.float32
        assert split.y.shape == (size,)
        assert split.y.dtype == np.int64
        assert set(split.y) == set(range(NUM_CLASSES[name]))


def test_digits_are_the_images_of_sklearn():
    from sklearn.datasets import load_digits

    data = datasets.load("digits")
    x = np.concatenate([data.train.x, data.test.x])
    original = load_digits().images[..., np.newaxis]
    # Normalisation is affine and increasing, so it keeps the extremes and their places.
    assert len(x) == len(original)
    scale, offset = np.ptp(x) / np.ptp(original), x.min()
    restored = np.rint((x - offset) / scale).astype(int).reshape(len(x), -1)
    expected = original.astype(int).reshape(len(x), -1)
    assert sorted(map(tuple, restored)) == sorted(map(tuple, expected))


@every_sklearn_set
def test_the_full_training_split_is_standardised(name):
    assert_standardised(datasets.load(name).train.x)
    assert_standardised(whole_training_split(datasets.load(name, validation_size=300)))


@every_sklearn_set
def test_subsets_use_the_statistics_of_the_full_split(name):
    full, subset = datasets.load(name), datasets.load(name, train_size=20)
    assert rows(subset.train) <= rows(full.train)
    assert_same(subset.test, full.test)


@every_sklearn_set
def test_the_test_split_is_fixed_and_disjoint(name):
    first = datasets.load(name)
    second = datasets.load(name, train_size=50, validation_size=50, seed=3)
    assert_same(first.test, second.test)
    assert not rows(first.test) & rows(first.train)


# The choice of subsets.


@every_sklearn_set
def test_train_and_validation_do_not_overlap(name):
    for train_size in (40, None):
        data = datasets.load(name, train_size, validation_size=301)
        assert not rows(data.train) & rows(data.validation)
        assert len(data.validation.y) == 301
    full = datasets.load(name)
    assert len(data.train.y) == len(full.train.y) - 301
    assert rows(data.train) | rows(data.validation) == rows(full.train)


@every_sklearn_set
@pytest.mark.parametrize("train_size", [10, 57, 200])
def test_subsets_are_class_balanced(name, train_size):
    data = datasets.load(name, train_size, validation_size=123)
    assert len(data.train.y) == train_size
    assert_even(data.train.y, data.num_classes)
    assert_even(data.validation.y, data.num_classes)


def test_uniform_subsets_are_parts_of_one_permutation():
    full = datasets.load("digits")
    order = np.random.default_rng(5).permutation(len(full.train.y))
    for size in (10, 100, 400):
        data = datasets.load("digits", size, 200, seed=5, balanced=False)
        for split, part in (
            (data.train, order[:size]),
            (data.validation, order[-200:]),
        ):
            np.testing.assert_array_equal(split.x, full.train.x[np.sort(part)])
            np.testing.assert_array_equal(split.y, full.train.y[np.sort(part)])
    with pytest.raises(TypeError, match="Received: balanced=1"):
        datasets.load("digits", balanced=1)


def test_labels_stay_with_their_inputs():
    full, subset = datasets.load("digits"), datasets.load("digits", 100)
    labels = {x.tobytes(): y for x, y in zip(*full.train, strict=True)}
    assert [labels[x.tobytes()] for x in subset.train.x] == list(subset.train.y)


def test_a_seed_reproduces_the_choice():
    first, again, other = (
        datasets.load("digits", 100, validation_size=100, seed=seed)
        for seed in (1, 1, 2)
    )
    assert_same(first.train, again.train)
    assert_same(first.validation, again.validation)
    assert rows(first.train) != rows(other.train)
    assert rows(first.validation) != rows(other.validation)


def test_training_subsets_of_one_seed_are_nested():
    subsets = [
        rows(datasets.load("digits", size, validation_size=100, seed=4).train)
        for size in (10, 25, 100, 200, 1247)
    ]
    for smaller, larger in itertools.pairwise(subsets):
        assert smaller < larger


def test_validation_does_not_depend_on_the_train_size():
    splits = [
        datasets.load("digits", size, validation_size=100).validation
        for size in (10, 500, None)
    ]
    assert_same(splits[0], splits[1])
    assert_same(splits[0], splits[2])


def test_a_small_training_subset_does_not_depend_on_the_validation_size():
    alone = datasets.load("digits", 100)
    beside = datasets.load("digits", 100, validation_size=1000)
    assert_same(alone.train, beside.train)


def test_examples_keep_their_order(monkeypatch):
    numbered = datasets.Split(np.arange(90.0)[:, np.newaxis], np.tile([0, 1], 45))
    monkeypatch.setattr(datasets, "_read_sklearn", lambda *_: (numbered, numbered, 2))
    data = datasets.load("moons", 50, validation_size=20)
    for split, size in zip((data.train, data.validation), (50, 20), strict=True):
        assert len(split.y) == size
        assert np.all(np.diff(split.x[:, 0]) > 0)


def test_uneven_classes_are_used_up_one_after_the_other(monkeypatch):
    labels = np.repeat([0, 1, 2], [3, 10, 30])
    split = datasets.Split(np.arange(43.0)[:, np.newaxis], labels)
    monkeypatch.setattr(datasets, "_read_sklearn", lambda *_: (split, split, 3))
    data = datasets.load("moons", 16, validation_size=3)
    assert np.bincount(data.validation.y).tolist() == [1, 1, 1]
    assert np.bincount(data.train.y).tolist() == [2, 7, 7]


# The record itself.


def test_a_data_set_is_a_frozen_readable_record():
    data = datasets.load("circles", 10)
    assert repr(data) == "Dataset(name='circles', num_classes=2, input_shape=(2,))"
    x, y = data.train
    assert x is data.train.x
    assert y is data.train.y
    with pytest.raises(AttributeError):
        data.train = None


# Data sets of tensorflow_datasets.


@pytest.mark.parametrize(
    ("name", "shape", "num_classes"),
    [("fashion_mnist", (28, 28, 1), 10), ("cifar100", (32, 32, 3), 100)],
)
def test_mocked_tfds_sets(name, shape, num_classes, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    with tfds.testing.mock_data(num_examples=400):
        data = datasets.load(name, 200, validation_size=100, data_dir=tmp_path)
        full = datasets.load(name, data_dir=tmp_path)
    assert (data.num_classes, data.input_shape) == (num_classes, shape)
    assert full.train.x.shape == full.test.x.shape == (400, *shape)
    assert data.train.x.shape == (200, *shape)
    assert data.validation.x.shape == (100, *shape)
    assert data.train.x.dtype == np.float32
    assert data.train.y.dtype == np.int64
    assert_standardised(full.train.x, atol=1e-3)
    assert rows(data.train) <= rows(full.train)
    assert not rows(data.train) & rows(data.validation)


def test_data_dir_is_passed_to_tfds(monkeypatch, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    calls = []

    def load(name, **options):
        calls.append((name, options["data_dir"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(tfds, "load", load)
    for data_dir in (tmp_path, None):
        with pytest.raises(KeyboardInterrupt):
            datasets.load("cifar10", data_dir=data_dir)
    assert calls == [("cifar10", tmp_path), ("cifar10", None)]


def real_data_dir():
    """The folder of prepared data, by the environment or beside the repository."""
    shared = pathlib.Path(__file__).parents[1] / "../shared/tfds"
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR", shared))


@pytest.mark.skipif(
    not (real_data_dir() / "mnist").is_dir(), reason="MNIST is not prepared here"
)
def test_real_mnist():
    pytest.importorskip("tensorflow_datasets")
    data = datasets.load("mnist", validation_size=10_000, data_dir=real_data_dir())
    assert data.train.x.shape == (50_000, 28, 28, 1)
    assert data.validation.x.shape == (10_000, 28, 28, 1)
    assert data.test.x.shape == (10_000, 28, 28, 1)
    assert set(data.test.y) == set(range(10))
    assert_even(data.validation.y, 10)
    # On [0, 1] the training split has mean 0.13066 and standard deviation 0.30811.
    assert data.train.x.min() == pytest.approx(-0.13066 / 0.30811, abs=1e-3)
    assert data.train.x.max() == pytest.approx((1 - 0.13066) / 0.30811, abs=1e-3)


# Errors.


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'imagenet'.*mnist, .*digits.*moons"):
        datasets.load("imagenet")


@pytest.mark.parametrize("name", [None, 3, ("mnist",)])
def test_a_name_is_a_string(name):
    with pytest.raises(TypeError, match="`name` must be a string"):
        datasets.load(name)


@pytest.mark.parametrize("argument", ["train_size", "validation_size", "seed"])
def test_counts_are_integers_of_at_least_zero(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must not be.*{argument}=-1"):
        datasets.load("circles", **{argument: -1})
    for value in (0.5, "10", True):
        with pytest.raises(TypeError, match=f"`{argument}` must be an integer"):
            datasets.load("circles", **{argument: value})


@pytest.mark.parametrize("train_size", [0, 9])
def test_a_training_subset_has_every_class(train_size):
    with pytest.raises(ValueError, match=f"at least 10.*train_size={train_size}"):
        datasets.load("digits", train_size)


@pytest.mark.parametrize(
    ("train_size", "validation_size"), [(1501, 0), (1400, 101), (None, 1499)]
)
def test_sizes_beyond_the_data_are_refused(train_size, validation_size):
    message = f"1500.*train_size={train_size}, validation_size={validation_size}"
    with pytest.raises(ValueError, match=message):
        datasets.load("circles", train_size, validation_size=validation_size)


@pytest.mark.parametrize(
    ("name", "module"), [("mnist", "tensorflow_datasets"), ("digits", "sklearn")]
)
def test_a_missing_library_names_the_extra(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "\.\[datasets\]"'):
        datasets.load(name)
