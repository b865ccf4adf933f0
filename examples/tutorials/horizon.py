# %% [markdown]
# # A network over a time horizon
#
# A residual network is the Euler scheme of a differential equation, and its depth a
# time T. Trained by the loss at the end alone, all layers share the work. With the
# *path loss*, the loss of every exit, the first layers do the work and the others rest:
# the turnpike of Esteve-Yagüe et al.,
# [arXiv 2008.02491](https://arxiv.org/abs/2008.02491). This tutorial trains one network
# both ways, looks at where its layers are used, and carries one of them on to a longer
# horizon.

# %%
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_lap
from keras_lap import depth, networks, running_costs

Path("out").mkdir(exist_ok=True)
data = keras_lap.datasets.load("circles", train_size=256)
x, y = data.train.x, 2.0 * data.train.y[:, None] - 1.0

# %% [markdown]
# ## Two trainings
#
# `neural_ode` builds the network: here twenty bottlenecks over T = 5, with one further
# dimension, so that the inner circle can be lifted out of the outer one.
# `LeastActionModel` with `energy=None` trains by running costs alone. `ControlCost`
# prices the weights of the blocks in both trainings, `PathLoss` in one of them. The
# horizon of the model is that of the network: the integrals are over the same time.


# %%
def train(*costs: running_costs.RunningCost) -> keras.Model:
    """The same network on the same data, with other costs beside the control cost."""
    keras.utils.set_random_seed(0)
    network = networks.neural_ode(
        (2,),
        1,
        horizon=5.0,
        steps=20,
        dynamics="bottleneck",
        hidden_units=8,
        activation="relu",
        augment=1,
    )
    model = keras_lap.LeastActionModel(
        network,
        energy=None,
        running_costs=[running_costs.ControlCost(0.01), *costs],
        horizon=5.0,
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    logs = model.fit(x, y, batch_size=64, epochs=200, verbose=0).history
    print({name: round(values[-1], 4) for name, values in logs.items()})
    return network


trained = {
    "without the path loss": train(),
    "with the path loss": train(running_costs.PathLoss(1.0)),
}

# %% [markdown]
# The logs hold each cost without its weight. `task_loss` is the loss at the end.
#
# ## Where the layers are used
#
# `depth.exits` gives the output after every block: what the network would say if its
# other blocks were skipped. `running_costs.controls` gives the weights of each block.


# %%
def errors(network: keras.Model) -> np.ndarray:
    """The test error of every exit, from that of no block to that of all."""
    exits = depth.exits(network).predict(data.test.x, batch_size=500, verbose=0)
    signs = 2.0 * data.test.y[:, None] - 1.0
    return np.mean((np.stack(exits) - signs) ** 2, axis=(1, 2))


def sizes(network: keras.Model) -> list[float]:
    """The norm of the weights of every block."""
    return [
        float(np.sqrt(sum(np.sum(keras.ops.convert_to_numpy(u) ** 2) for u in block)))
        for block in running_costs.controls(network)
    ]


def draw(networks_by_name: dict[str, keras.Model], path: str) -> None:
    """Errors and norms along the time of the networks, with a step of 1/4."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    colors = ("C1", "C0")
    for (name, network), color in zip(networks_by_name.items(), colors, strict=True):
        for axis, values in ((left, errors(network)), (right, sizes(network))):
            axis.plot(0.25 * np.arange(len(values)), values, color, label=name)
    left.set(xlabel="time", ylabel="error of the exit", yscale="log")
    right.set(xlabel="time", ylabel="norm of the weights")
    left.legend()
    figure.savefig(path, dpi=120)


draw(trained, "out/horizon.png")

# %% [markdown]
# ![Error of the exits and norm of the weights along the layers, with the path loss and
# without.](out/horizon.png)
#
# The first layer with an error below a twentieth, of twenty:

# %%
for name, network in trained.items():
    print(name, [int(k) for k in np.flatnonzero(errors(network) < 0.05)[:1]])

# %% [markdown]
# And what is left of each when it is cut? `depth.prune` makes the shorter network, over
# the same layers.

# %%
for name, network in trained.items():
    short = depth.prune(network, 5)
    right = (short.predict(data.test.x, batch_size=500, verbose=0) > 0)[:, 0]
    print(f"{name}, 5 of 20 blocks: accuracy {np.mean(right == data.test.y):.3f}")

# %% [markdown]
# ## A longer horizon
#
# `continue_from` carries a network on. With the same step it appends idle layers, which
# change no output; with as many layers it rescales the weights, with the same horizon
# and a multiple of the layers it refines the scheme.

# %%
network = trained["with the path loss"]
longer = networks.continue_from(network, horizon=10.0, steps=40)
rescaled = networks.continue_from(network, horizon=10.0, steps=20)
before = network.predict(data.test.x, batch_size=500, verbose=0)
for name, other in {"longer": longer, "rescaled": rescaled}.items():
    after = other.predict(data.test.x, batch_size=500, verbose=0)
    print(f"{name}: outputs differ by at most {np.abs(after - before).max():.1g}")
draw({"T = 10": longer, "T = 5": network}, "out/horizon_longer.png")

# %% [markdown]
# ![The curves of the network of T = 10 go on where those of T = 5
# end.](out/horizon_longer.png)
#
# From there a training goes on: compile a `LeastActionModel` around the new network,
# with `horizon=10.0`. Idle bottlenecks learn little, as all their weights are zero; the
# docstring of [`continue_from`](../api/networks.md) says when that matters. On the page
# of [results](../results/README.md) such trainings are measured over several seeds.
