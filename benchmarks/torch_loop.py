"""Least action written by hand in raw PyTorch: the paper's ResNet9 and training loop.

It knows neither Keras nor the package. As a process it reads pickled commands from its
input, one after the other, and answers each with one pickled result: see `serve`.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import torch
from torch import nn

Batches = list[tuple[torch.Tensor, torch.Tensor]]
INITIAL_MULTIPLIER, TAU, EVERY = 5.0, 1.0, 5
RATE, MOMENTUM = 0.001, 0.9


class Block(nn.Module):
    """`v(x)` of a pre-activation block; the first of a network has no norm before."""

    def __init__(self, filters: int, first: bool):
        super().__init__()
        before = [] if first else [nn.BatchNorm2d(filters), nn.ReLU()]
        self.branch = nn.Sequential(
            *before,
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The displacement of `x`."""
        return self.branch(x)


class ResNet9(nn.Module):
    """A stem of two convolutions, blocks of one shape, a head of two dense layers."""

    def __init__(self, size: int, filters: int, classes: int, blocks: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, filters // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(filters // 2, filters, 5, stride=2, padding=2),
            nn.ReLU(),
        )
        self.blocks = nn.ModuleList(Block(filters, k == 0) for k in range(blocks))
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(filters * (size // 2) ** 2, 10 * classes, bias=False),
            nn.BatchNorm1d(10 * classes),
            nn.ReLU(),
            nn.Linear(10 * classes, classes),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits, and the displacement of each block."""
        x = self.stem(x)
        displacements = []
        for block in self.blocks:
            v = block(x)
            x = x + v
            displacements.append(v)
        return self.head(x), displacements

    def take(self, weights: list[np.ndarray]) -> None:
        """Takes the weights of the same network of Keras, in its order and layout.

        Keras pads a strided convolution of an even size once more on the right and
        PyTorch on the left, so the kernels here are mirrored, and so are the images.
        """
        for parameter, weight in zip(self.parameters(), weights, strict=True):
            if weight.ndim == 4:
                weight = np.flip(weight, (0, 1)).transpose(3, 2, 0, 1)
            elif weight.ndim == 2:
                weight = self._dense(weight)
            with torch.no_grad():
                parameter.copy_(torch.tensor(weight.copy()))

    def _dense(self, weight: np.ndarray) -> np.ndarray:
        """Flattened, a state of Keras has its channels last."""
        filters, units = self.stem[2].out_channels, weight.shape[1]
        if len(weight) == self.head[1].in_features:
            size = round((len(weight) / filters) ** 0.5)
            weight = weight.reshape(size, size, filters, units)
            weight = np.flip(weight, (0, 1)).transpose(2, 0, 1, 3)
        return weight.reshape(-1, units).T


def batches_of(x: np.ndarray, y: np.ndarray, batch_size: int) -> Batches:
    """Images of Keras's layout as batches of PyTorch's, mirrored; see `take`."""
    images = torch.tensor(np.flip(x, (1, 2)).transpose(0, 3, 1, 2).copy())
    labels = torch.tensor(y)
    return list(
        zip(images.split(batch_size), labels.split(batch_size), strict=True),
    )


class Loop:
    """One network and its training."""

    def __init__(self, network: ResNet9):
        self.network = network
        self.optimizer = torch.optim.SGD(network.parameters(), RATE, MOMENTUM)
        self.loss = nn.CrossEntropyLoss()

    def plain(self, batches: Batches) -> tuple[float, float]:
        """An epoch of the task alone; returns mean loss and accuracy."""
        total, hits, count = torch.zeros(()), torch.zeros(()), 0
        for images, labels in batches:
            logits, _ = self.network(images)
            loss = self.loss(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(labels)
            hits += (logits.argmax(1) == labels).sum()
            count += len(labels)
        return float(total / count), float(hits / count)


class LeastActionLoop(Loop):
    """Minimises ``Σ_k mean(|v_k|²)/λ + L`` and raises λ."""

    def __init__(self, network: ResNet9):
        super().__init__(network)
        self.multiplier, self.steps = INITIAL_MULTIPLIER, 0

    def least_action(self, batches: Batches) -> tuple[float, float]:
        """An epoch of least action; returns mean loss and accuracy."""
        total, hits, count = torch.zeros(()), torch.zeros(()), 0
        for images, labels in batches:
            logits, displacements = self.network(images)
            task = self.loss(logits, labels)
            energy = sum(v.square().mean() for v in displacements)
            loss = task + energy / self.multiplier
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.steps += 1
            if self.steps % EVERY == 0:
                self.multiplier += TAU * task.item()
            total += loss.detach() * len(labels)
            hits += (logits.argmax(1) == labels).sum()
            count += len(labels)
        return float(total / count), float(hits / count)

    def trajectory(self, batches: Batches) -> list[tuple[float, float]]:
        """Loss of each step, and λ after it."""
        return [(self.least_action([batch])[0], self.multiplier) for batch in batches]


def loop_of(kind: type[Loop], weights: list[np.ndarray], shape: dict[str, int]) -> Any:
    """A loop whose network starts from these weights."""
    network = ResNet9(**shape)
    network.take(weights)
    return kind(network)


def serve() -> None:
    """Answers commands until there are no more.

    A command is a name and its arguments. `begin` makes the loops that others run an
    epoch of; `trajectory` needs none.
    """
    loops: dict[str, Any] = {}
    batches: Batches = []
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: Any = None
        if name == "begin":
            weights, data, shape = arguments
            batches = batches_of(**data)
            loops["plain"] = loop_of(Loop, weights, shape)
            loops["least_action"] = loop_of(LeastActionLoop, weights, shape)
        elif name == "trajectory":
            weights, data, shape = arguments
            loop = loop_of(LeastActionLoop, weights, shape)
            answer = loop.trajectory(batches_of(**data))
        else:
            answer = getattr(loops[name], name)(batches)
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
