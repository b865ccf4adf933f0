"""What `fit` says at its beginning and end, and what the model shows of itself."""

from __future__ import annotations

import copy
import re

import keras
import numpy as np
import pytest
from support.basics import build_dense_network, crossentropy

import keras_lap
from keras_lap import LeastActionModel
from keras_lap.callbacks import MultiplierUpdate

FIT = {"batch_size": 8, "shuffle": False}


def compiled(model, **options):
    model.compile(keras.optimizers.SGD(0.01), loss=crossentropy(), **options)
    return model


def ours(capsys):
    """The lines of ours that were printed since the last call."""
    printed = capsys.readouterr().out.splitlines()
    return [line for line in printed if line.startswith("Least action:")]


def number(pattern, line):
    found = re.search(pattern, line)
    assert found, line
    return float(found[1])


@pytest.mark.parametrize("verbose", [1, 2, "auto"])
def test_a_training_speaks_once_at_either_end(verbose, digits, capsys):
    model = compiled(LeastActionModel(build_dense_network(), initial_multiplier=2.0))
    batch = [part[:8] for part in digits]
    terms = compiled(LeastActionModel(build_dense_network(), initial_multiplier=2.0))
    terms.network.set_weights(model.network.get_weights())
    first = terms.train_on_batch(*batch, return_dict=True)
    history = model.fit(
        *digits, epochs=2, verbose=verbose, callbacks=[MultiplierUpdate()], **FIT
    ).history
    begin, share, end = ours(capsys)
    assert model.block_report.summary in begin
    assert "λ starts at 2" in begin
    assert number(r"C = ([\d.]+),", share) == pytest.approx(
        float(first["transport_cost"]), rel=1e-3
    )  # four digits are printed, two of a share
    energy = float(first["transport_cost"]) / 2
    assert number(r"is ([\d.]+) %", share) == pytest.approx(
        100 * energy / float(first["loss"]), rel=0.06
    )
    before, after = float(first["transport_cost"]), history["transport_cost"][-1]
    assert number(r"cost ([\d.]+) →", end) == pytest.approx(before, rel=1e-3)
    assert number(r"cost [\d.]+ → ([\d.]+)", end) == pytest.approx(after, rel=1e-3)
    now = history["multiplier"][-1]
    assert number(r"λ 2 → ([\d.]+)", end) == pytest.approx(now, rel=1e-3)
    last = after / now / history["loss"][-1]
    assert number(r"C/λ ([\d.]+) %", end) == pytest.approx(100 * last, rel=0.06)


def test_a_second_training_goes_on_and_a_silent_one_is_silent(digits, capsys):
    model = compiled(LeastActionModel(build_dense_network()))
    model.fit(*digits, verbose=0, **FIT)
    assert ours(capsys) == []
    model.fit(*digits, 8, 1, 2)  # by position, as Keras takes them
    begin, *_ = ours(capsys)
    assert "λ goes on at 1 and stays, without a MultiplierUpdate" in begin
    keras.config.disable_interactive_logging()
    try:
        model.fit(*digits, verbose=2, **FIT)
    finally:
        keras.config.enable_interactive_logging()
    assert ours(capsys) == []  # Keras's own lines go to a log then


def test_the_share_is_said_before_the_bar_is_drawn(digits, capsys):
    model = compiled(LeastActionModel(build_dense_network()))
    model.fit(*digits, verbose=1, **FIT)
    printed = capsys.readouterr().out
    bar = re.search(r"\d/4", printed)
    # Where Keras calls beside the next step, the bar may begin with a later batch.
    assert "first batch:" in printed
    if keras.backend.backend() == "tensorflow":  # which calls one after the other
        assert 0 < printed.index("first batch:") < bar.start()


@pytest.mark.parametrize("options", [{"initial_multiplier": 1e4}, {"tau": 1e4}])
def test_an_energy_that_does_nothing_is_said_once(options, digits, capsys):
    tau = options.pop("tau", 1.0)
    model = compiled(LeastActionModel(build_dense_network(), **options))
    update = MultiplierUpdate(tau=tau)
    history = model.fit(*digits, epochs=4, verbose=2, callbacks=[update], **FIT).history
    (said,) = [line for line in ours(capsys) if "next to nothing" in line]
    assert f"epoch {1 if tau == 1 else 2}," in said  # λ rises from 1 in the first
    for word in ("initial_multiplier", "tau", "max_multiplier"):
        assert word in said
    # By the number that it names C/λ is 30 % of C/λ + L, at the costs of that epoch.
    epoch = 0 if tau == 1 else 1
    advised = number(r"initial_multiplier=([\d.e+-]+)", said)
    energy = history["transport_cost"][epoch] / advised
    part = energy / (energy + history["task_loss"][epoch])
    assert part == pytest.approx(0.3, rel=1e-3)


