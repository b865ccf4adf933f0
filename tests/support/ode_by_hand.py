"""A neural ODE, what it costs, and all gradients, by hand in NumPy and float64.

Written from the formulas alone: states by Euler, gradients by the adjoint
``p_k = p_{k+1} + dt_k (∂v/∂x)ᵀ p_{k+1} + ∂(running costs)/∂x_k``. σ is tanh.
"""

from __future__ import annotations

import itertools

import numpy as np

from support.basics import as_numpy


class ByHand:
    """A network of `neural_ode` with tanh and a dense readout.

    Args:
        net: The network, whose weights are read by the names of its layers.
        dynamics: As it was built.
        time_steps: Its steps.
    """

    def __init__(self, net, dynamics, time_steps):
        self.dynamics, self.dt = dynamics, np.asarray(time_steps, "float64")
        names = ("dense1", "dense2") if dynamics == "bottleneck" else ("dense",)
        self.names = [
            [f"block{k}_{name}" for name in names] for k in range(1, len(self.dt) + 1)
        ]
        self.weights = {
            name: [as_numpy(w).astype("float64") for w in net.get_layer(name).weights]
            for name in [*itertools.chain(*self.names), "readout"]
        }
        self.trapezoid = np.zeros(len(self.dt) + 1)
        self.trapezoid[:-1] += self.dt / 2
        self.trapezoid[1:] += self.dt / 2

    def velocity(self, k, x):
        (w, b), *second = (self.weights[name] for name in self.names[k])
        if self.dynamics == "inside":
            return np.tanh(x) @ w + b
        inner = np.tanh(x @ w + b)
        for w2, b2 in second:
            inner = inner @ w2 + b2
        return inner

    def states(self, x):
        found = [np.asarray(x, "float64")]
        missing = len(self.weights["readout"][0]) - found[0].shape[1]
        found[0] = np.pad(found[0], ((0, 0), (0, missing)))
        for k, dt in enumerate(self.dt):
            found.append(found[-1] + dt * self.velocity(k, found[-1]))
        return found

    def outputs(self, x):
        w, b = self.weights["readout"]
        return self.states(x)[-1] @ w + b

    def control(self, norm):
        """R(u)."""
        flat = [
            np.concatenate([w.ravel() for name in names for w in self.weights[name]])
            for names in self.names
        ]
        if norm == "l1":
            return self.dt @ [np.abs(u).sum() for u in flat]
        if norm == "group":
            return self.dt @ [np.sqrt((u**2).sum()) for u in flat]
        cost = self.dt @ [(u**2).sum() / 2 for u in flat]
        if norm == "h1":
            for k in range(len(flat) - 1):
                middle = (self.dt[k] + self.dt[k + 1]) / 2
                cost += ((flat[k + 1] - flat[k]) ** 2).sum() / middle / 2
        return cost

    def control_gradients(self, norm):
        """∂R/∂u by the names of the layers."""
        found = {}
        for k, names in enumerate(self.names):
            u = [w for name in names for w in self.weights[name]]
            size = np.sqrt(sum((w**2).sum() for w in u))
            for name in names:
                for i, w in enumerate(self.weights[name]):
                    if norm == "l1":
                        slope = self.dt[k] * np.sign(w)
                    elif norm == "group":
                        slope = self.dt[k] * w / size
                    else:
                        slope = self.dt[k] * w
                    if norm == "h1":
                        layer = name.partition("_")[2]
                        for j in (k - 1, k + 1):
                            if 0 <= j < len(self.dt):
                                other = self.weights[f"block{j + 1}_{layer}"][i]
                                middle = (self.dt[k] + self.dt[j]) / 2
                                slope = slope + (w - other) / middle
                    found.setdefault(name, []).append(slope)
        return found

    def tracking(self, x, target, samples):
        """½ Σ_k w_k mean_i s_i |x_{k,i} − x̄_i|²."""
        return sum(
            weight * np.mean(samples * ((state - target) ** 2).sum(axis=1)) / 2
            for weight, state in zip(self.trapezoid, self.states(x), strict=True)
        )

    def task(self, x, y, samples):
        """Keras's mean squared error: the mean over batch and outputs."""
        return np.mean(samples[:, None] * (self.outputs(x) - y) ** 2)

    def gradients(self, x, y, samples, alpha, norm, beta, target):
        """Of ``task + alpha · R + beta · tracking``, by the names of the layers."""
        states = self.states(x)
        w, b = self.weights["readout"]
        error = 2 * samples[:, None] * (states[-1] @ w + b - y) / y.size
        found = {"readout": [states[-1].T @ error, error.sum(axis=0)]}

        def pull(k):
            gap = samples[:, None] * (states[k] - target) / len(target)
            return beta * self.trapezoid[k] * gap

        adjoint = error @ w.T + pull(len(self.dt))
        prices = self.control_gradients(norm)
        for k in reversed(range(len(self.dt))):
            back, slopes = self.pulled_back(k, states[k], self.dt[k] * adjoint)
            for name, both in zip(self.names[k], slopes, strict=True):
                pairs = zip(both, prices[name], strict=True)
                found[name] = [slope + alpha * price for slope, price in pairs]
            adjoint = adjoint + back + pull(k)
        return found

    def pulled_back(self, k, x, p):
        """``(∂v/∂x)ᵀ p``, and ``(∂v/∂u)ᵀ p`` of each layer."""
        (w, b), *second = (self.weights[name] for name in self.names[k])
        if self.dynamics == "inside":
            sigma = np.tanh(x)
            return (1 - sigma**2) * (p @ w.T), [[sigma.T @ p, p.sum(axis=0)]]
        sigma, slopes = np.tanh(x @ w + b), []
        for w2, _ in second:
            slopes = [[sigma.T @ p, p.sum(axis=0)]]
            p = p @ w2.T
        p = (1 - sigma**2) * p
        return p @ w.T, [[x.T @ p, p.sum(axis=0)], *slopes]
