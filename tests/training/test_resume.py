"""A training that is killed and started again ends as one that never was.

A real process, which runs `resumable.py`, is killed by SIGKILL in the middle of an
epoch and the same command started again; this process trains without being killed. All
on one machine and one backend, so everything is equal to the last bit.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from support import resumable
from support.basics import as_numpy
from support.resumable import EPOCHS, KILL_AFTER, SAVE_EVERY, STEPS

LIMIT = (
    "to the last bit if every epoch has its order of data: Keras does not save what it "
    "draws from for `fit(shuffle=True)` and for `Dropout`; `BackupAndRestore` with a "
    "number as `save_freq` trains the first batches of the epoch again"
)
WAYS = {"epoch": "whole", "batch": "again", "model": "whole", "weights": "whole"}
LAST_SAVED = KILL_AFTER - KILL_AFTER % SAVE_EVERY


def start(folder):
    return subprocess.run(
        [sys.executable, resumable.__file__, folder],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a killed training, the same started again and a whole one wrote."""
    folder = tmp_path_factory.mktemp("resumed")
    killed = start(folder)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = start(folder)
    assert resumed.returncode == 0, resumed.stderr
    resumable.run_through(folder)
    return folder


def read(path):
    """The rows that `CSVLogger` wrote, by epoch."""
    with open(path, newline="") as file:
        return {int(row.pop("epoch")): row for row in csv.DictReader(file)}


def test_it_was_killed_in_the_middle_of_an_epoch_and_between_two_updates(folder):
    assert sorted(read(folder / "killed.csv")) == list(range(KILL_AFTER // STEPS))
    for done in (KILL_AFTER, LAST_SAVED, STEPS * (KILL_AFTER // STEPS)):
        assert done % resumable.EVERY
    assert KILL_AFTER % STEPS
    assert LAST_SAVED % STEPS
    multipliers = [
        float(row["multiplier"]) for row in read(folder / "whole.csv").values()
    ]
    assert len(set(multipliers)) == EPOCHS
    assert multipliers == sorted(multipliers)


@pytest.mark.way("exact resume after `kill -9`")
@pytest.mark.parametrize("way", WAYS)
def test_resumed(folder, way, record_property):
    """By `BackupAndRestore`, by a model's file and by a file of weights."""
    record_property("limit", LIMIT)
    expected, resumed = read(folder / f"{WAYS[way]}.csv"), read(folder / f"{way}.csv")
    first, *later = range(LAST_SAVED // STEPS, EPOCHS)
    assert sorted(resumed) == [first, *later]
    assert resumed[first]["multiplier"] == expected[first]["multiplier"]
    for epoch in later:
        assert resumed[epoch] == expected[epoch]
    ours, theirs = np.load(folder / f"{way}.npz"), np.load(folder / f"{WAYS[way]}.npz")
    assert ours.files == theirs.files
    for name in theirs.files:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_what_keras_does_not_save(tmp_path):
    """The limit above: what a `Dropout` draws begins anew with a loaded network."""
    inputs = keras.Input((8,))
    network = keras.Model(inputs, keras.layers.Dropout(0.5, seed=1)(inputs))
    network(np.ones((2, 8)), training=True)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    used, fresh = (
        as_numpy(each.layers[1].seed_generator.state) for each in (network, loaded)
    )
    assert (used != fresh).any()
