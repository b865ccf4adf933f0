"""The authors' networks in plain PyTorch, from what is known of their code.

In float64, with the names and arrays of their modules. The groups of convolutions are
two, and the blocks of three stages one, two and one, which keeps the tests short.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional


class Theirs:
    """A forward pass in PyTorch; arrays are drawn where one is first asked for."""

    def __init__(self, filters, classes, normalized=True):
        self.filters, self.classes = filters, classes
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
        x = self.conv(x, "encoder.0", self.filters // 2, 3, bias=True)
        x = self.conv(functional.relu(x), "encoder.2", self.filters, 5, 2, bias=True)
        return functional.relu(x)

    def keeping(self, x):
        x = self.conv(x, "encoder.0", self.filters // 2, 3, bias=True)
        x = self.norm_relu(x, "encoder.1")
        x = self.conv(x, "encoder.3", self.filters, 3, bias=True)
        return self.norm_relu(x, "encoder.4")

    def dividing(self, x):
        x = self.conv(x, "encoder.0", self.filters, 7, stride=2, bias=True)
        x = self.norm_relu(x, "encoder.1")
        x = self.conv(x, "encoder.3", self.filters, 3, stride=2, bias=True)
        return self.norm_relu(x, "encoder.4")

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
        x = self.linear(x, "classifier.0", 10 * self.classes)
        x = self.norm_relu(x, "classifier.1")
        return self.linear(x, "classifier.3", self.classes)

    def three_stages(self, x):
        width = x.shape[1]
        x = self.stage(x, "stage1", 1)
        x = self.stage(self.conv(x, "cv1", 2 * width, 1, 2), "stage2", 2)
        x = self.stage(self.conv(x, "cv2", 4 * width, 1, 2), "stage3", 1)
        x = functional.avg_pool2d(self.norm_relu(x, "bn"), 8, 8)
        return self.linear(x, "classifier", self.classes)

    def resnet(self, x):
        return self.three_stages(self.keeping(x))

    def wide(self, x):
        return self.three_stages(self.conv(x, "cv0", self.filters, 3))

    def avgpool(self, x):
        x = self.keeping(x)
        for number, blocks in enumerate((1, 2, 1), start=1):
            x = self.stage(x, f"stage{number}", blocks)
            x = functional.avg_pool2d(x, 2, 2)
        x = functional.avg_pool2d(self.norm_relu(x, "bn"), 4, 4)
        return self.linear(x, "classifier", self.classes)

    def resnext(self, x, stem, blocks, window):
        x = stem(self, x)
        for number, count in enumerate(blocks, start=1):
            growth = 2 ** (number - 1)
            x = self.resnext_stage(
                *(x, f"stage{number}", count, 4 * growth, 4 * self.filters * growth),
                stride=1 if number == 1 else 2,
            )
        return self.linear(
            functional.avg_pool2d(x, window, 1), "classifier", self.classes
        )

    def run(self, forward, images, training):
        """Logits, and what the authors penalise."""
        self.training, self.displacements = training, []
        logits = forward(self, torch.tensor(images.transpose(0, 3, 1, 2)))
        moves = [move.permute(0, 2, 3, 1) for move in self.displacements]
        return [each.numpy() for each in (logits, *moves)]
