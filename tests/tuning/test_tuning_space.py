"""What is searched, and what is refused before the first trial. Trains nothing."""

from __future__ import annotations

import copy
import subprocess
import sys

import keras
import numpy as np
import pytest
from support.basics import build_dense_network, crossentropy

import keras_lap

keras_tuner = pytest.importorskip("keras_tuner")
LeastActionHyperModel = keras_lap.tuning.LeastActionHyperModel


def build(hp):
    return build_dense_network(blocks=1)


def space_of(**arguments):
    """The search space that a tuner would see."""
    hp = keras_tuner.HyperParameters()
    LeastActionHyperModel(build, **arguments).build(hp)
    return {known.name: known for known in hp.space}, hp


def tuner(tmp_path, hypermodel, **options):
    return keras_tuner.RandomSearch(
        hypermodel, "val_loss", max_trials=1, directory=tmp_path, **options
    )


def test_ranges():
    space, _ = space_of(
        tau=(0.01, 10.0), p=(1.5, 3), initial_multiplier=(0.1, 50), every=(1, 20)
    )
    found = {
        name: (type(hp).__name__, hp.min_value, hp.max_value, hp.sampling, hp.step)
        for name, hp in space.items()
    }
    assert found == {
        "tau": ("Float", 0.01, 10.0, "log", None),
        "p": ("Float", 1.5, 3.0, "linear", None),
        "initial_multiplier": ("Float", 0.1, 50.0, "log", None),
        "every": ("Int", 1, 20, "log", None),
    }


def test_fixed_values_are_fixed():
    space, hp = space_of(tau=0, p=2, initial_multiplier=5, every=3)
    assert {type(known).__name__ for known in space.values()} == {"Fixed"}
    assert hp.values == {"tau": 0.0, "p": 2.0, "initial_multiplier": 5.0, "every": 3}


def test_an_automatic_multiplier_is_that_of_every_trial():
    space, hp = space_of(tau=1.0, initial_multiplier="auto")
    assert type(space["initial_multiplier"]).__name__ == "Fixed"
    model = LeastActionHyperModel(build, 1.0, 2.0, "auto").build(hp)
    assert model.get_config()["initial_multiplier"] == "auto"


def test_a_share_chooses_the_multiplier_of_each_trial():
    space, _ = space_of(tau=1.0, p=2.0, share=(0.01, 0.5))
    assert list(space) == ["tau", "p", "share"]
    known = space["share"]
    found = known.min_value, known.max_value, known.sampling
    assert found == (0.01, 0.5, "log")
    hypermodel = LeastActionHyperModel(build, 1.0, 2.0, share=[0.1, 0.3])
    hp = keras_tuner.HyperParameters()
    hp.values.update(share=0.3)
    assert hypermodel.build(hp).ascent.share == keras_lap.Share(0.3)


def test_what_is_not_given_is_not_searched():
    space, _ = space_of(tau=1.0, p=2.0)
    assert list(space) == ["tau", "p"]


def test_choices():
    space, _ = space_of(tau=[1, 0, 0.1], p=[2, 1.5])
    assert list(space["tau"].values) == [0.0, 0.1, 1.0]
    assert list(space["p"].values) == [1.5, 2.0]


def test_zero_is_a_choice_beside_a_logarithmic_scale():
    space, _ = space_of(tau=(0, 0.01, 10.0), p=2)
    zero, *positive = space["tau"].values
    assert zero == 0.0
    assert (positive[0], positive[-1]) == (0.01, 10.0)
    # Ten even steps over three decades; four digits are kept, hence the tolerance.
    assert np.diff(np.log10(positive)) == pytest.approx([1 / 3] * 9, abs=1e-3)


def test_numpy_numbers_are_numbers():
    _, hp = space_of(tau=np.float32(0.5), p=(np.float64(1.5), 2), every=np.int64(2))
    assert hp.values == {"tau": 0.5, "p": 1.5, "every": 2}


