"""The contract of every name of the registry, of a loss or a plan."""

from pathlib import Path

import pytest

from kd_keras import methods
from kd_keras.methods import METHODS

DOCS = Path(__file__).parents[2] / "docs" / "methods"

pytestmark = pytest.mark.parametrize("name", METHODS)


def test_unknown_knobs_are_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=f"Unknown knob of method '{name}'.*'no_such'"):
        methods.get(name, no_such=1)


def test_it_is_written_about(name):
    row = [line for line in (DOCS / "README.md").read_text().splitlines() if f"[`{name}`]" in line]
    assert len(row) == 1
    assert f"`kd.methods.{METHODS[name].__name__}`" in row[0]
    page = DOCS / row[0].partition("](")[2].partition(")")[0]
    assert f"kd.methods.{METHODS[name].__name__}" in page.read_text()
    grid = (DOCS / "README.md").read_text().partition("## By what is matched")[2].partition("##")[0]
    assert f"]({page.name})" in grid
