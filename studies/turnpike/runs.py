"""Trainings on two circles, each kept in a file of its own, so that a study goes on.

256 points of `keras_lap.datasets`' circles, targets ±1, mean squared error; a network
of `neural_ode` with one augmented dimension and a trained affine readout; full batches,
Adam at a constant rate. JAX only: all steps of a training are one program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np

import keras_lap
from keras_lap import depth, networks, running_costs
from keras_lap.trajectory import Recorder

POINTS, STEPS, ALPHA = 256, 3000, 0.01
ARRIVED = 0.05  # of the way that is left, where a network has arrived
SIDE = 41  # points along each side of a decision map
REACH = 2.5  # which reaches to here on both sides
_BRANCHES: dict[str, dict[str, Any]] = {
    "inside": {"activation": "tanh"},
    "bottleneck": {"activation": "relu", "hidden_units": 16},
    "outside": {"activation": keras.layers.LeakyReLU(negative_slope=0.1)},
}
DYNAMICS = tuple(_BRANCHES)


@dataclass(frozen=True)
class Setting:
    """What one network is trained on, but for the seed.

    Attributes:
        dynamics: Of `neural_ode`.
        path_loss: β, the weight of the path loss; 0 for none.
        horizon: T.
        blocks: L, their number.
    """

    dynamics: str
    path_loss: float
    horizon: float = 10.0
    blocks: int = 40

    @property
    def name(self) -> str:
        """What its files are called."""
        return "-".join(f"{value}" for value in asdict(self).values())

    def network(self, seed: int) -> keras.Model:
        """A new network, from its seed."""
        keras.utils.set_random_seed(seed)
        return networks.neural_ode(
            (2,),
            1,
            horizon=self.horizon,
            steps=self.blocks,
            dynamics=self.dynamics,
            augment=1,
            **_BRANCHES[self.dynamics],
        )


class Run(dict[str, Any]):
    """What was measured of one training, as arrays by their names.

    `errors` and `accuracies` of the K + 1 exits, `states` `(K + 1, points, 3)`,
    `controls` `(K, weights)`, `labels` of the points, decision `maps`
    `(K + 1, SIDE, SIDE)`, `test_accuracy`, `time_step`, `path_loss`.
    """

    @property
    def norms(self) -> np.ndarray:
        """The mean norm of the states x_0, …, x_K."""
        return np.linalg.norm(self["states"], axis=2).mean(axis=1)

    @property
    def sizes(self) -> np.ndarray:
        """The norms of the controls u_0, …, u_{K−1}."""
        return np.linalg.norm(self["controls"], axis=1)

    @property
    def accurate(self) -> int | None:
        """The first layer with an accuracy of .995, on the training points."""
        layers = np.flatnonzero(self["accuracies"] >= 0.995)
        return int(layers[0]) if layers.size else None

    @property
    def objective(self) -> float:
        """J, worked out anew from what was measured."""
        errors, dt = self["errors"], float(self["time_step"])
        path = self["path_loss"] * np.trapezoid(errors, dx=dt)
        return float(errors[-1] + path + ALPHA * 0.5 * dt * np.sum(self.sizes**2))

    @property
    def arrival(self) -> int:
        """The first layer that leaves at most 5 % of the error's way to the last."""
        errors = self["errors"]
        bound = errors[-1] + ARRIVED * (errors[0] - errors[-1])
        return int(np.argmax(errors <= bound))

    @property
    def early_energy(self) -> float:
        """The share of ``Σ |u_k|²`` in the first quarter of the layers."""
        energy = self.sizes**2
        return float(energy[: len(energy) // 4].sum() / energy.sum())


class Trainer:
    """Trains one setting from many seeds with one compiled program.

    Args:
        setting: The setting.
        network: A network to start from in place of a new one; `fit` leaves it trained.
    """

    def __init__(self, setting: Setting, network: keras.Model | None = None):
        if keras.backend.backend() != "jax":
            raise RuntimeError(
                "Trainings of this study run on JAX, as one program each. Received: "
                f"the backend {keras.backend.backend()!r}. Set KERAS_BACKEND=jax."
            )
        self._setting = setting
        self._network = network or setting.network(0)
        costs: list[running_costs.RunningCost] = [running_costs.ControlCost(ALPHA)]
        if setting.path_loss:
            costs.append(running_costs.PathLoss(setting.path_loss))
        self._model = keras_lap.LeastActionModel(
            self._network, None, running_costs=costs, horizon=setting.horizon
        )
        self._model.compile(keras.optimizers.Adam(), "mse")
        optimizer = self._model.optimizer
        optimizer.build(self._model.trainable_variables)
        self._start = [keras.ops.convert_to_numpy(v) for v in optimizer.variables]

    @cached_property
    def _exits(self) -> keras.Model:
        return depth.exits(self._network)

    def fit(
        self,
        seed: int,
        rate: float,
        start: keras.Model | None = None,
        steps: int = STEPS,
    ) -> Run:
        """Trains once.

        Args:
            seed: Of the data and the initial weights.
            rate: The learning rate.
            start: Whose weights to start from; None for those of the seed.
            steps: How many.
        """
        data = keras_lap.datasets.load("circles", POINTS, seed=seed)
        source = start or self._setting.network(seed)
        self._network.set_weights(source.get_weights())
        optimizer = self._model.optimizer
        for variable, value in zip(optimizer.variables, self._start, strict=True):
            variable.assign(value)
        optimizer.learning_rate = rate
        model = self._model
        variables = (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
            model.metrics_variables,
        )
        state = tuple([v.value for v in each] for each in variables)
        state = self._program(
            state, (data.train.x, _targets(data.train.y), None), steps
        )
        for each, values in zip(variables, state, strict=True):
            for variable, value in zip(each, values, strict=True):
                variable.assign(value)
        return self._measured(data)

    @cached_property
    def _program(self) -> Callable[[Any, Any, int], Any]:
        """Many steps of Keras's own, in one program: a third of the time of `fit`."""

        @partial(jax.jit, static_argnums=2)
        def program(state: Any, batch: Any, steps: int) -> Any:
            def step(state: Any, _: None) -> tuple[Any, None]:
                return self._model.train_step(state, batch)[1], None

            return jax.lax.scan(step, state, length=steps)[0]

        return program

    def _measured(self, data: keras_lap.datasets.Dataset) -> Run:
        # In one batch, so that the exits are compiled once.
        sizes = np.cumsum([len(data.train.x), len(data.test.x)])
        points = np.concatenate([data.train.x, data.test.x, _grid()])
        outputs, tests, maps = np.split(self._outputs(points), sizes, axis=1)
        signs = _targets(data.train.y)
        report = self._model.block_report
        trajectory = Recorder(self._network, report, ("states",))(data.train.x)
        pairs = [pair for block in trajectory.states or () for pair in block]
        passed = [before for before, _ in pairs] + [pairs[-1][1]]
        controls = running_costs.controls(self._network)
        return Run(
            errors=np.mean((outputs - signs) ** 2, axis=(1, 2), dtype=np.float64),
            accuracies=np.mean(outputs * signs > 0, axis=(1, 2)),
            states=np.stack([keras.ops.convert_to_numpy(x) for x in passed]),
            controls=np.stack(
                [
                    np.concatenate(
                        [np.ravel(keras.ops.convert_to_numpy(u)) for u in block]
                    )
                    for block in controls
                ]
            ),
            labels=data.train.y,
            maps=maps.reshape(-1, SIDE, SIDE).astype("float16"),
            test_accuracy=np.mean(tests[-1] * _targets(data.test.y) > 0),
            time_step=np.float64(self._setting.horizon / self._setting.blocks),
            path_loss=np.float64(self._setting.path_loss),
        )

    def _outputs(self, x: np.ndarray) -> np.ndarray:
        """Of all exits, `(K + 1, points, 1)`."""
        return np.stack(self._exits.predict(x, batch_size=len(x), verbose=0))

    @property
    def network(self) -> keras.Model:
        """The network as it was trained last."""
        return self._network


class Lazy:
    """The kept runs of a setting, which is compiled if one of them is missing.

    Args:
        setting: The setting.
        folder: Of the files.
    """

    def __init__(self, setting: Setting, folder: Path):
        self._setting = setting
        self._folder = folder

    @cached_property
    def _trainer(self) -> Trainer:
        return Trainer(self._setting)

    def run(self, seed: int, rate: float) -> Run:
        """As `Trainer.fit`."""
        path = self._folder / f"{self._setting.name}-{rate}-{seed}.npz"
        return kept(path, lambda: self._trainer.fit(seed, rate))


def kept(path: Path, train: Callable[[], Run]) -> Run:
    """What a file holds, or else what a training gives, which it holds then.

    Args:
        path: The file, `.npz`.
        train: The training.
    """
    if not path.exists():
        run = train()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part.npz")
        np.savez_compressed(unfinished, **run)
        unfinished.replace(path)  # a run that is cut off leaves no file
        print(f"{path.stem}: J {run.objective:.4f}, arrival {run.arrival}", flush=True)
    with np.load(path) as arrays:
        return Run(arrays)


def _targets(labels: np.ndarray) -> np.ndarray:
    return (2.0 * labels[:, None] - 1.0).astype("float32")


def _grid() -> np.ndarray:
    axis = np.linspace(-REACH, REACH, SIDE)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype("float32")