def test_an_energy_that_counts_is_not_complained_of(digits, capsys):
    model = compiled(LeastActionModel(build_dense_network(), initial_multiplier=0.1))
    model.fit(*digits, epochs=2, verbose=2, **FIT)
    assert len(ours(capsys)) == 3


@pytest.mark.parametrize("waste", [1e-3, 30.0])
@pytest.mark.parametrize("every", [1, 3])
def test_what_the_first_batch_chose_is_said(waste, every, digits, capsys):
    network = build_dense_network()
    for variable in network.trainable_variables:
        variable.assign(variable * (waste if "kernel" in variable.path else 1))
    model = LeastActionModel(network, initial_multiplier="auto")
    model.compile(keras.optimizers.SGD(0.0), loss=crossentropy())
    model.fit(
        *digits, epochs=2, verbose=2, callbacks=[MultiplierUpdate(every=every)], **FIT
    )
    said = ours(capsys)
    assert "chosen by the first batch" in said[0]
    if waste < 1:
        assert "λ is off" in said[1]
        assert model.ascent.decision in said[2]
        assert "initial_multiplier=" in said[2]
        assert "λ off" in said[3]
        assert len(said) == 4
        return
    assert model.ascent.decision in said[2]
    # The same batch, λ held: it is λ_0.
    model.multiplier.assign(0.0)
    first = model.train_on_batch(*[part[:8] for part in digits], return_dict=True)
    chosen = float(first["multiplier"])
    assert number(r"λ = ([\d.e+-]+);", said[1]) == pytest.approx(chosen, rel=2e-3)


@pytest.mark.parametrize("start", [2.0, keras_lap.Share(0.3)], ids=str)
def test_a_multiplier_raised_before_the_step_is_that_of_the_share(
    start, digits, capsys
):
    model = LeastActionModel(build_dense_network(), initial_multiplier=start)
    batch = [part[:8] for part in digits]
    update = MultiplierUpdate(before_step=True)
    history = compiled(model).fit(*batch, verbose=2, callbacks=[update], **FIT).history
    logs = {name: values[0] for name, values in history.items()}
    said = ours(capsys)
    energy = logs["loss"] - logs["task_loss"]  # the network has no losses of its own
    part = 100 * energy / logs["loss"]
    assert number(r"is ([\d.]+) %", said[1]) == pytest.approx(part, rel=0.06)
    assert number(r"λ = ([\d.]+);", said[1]) == pytest.approx(
        logs["multiplier"], rel=1e-3
    )
    begun = number(r"λ ([\d.e-]+) →", said[-1])
    assert begun == pytest.approx(model.ascent.initial, rel=1e-3)


def test_a_chosen_multiplier_at_its_bound_is_said(digits, capsys):
    model = LeastActionModel(
        build_dense_network(), initial_multiplier="auto", max_multiplier=0.5
    )
    compiled(model).fit(*digits, verbose=2, callbacks=[MultiplierUpdate()], **FIT)
    said = ours(capsys)
    assert "λ = 0.5;" in said[1]
    assert "λ 0.5 → 0.5," in said[-1]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras refuses it there")
@pytest.mark.parametrize("every", [1, 3])
def test_steps_that_run_together_are_said_together(every, digits, capsys):
    model = LeastActionModel(
        build_dense_network(), initial_multiplier=keras_lap.Share(0.3)
    )
    compiled(model, steps_per_execution=4)
    model.fit(*digits, verbose=2, callbacks=[MultiplierUpdate(every=every)], **FIT)
    said = ours(capsys)
    assert "first 4 batches: " in said[1]
    if every == 1:
        chosen = number(r"λ = ([\d.e-]+);", said[1])
        # A difference of what is raised four times.
        assert chosen == pytest.approx(model.ascent.initial, rel=2e-3)
    begun = number(r"λ ([\d.e-]+) →", said[-1])
    assert begun == pytest.approx(model.ascent.initial, rel=1e-3)


