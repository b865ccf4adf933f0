r"""Searches τ, p and λ_0, and compares the winner with the defaults and plain training.

Trials are chosen by validation accuracy, in two worker processes and a chief on this
machine. The winner is then trained again on fresh seeds, beside the plain network and
least action with its defaults, and all are compared on the test data.

    python examples/tune.py                              # digits, 100 training images
    python examples/tune.py --dataset mnist --train-size 100
    python examples/tune.py --workers 0 --tuner bayesian # in this process
    python examples/tune.py --help

Killed, it goes on with the trials and runs that are left when started again. On several
machines that share the folder of `--directory`, start one chief and any number of
workers, each under a name of its own, and start a worker that dies again; when they
have ended, the report is made without these variables:

    export KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000
    KERASTUNER_TUNER_ID=chief python examples/tune.py --directory /shared/tune
    until KERASTUNER_TUNER_ID=worker0 python examples/tune.py --directory /shared/tune
    do sleep 1; done
    env -u KERASTUNER_ORACLE_IP python examples/tune.py --directory /shared/tune \
        --workers 0
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_lap import tuning

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the clone has the studies

from studies.engine import (
    Data,
    Initializer,
    Network,
    Setting,
    Study,
    Training,
    building,
    environment,
    least_action,
    measures,
    plain,
    run_study,
    running,
    tables,
)
from studies.engine.statistics import mean_interval

SEARCH_SEED = 1  # KerasTuner takes 0 for no seed
TUNERS = {
    "random": keras_tuner.RandomSearch,
    "bayesian": keras_tuner.BayesianOptimization,
}
INITIALIZERS = {
    "normal-1": Initializer("normal", 1.0),
    "kaiming": Initializer("kaiming"),
}
DEFAULTS = least_action(initial_multiplier=1.0, tau=1.0, every=1, p=2.0)


def parse_arguments() -> argparse.Namespace:
    """Reads the options from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--dataset",
        default="digits",
        choices=["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"],
        help="what is trained on",
    )
    parser.add_argument("--train-size", type=int, default=100, help="training images")
    parser.add_argument(
        "--initializer",
        default="normal-1",
        choices=sorted(INITIALIZERS),
        help="least action helps from the bad one, normal-1",
    )
    parser.add_argument(
        "--tuner", default="random", choices=sorted(TUNERS), help="how trials are drawn"
    )
    parser.add_argument("--trials", type=int, default=12, help="how many, in all")
    parser.add_argument("--epochs", type=int, default=30, help="of every training")
    parser.add_argument("--filters", type=int, default=8, help="width of the network")
    parser.add_argument("--seeds", type=int, default=10, help="fresh seeds")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes; 0 to search in this one"
    )
    parser.add_argument(
        "--directory", type=Path, default=Path("out/tune"), help="where all is written"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="begin anew instead of going on"
    )
    return parser.parse_args()


def make_setting(options: argparse.Namespace) -> Setting:
    """What is trained on what, in the search and after it."""
    return Setting(
        label=f"{options.train_size} {options.dataset}, {options.initializer}",
        network=Network(
            filters=options.filters, initializer=INITIALIZERS[options.initializer]
        ),
        data=Data(
            options.dataset,
            options.train_size,
            validation_size=300,
            # All of a large test split would take most of the time.
            test_size=None if options.dataset == "digits" else 2000,
        ),
        training=Training(options.epochs, batch_size=min(100, options.train_size)),
        methods=(plain(), DEFAULTS),
    )


