"""Interrupted, a method with weights or a memory of its own goes on as if it had not been."""

import functools

import numpy as np
import pytest
from tiny_runs import InterruptAfter, Interrupted, lines, without_times

from kd_keras import methods
from kd_keras.config import DistillConfig
from kd_keras.methods import Roles
from kd_keras.recipes import setup, training
from kd_keras.recipes.callbacks import Checkpoint
from kd_keras.recipes.learners import TrainerPool
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.training import train

METHODS = {
    "dkd": {},  # a scheduled knob
    "hint": {},  # a regressor with a normalisation
    "cid": {},  # contexts of an epoch, and another model deployed
    "crd": {"examples": 128, "negatives": 32, "size": 16},  # memories, constants, draws
    "byot": {},  # exits, and no teacher
    "dml": {"method": "hint", "peers": 2},  # peers, and a regressor for every pair
}


@pytest.fixture(scope="module")
def task():
    return setup.load_task(DistillConfig(limit=100))


def trained(config, task, name, *callbacks):
    teacher = setup.build_model("cnn", ("width=0.25",), None, task, 1)
    student = setup.build_model("lenet5", (), None, task, 0)
    (stage,) = methods.as_plan(methods.get(name, **METHODS[name])).stages(Roles(student, teacher))
    learner = TrainerPool(config, task).distilled("distilled", 0, stage, 0.5)
    outcome = train(learner, task, config, RunFolder(config), progress=callbacks)
    ours = (*learner.left.weights, *stage.method.weights)
    return [np.array(v) for v in ours], outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_it_ends_as_an_uninterrupted_training(name, task, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Checkpoint", functools.partial(Checkpoint, every=0.0))

    def config(folder):
        return DistillConfig(limit=100, epochs=4, batch_size=16, out=tmp_path / folder)

    weights, outcome = trained(config("whole"), task, name)
    with pytest.raises(Interrupted):
        trained(config("killed"), task, name, InterruptAfter(2))
    again, same = trained(config("killed"), task, name)
    assert without_times(lines(config("killed"))) == without_times(lines(config("whole")))
    assert (same.best_epoch, same.score) == (outcome.best_epoch, outcome.score)
    for ours, theirs in zip(again, weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
