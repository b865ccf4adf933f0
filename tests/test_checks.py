"""What is a number, and the one sentence in which arguments are refused."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lap import _checks


@pytest.mark.parametrize("value", [3, np.int64(3)])
def test_whole_numbers_are_returned_as_ints(value):
    assert type(_checks.whole_number("n", value, 3, "")) is int


@pytest.mark.parametrize("value", [2, 3.0, True, "3", None, np.float32(3)])
def test_what_is_no_whole_number_is_refused(value):
    assert not _checks.is_whole(value, 3)
    with pytest.raises(ValueError, match="n must be a whole number of at least 3"):
        _checks.whole_number("n", value, 3, "")


def test_a_refusal_says_what_came_what_is_accepted_and_what_to_do():
    error = _checks.refusal("n", "be even", 3, "Pass 4.")
    assert type(error) is ValueError
    assert str(error) == "n must be even. Received: n=3. Pass 4."
    assert str(_checks.refusal("n", "be even", 3)) == "n must be even. Received: n=3."


def test_a_refused_type_is_named():
    error = _checks.refusal("`n`", "be even", "3", error=TypeError)
    assert type(error) is TypeError
    assert str(error) == "`n` must be even. Received: n='3' of type str."