def test_a_first_batch_that_cannot_choose_leaves_it_to_the_next(digits, capsys):
    """Its samples weigh nothing, so that there is no objective to take a part of."""
    x, y = digits
    weights = np.where(np.arange(len(x)) < 8, 0.0, 1.0)
    model = LeastActionModel(
        build_dense_network(), initial_multiplier=keras_lap.Share(0.3)
    )
    compiled(model).fit(x, y, sample_weight=weights, epochs=2, verbose=2, **FIT)
    said = ours(capsys)
    assert not any("plain training" in line for line in said)
    assert any(model.ascent.decision in line for line in said)
    begun = number(r"λ ([\d.e-]+) →", said[-1])
    assert begun == pytest.approx(model.ascent.initial, rel=1e-3)


def test_an_energy_that_is_off_by_hand_is_called_off(digits, capsys):
    model = LeastActionModel(build_dense_network(), initial_multiplier=1e30)
    compiled(model).fit(*digits, verbose=2, **FIT)
    assert "λ starts off and stays" in ours(capsys)[0]


def test_running_costs_speak_too(digits, capsys):
    cost = keras_lap.running_costs.ControlCost(0.5)
    model = LeastActionModel(build_dense_network(), energy=None, running_costs=[cost])
    history = compiled(model).fit(*digits, epochs=2, verbose=2, **FIT).history
    begin, share, end = ours(capsys)
    assert f"{cost.name} (0.5)" in begin
    assert "λ" not in begin + share + end
    assert number(rf"{cost.name} is ([\d.]+) %", share) > 0
    name = cost.name.replace("_", " ")
    after = number(rf"{name} [\d.]+ → ([\d.]+)\.$", end)
    assert after == pytest.approx(history[cost.name][-1], rel=1e-3)


def test_a_callback_that_restores_the_best_is_heard_before(digits, capsys):
    model = compiled(LeastActionModel(build_dense_network()))
    stop = keras.callbacks.EarlyStopping(
        "multiplier", mode="min", restore_best_weights=True, patience=5
    )
    history = model.fit(
        *digits, epochs=3, verbose=2, callbacks=[MultiplierUpdate(), stop], **FIT
    ).history["multiplier"]
    *_, end = ours(capsys)
    assert number(r"λ 1 → ([\d.]+)", end) == pytest.approx(history[0], rel=1e-3)


def test_evaluation_returns_what_the_bare_network_returns(digits):
    x, y = digits
    network = build_dense_network()
    model = compiled(LeastActionModel(network), metrics=["accuracy"])
    loss, accuracy = model.evaluate(x, y, verbose=0)
    theirs = compiled(network, metrics=["accuracy"]).evaluate(x, y, verbose=0)
    assert [loss, accuracy] == theirs
    assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == {
        "loss",
        "accuracy",
    }
    assert len(model.test_on_batch(x, y)) == 2
    bare = compiled(LeastActionModel(build_dense_network()))
    assert isinstance(bare.evaluate(x, y, verbose=0), float)
    logs = bare.fit(x, y, validation_data=(x, y), verbose=0).history
    assert logs["val_task_loss"] == logs["val_loss"]


def test_a_wrapped_network_shows_its_ends_and_its_summary(digits):
    network = build_dense_network()
    model = compiled(LeastActionModel(network, initial_multiplier=7.0))
    assert model.inputs is network.inputs
    assert model.outputs is network.outputs
    assert model.input_shape == network.input_shape
    assert model.output_shape == network.output_shape
    assert not hasattr(LeastActionModel(Subclassed()), "inputs")
    lines = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert "?" not in text
    assert network.name in text
    assert model.block_report.summary in text
    assert "λ = 7" in text


def test_a_wrapped_network_is_still_copied_saved_and_exported(digits, tmp_path):
    x, y = digits
    model = compiled(LeastActionModel(build_dense_network(), initial_multiplier=7.0))
    model.fit(x, y, verbose=0)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is LeastActionModel
    for other in (loaded, copy.deepcopy(model)):
        np.testing.assert_array_equal(other.predict(x, verbose=0), expected)
        assert other.input_shape == model.input_shape
    cloned = keras.models.clone_model(model)
    assert type(cloned) is LeastActionModel
    assert cloned.output_shape == model.output_shape


class Subclassed(keras.Model):
    """A built network without inputs to name."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(4)
        self(np.zeros((2, 4), "float32"))

    def call(self, x):
        return x + self.dense(x)
