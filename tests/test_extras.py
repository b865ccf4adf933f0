"""The one sentence that says what is not installed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from keras_lap._extras import needs, require

# Both work whether keras-lap is on an index or not.
SENTENCE = (
    r"The \w+ needs Some, which is not installed: pip install Some, or in a clone of "
    r'keras-lap pip install "\.\[all\]"'
)


def test_a_package_that_is_there_is_returned():
    import json

    assert require("json", "JSON", "all", "The test") is json


def test_pot_imports_no_library_of_tensors_but_keeps_what_is_there():
    pytest.importorskip("ot")
    code = """
import json, os, sys, numpy
from keras_lap._extras import require
before = {name for name in ("tensorflow", "torch", "jax") if name in sys.modules}
ot = require("ot", "POT", "transport", "The test")
new = {name for name in ("tensorflow", "torch", "jax") if name in sys.modules} - before
left = [name for name in os.environ if name.startswith("POT_BACKEND")]
print(json.dumps([sorted(new), left, float(ot.emd2([], [], numpy.eye(2)))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [[], [], 0.0]


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(ImportError, match=rf"{SENTENCE}\. \(.*no_such_module") as error:
        require("no_such_module", "Some", "all", "The test")
    assert isinstance(error.value.__cause__, ImportError)


def test_a_missing_program_is_named_likewise():
    sentence = rf"{SENTENCE}, and more beside\. \(no dot\)"
    with (
        pytest.raises(ImportError, match=sentence),
        needs("Some", "all", "The test", ", and more beside", FileNotFoundError),
    ):
        raise FileNotFoundError("no dot")


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), needs("Some", "all", "The test"):
        raise ZeroDivisionError