def test_values_reach_the_model_and_its_energy():
    hypermodel = LeastActionHyperModel(build, 1.0, (1.5, 3.0), (0.1, 9.0))
    hp = keras_tuner.HyperParameters()
    hp.values.update(p=2.5, initial_multiplier=7.0)
    model = hypermodel.build(hp)
    assert isinstance(model, keras_lap.LeastActionModel)
    assert (model.energy.p, float(model.multiplier)) == (2.5, 7.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": (1.0, 2.0)}, "p must be a finite number > 1"),
        ({"p": [2.0, 0.5]}, "p must be a finite number > 1"),
        ({"p": 1}, "p must be a finite number > 1"),
        ({"p": (3.0, 2.0)}, "range of p is empty"),
        ({"p": (2.0, 2.0)}, "range of p is empty"),
        ({"p": ()}, r"A tuple is a range, \(low, high\)\."),
        ({"p": (1.5, 2.0, 3.0)}, r"as a list: p=\[1.5, 2.0, 3.0\]"),
        ({"p": []}, "choices of p must be one or more"),
        ({"p": [2, 2.0]}, "choices of p must be one or more different"),
        ({"tau": -1.0}, "tau must be a finite number >= 0"),
        ({"tau": [-0.1, 1]}, "tau must be a finite number >= 0"),
        ({"tau": (-1, 1)}, r"tau must be a finite number > 0.*\(0, low, high\)"),
        ({"tau": (0, 1)}, r"name 0 as a choice of its own by \(0, low, high\)"),
        ({"tau": (0, 2, 1)}, "range of tau is empty"),
        ({"tau": (0.1, 1, 2)}, r"\(low, high\) or \(0, low, high\)"),
        ({"tau": (1.0, float("inf"))}, "tau must be a finite number"),
        ({"initial_multiplier": (0, 1)}, "initial_multiplier must be a finite"),
        ({"share": (0.1, 1)}, "share must be a number above 0 and below 1"),
        ({"share": 0}, "share must be a number above 0 and below 1"),
        ({"share": 0.3, "initial_multiplier": 5.0}, "by a number or by a share"),
        ({"share": 0.3, "p": None, "tau": None}, "p=None with share"),
        ({"every": (0, 5)}, "every must be a whole number of at least 1"),
        ({"every": (1, 2.5)}, "every must be a whole number of at least 1"),
    ],
)
def test_values_that_cannot_be_used(arguments, message):
    with pytest.raises(ValueError, match=message):
        LeastActionHyperModel(build, **arguments)


def test_a_share_has_an_argument_of_its_own():
    with pytest.raises(TypeError, match=r"Pass share=0\.3 instead"):
        LeastActionHyperModel(build, initial_multiplier=keras_lap.Share(0.3))


@pytest.mark.parametrize("tau", ["log", None, {1.0}, True])
def test_what_is_no_range(tau):
    with pytest.raises(TypeError, match=r"tau must be a number, a range"):
        LeastActionHyperModel(build, tau=tau)


def test_build_must_be_a_function():
    with pytest.raises(TypeError, match="build must be a function"):
        LeastActionHyperModel(build(None))


@pytest.mark.parametrize("returned", [None, "model"])
def test_build_that_returns_no_model(tmp_path, returned):
    with pytest.raises(TypeError, match=r"must return a keras\.Model"):
        tuner(tmp_path, LeastActionHyperModel(lambda hp: returned))


def test_build_that_returns_a_wrapped_model(tmp_path):
    wrapped = LeastActionHyperModel(lambda hp: keras_lap.LeastActionModel(build(hp)))
    with pytest.raises(TypeError, match="must return the bare network"):
        tuner(tmp_path, wrapped)


def test_build_without_residual_blocks(tmp_path):
    def dense(hp):
        return build_dense_network(blocks=0)

    with pytest.raises(ValueError, match="has no residual block") as caught:
        tuner(tmp_path, LeastActionHyperModel(dense, p=2.0))
    assert "with tau = 0, p = 2" in str(caught.value)


def test_build_with_one_of_our_names(tmp_path):
    def dropout(hp):
        hp.Float("p", 0.0, 0.5)
        return build(hp)

    with pytest.raises(ValueError, match=r"Received: p\. Give them other names"):
        tuner(tmp_path, LeastActionHyperModel(dropout))


def test_blocks_are_chosen():
    hypermodel = LeastActionHyperModel(
        lambda hp: build_dense_network(blocks=3), blocks=["b1"]
    )
    model = hypermodel.build(keras_tuner.HyperParameters())
    assert [block.name for block in model.blocks] == ["b1"]


