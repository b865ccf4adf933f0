# %% [markdown]
# # Reading transport
#
# `keras_lap.transport` measures how a network moves its data: how far, how straight,
# and how near to optimal. It works on any network with residual blocks, however it was
# trained. Here two networks of the plane learn to part two circles, so that everything
# can be drawn.

# %%
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from keras import layers

import keras_lap
from keras_lap import transport

Path("out").mkdir(exist_ok=True)
data = keras_lap.datasets.load("circles", train_size=500)

# %% [markdown]
# ## Two trainings
#
# Six blocks move the points; nothing else does. `TransportMonitor` measures the cost of
# each block on some data at the end of each epoch and adds it to the logs. It works
# with plain training too.


# %%
def train(least_action: bool) -> tuple[keras.Model, dict[str, list[float]]]:
    """The same network on the same data, trained in one way or the other."""
    keras.utils.set_random_seed(0)
    inputs = state = keras.Input((2,))
    for number in range(6):
        moved = layers.Dense(16, "relu")(state)
        moved = layers.Dense(2)(moved)
        state = layers.Add(name=f"block{number}")([state, moved])
    network = keras.Model(inputs, layers.Dense(2)(state), name="circles")
    model, callbacks = network, [transport_monitor()]
    if least_action:
        model = keras_lap.LeastActionModel(network, initial_multiplier=1.0)
        callbacks.append(keras_lap.callbacks.MultiplierUpdate(tau=0.1))
    model.compile(
        keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        *data.train, batch_size=50, epochs=40, verbose=0, callbacks=callbacks
    ).history
    print(model.evaluate(*data.test, verbose=0, return_dict=True))
    return network, history


def transport_monitor() -> keras.callbacks.Callback:
    """Measures on 200 test points after every fourth epoch."""
    return keras_lap.callbacks.TransportMonitor(
        data.test.x[:200], every_n_epochs=4, logs="all"
    )


plain, plain_history = train(least_action=False)
least, least_history = train(least_action=True)

# %% [markdown]
# ## The report

# %%
reports = {
    "plain": transport.analyze(plain, *data.test, verbose=0),
    "least action": transport.analyze(least, *data.test, verbose=0),
}
for name, report in reports.items():
    print(f"--- {name}\n{report}\n")

# %% [markdown]
# How to read it, block by block, with v = x_{k+1} − x_k:
#
# - **cost**: the mean of |v|^p over samples and numbers of the state, as in the energy.
#   The total cost is their sum.
# - **mean ‖v‖** is the length of the displacement, **‖v‖/‖x‖** that length beside the
#   state's own, and **cosine** the angle to the displacement before: 1 is straight on.
#
# A stage is a run of blocks that move one state through a space of fixed dimension. For
# each:
#
# - **network cost**: the mean of ‖x_K − x_0‖^p between its first and last states.
#   **optimal cost**: the least that any matching of the same two clouds could cost.
#   Their **ratio** is 1 where the network matches them optimally; it says nothing about
#   whether the cloud should be moved there. **own partner** is the share of points
#   whose optimal partner is their own image.
# - **path ratio**: the length of a point's path through the blocks over the straight
#   distance between its ends. 1 is straight.
# - **Lipschitz**: how much nearby points are drawn apart, and **inverse**, how much
#   they are drawn together.
#
# In both networks of this page the blocks part the circles. Least action does it with a
# small part of the cost. Shorter does not have to mean straighter, or nearer to the
# optimal matching of its own two clouds: the energy of a short training weighs cost
# alone, and these ratios are relative to what little is moved.
#
# Everything is there as numbers too, and `report.to_json()` writes them all.

# %%
for name, report in reports.items():
    (stage,) = report.stages
    print(
        f"{name:13} total cost {report.total_cost:8.3f}, path ratio "
        f"{stage.path_ratio:.3f}, optimality {stage.optimality:.3f}"
    )

# %% [markdown]
# ## Pictures
#
# How far each block moves the points:

# %%
axes = transport.plot_displacements(reports)
axes.figure.savefig("out/transport_displacements.png", dpi=150)

# %% [markdown]
# ![Median and quantiles of the length of each block's displacements, plain training
# beside least action.](out/transport_displacements.png)
#
# Where the points are after each block, in the plain network and then in the other:

# %%
for name, report in reports.items():
    figure = transport.plot_points(report, same_scale=False)
    figure.savefig(f"out/transport_points_{name.replace(' ', '_')}.png", dpi=120)

# %% [markdown]
# ![Seven panels with the points of both circles before the first and after each block
# of the plain network.](out/transport_points_plain.png)
#
# ![The same seven panels for the network trained by least
# action.](out/transport_points_least_action.png)
#
# Paths of single points, from a ring to a filled shape:

# %%
figure = transport.plot_trajectories(reports)
figure.savefig("out/transport_trajectories.png", dpi=120)

# %% [markdown]
# ![Paths of forty points through the blocks, side by side for both
# networks.](out/transport_trajectories.png)
#
# The moves of the network beside those of the optimal matching. Orange points have
# another partner there than their own image:

# %%
figure = transport.plot_matching(reports["least action"])
figure.savefig("out/transport_matching.png", dpi=120)

# %% [markdown]
# ![Left each point with its image under the network trained by least action, right each
# with its partner in the optimal matching.](out/transport_matching.png)
#
# And the training. The monitor's costs of both networks are on the same data:

# %%
figure = transport.plot_training(
    {"plain": plain_history, "least action": least_history}
)
figure.savefig("out/transport_training.png", dpi=120)
axes = transport.plot_block_costs(least_history)
axes.figure.savefig("out/transport_block_costs.png", dpi=120)

# %% [markdown]
# ![λ, task loss and transport cost over the epochs of both
# trainings.](out/transport_training.png)
#
# ![A heat map of the cost of each block over the epochs of the training by least
# action.](out/transport_block_costs.png)
#
# `transport.animate(report, "points.gif")` writes the points in motion, and
# `report.save_html("page.html", reference=other)` numbers and pictures on one page.
# `examples/transport_report.py` does both for any saved networks:
#
# ```console
# python examples/transport_report.py network.keras --dataset digits
# ```
#
# In higher dimensions the pictures show two directions that are chosen for the data,
# and the numbers stay what they are. Above 2000 points the matching is approximate.
