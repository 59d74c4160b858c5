"""What `all` stands for in a comparison."""

import dataclasses
import logging

import numpy as np
import pytest

from kd_keras import data
from kd_keras.config import CompareConfig, SweepConfig, TrainConfig
from kd_keras.methods import METHODS
from kd_keras.recipes import setup


def compare(**changes):
    settings = {"students": ("cnn:width=0.125",), "teacher_knobs": ("width=0.25",), "limit": 40}
    return CompareConfig(**{"methods": ("all",), **settings, **changes})


@pytest.mark.slow
def test_all_is_each_method_once_and_what_was_named_beside_it():
    config, task = setup.open_sweep(compare(methods=("all", "kd:temperature=2", "kd")))
    assert task.name == "digits"
    *every, last = config.methods
    assert last == "kd:temperature=2"
    assert len(every) == len(set(METHODS.values()))
    assert [METHODS[name] for name in every] == list(dict.fromkeys(METHODS.values()))


@pytest.mark.slow
def test_what_does_not_fit_is_left_out_and_said(caplog):
    with caplog.at_level(logging.WARNING, "kd_keras"):
        config, _ = setup.open_sweep(compare(students=("mlp:hidden=8,",)))
    assert "rkd" in config.methods
    assert "at" not in config.methods
    said = {record.args[0]: str(record.args[1]) for record in caplog.records}
    assert "stage" in said["at"]


def test_a_fault_of_the_models_is_not_taken_for_one_of_the_methods():
    with pytest.raises(ValueError, match="widht"):
        setup.open_sweep(compare(students=("cnn:widht=2",)))


def test_a_study_and_named_methods_are_left_as_they_are():
    for config in (SweepConfig(limit=40), compare(methods=("kd", "dkd"))):
        assert setup.open_sweep(config)[0] is config


def test_a_sweep_takes_a_task_in_place_of_the_one_that_it_names():
    digits = data.load("digits")
    few = dataclasses.replace(digits, train=digits.train.limited(60))
    for config in (SweepConfig(), compare(methods=("kd",), limit=None)):
        _, task = setup.open_sweep(config, few)
        assert (len(task.train), len(task.test)) == (60, len(digits.test))


def test_a_limit_on_learning_leaves_test_whole():
    whole = setup.load_task(TrainConfig())
    few = setup.load_task(TrainConfig(train_limit=100))
    assert (len(few.train), len(few.validation)) == (80, 20)  # as 1,149 to 288
    assert len(few.test) == len(whole.test)
    assert set(np.bincount(few.train.labels)) == {8}  # the classes keep their shares
    both = setup.load_task(TrainConfig(train_limit=100, limit=30))
    assert [len(split) for split in (both.train, both.validation, both.test)] == [30, 20, 30]
    same = setup.load_task(TrainConfig(train_limit=5000))
    assert (len(same.train), len(same.validation)) == (len(whole.train), len(whole.validation))


def test_why_a_method_does_not_fit_is_returned():
    config = compare(methods=("at",), students=("mlp:hidden=8,",))
    task = setup.load_task(config)
    assert "stage" in setup.misfit(config, task)
    assert setup.misfit(dataclasses.replace(config, methods=("kd",)), task) is None
