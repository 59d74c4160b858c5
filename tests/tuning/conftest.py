"""Searches over the digits that take seconds."""

import pytest

from kd_keras.recipes import setup
from tuning.config import TuneConfig


@pytest.fixture
def tiny(tmp_path):
    """`tiny(**changes)`: a config of a search of four trials, in a folder of the test's own."""

    def make(**changes):
        settings = {
            "teacher": "cnn",
            "teacher_knobs": ("width=0.25",),
            "student_knobs": ("hidden=8,",),
            "limit": 100,
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 3e-3,
            "steps_per_execution": 2,
            "seeds": (0,),
            "out": tmp_path / "run",
        }
        if changes.get("oracle") != "hyperband":
            settings["trials"] = 4
        return TuneConfig(**{**settings, **changes})

    return make


@pytest.fixture
def taught(tiny):
    """`taught(config)`: its task and a teacher of random weights."""

    def make(config):
        task = setup.load_task(config)
        return task, setup.build_model(config.teacher, config.teacher_knobs, None, task, 7)

    return make
