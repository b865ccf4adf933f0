"""Every way in which Keras compiles and trains, as with plain Keras."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from support import ways
from support.ways import assert_trains_alike, build, compile_options, fit

import keras_lap

BACKEND = keras.backend.backend()


@pytest.fixture
def options():
    """Makes a function that returns the arguments of `compile`, with changes."""

    def changed(**changes):
        made = {
            name: value() if callable(value) else value
            for name, value in changes.items()
        }
        return compile_options(**made)

    return lambda **changes: functools.partial(changed, **changes)


@pytest.mark.way("`jit_compile=False`")
def test_without_jit(options):
    assert_trains_alike(options=options(jit_compile=False))


@pytest.mark.way("`jit_compile=True`")
def test_with_jit(options, monkeypatch, record_property):
    if BACKEND != "torch":
        assert_trains_alike(options=options(jit_compile=True))
        return
    import torch

    # All of torch.compile but the compiler of C++, which takes a minute here.
    monkeypatch.setattr(
        torch, "compile", functools.partial(torch.compile, backend="aot_eager")
    )
    record_property(
        "limit",
        "as in every Keras model that adds losses, parts of the step are compiled anew"
        " until PyTorch's limit on that is reached, and then run uncompiled",
    )

    def one_block(price=0.0):
        inputs = keras.Input((ways.WIDTH,))
        return keras.Model(inputs, ways.block(inputs, price, "b0"))

    plain, model = ways.pair(one_block)
    plain.compile(keras.optimizers.SGD(0.1), ways.crossentropy())
    model.compile(keras.optimizers.SGD(0.1), ways.crossentropy(), jit_compile=True)
    few = {"x": ways.data()[0][:8], "y": ways.data()[1][:8], "epochs": 2}
    assert_trained = fit(model, **few)
    reference = fit(plain, **few)
    np.testing.assert_allclose(assert_trained["loss"], reference["loss"], rtol=1e-5)
    before = float(model.multiplier)
    history = fit(model, [keras_lap.callbacks.MultiplierUpdate(ways.TAU)], **few)
    expected = before + ways.TAU * np.cumsum(history["task_loss"])
    np.testing.assert_allclose(history["multiplier"], expected, rtol=1e-5)


@pytest.mark.way("`run_eagerly`")
def test_eagerly(options):
    assert_trains_alike(options=options(run_eagerly=True))


@pytest.mark.way("`steps_per_execution` > 1")
@pytest.mark.parametrize("steps", [2, 3])  # an epoch has 4: 3 leave a shorter one
def test_several_steps_in_one(options, steps, record_property):
    if BACKEND != "torch":
        assert_trains_alike(options=options(steps_per_execution=steps))
        return
    _, model = ways.pair()
    model.compile(**compile_options(steps_per_execution=steps))
    weights = model.get_weights()
    with pytest.raises(ValueError, match="must be 1 with the PyTorch backend"):
        fit(model, [keras_lap.callbacks.MultiplierUpdate(ways.TAU)])
    record_property("fails", "`fit` raises an error of Keras")
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.way("changing λ never recompiles")
@pytest.mark.parametrize("loss", ["batch", "mean"])
def test_traces(loss, record_property):
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            traces.append(1)
            return x

    inputs = keras.Input((ways.WIDTH,))
    x = ways.block(Counting()(inputs), 0.0, "b0")
    model = keras_lap.LeastActionModel(keras.Model(inputs, x), 2.0, 1.0)
    model.compile(**compile_options())
    fit(model)
    fit(model, [keras_lap.callbacks.MultiplierUpdate(0.0, loss=loss)])
    once = len(traces)
    lambdas = set()
    for tau, every in ((0.5, 1), (0.1, 3), (2.0, 2)):
        fit(model, [keras_lap.callbacks.MultiplierUpdate(tau, every, loss)])
        lambdas.add(float(model.multiplier))
    assert len(lambdas) == 3
    if BACKEND == "torch":  # nothing is compiled by default: a call for every step
        record_property("limit", "PyTorch compiles nothing unless `jit_compile=True`")
        assert len(traces) - once == 3 * ways.EPOCHS * ways.STEPS
    else:
        assert len(traces) == once


@pytest.mark.way("optimizer `gradient_accumulation_steps`")
def test_gathered_gradients(options):
    """Two batches to a step; λ counts steps, so it rises at every second batch."""
    two = options(
        optimizer=lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    )
    plain, model = ways.pair()
    for each in (plain, model):
        each.compile(**two())
    theirs, ours = fit(plain), fit(model)
    ways.assert_same_logs(ours, theirs, 1e-5)
    # With "mean" every batch counts half: half the sum over all.
    update = keras_lap.callbacks.MultiplierUpdate(ways.TAU, loss="mean")
    history = fit(model, [update])
    sums = ways.STEPS * np.cumsum(history["task_loss"])
    np.testing.assert_allclose(
        history["multiplier"], ways.MULTIPLIER + ways.TAU * sums / 2, rtol=1e-4
    )


@pytest.mark.way("gradient clipping")
@pytest.mark.parametrize("how", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_clipping(options, how):
    """The gradient of the whole objective is clipped, the energy's included."""
    small = {how: 0.01}
    plain, *_ = assert_trains_alike(
        options=options(optimizer=lambda: keras.optimizers.SGD(0.1, **small))
    )
    assert getattr(plain.optimizer, how) == 0.01


