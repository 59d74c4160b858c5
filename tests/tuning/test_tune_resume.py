"""Killed at any moment, the same command goes on to the outcome of a search that was let alone.

Every search is a real process, and a kill is SIGKILL.
"""

import json
import os
import signal
from pathlib import Path

import pytest
from clocks import untimed
from forks import Forks

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}

IMPORTS = """
from keras_tuner.engine import oracle, trial
from kd_keras import cli
from kd_keras.recipes import distill
from tuning import final, run, trials, tuner
"""
# Arguments: where to be killed, and at which call; then the command's.
SCRIPT = """
import os, signal, sys
from keras_tuner.engine import oracle as oracles, trial as trials
from kd_keras import cli
from tuning import final, trials as ours, tuner

place, left = arguments[0], int(arguments[1])

def watch(owner, name):
    inner = getattr(owner, name)
    def wrapper(*args, **kwargs):
        for moment in ("before", "after"):
            if f"{moment} {name}" == place:
                global left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            if moment == "before":
                done = inner(*args, **kwargs)
        return done
    setattr(owner, name, wrapper)

oracle = oracles.Oracle
for name in ("_save_trial", "save", "create_trial", "end_trial", "update_trial"):
    watch(oracle, name)
watch(ours.Trials, "keep")
watch(ours.Trials, "take_over")
watch(ours, "train")
watch(tuner.tensorboard, "write")
watch(final.Final, "judged")
sys.exit(cli.main(["tune", *arguments[2:]]))
"""

SETTINGS = [
    *("--limit", "64", "--epochs", "4", "--seeds", "0", "--batch-size", "16", "--seed", "1"),
    *("--teacher-knobs", "width=0.25", "--student-knobs", "hidden=8,", "--teacher-epochs", "1"),
    *("--steps-per-execution", "4", "--json"),
]
ORACLES = {
    "hyperband": ["--oracle", "hyperband", "--factor", "4"],
    "grid": ["--oracle", "grid", "--space", "kd-grid", "--trials", "5"],
}


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with Forks(IMPORTS, tmp_path_factory.mktemp("forks"), ENVIRONMENT) as running:
        yield running


def search(forks, folder, words, place="nowhere", left=0):
    """A search to its end, or to its kill; what `results.json` holds, and what was said."""
    done = forks.run(SCRIPT, place, str(left), *SETTINGS, *words, "--out", str(folder))
    if place != "nowhere":
        assert done.returncode == -signal.SIGKILL, done.stderr
        return None, done.stderr
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def lines_of(folder):
    """Epochs of all trials, by trial."""
    found = {}
    for path in folder.glob("search/*/metrics.jsonl"):
        lines = path.read_text().splitlines()
        found[path.parent.name] = [json.loads(line)["epoch"] for line in lines]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory, forks):
    """Searches that were let alone, by oracle."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "run"
            made[name] = search(forks, folder, ORACLES[name])[0], lines_of(folder)
        return made[name]

    return get


KILLS = [
    ("after _save_trial", 1),  # KerasTuner knows of a trial that its oracle does not
    ("before keep", 3),  # a trial is trained, and not written down
    ("before judged", 1),
]


@pytest.mark.slow
def test_killed_where_it_hurts_it_ends_as_if_let_alone(tmp_path, forks, whole):
    """`test_more_trials` interrupts a Bayesian search, which proposes from what it has seen."""
    folder = tmp_path / "run"
    for place, left in KILLS:
        search(forks, folder, ORACLES["hyperband"], place, left)
        assert not (folder / "results.json").exists()
    found, _ = search(forks, folder, ORACLES["hyperband"])
    wanted, lines = whole("hyperband")
    assert untimed(found) == untimed(wanted)
    assert lines_of(folder) == lines
    assert {row["status"] for row in found["search"]["trials"]} == {"COMPLETED"}


@pytest.mark.slow
def test_what_is_over_is_not_trained_again_and_torn_files_are_named(tmp_path, forks, whole):
    """A trial whose own outcome is torn is trained again, to the same end."""
    folder = tmp_path / "run"
    search(forks, folder, ORACLES["grid"], "before keep", 4)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("search/*/outcome.json")}
    assert len(before) == 3
    lost = folder / "search/trial_0002/outcome.json"
    torn = [folder / "search/oracle.json", folder / "search/trial_0001/trial.json", lost]
    for path in torn:
        path.write_text(path.read_text()[:50])
    found, said = search(forks, folder, ORACLES["grid"])
    for path in torn:
        assert f"{path} is damaged: it is not JSON" in said
        assert json.loads(path.read_text())
        assert path.with_name(f"{path.name}.damaged").stat().st_size == 50
    after = {path: path.stat().st_mtime_ns for path in before}
    assert [path for path in before if after[path] != before[path]] == [lost]
    assert untimed(found) == untimed(whole("grid")[0])
