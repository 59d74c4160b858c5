"""What `import kd_keras` gives, and what it costs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kd_keras as kd

ROOT = Path(__file__).parents[1]
MODULES = ("methods", "models", "data", "recipes", "export", "cache", "evaluation", "losses")


def in_a_fresh_process(code):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_import_loads_neither_tensorflow_nor_keras():
    loaded = in_a_fresh_process("import kd_keras, sys, json; print(json.dumps([*sys.modules]))")
    assert "kd_keras" in loaded
    heavy = ("tensorflow", "keras", "numpy", "sklearn", "matplotlib", "pandas")
    assert [name for name in heavy if name in loaded] == []


def test_reading_the_command_line_loads_neither():
    code = "import kd_keras.cli, sys, json; print(json.dumps([*sys.modules]))"
    loaded = in_a_fresh_process(code)
    assert [name for name in ("tensorflow", "keras", "matplotlib") if name in loaded] == []


def test_the_version_is_that_of_the_distribution():
    assert re.fullmatch(r"\d+\.\d+\.\d+", kd.__version__)


def test_every_public_name_is_there_after_a_plain_import():
    missing = [name for name in (*kd.__all__, *MODULES) if getattr(kd, name, None) is None]
    assert missing == []
    assert {*kd.__all__, *MODULES} <= set(dir(kd))


def test_the_names_of_the_design_are_there():
    kd.Distiller, kd.LiveTeacher, kd.CachedTeacher, kd.EnsembleTeacher  # noqa: B018
    assert kd.methods.get("kd", temperature=2.0).temperature == 2.0
    assert kd.methods.KD is kd.methods.METHODS["kd"]
    assert callable(kd.methods.Sum)
    assert callable(kd.models.build)
    assert callable(kd.data.load)
    assert callable(kd.export.saved_model)
    assert "saved_model" in kd.export.FORMATS
    assert callable(kd.report.build)
    assert callable(kd.recipes.distill.run)
    assert callable(kd.recipes.supervised.run)
    assert callable(kd.recipes.sweep.run)
    assert callable(kd.recipes.precompute.run)
    assert set(kd.recipes.PRESETS) == {"digits-kd", "mnist-kd", "mhist-kd"}


@pytest.mark.parametrize("module", [kd, kd.recipes])
def test_an_unknown_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match="has no attribute 'distil'"):
        module.distil  # noqa: B018
    assert not hasattr(module, "Destiller")
