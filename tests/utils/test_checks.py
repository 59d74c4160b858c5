"""Checks: what passes unchanged, and the sentence for what does not."""

import math

import numpy as np
import pytest

from kd_keras.utils import checks


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(3), 1e-300])
def test_positive_numbers_pass_as_floats(value):
    got = checks.positive("temperature", value)
    assert type(got) is float
    assert got == value


@pytest.mark.parametrize("value", [0, -1, -0.0, math.nan, math.inf, "4", True, None, [1], 1j])
def test_anything_else_is_not_positive(value):
    with pytest.raises(ValueError, match="`rate` must be a positive number"):
        checks.positive("rate", value)


@pytest.mark.parametrize("value", [0, 1, 0.3, np.float64(1.0)])
def test_numbers_within_the_range_pass_with_its_ends(value):
    assert checks.within("alpha", value, 0.0, 1.0) == value


@pytest.mark.parametrize("value", [-1e-9, 1.0000001, math.nan, math.inf, "0.5", False, None])
def test_numbers_outside_the_range_do_not(value):
    with pytest.raises(ValueError, match=r"`alpha` must lie in \[0, 1\]. Received: alpha="):
        checks.within("alpha", value, 0.0, 1.0)


def test_lookup_gives_the_entry_or_names_the_nearest():
    table = {"mobilenetv2": 1, "resnet50v2": 2}
    assert checks.lookup("model", table, "resnet50v2") == 2
    with pytest.raises(ValueError, match="Did you mean") as caught:
        checks.lookup("model", table, "mobilenet_v2")
    assert str(caught.value) == (
        "Unknown model 'mobilenet_v2'. Did you mean 'mobilenetv2'? Known: mobilenetv2, resnet50v2."
    )


def test_a_name_that_resembles_nothing_gets_no_suggestion():
    assert checks.unknown("task", "zzz", ["mnist", "digits"]) == (
        "Unknown task 'zzz'. Known: digits, mnist."
    )
    assert checks.unknown("task", 3, ["mnist"]) == "Unknown task 3. Known: mnist."
