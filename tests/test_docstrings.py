"""The examples in the docstrings run, and say what they say."""

import doctest
import importlib
import pkgutil
import re

import pytest

import kd_keras
import tuning

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SLOW = {
    *("kd_keras.recipes.distill", "kd_keras.recipes.sweep", "kd_keras.models.pretrained"),
    "tuning.run",
}


def modules():
    names = [
        found.name
        for package in (kd_keras, tuning)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    names = [name for name in names if not re.search(r"__main__$|\.loaders\.", name)]
    return [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in ["kd_keras", *names]
    ]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=OPTIONS)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples of {name} failed"
    assert not any(tmp_path.iterdir()), "an example left files behind"
