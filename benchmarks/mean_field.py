"""A mean-field training beside the same training written in raw JAX.

The students of `studies.symmetry`: N units in the plane, N·T steps on 20 fresh samples
each, in one compiled loop, by all four schemes. By hand are the few lines that a
researcher would write for each; without noise both end at the same units. The row of
1 000 units is a whole training until the time T = 20.

    python benchmarks/mean_field.py [--quick]
"""

from __future__ import annotations

from functools import partial
from typing import Any

import harness
import numpy as np
import timing

GOAL, MINUTES = 1.3, 3.0


def cases(quick: bool) -> list[harness.Case]:
    """All schemes with 100 units, and plain training with 1 000 to its end."""
    if quick:
        return [_case("averaged", 5, 20, 2, 0.0)]
    some = [_case(s, 100, 2000, 6, 20.0) for s in SCHEMES]
    return [*some, _case("free", 1000, 20_000, 2, 0.0)]


def _case(scheme: str, units: int, steps: int, rounds: int, budget: float) -> Any:
    names = "backend", "scheme", "units", "steps", "rounds", "budget"
    values = "jax", scheme, units, steps, rounds, budget
    return dict(zip(names, values, strict=True))


SCHEMES = ("free", "augmented", "averaged", "equivariant")


def by_hand(scheme: str, cloud: np.ndarray, data: Any, noise: float) -> Any:
    """The training in raw JAX, as a function without arguments.

    Args:
        scheme: One of `SCHEMES`.
        cloud: The units at first, `(n, 2, 2)`.
        data: Samples and targets, `(steps, batch, 2)` each.
        noise: The temperature.
    """
    import jax
    import jax.numpy as jnp

    from studies.symmetry.students import DECAY, RATE

    units = len(cloud)

    def swap(x: Any) -> Any:
        return x[..., ::-1]

    def both(z: Any) -> Any:  # the conjugation by the exchange of the coordinates
        return (z + z[:, ::-1, ::-1]) / 2 if scheme == "equivariant" else z

    def network(z: Any, x: Any) -> Any:
        return jax.nn.sigmoid(jnp.einsum("bd,nod->bno", x, z)).mean(1)

    def loss(z: Any, x: Any, y: Any) -> Any:
        z = both(z)
        if scheme == "augmented":
            x, y = jnp.concatenate([x, swap(x)]), jnp.concatenate([y, swap(y)])
        out = network(z, x)
        if scheme == "averaged":
            out = (out + swap(network(z, swap(x)))) / 2
        risk = jnp.square(out - y).sum(-1).mean()
        return risk + DECAY / units * jnp.square(z).sum()

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        z, key = state
        risk, slope = jax.value_and_grad(loss)(z, *batch)
        key, new = jax.random.split(key)
        moved = z - RATE * slope
        if noise:
            size = jnp.sqrt(2 * noise * RATE / units)
            moved += size * jax.random.normal(new, z.shape)
        return (moved, key), risk

    loop = jax.jit(lambda state, data: jax.lax.scan(step, state, data))
    start = jnp.asarray(cloud), jax.random.key(0)
    return lambda: jax.block_until_ready(loop(start, data))[0][0]


def by_keras(scheme: str, cloud: np.ndarray, data: Any, noise: float) -> Any:
    """The same by this package and Keras; arguments as of `by_hand`."""
    import jax

    from studies.symmetry import students

    plan = students.Plan("", False, len(cloud))
    model, layer = students.build(plan, scheme, 0)
    model.optimizer.temperature = noise
    layer.particles.assign(cloud)
    loop, state = students.loop(model), students.state_of(model)
    return lambda: jax.block_until_ready(loop(state, data))[0][0][0]


def measure(
    scheme: str, units: int, steps: int, rounds: int, budget: float
) -> list[harness.Row]:
    """Trains in both ways in turn, and compares where they end without noise."""
    from studies.symmetry.students import TEMPERATURE

    rng = np.random.default_rng(0)
    cloud = rng.normal(0, 0.25, (units, 2, 2)).astype("float32")
    data = tuple(rng.normal(0, 4, (2, steps, 20, 2)).astype("float32"))
    ways = {"keras": by_keras, "by hand": by_hand}
    few = tuple(each[:3] for each in data)  # more grow apart, as rounding does
    one, other = (np.asarray(w(scheme, cloud, few, 0.0)()) for w in ways.values())
    # Sums of a few numbers of order one, by other orders of adding.
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    runs = {
        name: way(scheme, cloud, data, TEMPERATURE) for name, way in ways.items()
    } | {"by hand again": by_hand(scheme, cloud, data, TEMPERATURE)}
    seconds = timing.alternate(runs, rounds, budget)
    over = partial(timing.ratio, reference=seconds["by hand"])
    minutes = float(np.median(seconds["keras"])) / 60
    found = over(seconds["keras"])
    return [
        {
            "scheme": scheme,
            "units": units,
            "steps": steps,
            "µs a step, by hand": round(1e6 * np.median(seconds["by hand"]) / steps, 1),
            "minutes": round(minutes, 2),
            "over by hand": found,
            "by hand over itself": over(seconds["by hand again"]),
            "met": found["median"] <= GOAL and minutes <= MINUTES,
        }
    ]


BENCHMARK = harness.Benchmark("mean_field", cases, measure, ("scheme", "units"))

if __name__ == "__main__":
    harness.main(BENCHMARK)
