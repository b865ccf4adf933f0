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
    "with the path loss": train(running_costs.PathLoss(1.0)),
    "without the path loss": train(),
}

# %% [markdown]
# The logs hold each cost without its weight. `task_loss` is the loss at the end.
#
# ## Where the layers are used
#
# `depth.plot_layers` draws three things along the time of the network: the loss of
# every exit, which is what the network would return if its other blocks were skipped;
# the size of the states; and the norm of the weights of each block.

# %%
signs = 2.0 * data.test.y[:, None] - 1.0
figure = depth.plot_layers(trained, data.test.x, signs, loss="mse", horizon=5.0)
figure.savefig("out/horizon.png", dpi=120)

# %% [markdown]
# ![Loss of the exits, size of the states and norm of the weights along the layers, with
# the path loss and without.](out/horizon.png)
#
# `depth.exits` gives the outputs themselves. The first layer with a mean squared error
# below a twentieth, of twenty:


# %%
def errors(network: keras.Model) -> np.ndarray:
    """The test error of every exit, from that of no block to that of all."""
    exits = depth.exits(network).predict(data.test.x, batch_size=500, verbose=0)
    return np.mean((np.stack(exits) - signs) ** 2, axis=(1, 2))


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
figure = depth.plot_layers(longer, data.test.x, signs, loss="mse", horizon=10.0)
figure.savefig("out/horizon_longer.png", dpi=120)

# %% [markdown]
# ![Loss of the exits, size of the states and norm of the weights of the longer network:
# up to T = 5 as before, then at rest.](out/horizon_longer.png)
#
# From there a training goes on: compile a `LeastActionModel` around the new network,
# with `horizon=10.0`. Idle bottlenecks learn little, as all their weights are zero; the
# docstring of [`continue_from`](../api/networks.md) says when that matters. On the page
# of [results](../results/README.md) such trainings are measured over several seeds.
