"""Killed in the middle, the same command goes on and ends with the uninterrupted run's results.

Here every run is a real process, and a kill is SIGKILL; `test_training.py` interrupts after each
epoch. To be killed at a chosen place, the process runs the command line after a few lines that
kill it there.
"""

import json
import os
import signal
from pathlib import Path

import keras
import pytest
from forks import Forks
from tiny_runs import same_weights, without_times

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

IMPORTS = """
from kd_keras import cli
from kd_keras.recipes import callbacks, distill, runs, training
from kd_keras.utils import files
"""
# Arguments: seconds between checkpoints; where to be killed, {"place", "role", "epoch"} or null;
# the command.
SCRIPT = """
import functools, json, os, signal, sys
from kd_keras import cli
from kd_keras.recipes import callbacks, distill, runs, training
from kd_keras.utils import files

every, plan = float(arguments[0]), json.loads(arguments[1])
training.Checkpoint = functools.partial(callbacks.Checkpoint, every=every)
now = {"role": None, "epoch": 0}

def reach(place):
    if plan and all({**now, "place": place}[key] == value for key, value in plan.items()):
        os.kill(os.getpid(), signal.SIGKILL)

def watch(owner, name, before="", after="", note=lambda *_: {}):
    inner = getattr(owner, name)
    def wrapper(*args, **kwargs):
        now.update(note(*args))
        reach(before)
        done = inner(*args, **kwargs)
        reach(after)
        return done
    setattr(owner, name, wrapper)

watch(distill, "train", note=lambda learner, *_: {"role": learner.role, "epoch": 0})
watch(runs.RunFolder, "epoch", after="line", note=lambda _, line: {"epoch": line["epoch"]})
watch(callbacks.np, "savez", before="weights of a checkpoint")
watch(files.os, "replace", before="state of a checkpoint, half")
watch(callbacks.Checkpoint, "on_epoch_end", after="checkpoint")
watch(training, "_finish", before="best weights", after="outcome")
watch(distill, "_judge", before="judging")
watch(distill.export, "export", before="exporting")
watch(runs.RunFolder, "_let_go", before="results")
sys.exit(cli.main(arguments[2:]))
"""

SETTINGS = [
    *("distill", "--preset", "digits-kd", "--limit", "100", "--seeds", "3", "--batch-size", "16"),
    *("--head-epochs", "1", "--epochs", "3", "--teacher-epochs", "3", "--teacher-knobs"),
    *("width=0.25", "--steps-per-execution", "2", "--alpha-end", "0.5"),
]


def folders(root):
    return ["--out", str(root / "run"), "--export", str(root / "student")]


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with Forks(IMPORTS, tmp_path_factory.mktemp("forks"), ENVIRONMENT) as running:
        yield running


def run(forks, root, plan=None, every=0.0):
    """Run to the end, or to the planned kill."""
    done = forks.run(SCRIPT, str(every), json.dumps(plan), *SETTINGS, *folders(root))
    assert done.returncode == (0 if plan is None else -signal.SIGKILL), done.stderr
    return done.stderr


def entries(root):
    text = (root / "run/metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def check_same(root, whole):
    """Results, lines and weights of two finished runs are the same to the last bit."""
    assert without_times(entries(root)) == without_times(entries(whole))
    ours, theirs = (json.loads((x / "run/results.json").read_text()) for x in (root, whole))
    for found in (ours, theirs):
        del found["export"]["bytes"]  # TensorFlow's graph files vary by some bytes of names
    assert without_times(ours) == without_times(theirs)
    for name in ("student", "alone", "teacher"):
        models = [
            keras.models.load_model(x / f"run/{name}.keras", compile=False) for x in (root, whole)
        ]
        assert same_weights(*models), name
    assert {path.name for path in (root / "run").iterdir()} == {
        *("config.json", "environment.json", "metrics.jsonl", "results.json", "report"),
        *("predictions.npz", "predictions.csv", "predictions.parquet", "thumbnails"),
        *("student.keras", "alone.keras", "teacher.keras"),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory, forks):
    """The uninterrupted run, which writes no checkpoint in its few seconds."""
    root = tmp_path_factory.mktemp("whole")
    run(forks, root, every=1000.0)
    assert len(entries(root)) == 12
    return root


@pytest.mark.slow
def test_killed_in_every_role_at_every_place(tmp_path, forks, whole):
    for every, place, role, epoch in (
        (0.0, "checkpoint", "teacher", 1),  # between the phases
        (1e3, "line", "teacher", 3),  # with a checkpoint from long before
        (0.0, "best weights", "alone", 4),
        (0.0, "state of a checkpoint, half", "distilled", 1),
        (0.0, "weights of a checkpoint", "distilled", 3),
        (0.0, "exporting", "distilled", 4),
    ):
        run(forks, tmp_path, {"place": place, "role": role, "epoch": epoch}, every)
        seen = [(line["model"], line["epoch"]) for line in entries(tmp_path)]
        assert len(seen) == len(set(seen))
        assert not (tmp_path / "run/results.json").exists()
    # and at last with the results there: only the report is made anew
    run(forks, tmp_path, {"place": "results"})
    assert (tmp_path / "run/results.json").exists()
    assert not (tmp_path / "run/report").exists()
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    said = run(forks, tmp_path)
    assert "validation" not in said
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before
    check_same(tmp_path, whole)
