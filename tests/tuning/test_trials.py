"""Trainings of trials: traced once, promoted without a seam, and what lies on disk of them."""

import dataclasses
import json
import logging
import re

import numpy as np
import pytest

from kd_keras.recipes.progress import Progress
from kd_keras.recipes.runs import Journal
from kd_keras.recipes.training import WEIGHTS, folder_of
from tuning import space as spaces
from tuning.oracle_log import Calls
from tuning.trials import POOLS, ROLE, Trainer, Trials


def journal(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return Journal(folder, folder / "work")


def weights(folder, seed):
    """What a training has left, as arrays by name."""
    import h5py

    found = {}
    with h5py.File(folder_of(folder, ROLE, seed) / WEIGHTS) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None
        )
    return found


def untimed(outcome):
    return dataclasses.replace(outcome, seconds=0.0)


@pytest.mark.slow
def test_temperature_alpha_and_rate_trace_nothing_and_change_what_they_should(
    tiny, taught, tmp_path, counted
):
    config = tiny(method="counted")
    task, teacher = taught(config)
    shared = Trainer(config, task, teacher, Progress(show=False))
    plan = [
        {"temperature": 2.0, "alpha": 0.1, "learning_rate": 3e-3},
        {"temperature": 9.0, "alpha": 0.1, "learning_rate": 3e-3},
        {"temperature": 2.0, "alpha": 0.8, "learning_rate": 3e-3},
        {"temperature": 2.0, "alpha": 0.1, "learning_rate": 1e-2},
    ]
    traced, ends = [], []
    for number, found in enumerate(plan):
        setting = spaces.setting(config, found)
        place = journal(tmp_path / f"shared{number}")
        before = counted.calls
        ours = shared.taught(setting, 3, place)
        traced.append(counted.calls - before)
        own = journal(tmp_path / f"own{number}")
        theirs = Trainer(config, task, teacher, Progress(show=False)).taught(setting, 3, own)
        assert untimed(ours) == untimed(theirs)
        ends.append(weights(place, 3))
        for name, value in weights(own, 3).items():
            np.testing.assert_array_equal(ends[-1][name], value)
    assert traced[0] > 0
    assert traced[1:] == [0, 0, 0]
    for end in ends[1:]:
        assert any(not np.array_equal(end[name], ends[0][name]) for name in end)


@pytest.mark.slow
@pytest.mark.parametrize("head", [0, 1])
def test_a_training_that_is_taken_further_ends_as_one_that_never_stopped(
    tiny, taught, tmp_path, head
):
    """Dropout and the optimizer go on too; and where the state is gone, the end is the same."""
    config = tiny(student_knobs=("hidden=8,", "dropout=0.4"), head_epochs=head)
    task, teacher = taught(config)
    trainer = Trainer(config, task, teacher, Progress(show=False))
    trials = Trials(tmp_path, tmp_path / "work")
    setting, seeds = spaces.default(config), (0, 1)

    def train(name, epochs, keep=False):
        return [
            untimed(
                trainer.taught(setting, seed, trials.journal(name), epochs=epochs, to_go_on=keep)
            )
            for seed in seeds
        ]

    short = train("short", 2, keep=True)
    trials.take_over("short", "long", seeds)
    long, whole = train("long", 5, keep=True), train("whole", 5)
    assert [outcome.epochs for outcome in short] == [head + 2] * 2
    assert long == whole
    epochs = [line["epoch"] for line in trials.journal("long").lines() if line["seed"] == 0]
    assert epochs == [1, 2, 3, 4, 5, 6][: head + 5]
    for seed in seeds:
        one, other = (weights(trials.journal(name), seed) for name in ("long", "whole"))
        assert all(np.array_equal(one[name], other[name]) for name in other)
    trials.take_over("never", "again", seeds)
    assert train("again", 5) == whole


def test_a_training_that_is_taken_further_does_not_begin_anew(tiny, taught, tmp_path):
    config = tiny()
    trainer = Trainer(config, *taught(config), Progress(show=False))
    trials, setting = Trials(tmp_path, tmp_path / "work"), spaces.default(config)
    trainer.taught(setting, 0, trials.journal("a"), epochs=2, to_go_on=True)
    trials.take_over("a", "b", (0,))
    before = trials.journal("b").lines()
    trainer.taught(setting, 0, trials.journal("b"), epochs=3, to_go_on=True)
    lines = trials.journal("b").lines()
    assert lines[:2] == before == trials.journal("a").lines()  # to the clock's last digit
    assert [line["epoch"] for line in lines] == [1, 2, 3]


@pytest.mark.slow
def test_no_more_distillers_are_kept_than_is_said(tiny, taught, tmp_path):
    config = tiny(epochs=1)
    trainer = Trainer(config, *taught(config), Progress(show=False))
    for units in range(4, 4 + POOLS + 2):
        setting = spaces.setting(config, {"student_knobs": {"hidden": (units,)}})
        trainer.taught(setting, 0, journal(tmp_path / str(units)))
    assert len(trainer._pools) == POOLS
    assert trainer._pools.popitem()[0][0] == f"mlp:hidden=({units},)"


