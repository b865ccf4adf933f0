# %% [markdown]
# # Searching with KerasTuner
#
# `LeastActionHyperModel` goes around a function that builds a network, and into any
# tuner of KerasTuner. It adds τ and p, and λ_0 and s if asked, to whatever the function
# itself searches. This tutorial searches in one process, then in several, and says what
# a search is worth.

# %%
import inspect
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import keras_tuner

import keras_lap
from keras_lap import tuning

# %% [markdown]
# ## What is searched
#
# The function knows nothing of least action. It returns a compiled network, and may ask
# `hp` for hyperparameters of its own. The seed makes every trial start from the same
# weights, in whatever order and process it runs.
#
# The tuner chooses by validation accuracy; `val_loss` would do. `loss` would not: it
# has the energy in it, which changes with λ and p for one and the same network.


# %%
def make_tuner(project: str) -> keras_tuner.Tuner:
    """The search for τ and λ_0 of a small ResNet9 on 100 digits."""

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        keras.utils.set_random_seed(1)
        network = keras_lap.networks.resnet9(
            (8, 8, 1),
            10,
            filters=4,
            kernel_initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        network.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return network

    return keras_tuner.RandomSearch(
        tuning.LeastActionHyperModel(
            build, tau=(0, 0.01, 10.0), p=2.0, initial_multiplier=(0.5, 500.0)
        ),
        objective="val_accuracy",
        max_trials=4,
        seed=1,
        directory="out",
        project_name=project,
    )


def search(tuner: keras_tuner.Tuner) -> None:
    """Runs the trials that are left."""
    data = keras_lap.datasets.load("digits", train_size=100, validation_size=300)
    tuner.search(
        *data.train,
        validation_data=data.validation,
        batch_size=100,
        epochs=10,
        verbose=0,
    )


# %% [markdown]
# A number fixes a value, a pair is a range, a list has all the values to try. For τ,
# `(0, low, high)` adds 0 to the range: λ constant.
#
# ## In one process

# %%
tuner = make_tuner("one")
search(tuner)


def show(tuner: keras_tuner.Tuner) -> None:
    """Prints the trials, the best first."""
    print("trial    τ       λ_0   val_accuracy")
    for row in tuning.trial_table(tuner):
        print(
            f"{row['trial']:>5} {row['tau']:6.3g} {row['initial_multiplier']:8.3g} "
            f"{row['val_accuracy']:12.3f}"
        )


show(tuner)

# %% [markdown]
# `write_report` writes all trials as a table and as a picture, in which every line is a
# trial and the best is thick.

# %%
for path in tuning.write_report(tuner, "out/searching"):
    print(path)

# %% [markdown]
# ![Parallel axes for τ, λ_0 and validation accuracy, with a line for each of four
# trials.](out/searching.png)
#
# A trial whose loss is not finite is failed with its reason, and the search goes on.
# `tuner.get_best_hyperparameters()[0].values` are the best values;
# `tuner.get_best_models()[0]` is the model, with its λ.

# %%
print(tuner.get_best_hyperparameters()[0].values)

# %% [markdown]
# ## In several processes of one machine
#
# KerasTuner shares the trials of a search among processes: a chief that hands them out,
# and workers that train. All of them run one script. Here it is written from the
# functions above; usually it is a file that you have.

# %%
script = Path("out/search.py")
script.write_text(
    f"""import keras
import keras_tuner

import keras_lap
from keras_lap import tuning


{inspect.getsource(make_tuner)}

{inspect.getsource(search)}

search(make_tuner("many"))
""",
    encoding="utf-8",
)
tuning.launch([sys.executable, str(script)], project_dir="out/many", workers=2)
show(make_tuner("many"))

# %% [markdown]
# `launch` finds a free port, starts the processes, starts a worker again if it is
# killed, and returns when no trial is left. Called again, it goes on with those that
# are left. A tuner made with the same `directory` and `project_name` reads what was
# found.
#
# ## On several machines
#
# The same script runs on each; three environment variables say which part it plays, and
# `directory` has to lie on a disk that all of them share.
#
# ```console
# export KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000
# KERASTUNER_TUNER_ID=chief python search.py            # on 10.0.0.1
# until KERASTUNER_TUNER_ID=worker0 python search.py    # on any machine
# do sleep 1; done
# ```
#
# Every worker needs a name of its own, and is started again under it if it dies: the
# chief would wait for its trial for ever. `examples/tune.py` is such a script with a
# report at its end. Several machines have not been tried; see [Limits](../limits.md).
#
# ## What a search is worth
#
# The winner of four trials, each with one seed, won by luck too. Train it again with
# fresh seeds beside the defaults and beside plain training, and compare them on the
# test data, as `examples/tune.py` does with ten. How much a search promises that fresh
# seeds do not keep is told in [Choosing λ_0, τ, s and p](choosing_values.md).