def make_tuner(setting: Setting, options: argparse.Namespace) -> keras_tuner.Tuner:
    """The tuner, around a `build` that knows nothing of least action."""
    data = building.load_data(setting.data, SEARCH_SEED)

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        # Every trial starts from the same weights, whichever process trains it.
        keras.utils.set_random_seed(SEARCH_SEED)
        network = building.build_network(
            setting.network, data.input_shape, data.num_classes, SEARCH_SEED
        )
        network.compile(
            keras.optimizers.SGD(setting.training.learning_rate, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return network

    return TUNERS[options.tuner](
        tuning.LeastActionHyperModel(
            build,
            tau=(0, 0.01, 10.0),
            p=(1.2, 2.5),
            initial_multiplier=(0.5, 50.0),
        ),
        objective="val_accuracy",
        max_trials=options.trials,
        max_consecutive_failed_trials=options.trials,
        seed=SEARCH_SEED,
        directory=options.directory,
        project_name=project_name(options),
    )


def project_name(options: argparse.Namespace) -> str:
    """One search for each kind of question."""
    names = (options.dataset, options.train_size, options.initializer, options.tuner)
    return "-".join(map(str, names))


def search(setting: Setting, options: argparse.Namespace) -> None:
    """Runs the trials that are left, as chief, as worker or alone."""
    in_parallel = "KERASTUNER_TUNER_ID" in os.environ
    if in_parallel and options.workers:
        environment.pin_threads(max(1, (os.cpu_count() or 1) // options.workers))
    data = building.load_data(setting.data, SEARCH_SEED)
    make_tuner(setting, options).search(
        *data.train,
        batch_size=setting.training.batch_size,
        epochs=setting.training.epochs,
        validation_data=data.validation,
        # The chief shows the progress of all; epochs of two workers would mix.
        verbose=1 if not in_parallel else "chief" in os.environ["KERASTUNER_TUNER_ID"],
    )


def report(setting: Setting, options: argparse.Namespace) -> dict[str, Any]:
    """Prints and writes the trials; returns the best hyperparameters."""
    tuner = make_tuner(setting, options)
    rows = tuning.trial_table(tuner)
    print_table([tuple(rows[0]), *(tuple(map(_text, row.values())) for row in rows)])
    print("\nTrials:", *tuning.write_report(tuner))
    return tuner.get_best_hyperparameters()[0].values


def compare(
    setting: Setting, best: dict[str, Any], options: argparse.Namespace
) -> None:
    """Trains the winner, the defaults and the plain network on fresh seeds."""
    winner = least_action(best["initial_multiplier"], best["tau"], 1, best["p"])
    study = Study(
        name=project_name(options),
        title="The winner on fresh seeds",
        settings=(dataclasses.replace(setting, methods=(plain(), DEFAULTS, winner)),),
        seeds=tuple(range(SEARCH_SEED + 1, SEARCH_SEED + 1 + options.seeds)),
    )
    print(f"\n{study.title}, {options.seeds} of each:")
    path = options.directory / f"{study.name}-comparison.jsonl"
    results = running.find(study, run_study(study, path, max(1, options.workers)))
    (setting,) = study.settings
    cells = [measures.cell(study, setting, each, results) for each in setting.methods]
    labels = ("plain", "defaults", "winner")
    rows = [("training", "test accuracy [95 % CI]", "change from plain", "λ_0, τ, p")]
    for label, method, cell in zip(labels, setting.methods, cells, strict=True):
        accuracy = mean_interval([measures.chosen_accuracy(r) for r in cell.values()])
        values = (method.initial_multiplier, method.tau, method.p)
        change = "-" if cell is cells[0] else difference(cells[0], cell)
        text = "-" if method.p is None else ", ".join(map(_text, values))
        rows.append((label, tables.interval_text(accuracy), change, text))
    print_table(rows)
    print(f"The winner against the defaults: {difference(cells[1], cells[2])} points.")
    print("Test accuracy in percent at the epoch of best validation accuracy.")


def difference(before: dict[int, Any], after: dict[int, Any]) -> str:
    """The paired change of test accuracy, with its interval and p-value."""
    return tables.change_text(before, after, measures.chosen_accuracy)


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Prints rows of text in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Runs everything."""
    options = parse_arguments()
    setting = make_setting(options)
    if "KERASTUNER_TUNER_ID" in os.environ:
        search(setting, options)
        return
    # Told to end, the launcher must end its processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Terminated."))
    project_dir = options.directory / project_name(options)
    if options.overwrite:
        shutil.rmtree(project_dir, ignore_errors=True)
        Path(f"{project_dir}-comparison.jsonl").unlink(missing_ok=True)
    # The comparison trains three programs with ten seeds each: compile them once.
    cache = str(options.directory / "jax-cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    start = time.perf_counter()
    if options.workers:
        command = [sys.executable, __file__, *sys.argv[1:]]
        tuning.launch(command, project_dir, options.workers)
    else:
        tuning.settle(project_dir)
        search(setting, options)
    print(f"\nSearched for {time.perf_counter() - start:.0f} seconds.\n")
    compare(setting, report(setting, options), options)


if __name__ == "__main__":
    main()