@pytest.mark.way("optimizer `use_ema`")
@pytest.mark.xfail(
    keras.backend.backend() == "jax",
    reason="Keras 3.15.1 fits a plain network with averages only once on JAX: its "
    "second fit donates one buffer twice",
    strict=True,
)
def test_moving_averages(options):
    """The weights after `fit` are the averages, in both."""
    average = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3}
    assert_trains_alike(
        options=options(optimizer=lambda: keras.optimizers.Adam(0.01, **average))
    )


@pytest.mark.way("weight decay and regularisers")
def test_regularised(options):
    """Losses of the network's own stay in the objective beside C/λ."""
    network = functools.partial(build, kernel_regularizer="l2")
    plain, model = ways.pair(network)
    for each in (plain, model):
        each.compile(
            **compile_options(optimizer=keras.optimizers.SGD(0.1, weight_decay=0.01))
        )
    theirs, ours = fit(plain), fit(model)
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-5)
    np.testing.assert_allclose(ours["task_loss"], theirs["task"], rtol=1e-5)
    parts = ours["task_loss"] + np.array(ours["transport_cost"]) / ways.MULTIPLIER
    assert (np.array(ours["loss"]) > parts + 0.01).all()


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.way("`mixed_float16` with loss scaling, `mixed_bfloat16`")
def test_mixed_precision(policy):
    """The energy is float32 in both; what is rounded is the state, to 8 or 11 bits."""
    rtol = {"mixed_float16": 2e-3, "mixed_bfloat16": 2e-2}[policy]
    plain, model, *_ = assert_trains_alike(rtol=rtol)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert type(plain.optimizer) is type(model.optimizer)
    assert model.multiplier.dtype == "float32"


@pytest.mark.way("`mixed_float16` with loss scaling, `mixed_bfloat16`")
def test_the_networks_own_precision_decides_on_loss_scaling():
    """A network made under another policy than the one in force when it is wrapped."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = build()
    finally:
        keras.config.set_dtype_policy("float32")
    model = keras_lap.LeastActionModel(network)
    model.compile(**compile_options())
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    copy = keras_lap.LeastActionModel.from_config(model.get_config())
    assert copy.dtype_policy.name == network.dtype_policy.name == "mixed_float16"


@pytest.mark.way("frozen layers and fine-tuning")
@pytest.mark.parametrize("frozen", [["stem", "b0"], ["b0", "b1"]])
def test_frozen_layers(frozen):
    """Also where every block is frozen: C still counts, and the stem lowers it."""

    def freeze(network):
        for name in frozen:
            network.get_layer(name).trainable = False

    plain, model, *_ = assert_trains_alike(prepare=freeze)
    _, start = ways.pair()
    before = {name: model.network.get_layer(name).get_weights() for name in frozen}
    for each in (plain, model):  # now all of it, as one fine-tunes
        network = getattr(each, "network", each)
        # One by one: Keras 3.15.1 on TensorFlow ignores `network.trainable = True`
        # where the network itself was never frozen.
        for name in frozen:
            network.get_layer(name).trainable = True
        each.compile(**compile_options(optimizer=keras.optimizers.SGD(0.01)))
    fit(model)
    for name in frozen:
        after = model.network.get_layer(name).get_weights()
        assert all((a != b).any() for a, b in zip(before[name], after, strict=True))
    assert len(start.trainable_variables) == len(model.trainable_variables)


@pytest.mark.way("LoRA-enabled layers")
@pytest.mark.parametrize("when", ["before", "after"])
def test_lora(when):
    """Enabled before or after the network is wrapped."""

    def enable(network):
        for name in ("b0", "b1"):
            network.get_layer(name).enable_lora(rank=2)
            # Keras starts B at zero and A at random: the same A for both.
            layer = network.get_layer(name)
            layer.lora_kernel_a.assign(0.1 * np.ones(layer.lora_kernel_a.shape))

    if when == "before":
        plain, model, *_ = assert_trains_alike(prepare=enable)
    else:
        plain, model = ways.pair()
        for each in (plain, model):
            enable(getattr(each, "network", each))
            each.compile(**compile_options())
        theirs, ours = fit(plain), fit(model)
        ways.assert_same_logs(ours, theirs, 1e-5)
    layer = model.network.get_layer("b0")
    assert np.abs(keras.ops.convert_to_numpy(layer.lora_kernel_b.value)).max() > 0
    assert not layer._kernel.trainable