class Wrong(keras.metrics.Mean):
    """A metric of the user's own, known to nobody else."""

    def update_state(self, y, y_pred, sample_weight=None):
        super().update_state(keras.ops.not_equal(keras.ops.argmax(y_pred, -1), y))


def test_compiled_as_the_network_was(digits):
    loss = crossentropy()

    def compiled(hp):
        network = build(hp)
        network.compile(
            keras.optimizers.Adam(0.01, clipnorm=1.0),
            loss=loss,
            metrics=["accuracy", Wrong(name="wrong")],
            weighted_metrics=[lambda y, p: p[:, 0]],
            run_eagerly=True,
        )
        return network

    model = LeastActionHyperModel(compiled).build(keras_tuner.HyperParameters())
    assert model.optimizer is model.network.optimizer
    assert model.loss is loss
    assert model.run_eagerly
    logs = model.evaluate(*digits, verbose=0, return_dict=True)
    assert logs["wrong"] == pytest.approx(1 - logs["accuracy"])
    assert logs == pytest.approx(
        model.network.evaluate(*digits, verbose=0, return_dict=True)
    )


def test_a_second_multiplier_update_is_refused():
    update = keras_lap.callbacks.MultiplierUpdate()
    with pytest.raises(ValueError, match="adds a MultiplierUpdate"):
        LeastActionHyperModel(build, callbacks=[update])


def test_callbacks_are_callbacks():
    with pytest.raises(TypeError, match=r"must be keras\.callbacks\.Callback objects"):
        LeastActionHyperModel(build, callbacks=["early stopping"])


def test_the_callback_survives_a_deep_copy():
    update = keras_lap.callbacks.MultiplierUpdate(tau=0.5, every=3, loss="mean")
    other = copy.deepcopy(update)
    assert other is not update
    assert (other.tau, other.every, other.loss) == (0.5, 3, "mean")


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="starts a process, once is enough"
)
def test_the_package_needs_no_keras_tuner():
    code = (
        "import sys; sys.modules['keras_tuner'] = None\n"
        "import keras_lap\n"
        "try: keras_lap.tuning\n"
        "except ImportError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "pip install keras-tuner, or" in result.stdout


def declares(hp):
    hp.Float("tau", 5.0, 6.0)


def under_a_condition(hp):
    if hp.Boolean("deep"):
        with hp.conditional_scope("deep", [True]):
            hp.Choice("p", [2.0, 3.0])


def under_a_scope_of_names(hp):
    with hp.name_scope("optimizer"):
        hp.Float("tau", 5.0, 6.0)
    hp.Int("width", 4, 6)


@pytest.mark.parametrize("declare", [declares, under_a_condition])
@pytest.mark.parametrize("known", [False, True])
def test_names_that_are_taken_are_refused_in_every_trial(declare, known):
    """`known`: as in later trials, which have the search's own already."""
    first = LeastActionHyperModel(lambda hp: declare(hp) or build(hp), tau=(0.1, 1.0))
    hp = keras_tuner.HyperParameters()
    if known:
        LeastActionHyperModel(build, tau=(0.1, 1.0)).build(hp)
    hp.Boolean("deep")
    hp.values["deep"] = True
    with pytest.raises(ValueError, match=r"search needs\. Received: (tau|p)\."):
        first.build(hp)


def test_the_same_name_in_a_scope_of_names_is_another():
    hypermodel = LeastActionHyperModel(
        lambda hp: under_a_scope_of_names(hp) or build(hp), tau=(0.1, 1.0)
    )
    hp = keras_tuner.HyperParameters()
    for _ in range(2):
        hypermodel.build(hp)
    assert 5 <= hp["optimizer/tau"] <= 6
    assert 0.1 <= hp["tau"] <= 1
    assert hp["width"] == 4


def test_what_is_declared_in_advance_is_refused_likewise():
    class InAdvance(keras_tuner.HyperModel):
        def declare_hyperparameters(self, hp):
            hp.Float("tau", 5.0, 6.0)

        def build(self, hp):
            return build(hp)

    with pytest.raises(ValueError, match=r"search needs\. Received: tau\."):
        LeastActionHyperModel(InAdvance()).declare_hyperparameters(
            keras_tuner.HyperParameters()
        )
