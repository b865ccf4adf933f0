"""Keras's own tests, which its wheel ships, with stand-ins for their models.

The only module that imports from `keras.src`, which Keras changes as it likes: with
another release than the one that this was written for, all of it is skipped.
"""

from __future__ import annotations

import functools
import importlib
import logging
import re
import types
import unittest
from fnmatch import fnmatchcase

import keras
import pytest
from left_out import LEFT_OUT, LOOKS_PLAIN
from stand_in import Makers, StandIn

RELEASE = "3.15."
BACKEND = keras.backend.backend()
WAY = "Keras's own tests"

if not keras.__version__.startswith(RELEASE):
    pytest.skip(
        f"Keras's own tests of {RELEASE}x, and Keras {keras.__version__} is installed",
        allow_module_level=True,
    )


def conforming(module, case, shapes):
    """A test case of Keras with stand-ins for its models.

    Args:
        module: Where the test case is, below `keras.src`.
        case: Its name.
        shapes: Shape of a sample that the test feeds, by patterns of names of tests;
            the last one that fits is taken.

    Returns:
        A class for pytest to collect.
    """
    module = importlib.import_module(f"keras.src.{module}")
    base = getattr(module, case)

    class Conforming(base):
        def setUp(self):
            name = self._testMethodName
            shape = [shapes[each] for each in shapes if fnmatchcase(name, each)][-1]
            patch = pytest.MonkeyPatch()
            self.addCleanup(patch.undo)
            self.addCleanup(restore_logging, logging.getLogger("absl").level)
            replace(module, Makers(shape, sparse="_sparse_" in name).replaced(), patch)
            patch.setattr(StandIn, "made", 0)
            patch.setattr(StandIn, "looks_plain", fits(case, name, LOOKS_PLAIN))
            if BACKEND == "torch":
                run_uncompiled(patch)
            super().setUp()  # some make their model here

    for name in unittest.defaultTestLoader.getTestCaseNames(base):
        left_out = [
            each
            for each in LEFT_OUT
            if BACKEND in each.backends and fits(case, name, each.tests)
        ]
        setattr(Conforming, name, checked(getattr(base, name), *left_out[:1]))
    Conforming.__name__ = Conforming.__qualname__ = case
    Conforming.__module__ = None
    return pytest.mark.way(WAY)(Conforming)


def fits(case, name, patterns):
    return any(fnmatchcase(f"{case}.{name}", each) for each in patterns)


def replace(module, replaced, patch):
    """Puts the stand-ins where the test finds the classes of its models."""
    for name, new in replaced.items():
        if hasattr(module, name):
            patch.setattr(module, name, new)
    for package in ("models", "keras"):
        if hasattr(module, package):
            own = {name: replaced[name] for name in ("Sequential", "Model")}
            copy = types.SimpleNamespace(**vars(getattr(module, package)) | own)
            patch.setattr(module, package, copy)


def run_uncompiled(patch):
    """`jit_compile=True` as if it were False: compiling takes PyTorch 5 to 30 s a test.

    `test_with_jit` of `test_ways_of_training.py` compiles.
    """
    import torch

    patch.setattr(torch, "compile", lambda function, **options: function)


def restore_logging(level):
    """What Keras's tests leave changed for those after them."""
    logging.getLogger("absl").setLevel(level)
    keras.config.enable_interactive_logging()
    keras.config.enable_traceback_filtering()


def checked(test, left_out=None):
    """The test, which must use a stand-in; or must fail as `left_out` says."""

    @functools.wraps(test)
    def run(self, *args, **kwargs):
        try:
            test(self, *args, **kwargs)
            assert StandIn.made, "no stand-in for a model of the test was made"
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            expected = left_out is not None and re.search(left_out.fails, message)
            if not expected or isinstance(error, unittest.SkipTest):
                raise
            pytest.xfail(left_out.reason)
        if left_out is not None:
            self.fail(f"It passes: take it from the list of {left_out.reason!r}.")

    if left_out is not None and left_out.fails is None:
        return pytest.mark.skip(reason=left_out.reason)(run)
    return run
