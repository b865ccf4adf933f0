"""Least action written by hand in raw JAX: the network and loop of `torch_loop.py`.

It knows neither Keras nor the package. All that training changes is one tree, which a
compiled step takes and gives back; λ is raised within the step.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

INITIAL_MULTIPLIER, TAU, EVERY = 5.0, 1.0, 5
RATE, MOMENTUM = 0.001, 0.9
AVERAGED, EPSILON = 0.99, 1e-3  # of Keras's batch normalisation

Tree = Any


class Network:
    """A stem of two convolutions, blocks of one shape, a head of two dense layers.

    Args:
        size: Pixels of a side.
        filters: Of every block.
        classes: Logits.
        blocks: How many.
        layout: `"channels_last"` or `"channels_first"`.
    """

    def __init__(self, size: int, filters: int, classes: int, blocks: int, layout: str):
        self.last = layout == "channels_last"
        self.shape = size, filters, classes, blocks

    def begin(self, seed: int = 0) -> tuple[Tree, Tree]:
        """Parameters, and the moving statistics of all norms."""
        size, filters, classes, blocks = self.shape
        keys = iter(jax.random.split(jax.random.key(seed), 2 * blocks + 4))

        def conv(inputs: int, outputs: int, side: int, bias: bool = True) -> Tree:
            shape: tuple[int, ...] = (outputs, inputs, side, side)
            if self.last:
                shape = (side, side, inputs, outputs)
            kernel = jax.random.normal(next(keys), shape) / (side * inputs**0.5)
            return {"kernel": kernel} | ({"bias": jnp.zeros(outputs)} if bias else {})

        def dense(inputs: int, outputs: int, bias: bool) -> Tree:
            kernel = jax.random.normal(next(keys), (inputs, outputs)) / inputs**0.5
            return {"kernel": kernel} | ({"bias": jnp.zeros(outputs)} if bias else {})

        def norm(width: int) -> Tree:
            return {"scale": jnp.ones(width), "shift": jnp.zeros(width)}

        parameters = {
            "stem": [conv(1, filters // 2, 3), conv(filters // 2, filters, 5)],
            "blocks": [
                {
                    "norms": [norm(filters) for _ in range(1 + (k > 0))],
                    "convs": [
                        conv(filters, filters, 3, bias=False),
                        conv(filters, filters, 3),
                    ],
                }
                for k in range(blocks)
            ],
            "head": [
                dense(filters * (size // 2) ** 2, 10 * classes, bias=False),
                norm(10 * classes),
                dense(10 * classes, classes, bias=True),
            ],
        }
        widths = [filters] * (2 * blocks - 1) + [10 * classes]
        moving = [(jnp.zeros(width), jnp.ones(width)) for width in widths]
        return parameters, moving

    def __call__(self, parameters: Tree, x: Any) -> tuple[Any, list[Any], list[Any]]:
        """Logits, displacements, and the statistics that every norm saw."""
        seen: list[Any] = []
        conv, norm = self._conv, functools.partial(self._norm, seen)
        x = jax.nn.relu(conv(parameters["stem"][0], x))
        x = jax.nn.relu(conv(parameters["stem"][1], x, stride=2))
        displacements = []
        for block in parameters["blocks"]:
            *before, inner = block["norms"]
            v = jax.nn.relu(norm(before[0], x)) if before else x
            v = jax.nn.relu(norm(inner, conv(block["convs"][0], v)))
            v = conv(block["convs"][1], v)
            x = x + v
            displacements.append(v)
        first, inner, last = parameters["head"]
        x = jax.nn.relu(norm(inner, x.reshape(len(x), -1) @ first["kernel"]))
        return x @ last["kernel"] + last["bias"], displacements, seen

    def _conv(self, parameters: Tree, x: Any, stride: int = 1) -> Any:
        names = ("NHWC", "HWIO", "NHWC") if self.last else ("NCHW", "OIHW", "NCHW")
        strides = (stride, stride)
        x = lax.conv_general_dilated(
            x, parameters["kernel"], strides, "SAME", dimension_numbers=names
        )
        if "bias" in parameters:
            x = x + self._along_channels(parameters["bias"], x)
        return x

    def _norm(self, seen: list[Any], parameters: Tree, x: Any) -> Any:
        others = (0,) if x.ndim == 2 else (0, 1, 2) if self.last else (0, 2, 3)
        mean, variance = jnp.mean(x, others), jnp.var(x, others)
        seen.append((mean, variance))
        scale = parameters["scale"] * lax.rsqrt(variance + EPSILON)
        shift = parameters["shift"] - mean * scale
        return x * self._along_channels(scale, x) + self._along_channels(shift, x)

    def _along_channels(self, values: Any, x: Any) -> Any:
        return values if x.ndim == 2 or self.last else values[:, None, None]


class Loop:
    """One network and its training, plain and by least action."""

    def __init__(self, network: Network):
        parameters, moving = network.begin()
        self.network = network
        self.state = {
            "parameters": parameters,
            "velocity": jax.tree.map(jnp.zeros_like, parameters),
            "moving": moving,
            "multiplier": jnp.float32(INITIAL_MULTIPLIER),
            "steps": jnp.int32(0),
            "seen": jnp.zeros(3),  # losses, hits and samples
        }

    def step_of(self, least_action: bool) -> Any:
        """One step of `(state, images, labels)`, compiled; it returns the new state."""

        def step(state: Tree, images: Any, labels: Any) -> Tree:
            return self._step(least_action, state, images, labels)

        return jax.jit(step, donate_argnums=0)

    def _step(self, least_action: bool, state: Tree, images: Any, labels: Any) -> Tree:
        def objective(parameters: Tree) -> Any:
            logits, displacements, seen = self.network(parameters, images)
            scores = jax.nn.log_softmax(logits)
            task = -jnp.mean(jnp.take_along_axis(scores, labels[:, None], 1))
            energy = sum(jnp.mean(v**2) for v in displacements) if least_action else 0.0
            return task + energy / state["multiplier"], (task, logits, seen)

        gradient = jax.value_and_grad(objective, has_aux=True)
        (loss, (task, logits, seen)), slope = gradient(state["parameters"])
        velocity = jax.tree.map(
            lambda v, g: MOMENTUM * v - RATE * g, state["velocity"], slope
        )
        steps = state["steps"] + 1
        raised = state["multiplier"] + TAU * task * (steps % EVERY == 0)
        hits, count = jnp.sum(jnp.argmax(logits, 1) == labels), len(labels)
        return {
            "parameters": jax.tree.map(jnp.add, state["parameters"], velocity),
            "velocity": velocity,
            "moving": jax.tree.map(
                lambda old, new: AVERAGED * old + (1 - AVERAGED) * new,
                state["moving"],
                seen,
            ),
            "multiplier": raised if least_action else state["multiplier"],
            "steps": steps,
            "seen": state["seen"] + jnp.stack([loss * count, hits, count]),
        }

    def run(self, step: Any, batches: list[tuple[Any, Any]]) -> list[float]:
        """Trains on all batches; returns sums of losses and hits, and the samples."""
        self.state["seen"] = jnp.zeros(3)
        for images, labels in batches:
            self.state = step(self.state, images, labels)
        return [float(value) for value in self.state["seen"]]
