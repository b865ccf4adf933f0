"""The authors' protocol: decay, schedules, augmentation, subsets and score."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from support.basics import ON_ONE
from support.tiny_study import TINY, tiny_study

import keras_lap
from keras_lap.datasets import Dataset, Split
from studies.engine import (
    Data,
    Network,
    Setting,
    Training,
    least_action,
    measures,
    plain,
    records,
    rival,
    running,
    train,
)
from studies.engine.augmentation import crop_and_flip, pooled
from studies.engine.building import build_network, load_data
from studies.engine.optimisation import CoupledSGD, OneCycle, SmoothedCrossEntropy
from studies.engine.training import Batches, _optimizer
from studies.paper import depth, table1_mnist


def regression():
    """A linear network, weights not zero, and thirty batches."""
    generator = np.random.default_rng(0)
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    network.set_weights([generator.normal(size=(5, 3)), generator.normal(size=3)])
    batches = generator.normal(size=(30, 8, 5)), generator.normal(size=(30, 8, 3))
    return network, [each.astype("float32") for each in batches]


@pytest.mark.parametrize(
    ("schedule", "clip"),
    [
        ("drop", None),
        ("one cycle", 0.5),
        ("cosine", None),
        pytest.param("drop", 0.5, marks=ON_ONE),
        pytest.param("one cycle", None, marks=ON_ONE),
        pytest.param("cosine", 0.5, marks=ON_ONE),
    ],
)
def test_training_is_that_of_torch(schedule, clip):
    torch = pytest.importorskip("torch")
    network, (inputs, targets) = regression()
    kernel, bias = (torch.tensor(w, requires_grad=True) for w in network.get_weights())
    options = {} if schedule == "drop" else {"schedule": schedule}
    training = Training(1, 8, coupled_decay=0.05, clip_norm=clip, **options)
    optimizer = _optimizer(training, steps=30)
    network.compile(optimizer, "mean_squared_error")
    oracle = torch.optim.SGD([kernel, bias], 0.1, 0.9, weight_decay=0.05)
    made = {
        "drop": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [20]),
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 30),
        "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 0.1, total_steps=30, cycle_momentum=False
        ),
    }
    rates = made[schedule](oracle)
    for step, (x, y) in enumerate(zip(inputs, targets, strict=True)):
        if schedule == "drop" and step == 20:
            optimizer.learning_rate = 0.01
        network.train_on_batch(x, y)
        oracle.zero_grad()
        residual = torch.tensor(x) @ kernel + bias - torch.tensor(y)
        (residual**2).mean().backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([kernel, bias], clip)
        oracle.step()
        rates.step()
    # float32; the weights are of order one.
    for ours, theirs in zip(network.get_weights(), (kernel, bias), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-6, rtol=1e-6)


@ON_ONE
@pytest.mark.parametrize("steps", [3, 30, 756])
def test_one_cycle_is_that_of_torch(steps):
    torch = pytest.importorskip("torch")
    oracle = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        oracle, 0.1, total_steps=steps, cycle_momentum=False
    )
    ours = OneCycle(0.1, steps)
    for step in range(steps):
        expected = rates.get_last_lr()[0]
        # float32 cosines of order one lose 1e-7 of the peak.
        assert float(ours(step)) == pytest.approx(expected, rel=1e-5, abs=2e-8)
        oracle.step()
        rates.step()


def test_an_optimizer_survives_its_configuration():
    optimizer = CoupledSGD(OneCycle(0.2, 40), 0.8, 1e-3, global_clipnorm=5.0)
    again = CoupledSGD.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()


def test_smoothing_is_that_of_torch():
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
    labels = np.array([0, 3, 1, 1, 2, 0])
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(labels), label_smoothing=0.2
    )
    for shaped in (labels, labels[:, None]):
        loss = SmoothedCrossEntropy(0.2)(shaped, logits)
        assert float(loss) == pytest.approx(float(expected), rel=1e-6)


@ON_ONE
@pytest.mark.parametrize(("size", "padding"), [(32, 4), (16, 2)])
def test_crops_and_flips_by_hand(size, padding):
    # Every pixel says where it is: row + 100 column, and 1000 more for each image.
    rows, columns = np.indices((size, size))
    image = (1 + rows + 100 * columns).astype("float32")[..., None]
    images = np.stack([image + 10_000 * k for k in range(400)])
    chosen = np.arange(400)[::-1]
    found = crop_and_flip(images, chosen, seed=3, epoch=2)
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    seen, places, middle = [], 2 * padding + 1, size // 2
    for number, crop in zip(chosen, found, strict=True):
        matches = []
        border = (padding, padding)
        padded = np.pad(images[number], (border, border, (0, 0)))
        for mirrored in (False, True):
            for top, left in np.ndindex(places, places):
                window = padded[top : top + size, left : left + size]
                window = window[:, ::-1] if mirrored else window
                same = window[middle, middle] == crop[middle, middle]
                if same and np.array_equal(window, crop):
                    matches.append((top, left, mirrored))
        assert len(matches) == 1
        seen += matches
    counts = np.array(seen)
    # Uniform over 0 … 8 has mean 4 and deviation 2.58: of 400, 4 standard errors.
    np.testing.assert_allclose(counts[:, :2].mean(axis=0), padding, atol=0.52)
    assert set(counts[:, 0]) == set(counts[:, 1]) == set(range(places))
    assert counts[:, 2].mean() == pytest.approx(0.5, abs=0.1)


@ON_ONE
def test_draws_belong_to_seed_epoch_and_image():
    images = np.random.default_rng(0).normal(size=(20, 32, 32, 3)).astype("float32")
    batches = [
        Batches(images, np.arange(20), size, 5, crop_and_flip=True) for size in (4, 20)
    ]
    for epoch in (0, 1):
        parts = []
        for each in batches:
            each.epoch = epoch
            x, y = (np.concatenate(v) for v in zip(*each, strict=True))
            parts.append(x[np.argsort(y)])
        np.testing.assert_array_equal(parts[0], parts[1])
        other = crop_and_flip(images, np.arange(20), 5, 1 - epoch)
        assert np.abs(parts[0] - other).max() > 0.1


@ON_ONE
def test_pooling_is_the_mean_over_squares():
    images = np.arange(2 * 4 * 6 * 3, dtype="float32").reshape(2, 4, 6, 3)
    found = pooled(images, 2)
    assert found.shape == (2, 2, 3, 3)
    for row, column in np.ndindex(2, 3):
        square = images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_allclose(found[:, row, column], square.mean(axis=(1, 2)))
    with pytest.raises(ValueError, match="Received: pool=3"):
        pooled(images, 3)


@ON_ONE
def test_pooled_and_uniform_data():
    sklearn = pytest.importorskip("sklearn.datasets")
    data = Data("digits", 100, 50, balanced=False, pool=4)
    found = load_data(data, 3)
    assert found.input_shape == found.train.x.shape[1:] == (2, 2, 1)
    whole = keras_lap.datasets.load("digits")
    assert len(sklearn.load_digits().target) > len(whole.train.y)
    # Uniformly drawn classes are not even, and the order is that of one permutation.
    order = np.random.default_rng(3).permutation(len(whole.train.y))
    np.testing.assert_array_equal(found.train.y, whole.train.y[np.sort(order[:100])])
    np.testing.assert_array_equal(
        found.validation.y, whole.train.y[np.sort(order[-50:])]
    )
    counts = np.bincount(found.train.y, minlength=10)
    assert counts.max() > counts.min() + 1


@ON_ONE
def test_the_score_is_the_best_epoch_on_half_of_the_test_data():
    study = tiny_study(training=Training(3, 8), methods=(plain(),))
    run = next(study.runs())
    result = train(run)
    halves = np.array(result["half_accuracy"]) * 15  # of thirty test points
    np.testing.assert_allclose(halves, np.round(halves), atol=1e-9)
    record = {"result": {"test_accuracy": [0.5, 0.9], "half_accuracy": [0.8, 0.7]}}
    assert measures.half_accuracy(record) == pytest.approx(80)
    assert np.isnan(measures.half_accuracy({"result": {"test_accuracy": [0.5]}}))


@ON_ONE
def test_the_half_that_is_scored_follows_the_seed():
    # At this rate nothing moves, and without normalisation nothing else does.
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 2)), np.arange(40) % 2
    points = Split(x.astype("float32"), y)
    data = Data(Dataset("own", 2, (2,), points, None, points))
    still = dataclasses.replace(TINY.network, batch_norm=False)
    setting = Setting("still", still, data, Training(1, 8, 1e-30), (plain(),))
    run = tiny_study().run(setting, plain(), 4)
    found = train(run)
    network = build_network(run.network, (2,), 2, 4)
    right = np.argmax(network.predict(points.x, verbose=0), axis=-1) == y
    half = np.random.default_rng((4, 0, 2)).permutation(40)[:20]
    assert found["half_accuracy"] == [pytest.approx(right[half].mean())]
    assert found["test_accuracy"] == [pytest.approx(right.mean())]


@ON_ONE
def test_rivals_change_what_they_say():
    network = Network("small_image_resnet", 2, 2)
    training = Training(1, 20, coupled_decay=1e-4)
    setting = Setting(
        "rivals",
        network,
        Data("digits", 40, test_size=20),
        training,
        (
            plain(),
            rival("weight decay", 1e-4),
            rival("dropout", 0.0),
            rival("label smoothing", 0.0),
            rival("weight decay", 1.0),
            rival("dropout", 0.5),
            rival("label smoothing", 0.5),
        ),
    )
    study = dataclasses.replace(tiny_study(), settings=(setting,))
    losses = [train(study.run(setting, m, 0))["task_loss"] for m in setting.methods]
    # At the plain strength each is plain training; the loss is that of float32.
    np.testing.assert_allclose(losses[1:4], [losses[0]] * 3, rtol=1e-5)
    for other in losses[4:]:
        assert other != pytest.approx(losses[0], rel=1e-4)
    with pytest.raises(ValueError, match="dropout"):
        dataclasses.replace(setting, network=Network("resnet9", 2))


@ON_ONE
def test_what_is_added_later_leaves_old_results_their_names():
    # From the committed results of Table 1 and of the depths.
    for module, count in ((table1_mnist, 240), (depth, 100)):
        study = module.PRESETS["small"]
        folder = Path(module.__file__).parents[1] / "results"
        path = folder / f"{study.name}-small.jsonl"
        found = running.find(study, records.read(path))
        assert len(found) == count == len(list(study.runs()))


def test_two_decays_or_schedules_are_refused():
    for options in (
        {"coupled_decay": 1e-4, "weight_decay": 1e-4},
        {"schedule": "cosine", "drop_epochs": (1,)},
        {"schedule": "linear"},
        {"coupled_decay": -1.0},
    ):
        with pytest.raises(ValueError, match="Received"):
            Training(3, 8, **options)
    for kind, strength in (("dropout", 1.0), ("weight decay", -1.0), ("noise", 0.1)):
        with pytest.raises(ValueError, match="Received"):
            rival(kind, strength)
    with pytest.raises(ValueError, match="balanced"):
        Data(lambda seed: None, balanced=False)


def test_settings_in_the_order_of_their_worth():
    first = dataclasses.replace(TINY, methods=(plain(), least_action(1.0)))
    second = dataclasses.replace(TINY, label="more", methods=(*first.methods, plain()))
    second = dataclasses.replace(second, methods=(plain(), least_action(2.0)))
    study = dataclasses.replace(tiny_study(), settings=(first, second), one_by_one=True)
    found = [(run.seed, str(run.method)) for run in study.runs()]
    one, two = "least action, λ_0 = 1", "least action, λ_0 = 2"
    # The plain runs of the second setting are those of the first.
    expected = [(0, "plain"), (0, one), (1, "plain"), (1, one), (0, two), (1, two)]
    assert found == expected
