"""What a step of PyTorch runs and sends beside plain Keras, counted."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from support.basics import ON_ONE, build_dense_network, crossentropy

import keras_lap

pytestmark = ON_ONE
# 92 were counted, 98 with Keras 3.16: a dozen of the energy and its gradient, others
# of scalars of λ and the logs. 107 were before these were PyTorch's own.
MOST_OPERATIONS = 100
# λ_0 that was chosen needs to be told from one that was not: a comparison and a choice.
OF_A_CHOICE = 4


def model_of(start):
    network = build_dense_network(blocks=3, width=8, features=8, classes=3)
    if start is not None:
        network = keras_lap.LeastActionModel(network, 2.0, start)
    network.compile("sgd", loss=crossentropy(), metrics=["accuracy"])
    return network


@pytest.fixture
def batch():
    import torch

    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 8)).astype("float32")
    return torch.tensor(x), torch.tensor(rng.integers(0, 3, 16))


def operations(model, batch):
    """How often one step runs each operation of PyTorch, by name."""
    from torch.utils._python_dispatch import TorchDispatchMode

    counted = collections.Counter()

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            counted[str(function)] += 1
            return function(*args, **(kwargs or {}))

    with Counting():
        model.train_step(batch)
    return counted


def begun(start, batch):
    """A model that is in the middle of a training, under a schedule of λ."""
    model = model_of(start)
    model.train_on_batch(*batch)
    if start is not None:
        model.ascent.start(tau=1.0, batches=1, averaged=False)
    return model


def test_operations_added_to_plain_keras(batch):
    plain = operations(begun(None, batch), batch)
    ours = operations(begun(5.0, batch), batch)
    assert not plain - ours
    assert 0 < (ours - plain).total() <= MOST_OPERATIONS


@pytest.mark.parametrize("start", ["auto", keras_lap.Share(0.3)], ids=repr)
def test_the_unit_is_computed_until_a_start_was_chosen(batch, start):
    given = operations(begun(5.0, batch), batch)
    model = model_of(start)
    model.train_on_batch(*batch)
    model.ascent.multiplier.assign(0.0)  # as if nothing had been chosen
    model.ascent.start(tau=1.0, batches=1, averaged=False)
    first, later = operations(model, batch), operations(model, batch)
    # A block that moves every number by one is made, and its energy summed, of each.
    assert (first - later).total() >= 3 * 2
    assert (later - given).total() <= OF_A_CHOICE


@pytest.fixture
def process():
    """This process, joined with itself alone, as several are."""
    import torch

    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield torch.distributed
    torch.distributed.destroy_process_group()


def sent(model, batch, process, monkeypatch):
    """How many numbers one step sends by each of its calls."""
    calls = []
    send = process.all_reduce

    def counting(values, *args, **kwargs):
        calls.append(values.numel())
        return send(values, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(process, "all_reduce", counting)
        logs = model.train_step(batch)
    return calls, logs


@pytest.mark.parametrize("start", [5.0, "auto", keras_lap.Share(0.3)], ids=repr)
def test_one_call_is_added_between_processes(batch, process, monkeypatch, start):
    plain, _ = sent(begun(None, batch), batch, process, monkeypatch)
    model = begun(start, batch)
    measures, asked = model._measures, []
    result = measures.result

    def asking():
        asked.append([id(each) for each in model.metrics_variables])
        return result()

    monkeypatch.setattr(measures, "result", asking)
    ours, logs = sent(model, batch, process, monkeypatch)
    assert len(ours) == len(plain) + 1
    # It carries L and the samples, and what is logged of L, C and three blocks.
    assert max(ours) == 2 + (2 + 2) + (1 + 3)
    # Keras from 3.16 on sends each of these by itself, in a step and at an epoch's end.
    sums = id(measures.sums)
    assert asked
    assert sums not in asked[-1]
    assert sums in [id(each) for each in model.metrics_variables]
    parts = model.block_costs
    assert np.isclose(parts.sum(), float(logs["transport_cost"]), rtol=1e-6)
