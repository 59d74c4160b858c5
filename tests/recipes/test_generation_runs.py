"""Generations in whole runs: who teaches whom, what is deployed, and going on after a kill."""

import contextlib
import dataclasses
import functools

import keras
import numpy as np
import pytest
from tiny_runs import (
    InterruptAfter,
    Interrupted,
    Watcher,
    lines,
    same_weights,
    tiny,
    trial,
    without_times,
)

from kd_keras.config import CompareConfig
from kd_keras.recipes import distill, setup, sweep, training
from kd_keras.recipes.callbacks import Checkpoint
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.runs import RunFolder

ROLES = ["distilled-generation-1", "distilled-generation-2", "distilled"]


def generations(folder, *knobs):
    settings = {"method": "born_again", "method_knobs": ("generations=2", *knobs)}
    return tiny(folder, epochs=2, **settings)


class Stopper(Watcher):
    """Interrupts one training after an epoch, or with 0 before it begins."""

    def __init__(self, title, epoch):
        super().__init__()
        self._title, self._epoch = title, epoch

    def bar(self, title, epochs, images):
        if title != self._title:
            return super().bar(title, epochs, images)
        if not self._epoch:
            raise Interrupted
        return contextlib.nullcontext(InterruptAfter(self._epoch))


@pytest.mark.slow
def test_generations_are_trained_in_a_row_and_their_ensemble_is_deployed(tmp_path):
    config = generations(tmp_path, "ensemble=True")
    done, _ = trial(config)
    assert list(dict.fromkeys(line["model"] for line in lines(config))) == [
        *("teacher", "alone", *ROLES[:2])
    ]
    assert list(done.outcomes) == ["teacher", "alone", *ROLES]
    split = done.task.validation
    answers = [keras.ops.softmax(Predictor(done.models[role])(split)) for role in ROLES[:2]]
    joint = Predictor(done.models["distilled"])(split)
    np.testing.assert_allclose(np.exp(joint), np.mean(answers, axis=0), rtol=1e-4, atol=1e-6)
    outcome, right = done.outcomes["distilled"], np.argmax(joint, axis=-1) == split.labels
    assert (outcome.epochs, outcome.score) == (0, pytest.approx(np.mean(right)))
    done.folder.__exit__()
    again, watcher = trial(config)  # everything is known, and nothing is trained
    assert watcher.log == {f"seed 0: {role}": [] for role in ("teacher", "alone", *ROLES)}
    assert same_weights(again.models["distilled"], done.models["distilled"])
    assert again.outcomes == done.outcomes


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    config = with_adapters(tmp_path_factory.mktemp("whole"))
    return config, trial(config)[0]


def with_adapters(folder):
    config = generations(folder, "method=hint")
    return dataclasses.replace(config, student="lenet5", student_knobs=())


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [0, 1])
def test_killed_in_a_later_generation_it_ends_as_an_uninterrupted_run(
    epoch, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(training, "Checkpoint", functools.partial(Checkpoint, every=0.0))
    cut, task = with_adapters(tmp_path), setup.load_task(whole[0])
    stopper = Stopper("seed 0: distilled", epoch)
    with pytest.raises(Interrupted):
        distill._Trial(cut, task, 0, RunFolder(cut), stopper).train()
    again, _ = trial(cut)
    assert without_times(lines(cut)) == without_times(lines(whole[0]))
    assert [line["model"] for line in lines(cut)][-4:] == [ROLES[0]] * 2 + ["distilled"] * 2
    assert same_weights(again.models["distilled"], whole[1].models["distilled"])


@pytest.mark.slow
def test_a_comparison_judges_the_ensemble(tmp_path):
    config = CompareConfig(
        teacher_knobs=("width=0.25",),
        students=("mlp:hidden=8,",),
        methods=("kd", "born_again:generations=2:ensemble=True"),
        epochs=2,
        limit=100,
        seeds=(0, 1),
        out=tmp_path / "run",
    )
    found = sweep.run(config)
    sizes = {name: entry["cost"]["parameters"] for name, entry in found["models"].items()}
    student, *_, generations = list(sizes.values())[1:]
    assert generations == 2 * student
    assert len({line["model"] for line in lines(config)}) == 5  # the ensemble itself learns nothing
