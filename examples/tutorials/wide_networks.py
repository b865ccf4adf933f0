# %% [markdown]
# # Do wide networks keep a symmetry by themselves?
#
# A shallow network with the readout 1/N is the mean of its N units, and training moves
# their *cloud*. If the data obey a group and all units start where the group leaves
# them, the infinitely wide network keeps them there, though nothing forces it. Here is
# how far that holds for finite ones, and how the fixed units are found from data alone.
#
# Source: Maass Martínez and Fontbona, *Symmetries in Overparametrized Neural Networks:
# A Mean-Field View*, NeurIPS 2024, arXiv 2405.19995.

# %%
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

import keras_lap
from keras_lap.symmetry import (
    MeanFieldEnsemble,
    NoisySGD,
    conjugation,
    cyclic,
    discover_invariant_subspace,
    fixed_basis,
    plot_clouds,
    project,
    rmd_to_fixed,
    symmetrize,
)

keras.utils.set_random_seed(0)
Path("out").mkdir(exist_ok=True)

# %% [markdown]
# ## A teacher that does not mind an exchange
#
# The group exchanges the two coordinates. A unit is ``σ(z x)`` with a 2×2 matrix z, and
# the group moves it to ``ρ z ρᵀ``. The teacher's units are symmetric as a whole, though
# none of them is fixed: its law is *weakly invariant*.

# %%
swap = cyclic(2)
action = conjugation(swap)
rng = np.random.default_rng(0)
teacher = symmetrize(rng.normal(0, 0.5, (5, 4)), action)
print(
    f"units of the teacher {len(teacher)}, fixed units are a space of dimension "
    f"{fixed_basis(action).shape[1]} of 4"
)


def outputs(cloud: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The mean of the units of a cloud."""
    inner = np.einsum("bd,nod->bno", x, cloud.reshape(len(cloud), 2, 2))
    return np.mean(1 / (1 + np.exp(-inner)), axis=1).astype("float32")


def samples(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fresh inputs and what the teacher answers."""
    x = np.random.default_rng(seed).normal(0, 4, (count, 2)).astype("float32")
    return x, outputs(teacher, x)


# %% [markdown]
# ## Free training, narrow and wide
#
# All units start fixed. N·T steps on 20 fresh samples each reach the time T = 20 of the
# theory, whatever N is.


# %%
def squares(y_true: Any, y_pred: Any) -> Any:
    """The summed squared error of each sample."""
    return keras.ops.sum(keras.ops.square(y_true - y_pred), axis=-1)


def train(units: int, whole_orbits: bool, seed: int = 0) -> MeanFieldEnsemble:
    """Trains a student from fixed units."""
    layer = MeanFieldEnsemble(units, 2, group=swap, regularization=1e-4)
    model = keras.Sequential([keras.Input((2,)), layer])
    start = np.random.default_rng(seed).normal(0, 0.25, (units, 4))
    layer.particles.assign(project(start, action).reshape(units, 2, 2))
    model.compile(NoisySGD(50.0), loss=squares)
    x, y = samples(20 * 20 * units, seed)
    if whole_orbits:  # ten samples and their exchanged ones in each batch
        x, y = (v.reshape(-1, 20, 2)[:, :10] for v in (x, y))
        x, y = (np.concatenate([v, v[..., ::-1]], 1).reshape(-1, 2) for v in (x, y))
    model.fit(x, y, batch_size=20, shuffle=False, verbose=0)
    return layer


students = {}
for units in (5, 50, 100):
    for whole_orbits in (False, True):
        students[units, whole_orbits] = layer = train(units, whole_orbits)
        data = "whole orbits" if whole_orbits else "samples"
        print(
            f"N = {units:3}, {data:12}: squared relative distance to the fixed units "
            f"{rmd_to_fixed(layer.cloud(), action) ** 2:.1e}"
        )

# %% [markdown]
# The wide student stays near the fixed units by itself, the narrow one does not: what
# drives it away is the noise of its batches, which fades with N. Batches of whole
# orbits have no such noise, and keep any student there up to rounding. One seed shows
# it; [ten seeds measure it](../results/symmetry-mean-field.md).

# %%
clouds = {
    "teacher": teacher,
    "N = 5, samples": students[5, False].cloud(),
    "N = 100, samples": students[100, False].cloud(),
}
plot_clouds(clouds, action).figure.savefig("out/clouds.png")

# %% [markdown]
# ![The units of both students and of the teacher beside the plane of the fixed
# units.](out/clouds.png)
#
# ## Which units are fixed? Found from data
#
# Nothing above needs to know the group: project the units on a space, train, and see
# whether they stay in it. The smallest space that is not left has the fixed units.

# %%
layer = MeanFieldEnsemble(50, 2, seed=0)
layer.build((None, 2))
found = discover_invariant_subspace(layer, *samples(100_000, 1), seed=0)
print(found)
cosines = np.linalg.svd(fixed_basis(action).T @ found.basis, compute_uv=False)
print(
    f"dimension {found.dimension}; the least cosine to the true space "
    f"{cosines.min():.4f}"
)

# %% [markdown]
# ## With least action
#
# A residual block of such units moves its states by the same length along an orbit, so
# that the energy does not disturb the symmetry: ``C/λ + L`` keeps what L keeps.

# %%
blocks = [MeanFieldEnsemble(50, 2, group=swap, name=f"units{k}") for k in range(2)]
h = inputs = keras.Input((2,))
for block in blocks:
    h = keras.layers.Add()([h, block(h)])
model = keras_lap.LeastActionModel(keras.Model(inputs, h), 2.0, initial_multiplier=1.0)
for seed, block in enumerate(blocks):
    start = np.random.default_rng(seed).normal(0, 0.25, (50, 4))
    block.particles.assign(project(start, action).reshape(50, 2, 2))
model.compile(NoisySGD(15.0), loss=squares)
x, y = samples(10_000, 2)
x, y = (np.stack([v, v[:, ::-1]], axis=1).reshape(-1, 2) for v in (x, x + 2 * y))
history = model.fit(x, y, batch_size=20, shuffle=False, verbose=0).history
for number, block in enumerate(blocks, start=1):
    print(
        f"block {number}: to the fixed units "
        f"{rmd_to_fixed(block.cloud(), action) ** 2:.1e}"
    )
print(f"transport cost {history['transport_cost'][0]:.3f}")

# %% [markdown]
# ## What this does not show
#
# - That equivariant networks are better. A function that obeys the group may need units
#   that do not: the [study](../results/symmetry-mean-field.md) has one that no fixed
#   unit can see.
# - Anything of deep networks with one scale for all layers: the readout 1/N is that of
#   the theory.
# - That your data obey a group. [Test that first](symmetry.md).
