"""The authors' networks against plain PyTorch, with its weights ported.

`Theirs` computes them from what is known of their code, in float64, with names and arrays
of PyTorch's. The functions that port its weights are those of the page on porting.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from support.basics import as_numpy

import keras_lap
from keras_lap import networks

torch = pytest.importorskip("torch")
functional = torch.nn.functional

PAGE = Path(__file__).parents[2] / "docs" / "porting.md"
CLASSES, FILTERS = 3, 4


class Theirs:
    """A forward pass in PyTorch; arrays are drawn where one is first asked for."""

    def __init__(self, normalized=True):
        self.normalized = normalized
        self.training = True
        self.state = {}
        self.numbers = np.random.default_rng(3)

    def array(self, name, shape, low, high):
        if name not in self.state:
            drawn = self.numbers.uniform(low, high, shape)
            self.state[name] = torch.tensor(drawn)
        return self.state[name]

    def bias(self, name, size):
        return self.array(f"{name}.bias", (size,), -0.5, 0.5)

    def conv(self, x, name, filters, size, stride=1, bias=False, groups=1):
        shape = (filters, x.shape[1] // groups, size, size)
        bound = math.sqrt(6 / (filters * size * size))
        weight = self.array(f"{name}.weight", shape, -bound, bound)
        offset = self.bias(name, filters) if bias else None
        return functional.conv2d(
            x, weight, offset, stride, padding=size // 2, groups=groups
        )

    def linear(self, x, name, units):
        x = x.flatten(1)
        bound = math.sqrt(6 / x.shape[1])
        weight = self.array(f"{name}.weight", (units, x.shape[1]), -bound, bound)
        return functional.linear(x, weight, self.bias(name, units))

    def norm_relu(self, x, name):
        return functional.relu(self.norm(x, name))

    def norm(self, x, name):
        size = (x.shape[1],)
        return functional.batch_norm(
            x,
            self.array(f"{name}.running_mean", size, -0.5, 0.5),
            self.array(f"{name}.running_var", size, 0.5, 2),
            self.array(f"{name}.weight", size, 0.5, 1.5),
            self.bias(name, size[0]),
            training=self.training,
        )

    # Stems: on MNIST and CIFAR-10, on CIFAR-100, on ImageNet.

    def halving(self, x):
        x = self.conv(x, "encoder.0", FILTERS // 2, 3, bias=True)
        x = self.conv(functional.relu(x), "encoder.2", FILTERS, 5, 2, bias=True)
        return functional.relu(x)

    def keeping(self, x):
        x = self.conv(x, "encoder.0", FILTERS // 2, 3, bias=True)
        x = self.norm_relu(x, "encoder.1")
        x = self.conv(x, "encoder.3", FILTERS, 3, bias=True)
        return self.norm_relu(x, "encoder.4")

    def dividing(self, x):
        x = self.norm_relu(self.conv(x, "encoder.0", FILTERS, 7, 2, True), "encoder.1")
        return self.norm_relu(
            self.conv(x, "encoder.3", FILTERS, 3, 2, True), "encoder.4"
        )

    # Blocks.

    def stage(self, x, name, blocks):
        for k in range(blocks):
            block, v = f"{name}.blocks.{k}", x
            if not self.normalized:
                v = functional.relu(x)  # their slip: the first convolution is lost
            else:
                if (name, k) != ("stage1", 0):
                    v = self.norm_relu(v, f"{block}.bn1")
                v = self.conv(v, f"{block}.cv1", x.shape[1], 3)
                v = self.norm_relu(v, f"{block}.bn2")
            v = self.conv(v, f"{block}.cv2", x.shape[1], 3)
            self.displacements.append(v)
            x = x + v
        return x

    def resnext_stage(self, x, name, blocks, inner, outer, stride):
        for k in range(blocks):
            block = f"{name}.blocks.{k}"
            stride = stride if k == 0 else 1
            r = self.norm_relu(self.conv(x, f"{block}.cv1", inner, 1), f"{block}.bn1")
            r = self.conv(r, f"{block}.cv2", inner, 3, stride, groups=2)
            r = self.norm_relu(r, f"{block}.bn2")
            r = self.norm_relu(self.conv(r, f"{block}.cv3", outer, 1), f"{block}.bn3")
            if k == 0:
                x = self.conv(x, f"{block}.downsample.0", outer, 1, stride)
                x = self.norm(x, f"{block}.downsample.1")
            z = functional.relu(x + r)
            self.displacements.append(z - x)
            x = z
        return x

    # Networks.

    def one_representation(self, x, stem):
        x = self.stage(stem(self, x), "stage1", 3)
        x = self.norm_relu(self.linear(x, "classifier.0", 10 * CLASSES), "classifier.1")
        return self.linear(x, "classifier.3", CLASSES)

    def three_stages(self, x):
        width = x.shape[1]
        x = self.stage(x, "stage1", 1)
        x = self.stage(self.conv(x, "cv1", 2 * width, 1, 2), "stage2", 2)
        x = self.stage(self.conv(x, "cv2", 4 * width, 1, 2), "stage3", 1)
        x = functional.avg_pool2d(self.norm_relu(x, "bn"), 8, 8)
        return self.linear(x, "classifier", CLASSES)

    def resnet(self, x):
        return self.three_stages(self.keeping(x))

    def wide(self, x):
        return self.three_stages(self.conv(x, "cv0", FILTERS, 3))

    def avgpool(self, x):
        x = self.keeping(x)
        for number, blocks in enumerate((1, 2, 1), start=1):
            x = self.stage(x, f"stage{number}", blocks)
            x = functional.avg_pool2d(x, 2, 2)
        x = functional.avg_pool2d(self.norm_relu(x, "bn"), 4, 4)
        return self.linear(x, "classifier", CLASSES)

    def resnext(self, x, stem, blocks, window):
        x = stem(self, x)
        for number, count in enumerate(blocks, start=1):
            growth = 2 ** (number - 1)
            x = self.resnext_stage(
                *(x, f"stage{number}", count, 4 * growth, 4 * FILTERS * growth),
                stride=1 if number == 1 else 2,
            )
        return self.linear(functional.avg_pool2d(x, window, 1), "classifier", CLASSES)

    def run(self, forward, images, training):
        """Logits, and what the authors penalise."""
        self.training, self.displacements = training, []
        logits = forward(self, torch.tensor(images.transpose(0, 3, 1, 2)))
        moves = [move.permute(0, 2, 3, 1) for move in self.displacements]
        return [each.numpy() for each in (logits, *moves)]


def one_representation(stem):
    return lambda theirs, x: theirs.one_representation(x, stem)


def resnext(stem, blocks, window):
    return lambda theirs, x: theirs.resnext(x, stem, blocks, window)


STAGES = {"num_blocks": (1, 2, 1)}
GROUPED = {"cardinality": 2, "group_width": 2}
# The builder, its options, their network, and a size of images.
CASES = {
    "mnist": (
        networks.one_representation_resnet,
        {"num_blocks": 3},
        one_representation(Theirs.halving),
        28,
    ),
    "odd": (
        networks.one_representation_resnet,
        {"num_blocks": 3},
        one_representation(Theirs.halving),
        33,
    ),
    "cifar100": (
        networks.one_representation_resnet,
        {"num_blocks": 3, "stem": "cifar"},
        one_representation(Theirs.keeping),
        9,
    ),
    "resnet": (networks.resnet, STAGES, Theirs.resnet, 32),
    "resnet, odd": (networks.resnet, STAGES, Theirs.resnet, 33),
    "avgpool": (networks.avgpool_resnet, STAGES, Theirs.avgpool, 32),
    "avgpool, odd": (networks.avgpool_resnet, STAGES, Theirs.avgpool, 33),
    "wide": (networks.wide_resnet, STAGES, Theirs.wide, 32),
    "wide, odd": (networks.wide_resnet, STAGES, Theirs.wide, 29),
    "resnext29": (
        networks.resnext29,
        GROUPED | STAGES,
        resnext(Theirs.keeping, (1, 2, 1), 7),
        32,
    ),
    "resnext29, odd": (
        networks.resnext29,
        GROUPED | STAGES,
        resnext(Theirs.keeping, (1, 2, 1), 7),
        33,
    ),
    "resnext50": (
        networks.resnext50,
        GROUPED | {"num_blocks": (1, 2, 1, 1)},
        resnext(Theirs.keeping, (1, 2, 1, 1), 4),
        32,
    ),
    "resnext50, imagenet": (
        networks.resnext50,
        GROUPED | {"num_blocks": (1, 2, 1, 1), "stem": "imagenet"},
        resnext(Theirs.dividing, (1, 2, 1, 1), 4),
        101,
    ),
}
CASES |= {
    f"{name}, no norm": CASES[name] for name in ("mnist", "resnet", "avgpool", "wide")
}


@pytest.fixture(scope="module")
def page():
    """What the page on porting defines; its example has to hold too."""
    names = {"__name__": "porting"}
    said = []
    names["print"] = lambda *words: said.append(" ".join(map(str, words)))
    text = PAGE.read_text("utf-8")
    for code in re.findall(r"^```python\n(.*?)^```\n", text, re.M | re.S):
        exec(compile(code, PAGE.name, "exec"), names)
    assert re.findall(r"^```text\n(.*?)\n```\n", text, re.M | re.S) == said
    return names


def zeros(shape, dtype=None):
    """On JAX, drawing random kernels is what takes time."""
    return np.zeros(shape, dtype)


def assert_close(ours, theirs):
    """Float32 keeps 6e-8; some twenty layers and norms after it, 1e-6 was seen."""
    ours = as_numpy(ours)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("case", CASES)
def test_logits_and_displacements_are_those_of_the_authors_network(case, page):
    build, options, forward, size = CASES[case]
    images = np.random.default_rng(0).normal(size=(3, size, size, 2))
    normalized = not case.endswith("no norm")
    network = build(
        (size, size, 2),
        CLASSES,
        filters=FILTERS,
        kernel_initializer=zeros,
        batch_norm=normalized,
        like_the_paper=True,
        **options,
    )
    theirs = Theirs(normalized)
    theirs.run(forward, images, training=False)  # draws its arrays
    names = page["their_names"](network)
    page["port"](network, theirs.state, names)
    assert {key.rpartition(".")[0] for key in theirs.state} == set(names.values())

    report = keras_lap.find_residual_blocks(network, include_projections=True)
    assert not report.skipped
    record = keras_lap.trajectory.Recorder(network, report)
    for training in (False, True, False):
        expected = theirs.run(forward, images, training)
        path = record(images.astype("float32"), training=training)
        for mine, his in zip(
            (path.outputs, *path.displacements), expected, strict=True
        ):
            assert_close(mine, his)
    for ours, name in names.items():
        if f"{name}.running_var" in theirs.state:
            # The step changed them, by the unbiased variance.
            layer = network.get_layer(ours)
            assert_close(layer.moving_mean, theirs.state[f"{name}.running_mean"].numpy())
            assert_close(
                layer.moving_variance, theirs.state[f"{name}.running_var"].numpy()
            )