# --- files ---


def test_an_outcome_is_of_its_values_alone(tmp_path):
    trials = Trials(tmp_path, tmp_path / "work")
    trials.journal("3")
    values = {"temperature": 1 / 3, "tuner/epochs": 2, "method": "kd"}
    assert trials.outcome("3", values) is None
    how = {"epochs": 2, "best_epoch": 1, "seconds": 0.5}
    executions = [{"seed": 0, "score": 0.1 + 0.2, **how}]
    trials.keep("3", values, executions)
    assert trials.outcome("3", values) == executions
    assert trials.outcome("3", {**values, "tuner/epochs": 4}) is None
    assert trials.outcome("4", values) is None


def test_torn_files_are_set_aside_and_named(tmp_path, caplog):
    """Those under a temporary name were never there: they go, without a word."""
    trials = Trials(tmp_path, tmp_path / "work")
    folder = trials.journal("3").path
    whole = json.dumps({"trial_id": "3"})
    (folder / "trial.json").write_text(whole[:7])
    (trials.search / "oracle.json").write_text("")
    for half in (folder / "outcome.json", tmp_path / "tensorboard" / "00"):
        half = half.with_name(f".kd_keras.{half.name}.x7abcdef")
        half.mkdir(parents=True)
        (half / "outcome.json").write_text("{")
    (folder / ".DS_Store").touch()  # somebody else's
    (trials.journal("4").path / "trial.json").write_text(whole)
    with caplog.at_level(logging.WARNING, logger="kd_keras"):
        trials.clear_after_a_kill()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert re.search(r"oracle.json is damaged: it is not JSON.*oracle.json.damaged", said[0])
    assert re.search(r"trial_3/trial.json is damaged.* renamed to .*trial.json.damaged", said[1])
    assert (folder / "trial.json.damaged").read_text() == whole[:7]
    assert (folder / ".DS_Store").exists()
    assert sorted(path.name for path in trials.search.rglob("*.json")) == ["trial.json"]
    assert not any((tmp_path / "tensorboard").iterdir())


def test_a_damaged_outcome_is_trained_again_and_damaged_values_begin_a_trial_anew(tmp_path, caplog):
    trials = Trials(tmp_path, tmp_path / "work")
    for text in ("[]", '{"values": {}}', '{"values": {}, "executions": [{"seed": "0"}]}', "\0"):
        (trials.journal("3").path / "outcome.json").write_text(text)
        assert trials.outcome("3", {}) is None
        assert "outcome.json is damaged: " in caplog.messages[-1]
    assert len(list((tmp_path / "search/trial_3").glob("outcome.json.damaged*"))) == 4
    (tmp_path / "search/trial_3/failure.json").write_text('{"message": 3}')
    assert trials.failure("3") is None
    trials.begin("3", {"alpha": 0.1}, (0,))
    work = trials.journal("3").work
    (work / "values.json").write_text("half")
    (work / "checkpoint").touch()
    trials.begin("3", {"alpha": 0.1}, (0,))
    assert not (work / "checkpoint").exists()
    assert (work.with_name("3.damaged") / "checkpoint").exists()
    trials.begin("3", {"alpha": 0.1}, (0,))  # and goes on with that


def test_calls_from_a_damaged_one_on_are_forgotten(tmp_path):
    calls = Calls(tmp_path / "calls.jsonl")
    for number in ("0", "1", "2"):
        calls.write(call="create", tuner="w", trial=number, values={})
    whole = calls.read()
    text = (tmp_path / "calls.jsonl").read_text()
    (tmp_path / "calls.jsonl").write_text(text.replace('"trial": "1"', '"trial": 1'))
    assert calls.read() == whole[:1]
    assert len((tmp_path / "calls.jsonl.damaged").read_text().splitlines()) == 3
    calls.write(**whole[1])
    assert calls.read() == whole[:2]


def test_what_other_values_have_left_under_a_number_is_not_gone_on_with(tmp_path):
    """Many workers and one process may try the same settings under other numbers."""
    trials = Trials(tmp_path, tmp_path / "work")
    trials.begin("3", {"alpha": 0.1}, (0,))
    journal = trials.journal("3")
    journal.epoch({"seed": 0, "model": ROLE, "epoch": 1})
    (journal.work / "checkpoint").write_text("1")
    (tmp_path / "tensorboard" / "3").mkdir(parents=True)
    trials.begin("3", {"alpha": 0.1}, (0,))  # after a kill
    assert (journal.work / "checkpoint").exists()
    assert len(journal.lines()) == 1
    trials.begin("3", {"alpha": 0.2}, (0,))
    assert [path.name for path in journal.work.iterdir()] == ["values.json"]
    assert journal.lines() == []
    assert not (tmp_path / "tensorboard" / "3").exists()
