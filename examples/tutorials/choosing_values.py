# %% [markdown]
# # Choosing λ_0, τ, s and p
#
# **Which λ_0 for my network?** `initial_multiplier=keras_lap.Share(0.3)`: the energy is
# 30 % of the first objective. A share carries over to other widths, depths and p.
#
# Least action has four numbers. This tutorial says what each does, shows what the
# sensitivity study of this project measured, and then what λ_0 does on a small task.
#
# | number | where | default | what it does |
# | --- | --- | --- | --- |
# | λ_0 | `initial_multiplier=` of the model | 1 | weight of the energy: C/λ |
# | τ | `tau=` of `MultiplierUpdate` | 1 | λ rises by τ times the task loss |
# | s | `every=` of `MultiplierUpdate` | 1 | steps between two rises |
# | p | `energy=` of the model | 2 | exponent of the displacements |
#
# The smaller λ_0, the more the energy weighs. The larger p, the dearer a large
# displacement is beside a small one.

# %%
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import csv

import keras
from matplotlib.figure import Figure

import keras_lap

Path("out").mkdir(exist_ok=True)

# %% [markdown]
# ## What was measured
#
# The study trained ResNet9 on 100 images of MNIST. It searched λ_0, τ, s and p by
# validation accuracy from several initialisations, with two seeds of each. Two seeds
# say little; they choose what is looked at more closely. The table is read from the
# study's file in `studies/results/`.


# %%
def results(name: str) -> list[dict[str, str]]:
    """The rows of a table of the results, in the clone that this is run in or from."""
    around = [*Path(keras_lap.__file__).parents, Path.cwd(), *Path.cwd().parents]
    folders = (path / "studies" / "results" for path in around)
    folder = next(path for path in folders if path.is_dir())
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def show(rows: list[dict[str, str]], setting: str, *columns: str) -> None:
    """Prints some columns of the rows of one setting."""
    print(setting)
    for row in rows:
        if row["setting"] == setting:
            values = [row[column].partition(" [")[0] for column in columns]
            cells = "".join(f"{value:>9}" for value in values)
            print(f"  {row['method']:32}{cells}")


search = results("sensitivity_search-small")
show(search, "normal 1, learning rate 0.1", "best validation accuracy", "change")

# %% [markdown]
# From this bad start (every kernel normal with standard deviation 1):
#
# - **λ_0 decides.** It has an optimum: ten times less and training diverges (10 % is
#   guessing), ten times more and the gain is smaller, a hundred times more and it is
#   gone.
# - τ from 0 to 10 and s from 1 to 20 hardly matter at the best λ_0.
# - p = 1.5 does as well as p = 2, and p = 3 diverges.

# %%
show(search, "normal 0.05, learning rate 0.1", "best validation accuracy", "change")

# %% [markdown]
# From a good start (standard deviation 0.05) too small a λ_0 is ruinous, and no other
# does anything sure. The best and the worst were trained again with ten fresh seeds.
# That is what counts:

# %%
confirmed = results("sensitivity_confirm-small")
for row in confirmed:
    print(f"{row['setting']}, {row['method']}")
    print(f"    accuracy {row['highest']}, change {row['change of highest']}")

# %% [markdown]
# The gain from the bad start is there. The gain that two seeds promised from orthogonal
# kernels is not. And too small a λ_0 makes training diverge from the good start.
#
# ## A rule for λ_0
#
# `initial_multiplier="auto"` lets the first batch choose: if the blocks would move the
# data far more than a good start does, λ_0 is small; otherwise the energy is switched
# off. [The results](../results/README.md#a-default-to-leave-alone) have what that was
# worth, with ten other seeds:

# %%
for row in results("automatic-small"):
    if "auto" in row["method"]:
        print(f"{row['setting']:24} change {row['change of highest']}")

# %% [markdown]
# So: `"auto"` if accuracy is all you want. Where it switches the energy off, the
# transport cost stays that of plain training. For short transport give λ_0 a number, by
# the curve of the following kind.
#
# ## A look for yourself
#
# The same network as in [the quickstart](first_steps.md), on a validation split, for
# some values of λ_0. One seed and 30 steps show what happens to the transport cost.
# They are too few to choose by accuracy.

# %%
data = keras_lap.datasets.load("digits", train_size=100, validation_size=300)
assert data.validation is not None  # as one was asked for
validation_x, validation_y = data.validation


def train(initial_multiplier: float | str, scale: float) -> dict[str, float]:
    """Trains from one start with one λ_0; returns the last logs."""
    keras.utils.set_random_seed(0)
    network = keras_lap.networks.resnet9(
        data.input_shape,
        data.num_classes,
        filters=4,
        kernel_initializer=keras.initializers.RandomNormal(stddev=scale),
    )
    model = keras_lap.LeastActionModel(network, initial_multiplier=initial_multiplier)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    update = keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)
    history = model.fit(
        *data.train, batch_size=100, epochs=30, verbose=0, callbacks=[update]
    ).history
    measured = model.evaluate(validation_x, validation_y, verbose=0, return_dict=True)
    last = {name: history[name][-1] for name in ("transport_cost", "multiplier")}
    return {**last, "accuracy": measured["accuracy"]}


VALUES: tuple[float | str, ...] = (0.5, 5.0, 50.0, 500.0, "auto")
STARTS = {"normal 1": 1.0, "normal 0.05": 0.05}
print(f"{'start':12} {'λ_0':>6} {'cost':>9} {'last λ':>9} {'accuracy':>9}")
found = {}
for start, scale in STARTS.items():
    for value in VALUES:
        last = found[start, value] = train(value, scale)
        print(
            f"{start:12} {value:>6} {last['transport_cost']:9.3g} "
            f"{last['multiplier']:9.3g} {last['accuracy']:9.3f}"
        )

# %%
figure = Figure(figsize=(6.4, 3.6), layout="constrained")
ax = figure.subplots()
numbers = [value for value in VALUES if value != "auto"]
for start, marker in zip(STARTS, "os", strict=True):
    costs = [found[start, value]["transport_cost"] for value in numbers]
    ax.loglog(numbers, costs, marker=marker, label=start)
ax.set_xlabel("λ_0")
ax.set_ylabel("transport cost, last epoch")
ax.legend(title="initialisation")
figure.savefig("out/choosing_values.png", dpi=150)

# %% [markdown]
# ![The transport cost of the last epoch against λ_0, on logarithmic axes, from two
# initialisations: it is much higher at the largest λ_0 than at the
# smallest.](out/choosing_values.png)
#
# The transport cost follows λ_0. The accuracies are those of one seed, and scatter.
#
# ## In practice
#
# 1. Train plainly, and look at `transport.analyze` of the untrained network. Is its
#    cost far above one per block? Then least action may gain; otherwise expect shorter
#    transport at best.
# 2. Leave p at 2, s and τ at 1. Take λ_0 = `"auto"`, or some values between 0.5 and 50
#    on a validation split.
# 3. If `loss` is NaN, λ_0 is too small: raise it, or clip the gradient
#    ([troubleshooting](../how-to.md#nan)).
# 4. Compare with plain training over ten paired seeds before you believe a difference.
#    [A search](searching.md) does not replace that.
